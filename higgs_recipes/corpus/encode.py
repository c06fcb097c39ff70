"""Encode a corpus: check its recordings, encode each once, and write a dataset of codes for training."""

import json
import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from higgs_recipes.audio.codec import Codec, load_codec
from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.corpus.code_cache import CodeCache, encode_clips
from higgs_recipes.corpus.corpus import Corpus
from higgs_recipes.corpus.parquet_writer import plan_shards, write_shard
from higgs_recipes.corpus.rows import TaskRow
from higgs_recipes.corpus.streaming import load_corpus
from higgs_recipes.corpus.task_assignment import assign_splits, count_cuts, count_tasks
from higgs_recipes.files import atomic_write
from higgs_recipes.hub.cards import corpus_card
from higgs_recipes.hub.public import public_path, public_record
from higgs_recipes.output_folder import staged_output
from higgs_recipes.provenance import git_commit, library_versions
from higgs_recipes.rejects import Reject
from higgs_recipes.shared_work import join_processes


logger = logging.getLogger(__name__)

# Audio that is encoded before its files are written: enough for full batches of equal length, and little enough that
# the first file can be uploaded early.
CHUNK_SECONDS = 100 * 3600

OnShard = Callable[[Path, str], Future]


@dataclass(frozen=True)
class _File:
    """A parquet file to write: its name in the folder of the corpus, and its rows."""

    name: str
    rows: Sequence[TaskRow]
    keep_audio: bool


def encode_corpus(
    config: EncodeConfig, *, on_shard: OnShard | None = None, finish: Callable[[Path], None] | None = None
) -> Path:
    """Encode the recipe's corpus into the folder `output_dir`, and return it.

    The folder has data/<split>-*.parquet, corpus.json, rejects.jsonl and README.md; it appears when all of them are
    written. If `accelerate launch` starts several processes, each encodes its share, and the main process writes.

    Args:
        on_shard: called with the path of each parquet file after it is written, and its name in the folder. The folder
            appears after the returned futures are done, whether they succeed or fail.
        finish: called with the folder after all files are written, before it appears.

    Raises:
        InputError: as `load_codec`, `load_corpus` and `split_rows`; `output_dir` is not empty; the disk is full.
    """
    state = join_processes()
    with ExitStack() as stack:
        if state.is_main_process:  # first, so that an existing folder is refused before hours of encoding
            folder = stack.enter_context(staged_output(config, kind="encode"))
        codec = load_codec(
            config.codec_name_or_path,
            revision=config.codec_revision,
            device=state.device,
            exact=config.exact_codes,
        )
        cache = CodeCache(config.cache_dir, codec=codec.revision, arithmetic=codec.arithmetic)
        corpus = load_corpus(config, codec=codec, cache=cache)
        stack.callback(corpus.close)
        splits = assign_splits(corpus, config)
        uploads: list[Future] = []
        for files in _chunks(_plan_files(splits, config)):
            rows = [row for file in files for row in file.rows]
            encode_clips(corpus, rows, codec, cache=cache, batch_seconds=config.batch_seconds)
            if state.is_main_process:
                for file in files:
                    path = folder / file.name
                    path.parent.mkdir(exist_ok=True)
                    write_shard(path, corpus, file.rows, cache=cache, codec=codec, keep_audio=file.keep_audio)
                    logger.info("wrote %s: %d rows", file.name, len(file.rows))
                    uploads += [on_shard(path, file.name)] if on_shard else []
        if state.is_main_process:
            _write_records(folder, corpus, splits, codec=codec, config=config)
            _log_cache(cache.folder)
            if finish:
                finish(folder)
        wait(uploads)
    state.wait_for_everyone()
    return Path(config.output_dir)


def _plan_files(splits: dict[str, list[TaskRow]], config: EncodeConfig) -> list[_File]:
    files = []
    for split, rows in splits.items():
        keep_audio = config.keep_audio in (split, "all")
        shards = plan_shards(rows, keep_audio=keep_audio)
        names = [f"data/{split}-{index:05d}-of-{len(shards):05d}.parquet" for index in range(len(shards))]
        files += [_File(name, shard, keep_audio) for name, shard in zip(names, shards, strict=True)]
    return files


def _chunks(files: Sequence[_File]) -> Iterator[list[_File]]:
    """Groups of files of about `CHUNK_SECONDS`, whose clips are encoded together before the files are written."""
    chunk: list[_File] = []
    seconds = 0.0
    for file in files:
        chunk.append(file)
        seconds += sum(row["seconds"] for row in file.rows)
        if seconds >= CHUNK_SECONDS:
            yield chunk
            chunk, seconds = [], 0.0
    if chunk:
        yield chunk


def _write_records(
    folder: Path, corpus: Corpus, splits: dict[str, list[TaskRow]], *, codec: Codec, config: EncodeConfig
) -> None:
    record = public_record(
        {
            "codec": codec.revision,
            "codec_arithmetic": codec.arithmetic,
            "sources": config.sources,
            "license": config.license,
            "splits": {
                split: {
                    "rows": len(rows),
                    "seconds": round(sum(row["seconds"] for row in rows), 2),
                    "tasks": count_tasks(rows),
                    "cut_at_turn": count_cuts(rows),
                }
                for split, rows in splits.items()
            },
            "rejects": corpus.reject_counts(),
            "not_drawn": {public_path(source): count for source, count in corpus.num_not_sampled.items()},
            "recipe": asdict(config),
            "git_commit": git_commit(),
            "versions": library_versions(),
        }
    )
    rejects = [
        json.dumps(public_reject(reject, corpus).record(), ensure_ascii=False) + "\n" for reject in corpus.rejects
    ]
    name = config.hub_dataset_id or PurePath(config.output_dir).name
    texts = {
        "corpus.json": json.dumps(record, indent=2, ensure_ascii=False) + "\n",
        "rejects.jsonl": "".join(rejects),
        "README.md": corpus_card(record, name=name),
    }
    for file, text in texts.items():
        # Names of files on disk may be no text; in JSON the escape is that of the character.
        atomic_write(folder / file, text.encode("utf-8", "backslashreplace"))
    _log_summary(record, corpus)


def public_reject(reject: Reject, corpus: Corpus) -> Reject:
    """The reject without folders of this machine, as it may be published."""
    detail = reject.detail
    for source in corpus.sources:  # the detail may name a row of any source, or the file of a recording
        detail = detail.replace(source.label, public_path(source.label)).replace(f"{source.folder}/", "")
    columns = dict(reject.columns) | {"file": public_path(reject.columns["file"])}
    return replace(reject, detail=detail, columns=columns)


def _log_cache(folder: Path) -> None:
    recordings = [path.stat().st_size for path in (folder / "recordings").glob("*")]  # streaming stores them
    stored = f" and {len(recordings)} held-out recordings ({sum(recordings) / 1e6:.0f} MB)" if recordings else ""
    logger.info("%s keeps codes%s for later runs; to delete them: rm -r %s", folder, stored, shlex.quote(str(folder)))


def _log_summary(record: dict[str, Any], corpus: Corpus) -> None:
    for split, size in record["splits"].items():
        logger.info("%s: %d rows, %.2f hours: %s", split, size["rows"], size["seconds"] / 3600, size["tasks"])
    for reason, count in record["rejects"].items():
        logger.warning("rejected: %d rows, %s", count, reason)
    for source, count in corpus.num_not_sampled.items():
        logger.info("left out of %s by the weights: %d rows", source, count)
