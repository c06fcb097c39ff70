"""Ids: one to one with ids and files of the source, readable and stable."""

import json
import unicodedata

import pytest

from higgs_recipes.corpus.corpus import load_rows
from higgs_recipes.corpus.rows import hashed_id
from tests.helpers.corpus_folder import encode_config, write_metadata, write_tone


def ids(folder, rows: list[dict], **fields) -> list[str]:
    """Ids of a corpus of these rows; each row has its recording."""
    for row in rows:
        write_tone(folder / row["file_name"])
    lines = [json.dumps({"text": f"Row {index}."} | row) for index, row in enumerate(rows)]
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    corpus = load_rows(encode_config(folder, **fields))
    assert len(corpus.rows) == len(rows) and not corpus.rejects
    return [row["id"] for row in corpus.rows]


NAMES = {
    "thai": ["กิ", "กี", "กึ", "กู"],
    "hindi": ["कि", "की", "कु", "कू"],
    "vietnamese, NFD": [unicodedata.normalize("NFD", word) for word in ("bà", "bá", "bã", "ba")],
    "ascii": ["take 1", "take_1", "take#1", "take.1"],
    "emoji": ["😀", "😁", "_"],
    "dots": ["take.0", "take.1", "take"],
    "folders": ["a/b_c", "a_b/c", "a/b/c"],
    "forms": [unicodedata.normalize(form, "bà") for form in ("NFC", "NFD")],
    "dots alone": ["...a", "..a", "a"],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_different_files_have_different_ids(tmp_path, names):
    rows = [{"file_name": f"{name}.wav"} for name in names]
    found = ids(tmp_path, rows)
    assert len(set(found)) == len(names)
    for name, row_id in zip(names, found, strict=True):
        if name.isascii() and name.isidentifier():
            assert row_id == name
    reordered = ids(tmp_path, rows[::-1])
    assert reordered == found[::-1]


def test_recordings_that_differ_in_their_extension_have_it_in_their_ids(tmp_path):
    assert ids(tmp_path, [{"file_name": f"a.{ending}"} for ending in ("wav", "flac", "ogg")]) == [
        "a.wav",
        "a.flac",
        "a.ogg",
    ]


def test_a_name_that_is_an_id_keeps_it_and_the_others_say_what_they_are(tmp_path):
    found = ids(tmp_path, [{"file_name": "take 1.wav"}, {"file_name": "take_1.wav"}, {"file_name": "other.wav"}])
    assert found[1:] == ["take_1", "other"] and found[0].startswith("take_1")


def test_different_ids_of_the_source_stay_different(tmp_path):
    names = ["x/1", "x_1", "x 1", 7, "7.0", "7", "Ａ", "A"]
    rows = [{"id": name, "file_name": f"{index}.wav"} for index, name in enumerate(names) if name != "7"]
    found = ids(tmp_path, rows)
    assert len(set(found)) == len(rows) and "x_1" == found[1] and found[3] == "7"


def test_the_same_id_or_file_twice_is_a_duplicate(tmp_path):
    for name in ("a", "b"):
        write_tone(tmp_path / f"{name}.wav")
    rows = [{"file_name": "a.wav", "text": "One."}, {"file_name": "./a.wav", "text": "Two."}]
    write_metadata(tmp_path, [*rows, {"file_name": f"{tmp_path}/a.wav", "text": "Three."}])
    corpus = load_rows(encode_config(tmp_path))
    assert [row["text"] for row in corpus.rows] == ["One."] and corpus.reject_counts() == {"duplicate id": 2}
    write_metadata(tmp_path, [{"id": "x y", "file_name": f"{name}.wav", "text": "One."} for name in "ab"])
    assert load_rows(encode_config(tmp_path)).reject_counts() == {"duplicate id": 1}


def test_a_row_without_a_usable_name_has_an_id(tmp_path):
    first, second = ids(tmp_path, [{"id": "...", "file_name": "a.wav"}, {"id": " ", "file_name": "b.wav"}])
    assert first.strip(".") and second == "b"


@pytest.mark.parametrize("value", [[1], {"a": 1}, True])
def test_an_id_that_is_neither_text_nor_a_number_is_rejected(tmp_path, value):
    write_tone(tmp_path / "a.wav")
    rows = [{"id": "good", "file_name": "a.wav", "text": "One."}, {"id": value, "file_name": "a.wav", "text": "Two."}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert load_rows(encode_config(tmp_path)).reject_counts() == {"invalid id": 1}


def test_a_missing_id_is_made_of_the_file(tmp_path):
    rows = [{"id": None, "file_name": "a.wav"}, {"id": float("nan"), "file_name": "b.wav"}, {"file_name": "c.wav"}]
    assert ids(tmp_path, rows) == ["a", "b", "c"]


def test_ids_that_are_chosen_to_collide_stay_different(tmp_path):
    names = ["take 1", "take#1", hashed_id("take 1"), f"{hashed_id('take 1')}-2", hashed_id("take#1"), "take 1.wav"]
    found = ids(tmp_path, [{"id": name, "file_name": f"{index}.wav"} for index, name in enumerate(names)])
    assert len(set(found)) == len(names) and found[2:5] == names[2:5]
