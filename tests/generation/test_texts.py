import pytest

from higgs_recipes.configs.inference import GenerateConfig
from higgs_recipes.errors import InputError
from higgs_recipes.generation.texts import normalize_text, read_texts


def read(**fields) -> list[tuple[str, str]]:
    return [tuple(given) for given in read_texts(GenerateConfig(**fields))]


def test_texts_of_a_file_and_documents_come_after_those_of_the_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_bytes("\ufeffone\r\n\n  \ntwo\u2028still two\x0c\n".encode())
    (tmp_path / "book.txt").write_text("First paragraph.\n\nSecond.\n", encoding="utf-8")
    assert read(text="zero", text_file="texts.txt", documents="book.txt") == [
        ("zero", "text 0"),
        ("one", "texts.txt, line 1"),
        ("two\u2028still two\x0c", "texts.txt, line 4"),
        ("First paragraph.\n\nSecond.\n", "book.txt"),
    ]


def test_a_missing_or_empty_text_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match="text_file: no such file: .*nowhere.txt"):
        read(text_file=str(tmp_path / "nowhere.txt"))
    with pytest.raises(InputError, match="documents: no such file: .*nowhere.txt"):
        read(documents=str(tmp_path / "nowhere.txt"))
    (tmp_path / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(InputError, match="latin.txt is not UTF-8 .*; save it as UTF-8"):
        read(text_file=str(tmp_path / "latin.txt"))
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match="empty.txt has no text"):
        read(text_file=str(tmp_path / "empty.txt"))


@pytest.mark.parametrize(
    "text", ["", " ", "...", "\u3002", "\u200b", "\u2026\u2026", "()", "[SPEAKER0] \u2014", "\U0001f600"]
)
def test_a_text_without_words_is_refused_with_its_place(text):
    with pytest.raises(InputError, match="^texts.txt, line 7 has no words: .*; write what is to be spoken, or remove"):
        normalize_text(text, place="texts.txt, line 7")


@pytest.mark.parametrize("text", ["5", "null", "[laugh]", "\u597d", "\u0e01", "\u0939\u0947"])
def test_digits_letters_and_events_are_words(text):
    assert normalize_text(text, place="text 0")


def test_a_turn_without_words_and_invalid_unicode_are_refused():
    with pytest.raises(InputError, match=r"text 2: turn 2 has no words; give \[SPEAKER1\] some, or remove the tag"):
        normalize_text("[SPEAKER0] Hi. [speaker 1] ... [SPEAKER0] Ho.", place="text 2")
    with pytest.raises(InputError, match=r"text 2: invalid Unicode: '\\ud800'; correct the text"):
        normalize_text("Hi \ud800", place="text 2")
