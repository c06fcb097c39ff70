"""Flat batches: every used position once, in order, with the indexes of what it predicts."""

import pytest
import torch

from higgs_recipes.collator import HiggsCollator
from higgs_recipes.constants import IGNORE_INDEX
from tests.helpers.tiny import golden_config, golden_samples


CONFIG = golden_config()
LENGTHS = [32, 65, 26, 127]  # positions of the golden samples


def text_sample(num_tokens: int) -> dict:
    ids = torch.arange(num_tokens) + 2
    return {"input_ids": ids, "labels": ids, "codes": [], "supervise": [], "row_index": 9}


def test_position_ids_restart_with_each_sample_and_padding_is_left_out():
    flat = HiggsCollator(CONFIG, pack_to=130, flat=True)(golden_samples())["flat"]
    assert flat["sample_starts"].tolist() == [0, 32, 97, 123, 250]  # the longest sample is alone in the second row
    assert flat["sample_starts"].dtype == torch.int32 and flat["max_length"] == 127
    assert flat["position_ids"].tolist() == [index for length in LENGTHS for index in range(length)]


@pytest.mark.parametrize("pack_to", [None, 130])
def test_text_and_audio_positions_are_a_permutation_with_its_inverse(pack_to):
    flat = HiggsCollator(CONFIG, pack_to=pack_to, flat=True)(golden_samples())["flat"]
    to_text_first = torch.cat([flat["text_index"], flat["audio_index"]])
    assert to_text_first.sort().values.tolist() == list(range(sum(LENGTHS)))
    assert torch.equal(to_text_first[flat["from_text_first"]], torch.arange(sum(LENGTHS)))
    assert torch.equal(flat["text_index"].sort().values, flat["text_index"])
    assert torch.equal(flat["audio_index"].sort().values, flat["audio_index"])


@pytest.mark.parametrize("pack_to", [None, 130])
def test_flat_batch_has_the_inputs_and_labels_of_the_batch(pack_to):
    batch = HiggsCollator(CONFIG, pack_to=pack_to, flat=True)(golden_samples())
    flat, is_frame = batch["flat"], batch["audio_input_ids_mask"]
    ids = batch["input_ids"]
    assert torch.equal(flat["text_ids"], ids[(ids != CONFIG.audio_token_id) & (ids != CONFIG.pad_token_id)])
    assert torch.equal(flat["frames"], batch["audio_input_ids"][is_frame])
    assert torch.equal(flat["text_labels"], batch["labels"][batch["labels"] != IGNORE_INDEX])
    targets = batch["audio_labels"][is_frame]
    assert torch.equal(flat["audio_labels"], targets[(targets != IGNORE_INDEX).any(dim=-1)])


def test_a_label_is_predicted_by_the_position_before_it():
    flat = HiggsCollator(CONFIG, flat=True)([golden_samples()[0]])["flat"]
    batch = HiggsCollator(CONFIG)([golden_samples()[0]])
    labeled = (batch["labels"][0] != IGNORE_INDEX).nonzero()[:, 0]
    assert flat["text_predictors"].tolist() == (labeled - 1).tolist()
    is_labeled = (batch["audio_labels"][0] != IGNORE_INDEX).any(dim=-1)
    audio_positions = (batch["input_ids"][0] == CONFIG.audio_token_id).nonzero()[:, 0]
    assert flat["audio_predictors"].tolist() == (audio_positions[is_labeled] - 1).tolist()


def test_batch_of_text_alone_has_no_frames():
    flat = HiggsCollator(CONFIG, flat=True)([text_sample(3), text_sample(5)])["flat"]
    assert flat["frames"].shape == (0, 8) and len(flat["audio_index"]) == len(flat["audio_predictors"]) == 0
    assert flat["text_predictors"].tolist() == [0, 1, 3, 4, 5, 6]  # the first token of a sample is not predicted
    assert flat["sample_starts"].tolist() == [0, 3, 8] and flat["max_length"] == 5
