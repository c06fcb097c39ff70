"""The comparison of words: its texts, its file of clips, its table; and, slow, that the clips are equal on a CPU."""

import subprocess
import sys

import pytest
import torch

from higgs_recipes.generation.engine import Clip
from tests.experiments import engine_words
from tests.experiments.engine_words import REFERENCE, describe, generate_all, load_clips, read_texts, save_clips, score
from tests.helpers.paths import ROOT


def test_texts_are_those_that_nothing_else_uses():
    texts = read_texts(200)
    assert len(texts) == len(set(texts)) == 200 == len(read_texts(1000)) - 300
    used = (ROOT / "recipes/tiny/demo_corpus/metadata.csv").read_text(encoding="utf-8")
    assert not [text for text in texts if text in used]


def test_clips_are_loaded_as_they_were_saved(tmp_path):
    codes = torch.arange(40, dtype=torch.int16).view(5, 8)
    clips = {REFERENCE: [Clip(codes, True), Clip(codes[:0], False)], "eager 16": [Clip(codes[:2], True)] * 2}
    save_clips(tmp_path / "new/clips.safetensors", clips, {"texts": 2, "variants": list(clips)})
    loaded, facts = load_clips(tmp_path / "new/clips.safetensors")
    assert facts == {"texts": 2, "variants": [REFERENCE, "eager 16"]} and list(loaded) == list(clips)
    for name, own in clips.items():
        for clip, other in zip(own, loaded[name], strict=True):
            assert torch.equal(clip.codes, other.codes) and clip.stopped == other.stopped


def test_the_table_has_a_line_for_each_variant():
    row = {"wer": 0.25, "low": 0.2, "high": 0.3, "over_100": [4], "stopped": 60, "equal": 58}
    table = describe([{"dtype": "float32", "texts": 60, "scores": {"eager 1": row, "few": row | {"low": None}}}])
    assert "| float32, eager 1 | 25.0% (20.0% to 30.0%) | 1 | 60 of 60 | 58 |" in table
    assert "| float32, few | 25.0% | 1 |" in table


@pytest.mark.slow
def test_the_engine_speaks_the_words_of_transformers():
    clips, seconds = generate_all(texts=10, dtype="float32", streams=[1, 4], device=torch.device("cpu"))
    assert list(clips) == list(seconds) == [REFERENCE, "eager 1", "eager 4"]
    scores = score(clips, read_texts(10))
    assert all(row["equal"] == 10 and row["wer"] == scores[REFERENCE]["wer"] < 0.5 for row in scores.values())


@pytest.mark.slow
def test_clips_are_generated_without_datasets_and_jiwer():
    code = "import sys; sys.modules |= dict.fromkeys(['datasets', 'trl', 'jiwer', 'evaluate', 'soundfile']); "
    subprocess.run([sys.executable, "-c", f"{code} import {engine_words.__name__}"], cwd=ROOT, check=True)
