"""The recordings of tests/data/two_voices: 20 Harvard sentences by each of two speakers."""

import csv
from functools import cache

from torch import Tensor

from higgs_recipes.audio.io import read_audio
from tests.helpers.paths import DATA


CORPUS = DATA / "two_voices"


@cache
def corpus_rows() -> list[dict]:
    with (CORPUS / "metadata.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def recording(index: int) -> Tensor:
    """The waveform (N,) of a row."""
    file_name = corpus_rows()[index]["file_name"]
    return read_audio(CORPUS / file_name, name=file_name)
