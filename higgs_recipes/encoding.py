"""Corpus -> codes: recordings are checked, encoded once, and written as a dataset to train on and to push."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any

import torch
from accelerate import PartialState
from datasets import Audio, Dataset, Features, List, Value, load_dataset
from datasets.config import HF_DATASETS_CACHE
from torch import Tensor
from tqdm.auto import tqdm

from higgs_recipes.audio import read_bytes, wav_bytes
from higgs_recipes.cards import corpus_card
from higgs_recipes.code_cache import CodeCache
from higgs_recipes.codec import Codec, equal_length_batches, load_codec, num_steps
from higgs_recipes.corpus import Corpus, Row, load_rows, split_rows
from higgs_recipes.corpus_configs import EncodeConfig
from higgs_recipes.delay import HOP, SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write, explain_full_disk, fetch, git_commit, sha256_file, staged_folder
from higgs_recipes.provenance import library_versions
from higgs_recipes.records import public_path, public_record
from higgs_recipes.tasks import count_cuts, count_tasks, lay_out_tasks


logger = logging.getLogger(__name__)

TEXT_COLUMNS = ("id", "text", "raw_text", "speaker", "language", "scene", "task", "messages", "codec", "content_hash")
SHARD_BYTES = 256 * 2**20
# Audio is written as the struct that it is stored as: making an Audio feature from values needs torchcodec.
STORED_AUDIO = {"bytes": Value("binary"), "path": Value("string")}


def encode_corpus(config: EncodeConfig) -> Path:
    """Encode the recipe's corpus into the folder `output_dir` and return it.

    The folder holds data/<split>-*.parquet, corpus.json, rejects.jsonl and README.md, and appears when all is written.
    Started by `accelerate launch` on several processes, each encodes its share and the main one writes.

    Raises:
        InputError: what `load_codec`, `load_rows` and `split_rows` find, a corpus in `output_dir`, a full disk.
    """
    # Unless it is told so, accelerate takes two processes without a GPU for two runs of one.
    state = PartialState(cpu=not torch.accelerator.is_available())
    with ExitStack() as stack:
        if state.is_main_process:  # first, so that a folder in the way is found before hours of encoding
            folder = stack.enter_context(staged_folder(config.output_dir, overwrite=config.overwrite_output_dir))
        codec = load_codec(config.codec_name_or_path, revision=config.codec_revision, device=state.device)
        corpus = load_rows(config)
        splits = {
            split: lay_out_tasks(corpus, rows, config, split=split)
            for split, rows in split_rows(corpus.rows, config).items()
        }
        encode_clips(corpus, [row for rows in splits.values() for row in rows], codec, config)
        if state.is_main_process:
            cache = CodeCache(config.cache_dir, codec=codec.revision)  # with what the other processes have added
            for split, rows in splits.items():
                keep_audio = config.keep_audio in (split, "all")
                _write_split(folder, corpus, split, rows, cache=cache, codec=codec, keep_audio=keep_audio)
            _write_records(folder, corpus, splits, codec=codec, config=config)
    state.wait_for_everyone()
    return Path(config.output_dir)


def encode_clips(corpus: Corpus, rows: Sequence[Row], codec: Codec, config: EncodeConfig) -> None:
    """Put the codes of all clips of the rows into the cache: of those that are not there yet, this process's share."""
    state = PartialState()
    cache = CodeCache(config.cache_dir, codec=codec.revision)
    clips = {clip.content_hash: (row["id"], clip) for row in rows for clip in row["clips"]}
    missing = [clips[content_hash] for content_hash in sorted(clips) if content_hash not in cache]
    logger.info("%d of %d recordings are in the cache %s", len(clips) - len(missing), len(clips), cache.folder)
    # Shared out by content, so that it does not matter if another process sees a fuller cache.
    mine = [each for each in missing if int(each[1].content_hash, 16) % state.num_processes == state.process_index]

    steps = [num_steps(round(clip.seconds * SAMPLE_RATE)) for _, clip in mine]
    batches = equal_length_batches(steps, batch_seconds=config.batch_seconds)
    unsaved: dict[str, Tensor] = {}
    for batch in tqdm(batches, desc="Encoding", unit=" batches", disable=not state.is_main_process):
        picked = [mine[index] for index in batch]
        waveforms = [corpus.waveform(clip, name=f"row {row_id}") for row_id, clip in picked]
        codes = codec.encode(waveforms, batch_seconds=config.batch_seconds)
        unsaved |= {clip.content_hash: each for (_, clip), each in zip(picked, codes, strict=True)}
        if sum(map(len, unsaved.values())) * HOP >= config.batch_seconds * SAMPLE_RATE:
            cache.add(unsaved)
            unsaved = {}
    if unsaved:
        cache.add(unsaved)
    state.wait_for_everyone()


def load_encoded(name_or_path: str | Path, *, split: str, revision: str | None = None) -> Dataset:
    """A split of an encoded corpus, from a folder or the Hub; its fingerprint is that of the files' content.

    Raises:
        InputError: not to be fetched, no encoded corpus (its files or columns are missing), or no such split.
    """
    folder = fetch(name_or_path, repo_type="dataset", revision=revision, allow_patterns=["corpus.json", "data/*"])
    paths = sorted(str(path) for path in (folder / "data").glob("*-of-*.parquet"))
    if not paths:
        raise InputError(f"{name_or_path}: no encoded corpus (no data/*.parquet): make one with scripts/encode.py")
    by_split: dict[str, list[str]] = {}
    for path in paths:
        by_split.setdefault(PurePath(path).name.rsplit("-", 3)[0], []).append(path)
    if split not in by_split:
        raise InputError(f"{name_or_path}: no split {split!r}; it has {', '.join(by_split)}")
    with explain_full_disk(HF_DATASETS_CACHE):
        rows = load_dataset("parquet", data_files={split: by_split[split]}, split=split)
    missing = ", ".join(sorted(set(_features(num_codebooks=1)) - set(rows.column_names)))
    if missing:
        raise InputError(f"{name_or_path}: no encoded corpus (no column {missing}): make one with scripts/encode.py")
    rows = rows.cast_column("audio", Audio(decode=False))
    # Of the content: the one that `datasets` gives changes with the folder that the files lie in.
    rows._fingerprint = sha256("".join(map(sha256_file, by_split[split])).encode()).hexdigest()[:16]
    return rows


def check_codec(rows: Dataset, codec_revision: str, *, where: str) -> None:
    """Refuse codes of another codec: they mean other sounds.

    Args:
        codec_revision: `Codec.revision` of the codec in use.
        where: the corpus and its split.

    Raises:
        InputError: a row has another; names the corpus and both codecs and says what to do.
    """
    others = ", ".join(sorted(map(str, set(rows.unique("codec")) - {codec_revision})))
    if others:
        raise InputError(
            f"{where}: column codec: the codes were made by {others}, the recipe's codec is {codec_revision}: set "
            "codec_name_or_path and codec_revision to the corpus's, or run scripts/encode.py with this codec"
        )


def _features(*, num_codebooks: int) -> Features:
    codes = List(List(Value("int16"), length=num_codebooks))
    texts = {name: Value("string") for name in TEXT_COLUMNS}
    others = {
        "codes": codes,
        "ref_codes": List(codes),
        "ref_texts": List(Value("string")),
        "turn_speakers": List(Value("string")),
        "seconds": Value("float32"),
    }
    return Features(texts | others | {"audio": STORED_AUDIO})


def _write_split(
    folder: Path, corpus: Corpus, split: str, rows: Sequence[Row], *, cache: CodeCache, codec: Codec, keep_audio: bool
) -> None:
    shards = list(_shards(rows, keep_audio=keep_audio))
    (folder / "data").mkdir(exist_ok=True)
    for index, shard in enumerate(tqdm(shards, desc=f"Writing {split}", unit=" files")):
        encoded = [_encoded_row(corpus, row, cache=cache, codec=codec, keep_audio=keep_audio) for row in shard]
        table = Dataset.from_list(encoded, features=_features(num_codebooks=codec.num_codebooks))
        table = table.cast_column("audio", Audio(decode=False))
        table.to_parquet(folder / "data" / f"{split}-{index:05d}-of-{len(shards):05d}.parquet")


def _shards(rows: Sequence[Row], *, keep_audio: bool) -> Iterator[list[Row]]:
    """Rows for one file each, of about `SHARD_BYTES`: a shard is built in memory."""
    bytes_per_second = 2 * SAMPLE_RATE if keep_audio else SAMPLE_RATE // HOP * 16
    shard: list[Row] = []
    seconds = 0.0
    for row in rows:
        if shard and (seconds + row["seconds"]) * bytes_per_second > SHARD_BYTES:
            yield shard
            shard, seconds = [], 0.0
        shard.append(row)
        seconds += row["seconds"]
    yield shard


def _encoded_row(corpus: Corpus, row: Row, *, cache: CodeCache, codec: Codec, keep_audio: bool) -> dict[str, Any]:
    *references, own = [clip.content_hash for clip in row["clips"]]
    encoded = {name: row[name] for name in TEXT_COLUMNS if name in row}
    encoded |= {"codec": codec.revision, "content_hash": own, "seconds": row["seconds"]}
    encoded |= {name: row[name] for name in ("ref_texts", "turn_speakers")}
    encoded |= {"codes": cache[own].numpy(), "ref_codes": [cache[each].numpy() for each in references], "audio": None}
    if keep_audio:
        encoded["audio"] = {"bytes": _recorded_bytes(corpus, row), "path": row["name"]}
    return encoded


def _recorded_bytes(corpus: Corpus, row: Row) -> bytes:
    if row["own"].place is None:  # a joined dialogue was never a file
        return wav_bytes(corpus.waveform(row["own"], name=f"row {row['id']}"))
    return read_bytes(corpus.recording(row["own"]), name=f"row {row['id']}")


def _write_records(
    folder: Path, corpus: Corpus, splits: dict[str, list[Row]], *, codec: Codec, config: EncodeConfig
) -> None:
    facts = {
        "codec": codec.revision,
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
        "not_drawn": {public_path(source): count for source, count in corpus.num_not_drawn.items()},
        "recipe": asdict(config),
        "git_commit": git_commit(),
        "versions": library_versions(),
    }
    record = public_record(facts)
    rejects = [json.dumps(public_reject(reject, corpus), ensure_ascii=False) + "\n" for reject in corpus.rejects]
    atomic_write(folder / "corpus.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    atomic_write(folder / "rejects.jsonl", "".join(rejects))
    name = config.hub_dataset_id or PurePath(config.output_dir).name
    atomic_write(folder / "README.md", corpus_card(record, name=name))
    _log_summary(record, corpus)


def public_reject(reject: dict[str, Any], corpus: Corpus) -> dict[str, Any]:
    """The reject without the folders of this machine: it is written to be passed on."""
    reason = reject["reason"]
    for source in corpus.sources:  # a reason may name a row of any of them, or the file of a recording
        reason = reason.replace(source.label, public_path(source.label)).replace(f"{source.folder}/", "")
    return reject | {"file": public_path(reject["file"]), "reason": reason}


def _log_summary(record: dict[str, Any], corpus: Corpus) -> None:
    for split, size in record["splits"].items():
        logger.info("%s: %d rows, %.2f hours: %s", split, size["rows"], size["seconds"] / 3600, size["tasks"])
    for reason, count in record["rejects"].items():
        logger.warning("rejected: %d rows, %s", count, reason)
    for source, count in corpus.num_not_drawn.items():
        logger.info("not drawn from %s by its weight: %d rows", source, count)
