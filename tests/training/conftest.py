from collections.abc import Callable

import pytest
from datasets import Dataset, Features, List, Value


@pytest.fixture(scope="session")
def as_dataset() -> Callable[[list[dict]], Dataset]:
    """Converts rows to a dataset with the columns and types of an encoded corpus."""
    codes = List(List(Value("int16"), length=8))
    features = {"id": Value("string"), "messages": Value("string"), "codes": codes, "ref_codes": List(codes)}

    def convert(rows: list[dict]) -> Dataset:
        return Dataset.from_list([{name: row[name] for name in features} for row in rows], Features(features))

    return convert
