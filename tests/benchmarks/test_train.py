"""The benchmark of training: variants that fail, the labels of transformers, and samples of equal length."""

import json
from pathlib import Path

import pytest
import torch
from transformers import HiggsAudioV2Processor

from higgs_recipes.benchmarks.report import describe, write_report
from higgs_recipes.benchmarks.train import PlainCollator, RandomClips, measure_training
from higgs_recipes.chatml import CHAT_TEMPLATE, conversation
from higgs_recipes.configs.benchmark import BenchmarkTrainConfig
from higgs_recipes.delay import undelay_frames
from higgs_recipes.errors import InputError
from tests.helpers.benchmark_fields import TRAIN_VARIANTS, TRANSFORMERS_VARIANTS
from tests.helpers.benchmark_fields import train_fields as fields
from tests.helpers.checkpoints import load_tiny, tiny_folder


def test_variant_out_of_memory_is_recorded_and_the_next_one_is_measured(tmp_path, monkeypatch):
    original_step, calls = torch.optim.AdamW.step, []

    def fail_first(self, *args, **kwargs):
        calls.append(self)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original_step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", fail_first)
    config = BenchmarkTrainConfig(**fields(tmp_path, only=["packed", "padded"], plain_variants={}))
    report = write_report("train", config, measure_training(config))
    assert [row["outcome"] for row in report["rows"]] == ["out of memory", "measured"]
    assert "| packed | out of memory | out of memory |" in describe(report)
    assert json.loads(Path(config.output).read_text()) == report


def test_variant_that_cannot_be_built_is_recorded_and_the_next_one_is_measured(tmp_path):
    variants = {
        "odd": {"lora_targets": ["no_such_module"]},
        "short": {"pack_to": 25, "fill_rows": True},
    } | TRANSFORMERS_VARIANTS
    config = BenchmarkTrainConfig(**fields(tmp_path, variants=variants, plain_variants={}))
    odd, short, measured = measure_training(config)
    assert "'no_such_module' matches no linear module" in odd["outcome"]
    assert short["outcome"] == "refused: pack_to 25 is shorter than a clip of 26 positions"
    assert measured["outcome"] == "measured"


def test_labels_for_transformers_are_those_of_its_processor():
    processor = HiggsAudioV2Processor.from_pretrained(tiny_folder() / "model")
    model, tokenizer = load_tiny()
    turns = conversation({"text": "Words."}, task="single_speaker_smart_voice")
    text = tokenizer.apply_chat_template(turns, chat_template=CHAT_TEMPLATE, tokenize=False)
    waveform = torch.rand(24_000, generator=torch.Generator().manual_seed(0)) - 0.5
    expected = processor(
        text=text, audio=[waveform.numpy()], sampling_rate=24_000, output_labels=True, return_tensors="pt"
    )
    codes = undelay_frames(expected["audio_input_ids"][0])
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    sample = {"input_ids": ids, "labels": ids, "codes": [codes], "supervise": [True], "row_index": 0}
    batch = PlainCollator(model.config)([sample])
    for name in ("input_ids", "labels", "audio_input_ids", "audio_labels"):
        assert torch.equal(batch[name], expected[name]), name


def test_samples_have_equal_lengths_and_different_clips(tmp_path):
    config = BenchmarkTrainConfig(**fields(tmp_path))
    clips = RandomClips(config, load_tiny()[1], num_clips=3)
    assert clips.num_positions() == [26, 26, 26]
    assert not torch.equal(clips[0]["codes"][0], clips[1]["codes"][0])
    assert clips[2]["row_index"] == 2 and int((clips[2]["labels"] != -100).sum()) == 3


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"variants": {"a": {"pack_to": 64}}}, "variant 'a': pack_to needs fill_rows: true here"),
        ({"variants": {"a": {"lora_r": 0}}}, "variant 'a': lora_r must be at least 1, got 0"),
        ({"plain_variants": {"b": TRAIN_VARIANTS["packed"]}}, "variant 'b': unmodified transformers does not pack"),
    ],
)
def test_invalid_variant_is_refused_before_anything_is_measured(tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        next(measure_training(BenchmarkTrainConfig(**fields(tmp_path, **changed))))


def test_folder_with_a_model_of_another_size_is_refused(tmp_path):
    small = json.loads((tiny_folder() / "model.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps(small | {"num_hidden_layers": 1}))
    config = BenchmarkTrainConfig(**fields(tmp_path, only=["padded"]))
    assert len(list(measure_training(config))) == 1
    config.model_config = str(tmp_path / "other.json")
    with pytest.raises(InputError, match="its model has num_hidden_layers 2, .*other.json has 1"):
        next(measure_training(config))
