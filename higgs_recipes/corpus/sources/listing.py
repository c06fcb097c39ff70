"""Names of recordings, and the names in a folder by their normalized forms."""

import difflib
import os
import re
import unicodedata
from collections import defaultdict
from pathlib import Path

from higgs_recipes.corpus.rows import AUDIO_ENDINGS, nfc


AUDIO_SUFFIXES = frozenset({f".{ending}" for ending in AUDIO_ENDINGS} | {".mkv"})  # encode knows .mkv as no recording
MAX_SIMILAR = 3
MAX_COMPARED = 2000  # names of a folder that are compared one by one


def is_audio_name(name: str) -> bool:
    """Whether a file name has the suffix of a recording, in any case.

    >>> is_audio_name("a.WAV"), is_audio_name("a.txt"), is_audio_name(".wav")
    (True, False, False)
    """
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES


def audio_stem(name: str) -> str:
    """Remove the suffix of a recording from a name or path; other dots are kept.

    >>> audio_stem("wavs/take.1.wav"), audio_stem("take.1")
    ('wavs/take.1', 'take.1')
    """
    return os.path.splitext(name)[0] if is_audio_name(name) else name


class FolderListing:
    """The names in a folder; none if it is not a folder, or cannot be read.

    Attributes:
        by_name: names by their NFC form.
        by_stem: names of recordings by the NFC form of the name without suffix.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.names = sorted(os.listdir(folder))
        except (OSError, ValueError):  # missing, unreadable, or not a path: the message names the file
            self.names = []
        self.by_name: dict[str, list[str]] = defaultdict(list)
        self.by_stem: dict[str, list[str]] = defaultdict(list)
        self._by_key: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            self.by_name[nfc(name)].append(name)
            self._by_key[_loose(name)].append(name)
            if is_audio_name(name):
                self.by_stem[nfc(audio_stem(name))].append(name)

    def similar(self, name: str) -> list[str]:
        """Up to `MAX_SIMILAR` names that differ only in case, spaces, separators or the suffix, else similar ones."""
        near = self._by_key.get(_loose(name), [])
        if not near and len(self.names) <= MAX_COMPARED:
            near = difflib.get_close_matches(name, self.names, n=MAX_SIMILAR, cutoff=0.8)
        suffix = os.path.splitext(name)[1].lower()
        return sorted(near, key=lambda other: os.path.splitext(other)[1].lower() != suffix)[:MAX_SIMILAR]


def _loose(name: str) -> str:
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", audio_stem(name)).casefold())
