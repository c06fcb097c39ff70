from math import inf, nan
from typing import get_args

import pytest

from higgs_recipes import chatml
from higgs_recipes.configs.corpus import EncodeConfig, ExportConfig, ImportConfig, require_constants
from higgs_recipes.errors import InputError
from tests.helpers.configs import make


SMART = "single_speaker_smart_voice"


def test_the_tasks_of_the_type_are_those_of_chatml():
    assert get_args(chatml.Task) == chatml.TASKS


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"sources": []}, "sources is empty: name at least one Hub id or folder"),
        ({"columns": "text"}, "columns must be a mapping in braces, got 'text'"),
        ({"min_seconds": 0}, "need 0 < min_seconds < max_seconds"),
        ({"max_seconds": 0.1}, "min_seconds 0.3 and max_seconds 0.1: need 0 < min_seconds < max"),
        ({"max_seconds": inf}, "max_seconds inf: need .* and max_seconds finite"),
        ({"max_seconds": nan}, "max_seconds nan: need .* and max_seconds finite"),
        ({"max_chars_per_second": 0}, "max_chars_per_second must be positive, got 0"),
        ({"test_size": -1}, "test_size must be 0 or positive, got -1"),
        ({"batch_seconds": 0}, "batch_seconds must be positive and finite, got 0"),
        ({"batch_seconds": inf}, "batch_seconds must be positive and finite, got inf"),
        ({"seed": -1}, r"seed must be an integer in 0 .. 2\*\*63 - 1, got -1"),
        ({"tasks": {}}, "tasks is empty"),
        ({"tasks": {"singing": 1.0}}, f"tasks: 'singing' is not one of {SMART}"),
        ({"tasks": {SMART: -1.0}}, f"tasks: weight of {SMART} is -1.0; it must be a positive number"),
        ({"tasks": {SMART: "much"}}, "it must be a positive number"),
        ({"ref_min_seconds": 5.0, "ref_max_seconds": 4.0}, "need 0 < ref_min_seconds < ref_max_seconds"),
        (
            {"dialogue_turns": [1, 3]},
            r"dialogue_turns is \[1, 3\]: need two numbers, the smaller first and not below 2",
        ),
        ({"dialogue_gap_seconds": [0.5]}, "dialogue_gap_seconds is .* need two numbers"),
        ({"license": "CC BY 4.0"}, "license is 'CC BY 4.0'; use the Hub's identifier, e.g. cc-by-4.0"),
    ],
)
def test_invalid_values_of_encode_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        make(EncodeConfig, **fields)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"format": None}, "format is missing: name the format of the sources"),
        ({"sources": []}, "sources is empty: name at least one folder or list"),
        ({"columns": "a: b"}, "columns must be a mapping in braces, got 'a: b'"),
        (
            {"sources": [{"path": "x", "speker": "y"}]},
            r"unknown key \['speker'\]; allowed are path, speaker, language",
        ),
    ],
)
def test_invalid_values_of_import_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        make(ImportConfig, **fields)


def test_export_needs_a_source():
    with pytest.raises(InputError, match="source is empty: name a corpus folder"):
        make(ExportConfig, source="")


def test_a_source_is_a_path_or_a_mapping_of_strings():
    require_constants(["a", {"path": "b", "speaker": "x", "language": "en", "gender": "f", "scene": "A room."}])
    with pytest.raises(InputError, match="sources: path of {'speaker': 'y'} must be a string"):
        require_constants(["a", {"speaker": "y"}])
    with pytest.raises(InputError, match="sources: speaker of .* must be a string"):
        require_constants([{"path": "a", "speaker": 1}])
