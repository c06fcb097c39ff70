"""The English texts of the base voices: clauses of WordNet's glosses and examples, and sentences of `grammar`.

Every text has 2 to 14 words of plain letters, begins with a capital, ends in "." or "?", and is unique. No text shares
four consecutive words with a Harvard sentence, because the model is evaluated on those.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .grammar import Grammar
from .wordnet import Synset, read_synsets, read_tags


HARVARD = Path(__file__).parent / "harvard.txt"
LIST_SIZE = 10
MIN_WORDS, MAX_WORDS = 2, 14
OVERLAP = 4  # consecutive words
MIN_COUNT = 3  # rarer words in the glosses are nearly always names or Latin
BUILT_SHARE = 0.5  # share of the texts that the grammar builds
GRAMMAR, WORDNET = "built from WordNet 3.0's words", "WordNet 3.0"

_WORD = r"[A-Za-z]+(?:'[a-z]+)?"
_CLAUSE = re.compile(rf"{_WORD}(?:,? {_WORD})*")
_ASIDE = re.compile(r"\([^()]*\)")
_JOINTS = frozenset("and or but that which who when where because if while of in on at to by with for from as".split())


@dataclass(frozen=True)
class Text:
    words: str  # the sentence
    origin: str  # GRAMMAR or WORDNET


def harvard_lists(first: int, last: int) -> list[str]:
    """The sentences of Harvard lists `first` to `last`, by the IEEE's numbers: 72 lists of ten, counted from 1."""
    sentences = HARVARD.read_text(encoding="utf-8").splitlines()
    if not 1 <= first <= last <= len(sentences) // LIST_SIZE:
        raise ValueError(f"Harvard lists {first} to {last}: there are lists 1 to {len(sentences) // LIST_SIZE}")
    return sentences[(first - 1) * LIST_SIZE : last * LIST_SIZE]


def spoken(text: str) -> tuple[str, ...]:
    """The words of a text in lower case; two texts with the same words are the same.

    >>> spoken("It's late, Tom.")
    ("it's", 'late', 'tom')
    """
    return tuple(re.findall(r"[a-z']+", text.lower()))


def runs(words: tuple[str, ...]) -> set[tuple[str, ...]]:
    """All runs of `OVERLAP` consecutive words."""
    return {words[start : start + OVERLAP] for start in range(len(words) - OVERLAP + 1)}


def clauses(gloss: str) -> Iterator[str]:
    """The speakable pieces of a gloss, without capital and period; a question keeps its question mark.

    Pieces with digits, abbreviations, consecutive capitals, single letters or other alphabets are left out.

    >>> list(clauses('a small boat (pointed at both ends); "he paddled the canoe, slowly"; "b. 1890"'))
    ['a small boat', 'he paddled the canoe, slowly']
    """
    for piece in re.split(r'[;:"]|--', _ASIDE.sub(" ", gloss).replace("-", " ")):
        mark = "?" if piece.rstrip().endswith("?") else ""
        piece = " ".join(piece.split()).strip(" .!?,").replace(" ,", ",")
        if _CLAUSE.fullmatch(piece) and all(map(_is_sayable, piece.replace(",", "").split())):
            yield from (part + mark for part in _cut(piece))


def _is_sayable(word: str) -> bool:
    if len(word) == 1:
        return word in "aAI"
    has_vowel = re.search("[aeiouy]", word.lower()) is not None
    return has_vowel and not word[1:].isupper() and word.lower() not in ("etc", "esp", "usu", "cf", "eg", "ie")


def _cut(piece: str) -> Iterator[str]:
    """Split into pieces of at most `MAX_WORDS`, after commas and before words that begin a phrase."""
    words = piece.split()
    while len(words) > MAX_WORDS:
        joints = [
            place
            for place in range(MIN_WORDS + 1, MAX_WORDS + 1)
            if words[place - 1].endswith(",") or words[place] in _JOINTS
        ]
        if not joints:
            return
        yield " ".join(words[: joints[-1]]).rstrip(",")
        words = words[joints[-1] :]
    if len(words) >= MIN_WORDS:
        yield " ".join(words)


def sentence(clause: str) -> str:
    """Add the capital and the period.

    >>> sentence("where is it?"), sentence("a small boat")
    ('Where is it?', 'A small boat.')
    """
    return clause[0].upper() + clause[1:] + ("" if clause.endswith("?") else ".")


def wordnet_texts(synsets: Iterable[Synset], rng: random.Random) -> Iterator[Text]:
    """All clauses in random order, sampled without replacement with weights by their rarest word's frequency."""
    found = [clause for synset in synsets for clause in clauses(synset.gloss)]
    counts = Counter(word for clause in found for word in spoken(clause))
    keyed = []
    for clause in found:
        rarest = min(counts[word] for word in spoken(clause))
        if rarest >= MIN_COUNT:
            # Efraimidis and Spirakis 2006: the largest u ** (1 / weight) first, computed as logarithms.
            keyed.append((math.log(1.0 - rng.random()) / math.sqrt(min(rarest, 400)), clause))
    keyed.sort(reverse=True)
    return (Text(sentence(clause), WORDNET) for _, clause in keyed)


def built_texts(grammar: Grammar) -> Iterator[Text]:
    while True:
        yield Text(sentence(grammar.sentence()), GRAMMAR)


def base_texts(wordnet: Path, *, seed: int) -> Iterator[Text]:
    """An endless stream of texts, determined by the seed. When WordNet's clauses run out, all texts are built.

    Args:
        wordnet: folder of WordNet's data files.
        seed: of the sampling and of the grammar.
    """
    rng = random.Random(seed)
    synsets = read_synsets(wordnet)
    from_wordnet = wordnet_texts(synsets, rng)
    from_grammar = built_texts(Grammar(synsets, read_tags(wordnet), seed=seed))
    harvard = [spoken(line) for line in harvard_lists(1, 72)]
    forbidden = {run for words in harvard for run in runs(words)}
    seen = set(harvard)
    while True:
        text = next(from_grammar) if rng.random() < BUILT_SHARE else next(from_wordnet, None)
        if text is None:  # WordNet's clauses have run out
            continue
        words = spoken(text.words)
        if MIN_WORDS <= len(words) <= MAX_WORDS and words not in seen and not runs(words) & forbidden:
            seen.add(words)
            yield text
