"""Labels of a corpus with all four tasks: only the row's own clip is a target, whatever the batch."""

from typing import get_args

import pytest
import torch
from transformers import HiggsAudioV2Config

from higgs_recipes.chatml import Task
from higgs_recipes.collator import HiggsCollator
from higgs_recipes.constants import IGNORE_INDEX
from higgs_recipes.corpus.encode import encode_corpus
from higgs_recipes.corpus.encoded import load_encoded
from higgs_recipes.samples import build_sample
from tests.helpers.checkpoints import load_tiny, tiny_folder
from tests.helpers.corpus_folder import encode_config, make_corpus


@pytest.fixture(scope="module")
def model_config() -> HiggsAudioV2Config:
    return HiggsAudioV2Config.from_pretrained(tiny_folder() / "model")


@pytest.fixture(scope="module", params=[False, True], ids=["references as turns", "references in the system turn"])
def samples(request, tmp_path_factory):
    """(task, sample) for two rows of each task."""
    folder = tmp_path_factory.mktemp("mix")
    config = encode_config(
        make_corpus(folder / "clips", 48),
        output_dir=str(folder / "codes"),
        cache_dir=str(folder / "cache"),
        tasks=dict.fromkeys(get_args(Task), 1.0),
        ref_in_system=request.param,
        ref_min_seconds=0.3,
        test_size=0,
    )
    rows, tokenizer = load_encoded(encode_corpus(config), split="train"), load_tiny()[1]
    chosen = [[row for row in rows if row["task"] == task][:2] for task in get_args(Task)]
    return [(row["task"], build_sample(row, tokenizer)) for pair in chosen for row in pair]


def test_reference_clips_carry_no_loss(samples, model_config):
    num_references = {task: len(sample["codes"]) - 1 for task, sample in samples}
    assert list(num_references.values()) == [0, 1, 0, 2]  # by task, in the order of Task
    for _, sample in samples:
        *references, own = sample["codes"]
        labels = HiggsCollator(model_config)([sample])["audio_labels"][0]  # (F, C)
        before = sum(len(codes) + 9 for codes in references)
        assert (labels[:before] == IGNORE_INDEX).all()
        assert int((labels[before:] != IGNORE_INDEX).sum()) == (len(own) + 1) * 8


def test_labels_do_not_depend_on_the_rest_of_the_batch(samples, model_config):
    alone = [HiggsCollator(model_config)([sample]) for _, sample in samples]
    together = [sample for _, sample in samples]
    packed = HiggsCollator(model_config, pack_to=10_000)(together)  # all samples in one row
    for name in ("labels", "audio_labels"):
        expected = torch.cat([batch[name][0] for batch in alone])
        assert torch.equal(packed[name][0, : len(expected)], expected), name
        assert (packed[name][0, len(expected) :] == IGNORE_INDEX).all()
        padded = HiggsCollator(model_config)(together)[name]
        for index, batch in enumerate(alone):
            length = batch[name].shape[1]
            assert torch.equal(padded[index, :length], batch[name][0]), name
            assert (padded[index, length:] == IGNORE_INDEX).all()
