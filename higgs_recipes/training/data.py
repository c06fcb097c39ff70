"""The training and test rows of a recipe: its encoded corpora, concatenated."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, List, Value, concatenate_datasets
from datasets.config import HF_DATASETS_CACHE
from transformers import PreTrainedTokenizerBase

from higgs_recipes.chatml import CHAT_TEMPLATE
from higgs_recipes.constants import FRAMES_PER_SECOND, NUM_CODEBOOKS
from higgs_recipes.corpus.encoded import check_codec, fetch_encoded, load_encoded
from higgs_recipes.errors import InputError
from higgs_recipes.files import explain_full_disk
from higgs_recipes.samples import LAST_TOKENS, SampleDataset, label_sample, tokenize_prompts


TRAIN_SPLIT = "train"  # the name that scripts/encode.py uses
INPUT_IDS = "input_ids"
# The columns of a sample. A corpus may also have recordings, which would be read with every row for nothing.
COLUMNS = ["id", "messages", "codes", "ref_codes", "codec"]


class DataConfig(Protocol):
    """The fields of an `SFTConfig` that choose the rows. To read a corpus, nothing else of a recipe is imported."""

    datasets: list[str]
    eval_strategy: Any
    test_split: str | None
    pack_to: int | None
    main_process_first: Callable[..., AbstractContextManager[None]]


def load_training_data(
    config: DataConfig, tokenizer: PreTrainedTokenizerBase, *, codec: str
) -> tuple[Dataset, Dataset | None, list[dict[str, Any]]]:
    """Load the rows of a recipe, with tokenized prompts (see `tokenize_rows`).

    Args:
        config: the recipe.
        tokenizer: the tokenizer of the model.
        codec: `Codec.revision` of the recipe's codec.

    Returns:
        The training rows, the test rows (None if the recipe does not evaluate), and the entries of the corpora in
        run.json.

    Raises:
        InputError: a corpus does not exist, lacks the split, or is encoded with another codec; or a row does not fit
            `pack_to`.
    """
    evaluates = config.eval_strategy != "no" and config.test_split is not None
    train, test, corpora = [], [], []
    for path in config.datasets:
        files = fetch_encoded(path)
        rows = load_encoded(files, split=TRAIN_SPLIT, with_audio=False)
        check_codec(rows, codec, where=f"{path}, split {TRAIN_SPLIT}")
        train.append(rows.select_columns(COLUMNS))
        corpora.append(
            {"path": path, "fingerprint": rows._fingerprint, "rows": len(rows), "seconds": sum(rows["seconds"])}
        )
        if evaluates:
            rows = load_encoded(files, split=config.test_split, with_audio=False)
            check_codec(rows, codec, where=f"{path}, split {config.test_split}")
            test.append(rows.select_columns(COLUMNS))
    with config.main_process_first(desc="prompts"):  # the others read them from the cache
        train, test = ([tokenize_rows(rows, tokenizer) for rows in split] for split in (train, test))
    train, test = concatenate_datasets(train), concatenate_datasets(test) if test else None
    if config.pack_to is not None:
        for rows in (train, test):
            if rows is not None:
                check_lengths(rows, tokenizer, pack_to=config.pack_to)
    return train, test, corpora


def tokenize_rows(rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Add `input_ids` to rows: their rendered and tokenized conversations. Rows that have them are returned unchanged.

    Done once per corpus and tokenizer: for rows on disk, the result is cached by `datasets`.
    """
    if INPUT_IDS in rows.column_names:
        return rows

    def tokenize(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        conversations = [json.loads(messages) for messages in batch["messages"]]
        return {INPUT_IDS: tokenize_prompts(conversations, tokenizer, add_generation_prompt=False)}

    cache_key = [rows._fingerprint, CHAT_TEMPLATE, tokenizer.backend_tokenizer.to_str()]
    with explain_full_disk(HF_DATASETS_CACHE):
        prompts = rows.select_columns(["messages"]).map(
            tokenize,
            batched=True,
            remove_columns=["messages"],
            features=Features({INPUT_IDS: List(Value("int32"))}),
            new_fingerprint=sha256("\0".join(cache_key).encode()).hexdigest()[:16],
        )
    return concatenate_datasets([rows, prompts], axis=1)


class EncodedSamples(SampleDataset):
    """Samples of the rows of `load_training_data`, read from Arrow columns without creating Python numbers."""

    def __init__(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(rows, tokenizer)
        self.columns = rows.select_columns(["id", INPUT_IDS, "codes", "ref_codes"]).with_format("arrow")
        self.last = tokenizer.convert_tokens_to_ids(list(LAST_TOKENS))

    def __getitem__(self, index: int) -> dict[str, Any]:
        (sample,) = self.__getitems__([index])
        return sample

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """The samples of a batch; called by `DataLoader`."""
        table = self.columns[indices].combine_chunks()
        ids, input_ids, codes, ref_codes = (column.chunk(0) for column in table.columns)
        columns = {
            "id": ids.to_pylist(),
            INPUT_IDS: _split(input_ids, input_ids.flatten().to_numpy()),
            "codes": _split(codes, _steps(codes)),
            "ref_codes": _split(ref_codes, _split(ref_codes.flatten(), _steps(ref_codes.flatten()))),
        }
        rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        samples = (label_sample(row, row[INPUT_IDS], last=self.last) for row in rows)
        return [sample | {"row_index": index} for index, sample in zip(indices, samples, strict=True)]

    @cached_property
    def _num_positions(self) -> list[int]:
        return count_positions(self.rows).tolist()

    def audio_seconds(self) -> float:
        batches = self.rows.select_columns(["codes"]).with_format("arrow").iter(batch_size=1000)
        return sum(pc.sum(pc.list_value_length(batch["codes"])).as_py() for batch in batches) / FRAMES_PER_SECOND


def _steps(clips: pa.ListArray) -> np.ndarray:
    """The concatenated codec steps of clips: (sum T, C)."""
    steps = clips.flatten()
    return steps.flatten().to_numpy().reshape(-1, steps.type.list_size)


def _split(lists: pa.ListArray, items: Sequence) -> list[Sequence]:
    """Split the concatenated items of lists: the items of each list."""
    ends = np.cumsum(pc.list_value_length(lists).fill_null(0).to_numpy())
    return [items[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def check_lengths(rows: Dataset, tokenizer: PreTrainedTokenizerBase, *, pack_to: int) -> None:
    """Refuse rows that do not fit a packed row of `pack_to` positions: training would fail at the first of them.

    Raises:
        InputError: a row is too long; the message names the longest one.
    """
    num_positions = count_positions(tokenize_rows(rows, tokenizer)).tolist()
    too_long = [index for index, length in enumerate(num_positions) if length > pack_to]
    if too_long:
        longest = max(too_long, key=lambda index: num_positions[index])
        raise InputError(
            f"row {rows[longest]['id']}: {num_positions[longest]} positions do not fit pack_to={pack_to} "
            f"(the longest of {len(too_long)} such rows): raise pack_to, or encode with a lower max_seconds"
        )


def count_positions(rows: Dataset) -> np.ndarray:
    """Number of positions in a batch of each row of `load_training_data`: (rows,).

    Computed from the Arrow columns: converting the codes to lists would take longer than everything else.
    """
    counts = [np.zeros(0, dtype=np.int64)]
    for batch in rows.select_columns([INPUT_IDS, "codes", "ref_codes"]).with_format("arrow").iter(batch_size=1000):
        # A clip takes T + C + 1 frames in the place of one placeholder, so it adds T + C.
        lengths = pc.list_value_length(batch["codes"]).to_numpy() + NUM_CODEBOOKS
        references = batch["ref_codes"].combine_chunks()
        clip_lengths = pc.list_value_length(pc.list_flatten(references)).to_numpy()
        np.add.at(lengths, pc.list_parent_indices(references).to_numpy(), clip_lengths + NUM_CODEBOOKS)
        counts.append(pc.list_value_length(batch[INPUT_IDS]).to_numpy() + lengths)
    return np.concatenate(counts)
