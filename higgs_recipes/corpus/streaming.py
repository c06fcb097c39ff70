"""Encode datasets on the Hub that do not fit the disk: each file is downloaded, checked, encoded and removed.

The codes of its clips stay in the cache, with a journal of its checked rows, without their recordings. A file that has
both is not downloaded again, so an interrupted run continues. If a file changes on the Hub, only its new clips are
encoded.
"""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from accelerate import PartialState
from tqdm.auto import tqdm

from higgs_recipes import __version__
from higgs_recipes.audio.clipping import Levels
from higgs_recipes.audio.codec import Codec
from higgs_recipes.chatml import is_dialogue
from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.corpus.clips import Clip, cut_at_turns
from higgs_recipes.corpus.code_cache import CodeCache, add_codes
from higgs_recipes.corpus.corpus import Corpus, check_rows, gather_rows, held_out_rows
from higgs_recipes.corpus.rows import CheckedRow
from higgs_recipes.corpus.sources.source import Source, open_sources
from higgs_recipes.corpus.task_assignment import DIALOGUE_TASKS
from higgs_recipes.corpus.validation import check_place
from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write
from higgs_recipes.rejects import Reject


logger = logging.getLogger(__name__)

JOURNAL = 3  # version of the journals; journals of another version are not used

# Fields of a recipe that do not change checked rows: journals do not depend on them.
FIELDS_WITHOUT_EFFECT = {
    *("sources", "output_dir", "overwrite_output_dir", "push_to_hub", "hub_dataset_id", "hub_private_repo"),
    *("codec_name_or_path", "codec_revision", "cache_dir", "batch_seconds", "dry_run", "license"),
    *("test_size", "split_by", "keep_audio"),
}


def load_corpus(config: EncodeConfig, *, codec: Codec | None, cache: CodeCache) -> Corpus:
    """Load the rows of a recipe as `corpus.load_rows` does, and encode streamed sources, to download them only once.

    Args:
        codec: None: check only.
        cache: the codec's cache; any cache if codec is None, for the journals.

    Raises:
        InputError: as `load_rows`, or a field of the recipe needs all recordings of a streamed source.
    """
    sources = open_sources(config)
    streamed = [index for index, source in enumerate(sources) if source.table.streamed]
    if streamed:
        _check_config(config)
    checked = check_rows(sources, config)
    test_recordings = _TestRecordings(cache.folder / "recordings", config, active=bool(streamed) and codec is not None)
    files = [(index, file) for index in streamed for file in range(len(sources[index].table.paths))]
    state = PartialState()
    share = files[state.process_index :: state.num_processes]
    with ExitStack() as stack:
        for index in streamed:
            stack.callback(sources[index].table.close)
        hidden = not share or not state.is_main_process
        for index, file in tqdm(share, desc="Files", unit=" files", disable=hidden):
            journal, first = _journal(sources, index, file, config, cache), sources[index].table.start(file)
            rows = _read_journal(journal, first=first) if journal.exists() else None
            if rows is None or not _are_encoded(rows, config, cache, codec=codec):
                rows = _process_file(
                    sources, index, file, config, codec=codec, cache=cache, test_recordings=test_recordings
                )
                _write_journal(journal, rows, first=first)
            else:
                test_recordings.update(rows)
    state.wait_for_everyone()
    cache.refresh()

    for index in streamed:
        table, counts = sources[index].table, []
        for file in range(len(table.paths)):
            journal = _journal(sources, index, file, config, cache)
            rows = _read_journal(journal, first=sum(counts))
            checked += rows
            counts.append(len(rows))
        table.set_counts(counts)
    checked.sort(key=lambda row: (row.columns if isinstance(row, Reject) else row)["source"])
    return gather_rows(sources, checked, config, kept=test_recordings.files())


def _check_config(config: EncodeConfig) -> None:
    if config.keep_audio == "all":
        raise InputError("keep_audio: all is not supported with streaming: set test or none")
    if config.keep_audio == "test" and 0 < config.test_size < 1:
        raise InputError(
            f"test_size ({config.test_size}) is a share, but with streaming the number of rows is not known: set a "
            "number of rows, or keep_audio: none"
        )


def _process_file(
    sources: list[Source],
    index: int,
    file: int,
    config: EncodeConfig,
    *,
    codec: Codec | None,
    cache: CodeCache,
    test_recordings: "_TestRecordings",
) -> list[CheckedRow | Reject]:
    """Download a file, check its rows and add the codes of the valid ones to the cache."""
    table = sources[index].table
    first, count = table.start(file), len(table.open_file(file))
    logger.info("%s: %s, %d rows", sources[index].label, table.paths[file], count)
    rows = [check_place(sources, index, row, config) for row in range(first, first + count)]
    valid = [row for row in rows if not isinstance(row, Reject)]
    for row in valid:
        _refuse_joins(row, config)
    corpus = Corpus(sources, valid, [], {})
    if codec is not None:
        clips = {clip.content_hash: (row["id"], clip) for row in valid for clip in _clips(row, config)}
        missing = {key: clips[key] for key in sorted(clips) if key not in cache}
        add_codes(corpus, missing, codec, cache=cache, batch_seconds=config.batch_seconds)
        test_recordings.update(valid, corpus=corpus)
    return rows


def _refuse_joins(row: CheckedRow, config: EncodeConfig) -> None:
    """Refuse to join dialogues: their utterances may be in different files, and only one file is on disk at a time."""
    tasks = config.tasks if row["task"] is None else (row["task"],)
    joining = [task for task in tasks if task in DIALOGUE_TASKS]
    if joining and not is_dialogue(row["text"]):
        raise InputError(
            f"row {row['id']}: {joining[0]} joins single utterances, which is not supported with streaming: remove "
            "the multi_speaker tasks, or leave streaming out"
        )


def _clips(row: CheckedRow, config: EncodeConfig) -> list[Clip]:
    """All clips of a row that are encoded."""
    references = (row["reference"], *row["ref_speakers"])
    clips = [reference["clip"] for reference in references if reference and "clip" in reference]
    return [*_own_clips(row, config), *clips]


def _own_clips(row: CheckedRow, config: EncodeConfig) -> list[Clip]:
    if row["seconds"] <= config.max_seconds:
        return [row["own"]]
    return [piece for _, piece in cut_at_turns(row["own"], config.max_seconds)]


class _TestRecordings:
    """The stored recordings of the test split.

    Of the rows so far, those that would be held out if there were no others are stored. More rows can only remove rows
    from the test split (see `held_out_rows`), so recordings are removed later but never missing.
    """

    def __init__(self, folder: Path, config: EncodeConfig, *, active: bool) -> None:
        self.folder, self.config = folder, config
        self.active = active and config.keep_audio == "test" and config.test_size >= 1
        self._rows: list[CheckedRow] = []
        self._written: set[str] = set()

    def update(self, rows: Iterable[CheckedRow | Reject], *, corpus: Corpus | None = None) -> None:
        """Add the rows of a file; without `corpus`, an earlier run has stored its recordings."""
        if not self.active:
            return
        valid = (row for row in rows if not isinstance(row, Reject))
        self._rows = held_out_rows([*self._rows, *valid], self.config)
        wanted = {clip.content_hash for row in self._rows for clip in _own_clips(row, self.config)}
        for key in self._written - wanted:
            (self.folder / key).unlink(missing_ok=True)
        self._written &= wanted
        if corpus is not None:
            clips = {clip.content_hash: clip for row in corpus.rows for clip in _own_clips(row, self.config)}
            for key in sorted(wanted & clips.keys()):
                atomic_write(self.folder / key, corpus.recorded(clips[key], name=f"recording {key}"))
                self._written.add(key)

    def files(self) -> dict[str, Path]:
        """Paths of the stored recordings, of all processes and runs, by content hash."""
        return {path.name: path for path in self.folder.glob("[0-9a-f]*")} if self.active else {}


def _are_encoded(
    rows: Sequence[CheckedRow | Reject], config: EncodeConfig, cache: CodeCache, *, codec: Codec | None
) -> bool:
    valid = (row for row in rows if not isinstance(row, Reject))
    return codec is None or all(clip.content_hash in cache for row in valid for clip in _clips(row, config))


def _journal(sources: Sequence[Source], index: int, file: int, config: EncodeConfig, cache: CodeCache) -> Path:
    """Path of the journal of a file; its name is a hash of everything that its rows depend on."""
    source, table = sources[index], sources[index].table
    path = table.paths[file]
    fields = {name: value for name, value in asdict(config).items() if name not in FIELDS_WITHOUT_EFFECT}
    facts = [JOURNAL, __version__, path, table.files.contents[path], table.start(file), index, len(sources)]
    facts += [source.label, dict(source.columns), dict(source.constants), dict(table.where), fields]
    return cache.folder / "files" / f"{sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]}.jsonl"


def _write_journal(path: Path, rows: Sequence[CheckedRow | Reject], *, first: int) -> None:
    """Write one line per row, {"row"} or {"reject"}; indexes of rows count from the first row of the file."""
    lines = []
    for row in rows:
        if isinstance(row, Reject):
            lines.append(json.dumps({"reject": _moved_reject(row, -first).to_json()}))
        else:
            lines.append(json.dumps({"row": _changed(row, -first, lambda clip: asdict(_moved(clip, -first)))}))
    atomic_write(path, "".join(line + "\n" for line in lines))


def _read_journal(path: Path, *, first: int) -> list[CheckedRow | Reject]:
    rows: list[CheckedRow | Reject] = []
    with path.open(encoding="utf-8") as lines:
        for stored in map(json.loads, lines):
            if "reject" in stored:
                rows.append(_moved_reject(Reject.from_json(stored["reject"]), first))
            else:
                rows.append(_changed(stored["row"], first, lambda fields: _moved(_clip(fields), first)))
    return rows


def _moved_reject(reject: Reject, by: int) -> Reject:
    return reject.at(dict(reject.columns) | {"row": reject.columns["row"] + by})


def _changed(row: CheckedRow, by: int, change: Callable[[Any], Any]) -> CheckedRow:
    """The row with its index moved by `by` and `change` applied to its clips."""
    row = row | {"row": row["row"] + by}
    speakers = [entry | {"clip": change(entry["clip"])} if "clip" in entry else entry for entry in row["ref_speakers"]]
    reference = row["reference"] and row["reference"] | {"clip": change(row["reference"]["clip"])}
    return row | {"own": change(row["own"]), "reference": reference, "ref_speakers": speakers}


def _moved(clip: Clip, by: int) -> Clip:
    place = clip.place and (clip.place[0], clip.place[1] + by, clip.place[2])
    return replace(clip, place=place, parts=tuple(_moved(part, by) for part in clip.parts))


def _clip(fields: dict[str, Any]) -> Clip:
    levels, place, parts = Levels(**fields["levels"]), fields["place"], tuple(map(_clip, fields["parts"]))
    changed = {"levels": levels, "place": place and tuple(place), "parts": parts, "gaps": tuple(fields["gaps"])}
    return Clip(**fields | changed)
