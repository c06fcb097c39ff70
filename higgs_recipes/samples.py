"""Rows of an encoded corpus -> samples of the collator: the conversation rendered, tokenised and labelled."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from higgs_recipes.chatml import CHAT_TEMPLATE
from higgs_recipes.delay import IGNORE_INDEX
from higgs_recipes.errors import InputError


# What ends every sample: the marks around the assistant's clip, and the end of its turn. The three marks are targets.
LAST_TOKENS = ("<|audio_out_bos|>", "<|AUDIO_OUT|>", "<|audio_eos|>", "<|eot_id|>")


def tokenize_prompt(
    conversation: list[dict], tokenizer: PreTrainedTokenizerBase, *, add_generation_prompt: bool
) -> Tensor:
    """The token ids (S0,) of a conversation, with ONE `<|AUDIO_OUT|>` for each clip."""
    prompt = tokenizer.apply_chat_template(
        conversation, chat_template=CHAT_TEMPLATE, add_generation_prompt=add_generation_prompt, tokenize=False
    )
    return torch.tensor(tokenizer(prompt, add_special_tokens=False)["input_ids"])


def build_sample(row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """One sample {"input_ids": (S0,), "labels": (S0,), "codes": [(T_i, C), ...], "supervise": [bool, ...]}.

    Only the last clip is supervised; the reference clips before it are input.

    Args:
        row: `messages` (the turns of `chatml.conversation`, as a list or as JSON), `codes` (T, C), and where the
            conversation has reference clips `ref_codes`, their codes in the order of the turns.
        tokenizer: the model's own.

    Raises:
        InputError: the conversation and the codes differ in number of clips, or the conversation does not end with the
            assistant's clip; names the row.
    """
    messages = row["messages"]
    conversation = json.loads(messages) if isinstance(messages, str) else messages
    input_ids = tokenize_prompt(conversation, tokenizer, add_generation_prompt=False)
    clips = [*(row.get("ref_codes") or []), row["codes"]]

    last = torch.tensor(tokenizer.convert_tokens_to_ids(list(LAST_TOKENS)))
    num_placeholders = int((input_ids == last[1]).sum())
    if num_placeholders != len(clips) or not torch.equal(input_ids[-4:], last):
        raise InputError(
            f"row {row.get('id', '(without id)')}: {num_placeholders} audio turns for {len(clips)} clips of codes, "
            "and the last turn must be the assistant's clip; run scripts/encode.py again"
        )
    labels = torch.full_like(input_ids, IGNORE_INDEX)
    labels[[-4, -2, -1]] = last[[0, 2, 3]]
    return {
        "input_ids": input_ids,
        "labels": labels,
        "codes": [torch.as_tensor(codes, dtype=torch.int16) for codes in clips],
        "supervise": [False] * (len(clips) - 1) + [True],
    }


class SampleDataset(Dataset):
    """Samples made from rows when they are asked for, each with its `row_index`.

    `rows` is anything with a length that gives a mapping for an index: a `datasets.Dataset`, or a list of dicts.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> None:
        self.rows = rows
        self.tokenizer = tokenizer

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return build_sample(self.rows[index], self.tokenizer) | {"row_index": index}

    def row_id(self, index: int) -> str:
        return str(self.rows[index]["id"])
