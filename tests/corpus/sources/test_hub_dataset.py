"""A `datasets.Dataset` as a table: audio is not decoded, wherever it is in a row."""

from datasets import Audio, Dataset, Features, List, Value

from higgs_recipes.corpus.sources.hub_dataset import DatasetTable


CELL = {"bytes": b"not decoded", "path": "a.wav"}


def test_audio_is_not_decoded_in_columns_and_in_lists():
    stored = {"bytes": Value("binary"), "path": Value("string")}
    features = Features({"text": Value("string"), "audio": stored, "turns": List({"audio": stored}), "other": stored})
    row = {"text": "One.", "audio": CELL, "turns": [{"audio": CELL}], "other": CELL}
    rows = Dataset.from_list([row], features=features).cast_column("audio", Audio()).cast_column("other", Audio())
    table = DatasetTable(rows.cast_column("turns", List({"audio": Audio()})))
    assert table.features["audio"] == table.features["other"] == Audio(decode=False)
    table.use_columns(["text", "audio", "turns"])
    assert table[0] == {"text": "One.", "audio": CELL, "turns": [{"audio": CELL}]}
    assert table.column_names == ["text", "audio", "turns"] and table.column("other") == [None]
