from typing import get_args

import pytest

from higgs_recipes import normalizers
from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.configs.segment import SegmentConfig
from higgs_recipes.errors import InputError
from tests.helpers.configs import make


def test_the_normalizers_of_the_type_are_those_of_the_table():
    assert set(normalizers.NORMALIZERS) < set(get_args(normalizers.Normalizer))


@pytest.mark.parametrize("config_class", [SegmentConfig, EvaluateConfig])
def test_the_normalizer_is_chosen_by_language_unless_the_recipe_names_one(config_class):
    assert make(config_class).normalizer == "auto" and make(config_class, normalizer="basic").normalizer == "basic"


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"sources": []}, "sources is empty: name at least one folder of recordings"),
        ({"asr": None}, "asr is missing: name the ASR model"),
        ({"min_seconds": 20.0}, "need 0 < min_seconds < max_seconds <= 28, got 20.0 and 15.0"),
        ({"max_seconds": 40.0}, "need 0 < min_seconds < max_seconds <= 28, got 1.0 and 40.0"),
        ({"min_pause": 2.0}, "need 0.1 <= min_pause <= max_pause, got 2.0 and 1.0"),
        ({"min_pause": 0.05}, "need 0.1 <= min_pause <= max_pause, got 0.05 and 1.0"),
        ({"sources": [{"path": "a", "speakr": "x"}]}, r"unknown key \['speakr'\]"),
        ({"sources": [{"path": "a", "speaker": "x"}], "speaker_per_file": True}, "exclude each other"),
    ],
)
def test_invalid_values_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        make(SegmentConfig, **fields)
