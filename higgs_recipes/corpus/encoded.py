"""The encoded corpus: its columns, and reading it from a folder or the Hub."""

from hashlib import sha256
from pathlib import Path, PurePath

from datasets import Audio, Dataset, Features, List, Value, load_dataset
from datasets.config import HF_DATASETS_CACHE

from higgs_recipes.errors import InputError
from higgs_recipes.files import explain_full_disk, sha256_file
from higgs_recipes.hub.download import Snapshot, fetch


def fetch_encoded(name_or_path: str | Path, *, revision: str | None = None) -> Snapshot:
    """The files of an encoded corpus.

    Raises:
        InputError: no such folder or repository, or it cannot be fetched.
    """
    return fetch(name_or_path, repo_type="dataset", revision=revision, allow_patterns=["corpus.json", "data/*"])


def load_encoded(corpus: str | Path | Snapshot, *, split: str) -> Dataset:
    """A split of an encoded corpus, from a folder or the Hub; its fingerprint is that of the files' content.

    Raises:
        InputError: what `fetch_encoded` raises, a file or column is missing, or no such split.
    """
    files = corpus if isinstance(corpus, Snapshot) else fetch_encoded(corpus)
    name_or_path = files.name
    paths = sorted(str(path) for path in (files.folder / "data").glob("*-of-*.parquet"))
    if not paths:
        raise InputError(f"{name_or_path}: no encoded corpus (no data/*.parquet): make one with scripts/encode.py")
    by_split: dict[str, list[str]] = {}
    for path in paths:
        by_split.setdefault(PurePath(path).name.rsplit("-", 3)[0], []).append(path)
    if split not in by_split:
        raise InputError(f"{name_or_path}: no split {split!r}; it has {', '.join(by_split)}")
    with explain_full_disk(HF_DATASETS_CACHE):
        rows = load_dataset("parquet", data_files={split: by_split[split]}, split=split)
    missing = ", ".join(sorted(set(shard_features(num_codebooks=1)) - set(rows.column_names)))
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
