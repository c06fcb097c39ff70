"""Names of recordings, and names in a folder by their normalized forms."""

import unicodedata

import pytest

from higgs_recipes.corpus.sources.listing import FolderListing, audio_stem, is_audio_name


@pytest.mark.parametrize("name", ["a.wav", "a.WAV", "b.c.Flac", "กิ.mp3", "take.1.ogg"])
def test_suffixes_of_recordings_in_any_case(name):
    assert is_audio_name(name) and audio_stem(name) == name.rpartition(".")[0]


@pytest.mark.parametrize("name", ["take.0", "take.1", "a", "notes.txt", ".wav", "a.wav.txt"])
def test_other_dots_are_parts_of_the_name(name):
    assert not is_audio_name(name) and audio_stem(name) == name


def test_names_are_found_by_their_composed_form_and_by_their_stem(tmp_path):
    stored = unicodedata.normalize("NFD", "bà.WAV")
    (tmp_path / stored).touch()
    listing = FolderListing(tmp_path)
    assert listing.by_name[unicodedata.normalize("NFC", stored)] == [stored]
    assert listing.by_stem[unicodedata.normalize("NFC", "bà")] == [stored]


@pytest.mark.parametrize(
    "name, similar",
    [("TAKE1.wav", ["Take 1.flac"]), ("take_1", ["Take 1.flac"]), ("clip.waw", ["clip.wav"]), ("x", [])],
)
def test_similar_names_differ_in_case_spaces_suffix_or_a_letter(tmp_path, name, similar):
    for stored in ("Take 1.flac", "clip.wav"):
        (tmp_path / stored).touch()
    assert FolderListing(tmp_path).similar(name) == similar


@pytest.mark.parametrize("name", ["missing", "a\0b"])
def test_a_folder_that_cannot_be_read_has_no_names(tmp_path, name):
    assert FolderListing(tmp_path / name).names == []
