"""Samples: placeholders, labels and supervision of a row."""

import json

import pytest
import torch

from higgs_recipes.errors import InputError
from higgs_recipes.samples import SampleDataset, build_sample
from tests.helpers.checkpoints import load_tiny, random_rows


@pytest.fixture(scope="module")
def tokenizer():
    return load_tiny()[1]


def test_only_the_special_tokens_of_the_last_turn_are_text_targets(tokenizer):
    _, row = random_rows(2)
    sample = build_sample(row, tokenizer)
    targets = sample["labels"][sample["labels"] != -100].tolist()
    assert tokenizer.convert_ids_to_tokens(targets) == ["<|audio_out_bos|>", "<|audio_eos|>", "<|eot_id|>"]
    assert torch.equal(sample["labels"][[-4, -2, -1]], sample["input_ids"][[-4, -2, -1]])


def test_each_clip_has_a_placeholder_and_only_the_last_is_supervised(tokenizer):
    plain, cloning = random_rows(2)
    audio = tokenizer.convert_tokens_to_ids("<|AUDIO_OUT|>")
    sample = build_sample(plain, tokenizer)
    assert (sample["input_ids"] == audio).sum() == 1 and sample["supervise"] == [True]
    sample = build_sample(cloning, tokenizer)
    assert (sample["input_ids"] == audio).sum() == 2 and sample["supervise"] == [False, True]
    assert [len(clip) for clip in sample["codes"]] == [5, 11]


def test_messages_may_be_json_or_turns(tokenizer):
    (row,) = random_rows(1)
    turns = build_sample(row | {"messages": json.loads(row["messages"])}, tokenizer)
    assert torch.equal(build_sample(row, tokenizer)["input_ids"], turns["input_ids"])


@pytest.mark.parametrize("change", [{"ref_codes": []}, {"ref_codes": [[[1] * 8]] * 2}])
def test_clips_without_a_turn_are_refused_with_the_row(tokenizer, change):
    _, row = random_rows(2)
    with pytest.raises(InputError, match=r"row row1: 2 audio turns for (1|3) clips of codes"):
        build_sample(row | change, tokenizer)


def test_conversation_must_end_with_the_clip_of_the_assistant(tokenizer):
    (row,) = random_rows(1)
    turns = json.loads(row["messages"])
    with pytest.raises(InputError, match="row row0: .* last turn must be the assistant's clip"):
        build_sample(row | {"messages": [turns[0], turns[2], turns[1]]}, tokenizer)


def test_samples_have_the_index_of_their_row(tokenizer):
    samples = SampleDataset(random_rows(3), tokenizer)
    assert len(samples) == 3
    assert [samples[index]["row_index"] for index in range(3)] == [0, 1, 2]
    assert samples.row_id(2) == "row2"
