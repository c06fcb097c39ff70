"""The texts of a recipe: read once, normalized, and checked for words."""

from pathlib import Path
from typing import NamedTuple

from higgs_recipes.chatml import SPEAKER_TAG, canonical_speaker_tags
from higgs_recipes.configs.inference import GenerateConfig
from higgs_recipes.errors import InputError
from higgs_recipes.files import read_text_file
from higgs_recipes.text import normalize_transcript


class GivenText(NamedTuple):
    """A text as it was given, and where it is from."""

    text: str
    place: str


def read_texts(config: GenerateConfig) -> list[GivenText]:
    """Read the texts of the recipe, the non-blank lines of its text file, and its documents, in this order.

    Lines end with a line feed; other separators, such as U+2028, do not end a line.

    Raises:
        InputError: a file does not exist or is not UTF-8, or there is no text at all.
    """
    texts = [GivenText(text, f"text {index}") for index, text in enumerate(config.text)]
    if config.text_file is not None:
        lines = _read_file(config.text_file, field="text_file").split("\n")
        numbered = [GivenText(line, f"{config.text_file}, line {number}") for number, line in enumerate(lines, 1)]
        texts += [line for line in numbered if line.text.strip()]
    texts += [GivenText(_read_file(path, field="documents"), path) for path in config.documents]
    if not texts:
        raise InputError(f"text_file: {config.text_file} has no text")
    return texts


def normalize_text(text: str, *, place: str) -> str:
    """Normalize a text as `normalize_transcript` does, with speaker tags as the model knows them.

    >>> normalize_text("[speaker0] It is 5 ° C（cold）", place="text 0")
    '[SPEAKER0] It is 5 ° C cold.'

    Args:
        place: where the text is from, for messages.

    Raises:
        InputError: the text is not valid Unicode, it has no word (no letter and no digit), or a turn has none.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{place}: invalid Unicode: {text[error.start]!r}; correct the text") from error
    if not has_words(text):
        raise InputError(f"{place} has no words: {text[:60]!r}; write what is to be spoken, or remove it")
    normalized = canonical_speaker_tags(normalize_transcript(text))
    _, *tagged = SPEAKER_TAG.split(normalized)
    for number, (tag, turn) in enumerate(zip(tagged[::2], tagged[1::2], strict=True), 1):
        if not has_words(turn):
            raise InputError(f"{place}: turn {number} has no words; give [{tag}] some, or remove the tag")
    return normalized


def has_words(text: str) -> bool:
    """Whether a text has a letter or digit outside its speaker tags; event tags such as [laugh] count as words.

    >>> has_words("[SPEAKER0] ... 。\\u200b"), has_words("[laugh]")
    (False, True)
    """
    return any(map(str.isalnum, SPEAKER_TAG.sub("", canonical_speaker_tags(text))))


def _read_file(path: str, *, field: str) -> str:
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{field}: no such file: {file}")
    return read_text_file(file, name=f"{field}: {file}")
