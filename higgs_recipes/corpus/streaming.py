"""Corpora that do not fit the disk: file by file of a dataset on the Hub is fetched, checked, encoded and removed.

What stays of a file are the codes of its clips, in the cache, and a journal: its rows as they were checked, without
their recordings. A file that has both is not fetched again: so a run that was killed goes on where it was. Of a file
that has changed on the Hub only what changed is encoded.
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

JOURNAL = 2  # format of the journals; one in another format is not found

# The knobs that say nothing of whether a row is good, or of what it is: they leave the journals as they are.
OTHER_KNOBS = {
    *("sources", "output_dir", "overwrite_output_dir", "push_to_hub", "hub_dataset_id", "hub_private_repo"),
    *("codec_name_or_path", "codec_revision", "cache_dir", "batch_seconds", "dry_run", "license"),
    *("test_size", "split_by", "keep_audio"),
}


def load_corpus(config: EncodeConfig, *, codec: Codec | None, cache: CodeCache) -> Corpus:
    """`corpus.load_rows`, but what the recipe streams is encoded on the way: a second look would fetch it again.

    Args:
        codec: None only checks.
        cache: of this codec; without one any, for its journals.

    Raises:
        InputError: as `load_rows`; a recipe that asks of a streamed source what needs all its recordings.
    """
    sources = open_sources(config)
    streamed = [index for index, source in enumerate(sources) if source.table.streamed]
    if streamed:
        _refuse_what_needs_all(config)
    checked = check_rows(sources, config)
    keeper = _Keeper(cache.folder / "recordings", config, active=bool(streamed) and codec is not None)
    files = [(index, file) for index in streamed for file in range(len(sources[index].table.paths))]
    state = PartialState()
    mine = files[state.process_index :: state.num_processes]
    with ExitStack() as stack:
        for index in streamed:
            stack.callback(sources[index].table.close)
        for index, file in tqdm(mine, desc="Files", unit=" files", disable=not mine or not state.is_main_process):
            journal, first = _journal(sources, index, file, config, cache), sources[index].table.start(file)
            rows = _read_journal(journal, first=first) if journal.exists() else None
            if rows is None or not _are_encoded(rows, config, cache, codec=codec):
                rows = _visit(sources, index, file, config, codec=codec, cache=cache, keeper=keeper)
                _write_journal(journal, rows, first=first)
            else:
                keeper.see(rows)
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
    return gather_rows(sources, checked, config, kept=keeper.files())


def _refuse_what_needs_all(config: EncodeConfig) -> None:
    if config.keep_audio == "all":
        raise InputError("keep_audio is all: streaming keeps no recordings but the test split's; use test or none")
    if config.keep_audio == "test" and 0 < config.test_size < 1:
        raise InputError(
            f"test_size is {config.test_size}, a share of rows that nobody has counted yet: with streaming give a "
            "number of rows, or keep_audio: none"
        )


def _visit(
    sources: list[Source],
    index: int,
    file: int,
    config: EncodeConfig,
    *,
    codec: Codec | None,
    cache: CodeCache,
    keeper: "_Keeper",
) -> list[CheckedRow | Reject]:
    """Fetch a file, check its rows and put the codes of the good ones into the cache."""
    table = sources[index].table
    first, count = table.start(file), len(table.open_file(file))
    logger.info("%s: %s, %d rows", sources[index].label, table.paths[file], count)
    rows = [check_place(sources, index, row, config) for row in range(first, first + count)]
    good = [row for row in rows if not isinstance(row, Reject)]
    for row in good:
        _refuse_joins(row, config)
    here = Corpus(sources, good, [], {})
    if codec is not None:
        clips = {clip.content_hash: (row["id"], clip) for row in good for clip in _clips(row, config)}
        missing = {key: clips[key] for key in sorted(clips) if key not in cache}
        add_codes(here, missing, codec, cache=cache, batch_seconds=config.batch_seconds)
        keeper.see(good, corpus=here)
    return rows


def _refuse_joins(row: CheckedRow, config: EncodeConfig) -> None:
    """Utterances of a dialogue may lie in any files: with one file here at a time nothing can be joined of them."""
    tasks = config.tasks if row["task"] is None else (row["task"],)
    joining = [task for task in tasks if task in DIALOGUE_TASKS]
    if joining and not is_dialogue(row["text"]):
        raise InputError(
            f"row {row['id']}: one utterance, and {joining[0]} would join it with others, which streaming does not "
            "keep: give tasks no multi_speaker task, or leave streaming out"
        )


def _clips(row: CheckedRow, config: EncodeConfig) -> list[Clip]:
    """All clips that a row brings, as they will be taught."""
    references = [each["clip"] for each in (row["reference"], *row["ref_speakers"]) if each and "clip" in each]
    return [*_own_clips(row, config), *references]


def _own_clips(row: CheckedRow, config: EncodeConfig) -> list[Clip]:
    if row["seconds"] <= config.max_seconds:
        return [row["own"]]
    return [piece for _, piece in cut_at_turns(row["own"], config.max_seconds)]


class _Keeper:
    """Keeps the recordings of rows that may yet be held out: those that would be, were the rows seen so far all.

    With rows to come fewer of them are, never others; what has to go is removed.
    """

    def __init__(self, folder: Path, config: EncodeConfig, *, active: bool) -> None:
        self.folder, self.config = folder, config
        self.active = active and config.keep_audio == "test" and config.test_size >= 1
        self._rows: list[CheckedRow] = []
        self._written: set[str] = set()

    def see(self, rows: Iterable[CheckedRow | Reject], *, corpus: Corpus | None = None) -> None:
        """Rows of one more file; the recordings of a file that was here in an earlier run have been kept then."""
        if not self.active:
            return
        good = (row for row in rows if not isinstance(row, Reject))
        self._rows = held_out_rows([*self._rows, *good], self.config)
        wanted = {clip.content_hash for row in self._rows for clip in _own_clips(row, self.config)}
        for key in self._written - wanted:
            (self.folder / key).unlink(missing_ok=True)
        self._written &= wanted
        if corpus is not None:
            here = {clip.content_hash: clip for row in corpus.rows for clip in _own_clips(row, self.config)}
            for key in sorted(wanted & here.keys()):
                atomic_write(self.folder / key, corpus.recorded(here[key], name=f"recording {key}"))
                self._written.add(key)

    def files(self) -> dict[str, Path]:
        """The recordings on disk, of all processes and runs, by content hash."""
        return {path.name: path for path in self.folder.glob("[0-9a-f]*")} if self.active else {}


def _are_encoded(
    rows: Sequence[CheckedRow | Reject], config: EncodeConfig, cache: CodeCache, *, codec: Codec | None
) -> bool:
    good = (row for row in rows if not isinstance(row, Reject))
    return codec is None or all(clip.content_hash in cache for row in good for clip in _clips(row, config))


def _journal(sources: Sequence[Source], index: int, file: int, config: EncodeConfig, cache: CodeCache) -> Path:
    """Where the journal of a file lies: its name changes with all that the rows in it hang on."""
    source, table = sources[index], sources[index].table
    path = table.paths[file]
    knobs = {name: value for name, value in asdict(config).items() if name not in OTHER_KNOBS}
    facts = [JOURNAL, __version__, path, table.files.contents[path], table.start(file), index, len(sources)]
    facts += [source.label, dict(source.columns), dict(source.constants), dict(table.where), knobs]
    return cache.folder / "files" / f"{sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]}.jsonl"


def _write_journal(path: Path, rows: Sequence[CheckedRow | Reject], *, first: int) -> None:
    """One line a row, {"row"} or {"reject"}; its number, and those in its clips, count from the file's first."""
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
    """The row that many rows on, with its clips changed."""
    row = row | {"row": row["row"] + by}
    speakers = [each | {"clip": change(each["clip"])} if "clip" in each else each for each in row["ref_speakers"]]
    reference = row["reference"] and row["reference"] | {"clip": change(row["reference"]["clip"])}
    return row | {"own": change(row["own"]), "reference": reference, "ref_speakers": speakers}


def _moved(clip: Clip, by: int) -> Clip:
    place = clip.place and (clip.place[0], clip.place[1] + by, clip.place[2])
    return replace(clip, place=place, parts=tuple(_moved(part, by) for part in clip.parts))


def _clip(fields: dict[str, Any]) -> Clip:
    levels, place, parts = Levels(**fields["levels"]), fields["place"], tuple(map(_clip, fields["parts"]))
    changed = {"levels": levels, "place": place and tuple(place), "parts": parts, "gaps": tuple(fields["gaps"])}
    return Clip(**fields | changed)
