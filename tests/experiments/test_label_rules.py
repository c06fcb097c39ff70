"""The study of label rules: the labels of each rule, by hand; and the whole study, small."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from transformers import HiggsAudioV2Config

from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.corpus.encode import encode_corpus
from higgs_recipes.errors import InputError
from tests.experiments.label_rules import RULES, run, side_by_side
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.paths import ROOT
from tests.helpers.recordings import corpus_rows, write_recordings


AUDIO, BOS, EOS, NONE = 9, 1024, 1025, -100
CONFIG = HiggsAudioV2Config(num_codebooks=2, codebook_size=1026, audio_token_id=AUDIO, pad_token_id=0)
REFERENCE, OWN = [[1, 11], [2, 12]], [[3, 13], [4, 14], [5, 15]]
SAMPLE = {
    "input_ids": [7, AUDIO, 6, AUDIO, 8],
    "labels": [NONE, NONE, 6, NONE, 8],
    "codes": [torch.tensor(REFERENCE), torch.tensor(OWN)],
    "supervise": [False, True],
}
SHORT = {"input_ids": [AUDIO, 8], "labels": [NONE, 8], "codes": [torch.tensor([[3, 13]])], "supervise": [True]}


def columns(rule: str, name: str) -> list[list[int]]:
    """The columns of the two codebooks of the sample with a reference clip."""
    return RULES[rule](CONFIG)([SAMPLE, SHORT])[name][0].T.tolist()


def test_labels_are_the_codes_of_the_clip_and_one_eos_per_codebook():
    assert columns("ours", "audio_labels") == [
        [NONE] * 5 + [NONE, 3, 4, 5, EOS, NONE],
        [NONE] * 5 + [NONE, NONE, 13, 14, 15, EOS],
    ]


def test_eos_masked_changes_only_eos_targets():
    assert columns("eos_masked", "audio_labels") == [
        [NONE] * 5 + [NONE, 3, 4, 5, NONE, NONE],
        [NONE] * 5 + [NONE, NONE, 13, 14, 15, NONE],
    ]
    ours, masked = HiggsCollator(CONFIG)([SAMPLE, SHORT]), RULES["eos_masked"](CONFIG)([SAMPLE, SHORT])
    assert all(torch.equal(ours[name], masked[name]) for name in ours if name != "audio_labels")


def test_references_supervised_adds_their_codes_and_eos():
    assert columns("references_supervised", "audio_labels") == [
        [NONE, 1, 2, EOS, NONE] + [NONE, 3, 4, 5, EOS, NONE],
        [NONE, NONE, 11, 12, EOS] + [NONE, NONE, 13, 14, 15, EOS],
    ]
    assert columns("references_supervised", "audio_input_ids") == columns("ours", "audio_input_ids")


def test_delay_off_puts_the_codes_of_a_step_into_one_frame():
    assert columns("delay_off", "audio_input_ids") == [
        [BOS, 1, 2, EOS] + [BOS, 3, 4, 5, EOS],
        [BOS, 11, 12, EOS] + [BOS, 13, 14, 15, EOS],
    ]
    assert columns("delay_off", "audio_labels") == [
        [NONE] * 4 + [NONE, 3, 4, 5, EOS],
        [NONE] * 4 + [NONE, 13, 14, 15, EOS],
    ]


def test_delay_off_keeps_positions_frames_and_padding_consistent():
    batch = RULES["delay_off"](CONFIG)([SAMPLE, SHORT])
    assert batch["input_ids"].tolist() == [[7, *[AUDIO] * 4, 6, *[AUDIO] * 5, 8], [*[AUDIO] * 3, 8, *[0] * 8]]
    assert batch["labels"].tolist() == [[*[NONE] * 5, 6, *[NONE] * 5, 8], [*[NONE] * 3, 8, *[NONE] * 8]]
    assert batch["attention_mask"].sum(dim=1).tolist() == [12, 4]
    assert batch["audio_input_ids_mask"].sum(dim=1).tolist() == [9, 3]
    assert batch["audio_labels"][1].T.tolist() == [[NONE, 3, EOS] + [NONE] * 6, [NONE, 13, EOS] + [NONE] * 6]


def encoded_corpus(folder: Path, *, tasks: dict[str, float]) -> str:
    """Six encoded clips of a voice, two of them held out."""
    recordings = folder / "recordings"
    write_recordings(recordings, corpus_rows("heart")[:6])
    encode_corpus(
        EncodeConfig(
            sources=[str(recordings)],
            codec_name_or_path=str(tiny_folder() / "codec"),
            output_dir=str(folder / "corpus"),
            cache_dir=str(folder / "cache"),
            tasks=tasks,
            test_size=2,
        )
    )
    return str(folder / "corpus")


RECIPES = ROOT / "tests/data/random_tiny"


@pytest.mark.slow
def test_corpus_without_references_is_refused(tmp_path):
    corpus = encoded_corpus(tmp_path, tasks={"single_speaker_smart_voice": 1.0})
    with pytest.raises(InputError, match="no row has a reference clip.*zero_shot_voice_cloning"):
        paths = {
            "model_name_or_path": str(tiny_folder() / "model"),
            "codec_name_or_path": str(tiny_folder() / "codec"),
        }
        run(tmp_path / "study", recipes=RECIPES, paths=paths, corpus=corpus, train={"max_steps": 1}, score={})


@pytest.mark.slow
def test_all_rules_are_trained_scored_and_shown_side_by_side(tmp_path):
    corpus = encoded_corpus(tmp_path, tasks={"zero_shot_voice_cloning": 1.0})
    flags = [f"--recipes={RECIPES}", f"--base={tiny_folder() / 'model'}", f"--codec={tiny_folder() / 'codec'}"]
    flags += [f"--corpus={corpus}", "--steps=5", "--max_rows=2", "--max_seconds=1"]
    command = [sys.executable, "-m", "tests.experiments.label_rules", str(tmp_path / "report.json"), *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert list(report["rows"]) == ["real", "codec", "base", *RULES]
    assert done.stdout.endswith(side_by_side(report))  # after the trainer's logs
    assert report["rows"]["real"]["wer"]["value"] < 0.5  # the metric models are real
    assert all(report["rows"][rule]["stop_rate"]["n"] == 2 for rule in RULES)
    assert report["train"] == {"max_steps": 5} and report["score"] == {"max_rows": 2, "max_seconds": 1.0}
    assert len(set(report["losses"].values())) == 4  # each rule has other labels


@pytest.mark.slow
def test_pretrained_base_keeps_its_wer_with_these_rules_and_loses_it_without_the_delay(tmp_path):
    recipe = yaml.safe_load((ROOT / "recipes/tiny/encode.yaml").read_text(encoding="utf-8"))
    recipe |= {"sources": [str(ROOT / "recipes/tiny/demo_corpus")], "tasks": {"zero_shot_voice_cloning": 1.0}}
    recipe |= {"output_dir": str(tmp_path / "corpus"), "cache_dir": str(tmp_path / "codes")}
    encode_corpus(EncodeConfig(**recipe | {"codec_name_or_path": str(ROOT / "recipes/tiny/mel_rvq")}))
    report = run(
        tmp_path / "study",
        recipes=ROOT / "recipes/tiny",
        paths={
            "model_name_or_path": str(ROOT / "recipes/tiny/base"),
            "codec_name_or_path": str(ROOT / "recipes/tiny/mel_rvq"),
        },
        corpus=str(tmp_path / "corpus"),
        train={"max_steps": 40},
        score={"max_rows": 10},
    )
    rows = report["rows"]
    assert rows["ours"]["stop_rate"]["value"] == 1
    assert rows["ours"]["similarity"]["value"] > rows["base"]["similarity"]["value"] + 0.05
    assert rows["ours"]["wer"]["value"] < 0.7 < rows["delay_off"]["wer"]["value"]
    assert rows["delay_off"]["similarity"]["value"] < rows["ours"]["similarity"]["value"]
