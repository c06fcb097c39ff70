"""Read the parts of WordNet 3.0's data files that texts need: glosses, words, parts of speech, verb frames.

Format: `man 5 wndb`. WordNet Release 3.0 is Copyright 2006 by Princeton University; free for any use, with notice.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


PARTS = ("noun", "verb", "adj", "adv")
_PART_OF_KEY = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}
TRANSITIVE, INTRANSITIVE = frozenset({8, 11}), frozenset({1, 2})
# Lexicographer files of tangible things: animal, artifact, body, food, object, person, plant, substance.
_CONCRETE = frozenset({5, 6, 8, 13, 17, 18, 20, 27})


@dataclass(frozen=True)
class Synset:
    part: str  # one of PARTS
    words: tuple[str, ...]  # single words of lower-case letters
    concrete: bool
    frames: frozenset[int]  # sentence frames of a verb
    gloss: str


def read_synsets(folder: Path) -> list[Synset]:
    """Read all synsets of a folder with data.noun, data.verb, data.adj and data.adv, in file order."""
    missing = [name for name in ("cntlist.rev", *(f"data.{part}" for part in PARTS)) if not (folder / name).is_file()]
    if missing:
        raise SystemExit(
            f"{folder}: no {', '.join(missing)}; run apt-get install wordnet-base, or pass its folder as --wordnet"
        )
    return [synset for part in PARTS for synset in _read_part(folder / f"data.{part}", part)]


def _read_part(path: Path, part: str) -> Iterator[Synset]:
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith("  "):  # the license
            continue
        head, gloss = line.split(" | ", 1)
        fields = head.split()
        count = int(fields[3], 16)
        words = (
            re.sub(r"\(\w+\)$", "", word) for word in fields[4 : 4 + 2 * count : 2]
        )  # an adjective's (a), (ip), (p)
        frames = re.findall(r"\+ (\d\d) ", head + " ") if part == "verb" else []
        yield Synset(
            part=part,
            words=tuple(word for word in words if re.fullmatch("[a-z]{2,}", word)),
            concrete=part == "noun" and int(fields[1]) in _CONCRETE,
            frames=frozenset(map(int, frames)),
            gloss=gloss.strip(),
        )


def read_tags(folder: Path) -> Counter:
    """(part, word) -> how often the word occurs as this part of speech in SemCor, a corpus of a million words."""
    tags = Counter()
    for line in (folder / "cntlist.rev").read_text(encoding="ascii").splitlines():
        key, _, count = line.split()
        word, _, kind = key.partition("%")
        tags[_PART_OF_KEY[kind[0]], word] += int(count)
    return tags


def count_words(synsets: list[Synset]) -> Counter:
    """Count each word of the examples and definitions, in lower case."""
    return Counter(word for synset in synsets for word in re.findall(r"[a-z']+", synset.gloss.lower()))
