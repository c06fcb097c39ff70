import pytest

from higgs_recipes.configs.benchmark import BenchmarkEncodeConfig, BenchmarkGenerateConfig, BenchmarkTrainConfig
from higgs_recipes.errors import InputError
from tests.helpers.configs import make


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"variants": {"a": {"pack": 64}}}, "variant 'a': 'pack' is not a field of SFTConfig"),
        ({"common": {"lora_r": "four"}}, "common: 'lora_r' is 'four'; it must be int"),
        ({"common": {"lr": 1.0}}, "common: 'lr' is not a field of SFTConfig"),
        ({"variants": {"a": 64}}, "variant 'a' must be a mapping of fields, got 64"),
        ({"variants": {}, "plain_variants": {}}, "variants is empty: name at least one"),
        ({"plain_variants": {"packed": {}}}, "variants: duplicate name in packed, checkpointed, packed"),
        ({"only": ["pakced"]}, "only: no variant 'pakced'; the variants are packed, checkpointed"),
        ({"timed_steps": 15}, "timed_steps must be a multiple of 10, the logging interval, got 15"),
        ({"warm_steps": 0}, "warm_steps must be a multiple of 10"),
        ({"text_positions": 3}, "text_positions must be at least 4, got 3"),
        ({"clip_seconds": 0.0}, "clip_seconds must be at least one frame, 0.04, got 0.0"),
        ({"model_config": ""}, "model_config is missing"),
    ],
)
def test_invalid_values_of_the_training_benchmark_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        make(BenchmarkTrainConfig, **fields)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"variants": {"a": {"top": 3}}}, "variant 'a': 'top' is not a field of SamplingConfig"),
        ({"variants": {"transformers": {}}}, "duplicate name in transformers, transformers"),
        ({"variants": {}, "plain": False}, "variants is empty"),
        ({"streams": [0, 1]}, r"streams must be positive, got \[0, 1\]"),
        ({"text_characters": 0}, "text_characters must be positive, got 0"),
    ],
)
def test_invalid_values_of_the_generation_benchmark_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        make(BenchmarkGenerateConfig, **fields)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"codec_config": ""}, "codec_config is missing"),
        ({"num_clips": 0}, "num_clips must be positive, got 0"),
        ({"num_clips": 4, "batch_sizes": [1, 3]}, "batch_sizes: 4 clips are not a multiple of 3"),
        ({"batch_sizes": []}, "batch_sizes must be positive"),
        ({"arithmetic": []}, "arithmetic is empty: name at least float32"),
        ({"arithmetic": ["fp32"]}, "arithmetic: 'fp32' is not one of float32, default, tf32"),
    ],
)
def test_invalid_values_of_the_encoding_benchmark_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        make(BenchmarkEncodeConfig, **fields)


def test_variants_are_selected_in_the_order_of_the_recipe():
    variants = {"a": {}, "b": {}, "c": {}}
    assert make(BenchmarkTrainConfig, variants=variants).selected(variants) == ["a", "b", "c"]
    assert make(BenchmarkTrainConfig, variants=variants, only=["c", "a"]).selected(variants) == ["a", "c"]
