"""The encoded corpus: its columns, and reading it from a folder or the Hub."""

from glob import escape
from hashlib import sha256
from pathlib import Path

from datasets import Audio, Dataset, Features, List, Value, load_dataset
from datasets.config import HF_DATASETS_CACHE
from datasets.exceptions import DatasetGenerationError

from higgs_recipes.constants import NUM_CODEBOOKS
from higgs_recipes.corpus.encoded_check import check_rows
from higgs_recipes.corpus.encoded_files import REMEDY, check_files, check_record, short_reason, split_files
from higgs_recipes.errors import InputError
from higgs_recipes.files import explain_full_disk, sha256_file
from higgs_recipes.hub.download import Snapshot, fetch


def fetch_encoded(name_or_path: str | Path, *, revision: str | None = None) -> Snapshot:
    """The files of an encoded corpus.

    Raises:
        InputError: no such folder or repository, or it cannot be fetched.
    """
    return fetch(name_or_path, repo_type="dataset", revision=revision, allow_patterns=["corpus.json", "data/*"])


def load_encoded(corpus: str | Path | Snapshot, *, split: str, with_audio: bool = True) -> Dataset:
    """A split of an encoded corpus, from a folder or the Hub; its fingerprint is that of the files' content.

    Args:
        with_audio: whether to read the column `audio`, which can be far larger than all others.

    Raises:
        InputError: what `fetch_encoded` raises, no such split or no rows in it, or damaged files or rows: see
            `encoded_files` and `encoded_check`.
    """
    files = corpus if isinstance(corpus, Snapshot) else fetch_encoded(corpus)
    where = f"{files.name}, split {split}"
    paths = split_files(files.folder, corpus=files.name, split=split)
    features = shard_features(num_codebooks=NUM_CODEBOOKS)
    if not with_audio:
        del features["audio"]
    check_files(paths, features.arrow_schema, where=where)
    try:
        with explain_full_disk(HF_DATASETS_CACHE):
            rows = load_dataset(
                "parquet",
                data_files={split: list(map(escape, paths))},
                split=split,
                columns=list(features),
                features=features,
                batch_size=1000,  # by default the rows of the first row group, which may be 0
            )
    except DatasetGenerationError as error:
        reason = short_reason(error.__cause__ or error)
        raise InputError(f"{where}: the parquet files cannot be read ({reason}): {REMEDY}") from error
    check_rows(rows.data.table, where=where)
    check_record(files.folder, rows.data.table, split=split, where=where)
    # Of the content: the one that `datasets` gives changes with the folder that the files lie in.
    rows._fingerprint = sha256("".join(map(sha256_file, paths)).encode()).hexdigest()[:16]
    return rows


def check_codec(rows: Dataset, codec_revision: str, *, where: str) -> None:
    """Refuse codes of another codec: they mean other sounds.

    Args:
        codec_revision: `Codec.revision` of the codec in use.
        where: the corpus and its split.

    Raises:
        InputError: a row has another; names the corpus and both codecs and says what to do.
    """
    others = sorted(set(rows.unique("codec")) - {codec_revision})
    if others:
        raise InputError(
            f"{where}: column codec: the codes were made by {', '.join(others[:3])}, the recipe's codec is "
            f"{codec_revision}: set codec_name_or_path and codec_revision to the corpus's, or run scripts/encode.py "
            "with this codec"
        )


TEXT_COLUMNS = ("id", "text", "raw_text", "speaker", "language", "scene", "task", "messages")


def shard_features(*, num_codebooks: int) -> Features:
    """The columns of an encoded corpus."""
    codes = List(List(Value("int16"), length=num_codebooks))
    texts = {name: Value("string") for name in (*TEXT_COLUMNS, "codec", "content_hash")}
    others = {
        "codes": codes,
        "ref_codes": List(codes),
        "ref_texts": List(Value("string")),
        "turn_speakers": List(Value("string")),
        "seconds": Value("float32"),
    }
    return Features(texts | others | {"audio": Audio(decode=False)})
