"""Text normalizers: punctuation, case and the exceptions of each benchmark."""

from typing import get_args

import pytest

from higgs_recipes.normalizers import NORMALIZERS, Normalizer


def test_every_name_has_a_normalizer():
    assert get_args(Normalizer) == tuple(NORMALIZERS)


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("none", "It's  20 °C!", "It's  20 °C!"),
        ("basic", "It's (really) COLD!", "it s cold "),
        ("whisper_en_no_spelling", "It's twenty-one degrees, Mr. Smith.", "it is 21 degrees mister smith"),
        ("whisper_en_no_spelling", "The colour of it.", "the colour of it"),  # spelling is not mapped to American
        ("seed_tts_en", "It's “cold”, he said.", "it's cold he said"),
        ("seed_tts_zh", "你好，世界。", "你 好 世 界"),
    ],
)
def test_normalized_text(name, text, expected):
    assert NORMALIZERS[name](text) == expected


def test_seed_tts_replaces_double_spaces_once():
    assert NORMALIZERS["seed_tts_en"]("a   b  c") == "a  b c"
