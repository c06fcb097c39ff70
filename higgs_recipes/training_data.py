"""The rows that a recipe trains and evaluates on: its encoded corpora, laid end to end."""

from typing import Any

from datasets import Dataset, concatenate_datasets

from higgs_recipes.codec import codec_revision
from higgs_recipes.configs import SFTConfig
from higgs_recipes.encoding import check_codec, load_encoded


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
        check_codec(rows, revision)
        train.append(rows)
        described.append(
            {"path": path, "fingerprint": rows._fingerprint, "rows": len(rows), "seconds": sum(rows["seconds"])}
        )
        if evaluates:
            test.append(load_encoded(path, split=config.test_split))
            check_codec(test[-1], revision)
    return concatenate_datasets(train), concatenate_datasets(test) if test else None, described
