"""Load the rows of a recipe, split them, and report each reject with its reason; nothing is dropped silently."""

import logging
import random
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor
from tqdm.auto import tqdm

from higgs_recipes.audio.io import join_waveforms, read_audio, read_bytes, wav_bytes
from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.corpus.clips import Clip, content_hash
from higgs_recipes.corpus.row_ids import make_unique
from higgs_recipes.corpus.rows import Cell, CheckedRow
from higgs_recipes.corpus.sources.source import Source, open_sources
from higgs_recipes.corpus.validation import check_place
from higgs_recipes.errors import InputError
from higgs_recipes.rejects import Reject, RejectCode, count_rejects


logger = logging.getLogger(__name__)

REJECT_COLUMNS = ("file", "row", "id")


@dataclass(frozen=True)
class Corpus:
    """The checked rows of a recipe's sources.

    Attributes:
        rejects: with the columns {"file", "row", "id"}; row indexes count from 0.
        num_not_sampled: valid rows that the weights of a mixture leave out, by source.
        kept: paths of stored recordings by content hash of their clips, for streamed sources.
    """

    sources: list[Source]
    rows: list[CheckedRow]
    rejects: list[Reject]
    num_not_sampled: dict[str, int]
    kept: Mapping[str, Path] = field(default_factory=dict)

    def recording(self, clip: Clip) -> Cell:
        """The undecoded cell {"path", "bytes"} of a clip; not for joined clips."""
        source, row, field = clip.place
        return self.sources[source].recording(self.sources[source].stored_row(row), row, field)

    def waveform(self, clip: Clip, *, name: str) -> Tensor:
        """The waveform (N,) of a clip; errors name it `name`.

        Raises:
            InputError: the recording cannot be read any more, or its content has changed since it was checked.
        """
        if clip.place is not None:
            return _unchanged(read_audio(self.recording(clip), name=name), clip, name)
        return join_waveforms([self.waveform(part, name=name) for part in clip.parts], gaps=clip.gaps)

    def recorded(self, clip: Clip, *, name: str) -> bytes:
        """The recording of a clip as it is stored; for a joined clip, a wav file made of its parts."""
        if clip.content_hash in self.kept:
            return self.kept[clip.content_hash].read_bytes()
        if clip.place is None:
            return wav_bytes(self.waveform(clip, name=name))
        recording = read_bytes(self.recording(clip), name=name)
        _unchanged(read_audio(recording, name=name), clip, name)
        return recording

    def close(self) -> None:
        """Remove the files that streamed sources have on disk."""
        for source in self.sources:
            source.table.close()

    def reject_counts(self) -> dict[str, int]:
        """Number of rejects by category, most frequent first."""
        return count_rejects(self.rejects)


def _unchanged(waveform: Tensor, clip: Clip, name: str) -> Tensor:
    # Otherwise the codes of other audio would be stored under the hash of the checked one, for all later runs too.
    if content_hash(waveform) != clip.content_hash:
        raise InputError(f"{name}: the recording has changed since it was checked; run again")
    return waveform


def load_rows(config: EncodeConfig) -> Corpus:
    """Read and check the rows of a recipe, and sample them if the sources have weights. Processes share the work.

    Raises:
        InputError: as `open_sources`, or no valid row remains.
    """
    sources = open_sources(config)
    return gather_rows(sources, check_rows(sources, config), config)


def check_rows(sources: Sequence[Source], config: EncodeConfig) -> list[CheckedRow | Reject]:
    """Check the rows of all sources that are not streamed; rows and rejects in their order."""
    state = PartialState()
    places = [
        (index, row)
        for index, source in enumerate(sources)
        if not source.table.streamed
        for row in range(len(source.table))
    ]
    with state.split_between_processes(places) as share:
        progress = tqdm(share, desc="Checking", unit=" rows", disable=not state.is_main_process)
        checked = [check_place(sources, source, row, config) for source, row in progress]
    return gather_object(checked)


def gather_rows(
    sources: list[Source],
    checked: Sequence[CheckedRow | Reject],
    config: EncodeConfig,
    *,
    kept: Mapping[str, Path] | None = None,
) -> Corpus:
    """The corpus of checked rows, sampled if the sources have weights.

    Weights are relative probabilities as in `datasets.interleave_datasets`: rows are sampled in these proportions
    without replacement, until the first source is exhausted.

    Raises:
        InputError: no valid row remains.
    """
    rows, rejects = _reject_duplicates(checked)
    rows = make_unique(rows, sources)
    rejects.sort(key=lambda reject: (reject.columns["source"], reject.columns["row"]))
    rows, num_not_sampled = _sample_mixture(rows, sources, seed=config.seed)
    rejects = [reject.at({key: reject.columns[key] for key in REJECT_COLUMNS}) for reject in rejects]
    corpus = Corpus(sources, rows, rejects, num_not_sampled, kept or {})
    if not rows:
        first = f": {corpus.reject_counts()}; the first: {rejects[0].record()}" if rejects else ""
        raise InputError(f"none of {len(checked)} rows passes the checks{first}")
    return corpus


def split_rows(rows: Sequence[CheckedRow], config: EncodeConfig) -> dict[str, list[CheckedRow]]:
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


def held_out_rows(rows: Sequence[CheckedRow], config: EncodeConfig) -> list[CheckedRow]:
    """Choose the test split: whole groups, of one sentence or one speaker, until it has at least `test_size` rows.

    The order of the groups depends on the seed and on each group's name only. So if `test_size` is a number of rows, a
    row that is not held out of some rows is not held out of a superset of them.
    """
    target = config.test_size if config.test_size >= 1 else max(1, round(config.test_size * len(rows)))
    groups: dict[str, list[CheckedRow]] = {}
    for row in rows:
        groups.setdefault(_group(row, config), []).append(row)
    held_out: list[CheckedRow] = []
    for key in sorted(
        groups, key=lambda key: sha256(f"{config.seed} {key}".encode(errors="backslashreplace")).digest()
    ):
        if len(held_out) >= target:
            break
        held_out += groups[key]
    return held_out


def _group(row: CheckedRow, config: EncodeConfig) -> str:
    if config.split_by == "text":
        return sentence(row["text"])
    if row["speaker"] is None:
        raise InputError(
            f"row {row['id']}: split_by: speaker needs a speaker; map a column to speaker, or set split_by: text"
        )
    return row["speaker"]


def _reject_duplicates(checked: Sequence[CheckedRow | Reject]) -> tuple[list[CheckedRow], list[Reject]]:
    rows, rejects, first = [], [], {}
    for row in checked:
        if isinstance(row, Reject):
            rejects.append(row)
        elif (row["source"], row["key"]) in first:
            earlier = first[row["source"], row["key"]]
            duplicate = Reject(RejectCode.DUPLICATE_ID, "id", f"same as row {earlier['row']} of {earlier['file']}")
            rejects.append(duplicate.at({key: row[key] for key in ("source", *REJECT_COLUMNS)}))
        else:
            first[row["source"], row["key"]] = row
            rows.append(row)
    return rows, rejects


def _sample_mixture(
    rows: list[CheckedRow], sources: Sequence[Source], *, seed: int
) -> tuple[list[CheckedRow], dict[str, int]]:
    if sources[0].weight is None:
        return rows, {}
    by_source = [[row for row in rows if row["source"] == index] for index in range(len(sources))]
    scale = min(len(own_rows) / source.weight for own_rows, source in zip(by_source, sources, strict=True))
    sampled, num_not_sampled = [], {}
    for index, (own_rows, source) in enumerate(zip(by_source, sources, strict=True)):
        if not own_rows:
            raise InputError(f"{source.label}: none of its rows passes the checks, but its weight is {source.weight}")
        # A rounding error below a whole number must not remove a row.
        num_sampled = max(1, int(source.weight * scale + 1e-9))
        positions = sorted(random.Random(f"{seed} {index}").sample(range(len(own_rows)), num_sampled))
        sampled += [own_rows[position] for position in positions]
        num_not_sampled[source.label] = len(own_rows) - num_sampled
    return sampled, num_not_sampled


def sentence(text: str) -> str:
    """A text without case, spaces and punctuation, which two readings of one sentence share.

    Everything else counts: letters with their marks, digits and symbols, in the Unicode form NFC.

    >>> sentence("Hello, YOU!") == sentence("hello you."), sentence("\u0e01\u0e34") == sentence("\u0e01\u0e35")
    (True, False)
    """
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return "".join(character for character in folded if unicodedata.category(character)[0] not in "ZPC")
