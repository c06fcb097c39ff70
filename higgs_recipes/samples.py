"""Rows of an encoded corpus -> samples for the collator: conversations are rendered, tokenized and labeled."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from higgs_recipes.chatml import CHAT_TEMPLATE
from higgs_recipes.constants import FRAMES_PER_SECOND, IGNORE_INDEX
from higgs_recipes.errors import InputError


# The end of every sample: the assistant's clip between its special tokens, and the end of the turn. The three special
# tokens are text targets.
LAST_TOKENS = ("<|audio_out_bos|>", "<|AUDIO_OUT|>", "<|audio_eos|>", "<|eot_id|>")


def tokenize_prompts(
    conversations: list[list[dict]], tokenizer: PreTrainedTokenizerBase, *, add_generation_prompt: bool
) -> list[list[int]]:
    """Render and tokenize conversations: one list of token ids each, with ONE `<|AUDIO_OUT|>` per clip."""
    prompts = tokenizer.apply_chat_template(
        conversations, chat_template=CHAT_TEMPLATE, add_generation_prompt=add_generation_prompt, tokenize=False
    )
    return tokenizer(prompts, add_special_tokens=False, return_attention_mask=False)["input_ids"]


def tokenize_prompt(
    conversation: list[dict], tokenizer: PreTrainedTokenizerBase, *, add_generation_prompt: bool
) -> Tensor:
    """Like `tokenize_prompts`, for one conversation: token ids (S0,)."""
    (input_ids,) = tokenize_prompts([conversation], tokenizer, add_generation_prompt=add_generation_prompt)
    return torch.tensor(input_ids)


def build_sample(row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Build one sample {"input_ids": (S0,), "labels": (S0,), "codes": [(T_i, C), ...], "supervise": [bool, ...]}.

    Only the last clip is supervised; the reference clips before it are input only.

    Args:
        row: `messages` (the turns of `chatml.conversation`, as a list or as JSON), `codes` (T, C), and `ref_codes` if
            the conversation has reference clips: their codes in the order of the turns.
        tokenizer: the tokenizer of the model.

    Raises:
        InputError: the conversation and the codes have different numbers of clips, or the conversation does not end
            with the assistant's clip. The message names the row.
    """
    messages = row["messages"]
    conversation = json.loads(messages) if isinstance(messages, str) else messages
    (input_ids,) = tokenize_prompts([conversation], tokenizer, add_generation_prompt=False)
    return label_sample(row, input_ids, last=tokenizer.convert_tokens_to_ids(list(LAST_TOKENS)))


def label_sample(row: Mapping[str, Any], input_ids: Sequence[int], *, last: list[int]) -> dict[str, Any]:
    """Like `build_sample`, for a tokenized conversation.

    Args:
        input_ids: token ids (S0,) of the conversation.
        last: token ids of `LAST_TOKENS`.
    """
    ids = np.array(input_ids, dtype=np.int64)  # (S0,)
    clips = [*(row.get("ref_codes") or []), row["codes"]]
    num_placeholders = int(np.count_nonzero(ids == last[1]))
    if num_placeholders != len(clips) or ids[-4:].tolist() != last:
        raise InputError(
            f"row {row.get('id', '(without id)')}: {num_placeholders} audio turns for {len(clips)} clips of codes, "
            "and the last turn must be the assistant's clip; run scripts/encode.py again"
        )
    labels = np.full_like(ids, IGNORE_INDEX)  # (S0,)
    labels[[-4, -2, -1]] = last[0], last[2], last[3]
    return {
        "input_ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(labels),
        "codes": [torch.from_numpy(np.asarray(codes).astype(np.int16)) for codes in clips],
        "supervise": [False] * (len(clips) - 1) + [True],
    }


class SampleDataset(Dataset):
    """Samples built from rows on access, each with its `row_index`.

    Args:
        rows: a `datasets.Dataset` or a list of mappings, in the format of `build_sample`.
        tokenizer: the tokenizer of the model.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> None:
        self.rows = rows
        self.tokenizer = tokenizer

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return build_sample(self.rows[index], self.tokenizer) | {"row_index": index}

    def num_positions(self) -> list[int]:
        """Number of positions of each sample in a batch: a clip takes T + C + 1 in the place of its placeholder."""
        return self._num_positions

    @cached_property  # both the packed sampler and the run estimate need it
    def _num_positions(self) -> list[int]:
        samples = (self[index] for index in range(len(self)))
        # sum(codes.shape) is T + C: the placeholder is counted in input_ids already.
        return [len(sample["input_ids"]) + sum(sum(codes.shape) for codes in sample["codes"]) for sample in samples]

    def audio_seconds(self) -> float:
        """Total length of the supervised clips; reference clips are not counted."""
        return sum(len(row["codes"]) for row in self.rows) / FRAMES_PER_SECOND

    def row_id(self, index: int) -> str:
        """The id of a row, for error messages."""
        return str(self.rows[index]["id"])
