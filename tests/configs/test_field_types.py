"""Types of fields: what fits, and what a message says about a value that does not."""

from math import inf, nan

import pytest

from higgs_recipes.configs.codec import FitCodecConfig
from higgs_recipes.configs.field_types import are_usable, require_types
from higgs_recipes.errors import InputError


@pytest.mark.parametrize("value", [nan, inf, -inf, 2**63, -(2**63) - 1, [1.0, nan], {"a": [inf]}, {inf: 1}])
def test_numbers_that_no_computation_can_use_are_found(value):
    assert not are_usable(value)


@pytest.mark.parametrize("value", [0, 2**63 - 1, -(2**63), 1e308, True, None, "nan", [1, "a"], {"a": 0.5}])
def test_other_values_are_usable(value):
    assert are_usable(value)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"seed": "four"}, "here: 'seed' is 'four'; it must be int"),
        ({"speeds": [1, "a"]}, "here: 'speeds' is [1, 'a']; it must be list of float"),
        ({"seed": 10**90}, "numbers must be finite, and integers have 64 bits"),
        ({"seconds_per_speaker": nan}, "here: 'seconds_per_speaker' is nan; numbers must be finite"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field(values, message):
    with pytest.raises(InputError) as error:
        require_types(values, FitCodecConfig, where="here: ")
    assert message in str(error.value)


def test_a_long_value_is_shortened_in_the_message():
    with pytest.raises(InputError) as error:
        require_types({"seed": "x" * 9000}, FitCodecConfig, where="")
    assert len(str(error.value)) < 300
