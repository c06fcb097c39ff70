import pytest

from higgs_recipes.configs.codec import FitCodecConfig
from higgs_recipes.errors import InputError
from tests.helpers.configs import make


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"sources": []}, "sources is empty: name at least one Hub id or folder"),
        ({"columns": "text"}, "columns must be a mapping in braces, got 'text'"),
        ({"speeds": [0.1]}, r"speeds must be numbers from 0.5 to 2, got \[0.1\]"),
        ({"speeds": []}, r"speeds must be numbers from 0.5 to 2, got \[\]"),
        ({"refinements": -1}, "refinements must be 0 or positive, got -1"),
        ({"iterations": 0}, "iterations must be positive, got 0"),
        ({"seconds_per_speaker": 0.0}, "seconds_per_speaker must be positive, got 0.0"),
        ({"seed": -1}, "seed must be an integer in"),
        ({"codec_config": ""}, "codec_config is missing: name a JSON file of a MelRVQConfig"),
    ],
)
def test_invalid_values_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        make(FitCodecConfig, **fields)
