"""Ids that are file names: readable, and stable."""

import unicodedata

import pytest

from higgs_recipes.corpus.rows import MAX_ID_BYTES, control_character, file_safe_id, hashed_id


@pytest.mark.parametrize(
    "name, safe",
    [
        ("a/b c.wav", "a_b_c.wav"),
        ("../../etc", "_.._etc"),
        ("你好/1", "你好_1"),
        (7, "7"),
        ("a\0b\n", "a_b_"),
        (".hidden", "hidden"),
    ],
)
def test_an_id_is_a_file_name(name, safe):
    assert file_safe_id(name) == safe and "/" not in safe and not safe.startswith(".")


@pytest.mark.parametrize("name", ["00_joe", "take.1", "p225-001", "你好", "กิ", "हिन्दी", "bà", "٣", "کتاب", "김치"])
def test_letters_marks_and_digits_of_all_scripts_are_kept(name):
    assert file_safe_id(name) == name


@pytest.mark.parametrize(
    "names", [["🎉", "😀", "🎉🎉"], ["a\udcd2", "a\udcd3"], ["..", "...", ""], ["x" * 300, "x" * 301]]
)
def test_names_that_would_collapse_have_a_hash(names):
    ids = [file_safe_id(name) for name in names]
    assert len(set(ids)) == len(names) and all(safe.rpartition("-")[0] for safe in ids)


NAMES = ["take 1", "take_1", "take#1", "a/b_c", "a_b/c", "a.wav", "กิ", "กี", "🎉", ".hidden", "..", "x" * 300, "\udcd2"]


def test_a_hashed_id_is_that_of_one_name():
    assert len({hashed_id(name) for name in NAMES}) == len(NAMES)
    nfd = unicodedata.normalize("NFD", "bà")
    assert hashed_id("bà") != hashed_id(nfd) and hashed_id(nfd).startswith("bà-")


@pytest.mark.parametrize("name", NAMES)
def test_an_id_is_its_own_id(name):
    for safe in (file_safe_id(name), hashed_id(name)):
        assert file_safe_id(safe) == safe and "/" not in safe and not safe.startswith(".")


def test_both_normal_forms_of_a_name_are_one_id():
    assert file_safe_id(unicodedata.normalize("NFD", "Tiếng Việt")) == file_safe_id("Tiếng Việt") == "Tiếng_Việt"


@pytest.mark.parametrize("name", ["x" * 5000, "ก" * 100, "🎉" * 300, "a/" * 200])
def test_ids_are_short_enough_for_a_file_name(name):
    assert len(file_safe_id(name).encode()) <= MAX_ID_BYTES and len(hashed_id(name).encode()) <= MAX_ID_BYTES


@pytest.mark.parametrize("text, found", [("a\0b", "\0"), ("\x1b[0m", "\x1b"), ("tab\tline\r\n\u2028", None)])
def test_control_characters_are_found_and_whitespace_is_not_one(text, found):
    assert control_character(text) == found
