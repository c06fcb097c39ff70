"""Normalize transcripts and split long ones, as the reference implementation does.

Source: `examples/generation.py` of boson-ai/higgs-audio.
"""

import re

from higgs_recipes.errors import InputError


# Full-width punctuation to ASCII; round brackets of either width become a space.
_PUNCTUATION = str.maketrans(
    {
        "，": ", ",
        "。": ".",
        "：": ":",
        "；": ";",
        "？": "?",
        "！": "!",
        "（": " ",
        "）": " ",
        "(": " ",
        ")": " ",
        "【": "[",
        "】": "]",
        "《": "<",
        "》": ">",
        "“": '"',
        "”": '"',
        "「": '"',
        "」": '"',
        "『": '"',
        "』": '"',
        "‘": "'",
        "’": "'",
        "、": ",",
        "—": "-",
        "…": "...",
        "·": ".",
    }
)
_SPOKEN = {
    "°F": " degrees Fahrenheit",
    "°C": " degrees Celsius",
    "[laugh]": "<SE>[Laughter]</SE>",
    "[humming start]": "<SE_s>[Humming]</SE_s>",
    "[humming end]": "<SE_e>[Humming]</SE_e>",
    "[music start]": "<SE_s>[Music]</SE_s>",
    "[music end]": "<SE_e>[Music]</SE_e>",
    "[music]": "<SE>[Music]</SE>",
    "[sing start]": "<SE_s>[Singing]</SE_s>",
    "[sing end]": "<SE_e>[Singing]</SE_e>",
    "[applause]": "<SE>[Applause]</SE>",
    "[cheering]": "<SE>[Cheering]</SE>",
    "[cough]": "<SE>[Cough]</SE>",
}
_ENDINGS = (".", "!", "?", ",", ";", '"', "'", "</SE_e>", "</SE>")

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"  # kana and Han
# A unit that is never split in a text without spaces: a tag, one CJK character, or a run of other letters and digits,
# each with the punctuation that follows it. The concatenated matches are the whole text.
CJK_UNIT = re.compile(rf"(?:<SE\w*>\[\w+\]</SE\w*>|\[SPEAKER\d+\]|[{_CJK}]|[^\W{_CJK}]+|\W)[^\w<\[]*")


def normalize_transcript(text: str) -> str:
    """Normalize a transcript to the spelling of the training data; it ends with punctuation or an event tag.

    >>> normalize_transcript("It is 20°C（about 68°F） outside [laugh]")
    'It is 20 degrees Celsius about 68 degrees Fahrenheit outside <SE>[Laughter]</SE>'
    >>> normalize_transcript("a\\n\\n  b   c")
    'a\\nb c.'

    Raises:
        InputError: the result is empty; the reference would generate speech for a single ".".
    """
    text = text.translate(_PUNCTUATION)
    for written, spoken in _SPOKEN.items():
        text = text.replace(written, spoken)
    lines = (" ".join(line.split()) for line in text.split("\n"))
    text = "\n".join(line for line in lines if line)
    if not text:
        raise InputError("empty transcript: add text or remove the row")
    return text if text.endswith(_ENDINGS) else text + "."


def chunk_transcript(text: str, *, method: str | None, max_words: int = 200, max_turns: int = 1) -> list[str]:
    """Split a transcript into chunks that are generated one after the other.

    Args:
        method: None keeps the text whole. "speaker" starts a chunk at each line with a speaker tag. "word" splits each
            paragraph (separated by a blank line) after every `max_words` words, and ends the paragraph's last chunk
            with a blank line. Blank turns and paragraphs give no chunk.
        max_words: maximum number of words per chunk, for "word". In a paragraph that is mostly Chinese or Japanese a
            word is one character (the reference uses langid and jieba to find words); other words, tags and
            punctuation are never split.
        max_turns: turns per chunk, joined by a newline, for "speaker".

    >>> chunk_transcript("[SPEAKER0] Hi.\\nYou?\\n[SPEAKER1] Well.", method="speaker")
    ['[SPEAKER0] Hi.\\nYou?', '[SPEAKER1] Well.']
    >>> chunk_transcript("one two three\\n\\nfour", method="word", max_words=2)
    ['one two', 'three\\n\\n', 'four\\n\\n']

    Raises:
        InputError: `method` is unknown, or a limit is below 1.
    """
    if max_words < 1 or max_turns < 1:
        raise InputError(f"max_words and max_turns must be at least 1, got {max_words} and {max_turns}")
    if method is None:
        return [text]
    if method == "speaker":
        turns = _speaker_turns(text)
        return ["\n".join(turns[start : start + max_turns]) for start in range(0, len(turns), max_turns)]
    if method == "word":
        paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
        return [chunk for paragraph in paragraphs for chunk in _word_chunks(paragraph, max_words)]
    raise InputError(f'unknown chunk method {method!r}: use None, "speaker" or "word"')


def _speaker_turns(text: str) -> list[str]:
    turns: list[list[str]] = []
    for line in map(str.strip, text.split("\n")):
        if not turns or line.startswith("[SPEAKER"):
            turns.append([])
        turns[-1].append(line)
    joined = ("\n".join(lines).strip() for lines in turns)
    return [turn for turn in joined if turn]


def _word_chunks(paragraph: str, max_words: int) -> list[str]:
    words, separator = CJK_UNIT.findall(paragraph), ""
    if sum(re.match(f"[{_CJK}]", word) is not None for word in words) * 2 <= len(words):
        words, separator = paragraph.split(" "), " "
    chunks = [separator.join(words[start : start + max_words]) for start in range(0, len(words), max_words)]
    chunks[-1] += "\n\n"
    return chunks
