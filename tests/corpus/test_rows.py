import pytest

from higgs_recipes.corpus.rows import file_safe_id


@pytest.mark.parametrize(
    "name, safe",
    [
        ("a/b c.wav", "a_b_c.wav"),
        ("../../etc", "_.._etc"),
        ("..", ""),
        ("你好/1", "你好_1"),
        (7, "7"),
        ("a\0b\n", "a_b_"),
    ],
)
def test_an_id_is_a_file_name(name, safe):
    assert file_safe_id(name) == safe and "/" not in safe and not safe.startswith(".")
