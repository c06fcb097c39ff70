from math import inf, nan

import pytest

from higgs_recipes.configs.inference import EvaluateConfig, GenerateConfig, InitConfig, MergeConfig, SamplingConfig
from higgs_recipes.errors import InputError
from tests.helpers.configs import make


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"temperature": -0.1}, "temperature must be 0 .greedy. or positive, got -0.1"),
        ({"top_k": -1}, "top_k must be 0 .all. or positive, got -1"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\], got 0.0"),
        ({"ras_win_len": -1}, "ras_win_len must be 0 .off. or positive, got -1"),
        ({"ras_win_max_num_repeat": 0}, "ras_win_max_num_repeat must be at least 1, got 0"),
        ({"max_seconds": 0}, "max_seconds must be at least one frame, 0.04, and at most a day, 86400, got 0"),
        (
            {"max_seconds": 1e9},
            "max_seconds must be at least one frame, 0.04, and at most a day, 86400, got 1000000000.0",
        ),
        ({"max_seconds": inf}, "max_seconds must be at least one frame, 0.04, and at most a day, 86400, got inf"),
        ({"max_seconds": nan}, "max_seconds must be at least one frame, 0.04, and at most a day, 86400, got nan"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_invalid_sampling_is_refused_by_every_script_that_samples(fields, message):
    for config_class in (SamplingConfig, GenerateConfig, EvaluateConfig):
        with pytest.raises(InputError, match=message):
            make(config_class, **fields)


@pytest.mark.parametrize(
    "config_class, fields, message",
    [
        (GenerateConfig, {"text": []}, "nothing to speak: give text or text_file"),
        (
            GenerateConfig,
            {"ref_audio": ["a.wav"]},
            "cloning needs both ref_audio and ref_text: got 1 clips and 0 texts; give one text per clip",
        ),
        (GenerateConfig, {"ref_text": ["Hm."]}, "ref_text requires ref_audio"),
        (GenerateConfig, {"ref_in_system": True}, "ref_in_system requires ref_audio"),
        (GenerateConfig, {"ref_audio": ["a"], "profile": ["A voice."]}, "give either ref_audio or profile"),
        (
            GenerateConfig,
            {"ref_audio": ["profile: low"], "ref_text": ["A."]},
            "ref_text cannot be combined with profile:",
        ),
        (GenerateConfig, {"chunk_max_words": 0}, "chunk_max_words must be at least 1, got 0"),
        (GenerateConfig, {"chunk_max_turns": 0}, "chunk_max_turns must be at least 1, got 0"),
        (GenerateConfig, {"chunk_buffer_size": -1}, r"chunk_buffer_size must be null \(all\), 0 or positive, got -1"),
        (GenerateConfig, {"seed": 2**63}, r"seed must be an integer in 0 .. 2\*\*63 - 1, got 9223372036854775808"),
        (EvaluateConfig, {"seed": -1}, r"seed must be an integer in 0 .. 2\*\*63 - 1, got -1"),
        (EvaluateConfig, {"dataset": ""}, "dataset is empty: name an encoded corpus"),
        (EvaluateConfig, {"max_rows": 0}, "max_rows must be positive, got 0"),
        (MergeConfig, {"adapter": None}, "adapter is missing: name the folder or Hub id of the adapter to merge"),
        (InitConfig, {"seed": -1}, r"seed must be an integer in 0 .. 2\*\*63 - 1, got -1"),
        (InitConfig, {"model_config": ""}, "model_config is missing: name a JSON file of a HiggsAudioV2Config"),
    ],
)
def test_invalid_values_are_refused(config_class, fields, message):
    with pytest.raises(InputError, match=message):
        make(config_class, **fields)


def test_a_reference_clip_needs_a_text_unless_it_is_in_the_system_turn():
    assert make(GenerateConfig, ref_audio=["a.wav"], ref_text=["Hm."]).ref_text == ["Hm."]
    assert make(GenerateConfig, ref_audio=["a.wav"], ref_in_system=True).ref_text is None


def test_named_and_described_voices_need_no_transcripts():
    assert make(GenerateConfig, ref_audio="anna", voices_dir="voices").voices == ["anna"]
    assert make(GenerateConfig, profile="A low voice.").voices == ["profile:A low voice."]
    assert make(GenerateConfig, ref_audio=["profile: low", "a.wav"]).ref_text is None


def test_a_text_normalizer_needs_its_package(monkeypatch):
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda name: None)
    with pytest.raises(InputError, match="text_normalizer: wetext needs a package .*: pip install wetext"):
        make(GenerateConfig, text_normalizer="wetext")


def test_a_quantized_base_cannot_be_merged(monkeypatch):
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda name: name)  # as if bitsandbytes is installed
    with pytest.raises(InputError, match="load_in_4bit must be false: adapters, also those of QLoRA, are merged into"):
        make(MergeConfig, load_in_4bit=True)


@pytest.mark.parametrize("config_class", [GenerateConfig, EvaluateConfig])
def test_a_quantized_base_does_not_generate_with_int8_weights(config_class):
    with pytest.raises(InputError, match="^generation_weights: int8 requires load_in_4bit: false$"):
        make(config_class, load_in_4bit=True, generation_weights="int8")
