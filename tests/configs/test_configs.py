"""Configs: pinned revisions, every check with its message, and names that other modules must agree on."""

from dataclasses import fields, is_dataclass
from importlib.util import find_spec
from math import inf, nan
from typing import get_args

import pytest

from higgs_recipes import chatml, normalizers
from higgs_recipes.configs import benchmark, codec, corpus, finetuning, inference, model, segment, sft
from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.configs.inference import EvaluateConfig, GenerateConfig, InitConfig, MergeConfig, SamplingConfig
from higgs_recipes.configs.model import CodecConfig, ModelConfig
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.errors import InputError


NEEDED = {
    EncodeConfig: {"sources": ["corpus"]},
    SFTConfig: {"datasets": ["codes"], "use_cpu": True, "report_to": "none"},
    GenerateConfig: {"text": ["Hello."]},
    EvaluateConfig: {"dataset": "codes"},
    MergeConfig: {"adapter": "mine"},
    InitConfig: {"model_config": "tiny.json"},
    ModelConfig: {},
    CodecConfig: {},
    SamplingConfig: {},
}


def make(config_class, **values):
    return config_class(**NEEDED[config_class] | values)


@pytest.mark.parametrize("config_class", NEEDED)
def test_defaults_and_what_is_needed_make_a_config(config_class):
    assert isinstance(make(config_class), config_class)


def test_literals_are_the_names_of_their_tables():
    assert get_args(chatml.Task) == chatml.TASKS
    assert set(normalizers.NORMALIZERS) < set(get_args(normalizers.Normalizer))  # the others need a language


@pytest.mark.parametrize("config_class", [ModelConfig, SFTConfig, GenerateConfig, EvaluateConfig, MergeConfig])
def test_the_known_base_model_is_pinned_and_no_other(config_class):
    assert make(config_class).model_revision == "d80c511612b3040ff2877ce3d408747df1739f11"
    assert make(config_class, model_revision="main").model_revision == "main"
    assert make(config_class, model_name_or_path="me/other").model_revision is None


@pytest.mark.parametrize("config_class", [CodecConfig, EncodeConfig, SFTConfig, GenerateConfig, EvaluateConfig])
def test_the_known_codec_is_pinned_and_no_other(config_class):
    assert make(config_class).codec_revision == "403fbacf2f60caaa102f893fdfabb694619b2417"
    assert make(config_class, codec_name_or_path="outputs/codec").codec_revision is None


def test_lists_are_not_shared_between_configs():
    make(SFTConfig).lora_targets.append("heads")
    assert make(SFTConfig).lora_targets == ["attention"]


def test_batches_are_copied_by_the_way_unless_the_recipe_says_otherwise():
    assert make(SFTConfig).accelerator_config.non_blocking
    assert not make(SFTConfig, dataloader_pin_memory=False).accelerator_config.non_blocking
    assert not make(SFTConfig, accelerator_config={"non_blocking": False}).accelerator_config.non_blocking


def test_every_knob_says_its_reason():
    own = [
        each
        for module in (model, sft, inference, finetuning, corpus, segment, codec, benchmark)
        for each in vars(module).values()
        if is_dataclass(each) and each.__module__ == module.__name__
    ]
    assert SFTConfig in own and InitConfig in own
    for config_class in own:
        for field in fields(config_class):
            if field.name in config_class.__annotations__:
                assert field.metadata["help"].endswith("."), field.name


@pytest.mark.parametrize(
    "config_class, values, message",
    [
        (EncodeConfig, {"sources": []}, "sources is empty: name at least one Hub id or folder"),
        (EncodeConfig, {"columns": "text"}, "columns must be a mapping in braces, got 'text'"),
        (EncodeConfig, {"min_seconds": 0}, "need 0 < min_seconds < max_seconds"),
        (EncodeConfig, {"max_seconds": 0.1}, "min_seconds 0.3 and max_seconds 0.1: need 0 < min_seconds < max"),
        (EncodeConfig, {"max_chars_per_second": 0}, "max_chars_per_second must be positive, got 0"),
        (EncodeConfig, {"test_size": -1}, "test_size must be 0 or positive, got -1"),
        (EncodeConfig, {"max_seconds": inf}, "max_seconds inf: need .* and max_seconds finite"),
        (EncodeConfig, {"max_seconds": nan}, "max_seconds nan: need .* and max_seconds finite"),
        (EncodeConfig, {"batch_seconds": 0}, "batch_seconds must be positive and finite, got 0"),
        (EncodeConfig, {"batch_seconds": inf}, "batch_seconds must be positive and finite, got inf"),
        (EncodeConfig, {"seed": -1}, r"seed must be in 0 .. 2\*\*63 - 1, got -1"),
        (SFTConfig, {"datasets": []}, "datasets is empty: name at least one encoded corpus"),
        (SFTConfig, {"remove_unused_columns": True}, "remove_unused_columns must be false: the collator needs"),
        (SFTConfig, {"lora_r": 0}, "lora_r must be at least 1, got 0"),
        (SFTConfig, {"lora_alpha": 0}, "lora_alpha must be at least 1, got 0"),
        (SFTConfig, {"lora_dropout": 1.0}, r"lora_dropout must be in \[0, 1\), got 1.0"),
        (SFTConfig, {"lora_targets": []}, "lora_targets is empty: name what to adapt"),
        (SFTConfig, {"text_loss_weight": -1.0}, "text_loss_weight must be 0 or positive, got -1.0"),
        (SFTConfig, {"audio_loss_weight": -1.0}, "audio_loss_weight must be 0 or positive, got -1.0"),
        (SFTConfig, {"codebook_weights": [1.0] * 7}, "codebook_weights needs 8, got 7"),
        (SFTConfig, {"codebook_weights": [0.0] * 8}, "codebook_weights must be 0 or positive"),
        (
            SFTConfig,
            {"fill_rows": True, "per_device_train_batch_size": 1},
            "one packed row: set pack_to, and per_device",
        ),
        (
            SFTConfig,
            {"fill_rows": True, "pack_to": 100},
            "packed row: set pack_to, and per_device_train_batch_size: 1",
        ),
        (SFTConfig, {"code_dropout": 1.0}, r"code_dropout must be in \[0, 1\), got 1.0"),
        (SFTConfig, {"pack_to": 0}, "pack_to must be positive, got 0"),
        (SFTConfig, {"per_device_train_batch_size": 0}, "per_device_train_batch_size must be at least 1, got 0"),
        (SFTConfig, {"per_device_eval_batch_size": -1}, "per_device_eval_batch_size must be at least 1, got -1"),
        (SFTConfig, {"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be at least 1, got 0"),
        (SFTConfig, {"learning_rate": nan}, "learning_rate must be 0 or positive, and finite, got nan"),
        (SFTConfig, {"learning_rate": -1e-4}, "learning_rate must be 0 or positive, and finite, got -0.0001"),
        (SFTConfig, {"label_smoothing_factor": 0.1}, "label_smoothing_factor must be 0, got 0.1: the losses here"),
        (SFTConfig, {"seed": 2**32}, r"seed must be in 0 .. 2\*\*32 - 1, got 4294967296"),
        (SFTConfig, {"report_to": "wandbb"}, "report_to: wandbb is not installed, or unknown to transformers: pip"),
        (SFTConfig, {"report_to": ["none", "x"]}, "report_to: x is not installed, or unknown .* or use none"),
        (SamplingConfig, {"temperature": -0.1}, "temperature must be 0 .greedy. or positive, got -0.1"),
        (SamplingConfig, {"top_k": -1}, "top_k must be 0 .all. or positive, got -1"),
        (SamplingConfig, {"top_p": 0.0}, r"top_p must be in \(0, 1\], got 0.0"),
        (SamplingConfig, {"ras_win_len": -1}, "ras_win_len must be 0 .off. or positive, got -1"),
        (SamplingConfig, {"ras_win_max_num_repeat": 0}, "ras_win_max_num_repeat must be at least 1, got 0"),
        (SamplingConfig, {"max_seconds": 0}, "max_seconds must be at least one frame, 0.04, and finite, got 0"),
        (SamplingConfig, {"max_seconds": inf}, "max_seconds must be at least one frame, 0.04, and finite, got inf"),
        (SamplingConfig, {"max_seconds": nan}, "max_seconds must be at least one frame, 0.04, and finite, got nan"),
        (SamplingConfig, {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (GenerateConfig, {"top_p": 2.0}, "top_p must be in"),
        (GenerateConfig, {"text": []}, "nothing to speak: give text or text_file"),
        (GenerateConfig, {"ref_audio": ["a.wav"]}, "cloning needs both ref_audio and ref_text: 1 clips have 0 texts"),
        (GenerateConfig, {"ref_text": ["Hm."]}, "ref_text is given, but no ref_audio"),
        (GenerateConfig, {"ref_in_system": True}, "ref_in_system is set, but there is no ref_audio"),
        (GenerateConfig, {"seed": 2**63}, r"seed must be in 0 .. 2\*\*63 - 1, got 9223372036854775808"),
        (EvaluateConfig, {"seed": -1}, r"seed must be in 0 .. 2\*\*63 - 1, got -1"),
        (EvaluateConfig, {"dataset": ""}, "dataset is empty: name an encoded corpus"),
        (EvaluateConfig, {"max_rows": 0}, "max_rows must be positive, got 0"),
        (EvaluateConfig, {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (MergeConfig, {"adapter": None}, "adapter is missing: name the folder or Hub id of the adapter to merge"),
        (InitConfig, {"seed": -1}, r"seed must be in 0 .. 2\*\*63 - 1, got -1"),
        (InitConfig, {"model_config": ""}, "model_config is missing: name a JSON file of a HiggsAudioV2Config"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(config_class, values, message):
    with pytest.raises(InputError, match=message):
        make(config_class, **values)


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="deepspeed is installed")
def test_deepspeed_that_is_not_installed_is_one_line():
    with pytest.raises(InputError, match="deepspeed needs a package that is not installed: pip install deepspeed"):
        make(SFTConfig, deepspeed="zero2.json")


def test_no_adapter_needs_no_targets():
    assert make(SFTConfig, method="full", dtype="float32", lora_targets=[]).method == "full"
