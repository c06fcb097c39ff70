"""Rows to train on, and the rejects with their reasons: nothing is replaced, nothing is dropped silently."""

import logging
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor
from tqdm.auto import tqdm

from higgs_recipes.audio.io import join_waveforms, read_audio, read_bytes, wav_bytes
from higgs_recipes.chatml import TASKS
from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.corpus.clips import Clip
from higgs_recipes.corpus.sources.source import LISTED_AUDIO, Source, open_sources
from higgs_recipes.corpus.sources.streamed import StreamedTable
from higgs_recipes.corpus.validation import Row, check_place
from higgs_recipes.errors import InputError


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """The checked rows of a recipe's sources.

    Attributes:
        rows: {"id", "text" (normalized), "raw_text", "speaker", "language", "scene", "seconds", "own" (its `Clip`),
            "name" (of its recording), "gender", "task" (the one that it names itself, or None), "reference" and
            "ref_speakers" (those that it brings itself: {"clip", "ref_text", "name"} and "speaker_tag"), "turns" and
            "tags" (of a dialogue in turns, tags by speaker), "file", "source" and "row" (indexes)}.
        rejects: {"file", "row", "id", "reason"}; the row's index counts from 0.
        num_not_drawn: good rows that the weights of a mixture leave out, by source.
        kept: recordings on disk by the content hash of their clips, where the source itself has gone.
    """

    sources: list[Source]
    rows: list[Row]
    rejects: list[dict[str, Any]]
    num_not_drawn: dict[str, int]
    kept: Mapping[str, Path] = field(default_factory=dict)

    def recording(self, clip: Clip) -> dict[str, Any]:
        """The undecoded cell {"path", "bytes"} of a clip that is one recording."""
        source, row, column = clip.place
        stored = self.sources[source].row(row)
        column, _, index = column.partition(".")
        return stored[column][int(index)][LISTED_AUDIO[column]] if index else stored[column]

    def waveform(self, clip: Clip, *, name: str) -> Tensor:
        """A clip's waveform (N,); `name` stands in errors."""
        if clip.place is not None:
            return read_audio(self.recording(clip), name=name)
        return join_waveforms([self.waveform(part, name=name) for part in clip.parts], gaps=clip.gaps)

    def recorded(self, clip: Clip, *, name: str) -> bytes:
        """A clip's recording, byte for byte; of a joined one, which was never a file, a wav of it."""
        if clip.content_hash in self.kept:
            return self.kept[clip.content_hash].read_bytes()
        if clip.place is None:
            return wav_bytes(self.waveform(clip, name=name))
        return read_bytes(self.recording(clip), name=name)

    def close(self) -> None:
        """Remove the files that are here of streamed sources."""
        for source in self.sources:
            if isinstance(source.table, StreamedTable):
                source.table.close()

    def reject_counts(self) -> dict[str, int]:
        """How many rows were rejected for which reason, the commonest first."""
        return dict(Counter(short_reason(reject["reason"]) for reject in self.rejects).most_common())


def load_rows(config: EncodeConfig) -> Corpus:
    """Read, check and, where the sources have weights, mix the rows of a recipe. Several processes share the reading.

    Raises:
        InputError: what `open_sources` finds, or not one good row is left.
    """
    sources = open_sources(config)
    return gather_rows(sources, check_rows(sources, config), config)


def check_rows(sources: Sequence[Source], config: EncodeConfig) -> list[Row]:
    """The rows of all sources that are not streamed, and the rejects among them (with a "reason"), in their order."""
    state = PartialState()
    places = [
        (index, row)
        for index, source in enumerate(sources)
        if not isinstance(source.table, StreamedTable)
        for row in range(len(source.table))
    ]
    with state.split_between_processes(places) as share:
        progress = tqdm(share, desc="Checking", unit=" rows", disable=not state.is_main_process)
        checked = [check_place(sources, source, row, config) for source, row in progress]
    return gather_object(checked)


def gather_rows(
    sources: list[Source], checked: Sequence[Row], config: EncodeConfig, *, kept: Mapping[str, Path] | None = None
) -> Corpus:
    """The corpus of checked rows, mixed where the sources have weights.

    Weights are relative probabilities, as `datasets.interleave_datasets` has them: rows are drawn in these proportions
    until the first source is used up, each row at most once.

    Raises:
        InputError: not one good row is left.
    """
    rows, rejects = _reject_duplicates(checked)
    rejects.sort(key=lambda reject: (reject["source"], reject["row"]))
    rows, num_not_drawn = _draw_mixture(rows, sources, seed=config.seed)
    rejects = [{key: reject[key] for key in ("file", "row", "id", "reason")} for reject in rejects]
    corpus = Corpus(sources, rows, rejects, num_not_drawn, kept or {})
    if not rows:
        first = f": {corpus.reject_counts()}; the first: {rejects[0]}" if rejects else ""
        raise InputError(f"no row is left of {len(checked)}{first}")
    return corpus


def split_rows(rows: Sequence[Row], config: EncodeConfig) -> dict[str, list[Row]]:
    """{"train": ..., "test": ...} by `split_by`, `test_size` and `seed`; no "test" where test_size is 0.

    Raises:
        InputError: a row has no speaker to split by, or nothing would be left to train on.
    """
    if config.test_size == 0:
        return {"train": list(rows)}
    ids = {row["id"] for row in held_out_rows(rows, config)}
    if len(ids) == len(rows):
        raise InputError(
            f"test_size {config.test_size} by {config.split_by} takes all {len(rows)} rows "
            f"({len({_group(row, config) for row in rows})} groups): nothing is left to train on; make it smaller"
        )
    return {
        "train": [row for row in rows if row["id"] not in ids],
        "test": [row for row in rows if row["id"] in ids],
    }


def held_out_rows(rows: Sequence[Row], config: EncodeConfig) -> list[Row]:
    """The rows of the test split: groups, of one sentence or one speaker, are taken until it has its size.

    So the last group may make it larger. The groups' order is drawn of the seed and their own names: where `test_size`
    is a number of rows, one that is not held out of some rows is not held out of more.
    """
    target = config.test_size if config.test_size >= 1 else max(1, round(config.test_size * len(rows)))
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(_group(row, config), []).append(row)
    held_out: list[Row] = []
    for key in sorted(
        groups, key=lambda key: sha256(f"{config.seed} {key}".encode(errors="backslashreplace")).digest()
    ):
        if len(held_out) >= target:
            break
        held_out += groups[key]
    return held_out


def _group(row: Row, config: EncodeConfig) -> str:
    if config.split_by == "text":
        return sentence(row["text"])
    if row["speaker"] is None:
        raise InputError(f"row {row['id']}: no speaker to split by; map a column to speaker or use split_by: text")
    return row["speaker"]


def short_reason(reason: str) -> str:
    """What rejects are counted by.

    >>> short_reason("too short: 0.05 s, min_seconds is 0.3")
    'too short'
    >>> short_reason("zero_shot_voice_cloning: no reference; speaker anna has no other clip of 2.0 to 10.0 s")
    'zero_shot_voice_cloning: no reference'
    """
    task, colon, rest = reason.partition(": ")
    if colon and task in TASKS:
        return f"{task}: {short_reason(rest)}"
    return re.split(r"[:;(]", reason)[0].strip()


def _reject_duplicates(checked: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    rows, rejects, first = [], [], {}
    for row in checked:
        if "reason" not in row and row["id"] in first:
            other = first[row["id"]]
            row = row | {"reason": f"duplicate id: row {other['row']} of {other['file']} has it too"}
        elif "reason" not in row:
            first[row["id"]] = row
        (rejects if "reason" in row else rows).append(row)
    return rows, rejects


def _draw_mixture(rows: list[Row], sources: Sequence[Source], *, seed: int) -> tuple[list[Row], dict[str, int]]:
    if sources[0].weight is None:
        return rows, {}
    by_source = [[row for row in rows if row["source"] == index] for index in range(len(sources))]
    scale = min(len(mine) / source.weight for mine, source in zip(by_source, sources, strict=True))
    drawn, num_not_drawn = [], {}
    for index, (mine, source) in enumerate(zip(by_source, sources, strict=True)):
        if not mine:
            raise InputError(f"{source.label}: no good row is left, so its weight {source.weight} cannot be met")
        # A rounding error below a whole number must not cost a row.
        num_drawn = max(1, int(source.weight * scale + 1e-9))
        kept = sorted(random.Random(f"{seed} {index}").sample(range(len(mine)), num_drawn))
        drawn += [mine[position] for position in kept]
        num_not_drawn[source.label] = len(mine) - num_drawn
    return drawn, num_not_drawn


def sentence(text: str) -> str:
    """What two readings of one sentence share: its letters and digits."""
    return "".join(re.findall(r"\w+", text.casefold()))
