"""The rows that a recipe trains and evaluates on: its encoded corpora, laid end to end."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from higgs_recipes.codec import codec_revision
from higgs_recipes.configs import NUM_CODEBOOKS, SFTConfig
from higgs_recipes.encoding import check_codec, load_encoded
from higgs_recipes.errors import InputError
from higgs_recipes.modeling import load_tokenizer
from higgs_recipes.samples import tokenize_prompt


TRAIN_SPLIT = "train"  # as scripts/encode.py names it
# What a sample is made of. The recordings that a corpus may keep would be read with every row, and thrown away.
COLUMNS = ["id", "messages", "codes", "ref_codes", "codec"]


def load_training_data(config: SFTConfig) -> tuple[Dataset, Dataset | None, list[dict[str, Any]]]:
    """The train rows, the test rows (None where the recipe does not evaluate), and what run.json says of the corpora.

    Raises:
        InputError: a corpus is not there, has no such split, or is encoded with another codec than the recipe's; or a
            row does not fit `pack_to`.
    """
    revision = codec_revision(config.codec_name_or_path, revision=config.codec_revision)
    evaluates = config.eval_strategy != "no" and config.test_split is not None
    train, test, described = [], [], []
    for path in config.datasets:
        rows = load_encoded(path, split=TRAIN_SPLIT)
        check_codec(rows, revision, where=f"{path}, split {TRAIN_SPLIT}")
        train.append(rows.select_columns(COLUMNS))
        described.append(
            {"path": path, "fingerprint": rows._fingerprint, "rows": len(rows), "seconds": sum(rows["seconds"])}
        )
        if evaluates:
            held_out = load_encoded(path, split=config.test_split)
            check_codec(held_out, revision, where=f"{path}, split {config.test_split}")
            test.append(held_out.select_columns(COLUMNS))
    train, test = concatenate_datasets(train), concatenate_datasets(test) if test else None
    if config.pack_to is not None:
        tokenizer = load_tokenizer(config)
        for rows in (train, test):
            if rows is not None:
                check_lengths(rows, tokenizer, pack_to=config.pack_to)
    return train, test, described


def check_lengths(rows: Dataset, tokenizer: PreTrainedTokenizerBase, *, pack_to: int) -> None:
    """Refuse rows that no packed row of `pack_to` positions holds: training would end at the first of them.

    Raises:
        InputError: names the longest row and its positions.
    """
    num_positions: list[int] = []
    columns = rows.select_columns(["messages", "codes", "ref_codes"]).with_format("arrow")
    for batch in columns.iter(batch_size=1000):
        conversations = map(json.loads, batch["messages"].to_pylist())
        prompts = [len(tokenize_prompt(each, tokenizer, add_generation_prompt=False)) for each in conversations]
        num_positions += (np.array(prompts) + _num_repeats(batch)).tolist()
    too_long = [index for index, length in enumerate(num_positions) if length > pack_to]
    if too_long:
        longest = max(too_long, key=lambda index: num_positions[index])
        raise InputError(
            f"row {rows[longest]['id']}: {num_positions[longest]} positions do not fit pack_to={pack_to}; of "
            f"{len(too_long)} rows that do not, it is the longest: raise pack_to, or encode with a lower max_seconds"
        )


def _num_repeats(batch: pa.Table) -> np.ndarray:
    """How many positions the clips of each row add to its prompt, in which each clip is one.

    Counted in the columns: to make lists of the codes would take longer than all the rest.
    """
    more = NUM_CODEBOOKS  # T + C + 1 frames in place of one mark
    repeats = pc.list_value_length(batch["codes"]).to_numpy() + more
    references = batch["ref_codes"].combine_chunks()
    lengths = pc.list_value_length(pc.list_flatten(references)).to_numpy()
    np.add.at(repeats, pc.list_parent_indices(references).to_numpy(), lengths + more)
    return repeats
