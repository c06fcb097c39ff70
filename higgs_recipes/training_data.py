"""The rows that a recipe trains and evaluates on: its encoded corpora, laid end to end."""

from typing import Any

from datasets import Dataset, concatenate_datasets

from higgs_recipes.codec import codec_revision
from higgs_recipes.configs import SFTConfig
from higgs_recipes.encoding import check_codec, load_encoded


# What a sample is made of. The recordings that a corpus may keep would be read with every row, and thrown away.
COLUMNS = ["id", "messages", "codes", "ref_codes", "codec"]


def load_training_data(config: SFTConfig) -> tuple[Dataset, Dataset | None, list[dict[str, Any]]]:
    """The train rows, the test rows (None where the recipe does not evaluate), and what run.json says of the corpora.

    Raises:
        InputError: a corpus is not there, has no such split, or is encoded with another codec than the recipe's.
    """
    revision = codec_revision(config.codec_name_or_path, revision=config.codec_revision)
    evaluates = config.eval_strategy != "no" and config.test_split is not None
    train, test, described = [], [], []
    for path in config.datasets:
        rows = load_encoded(path, split=config.train_split)
        check_codec(rows, revision, where=f"{path}, split {config.train_split}")
        train.append(rows.select_columns(COLUMNS))
        described.append(
            {"path": path, "fingerprint": rows._fingerprint, "rows": len(rows), "seconds": sum(rows["seconds"])}
        )
        if evaluates:
            held_out = load_encoded(path, split=config.test_split)
            check_codec(held_out, revision, where=f"{path}, split {config.test_split}")
            test.append(held_out.select_columns(COLUMNS))
    return concatenate_datasets(train), concatenate_datasets(test) if test else None, described
