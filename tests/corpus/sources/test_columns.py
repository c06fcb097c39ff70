"""Our columns: of the source's columns, of fields in them, and never of two at once."""

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from higgs_recipes.corpus.sources.columns import column_path, column_values, map_columns
from higgs_recipes.corpus.sources.hub_dataset import DatasetTable, class_names
from higgs_recipes.corpus.sources.metadata import MetadataTable
from higgs_recipes.corpus.sources.source import Source
from higgs_recipes.errors import InputError
from higgs_recipes.rejects import RejectedRow


ROWS = [
    {"audio": "a.wav", "meta": {"text": "One.", "who": {"name": "anna"}}, "a.b": "dotted"},
    {"audio": "b.wav", "meta": None, "a.b": None},
]


def mapped(table, own=(), general=(), **options) -> dict[str, tuple[str, ...]]:
    return map_columns(table, general=dict(general), own=dict(own), label="corpus:train", **options)


@pytest.mark.parametrize(
    "table", [MetadataTable(ROWS), DatasetTable(Dataset.from_list(ROWS))], ids=["memory", "typed"]
)
def test_a_column_can_be_a_field_of_a_struct(table):
    paths = mapped(table, {"text": "meta.text", "speaker": "meta.who.name", "scene": "a.b"})
    assert paths == {
        "audio": ("audio",),
        "text": ("meta", "text"),
        "speaker": ("meta", "who", "name"),
        "scene": ("a.b",),
    }
    assert list(column_values(table, ("meta", "who", "name"))) == ["anna", None]
    assert (
        column_path(table, "meta.none") is column_path(table, "audio.text") is column_path(table, "none.text") is None
    )
    with pytest.raises(InputError, match="no column 'meta.words' for text; the columns are audio, meta, a.b; set"):
        mapped(table, {"text": "meta.words"})
    with pytest.raises(InputError, match=r"the columns are Audio, Text; set columns, e.g. \{text: Text\}"):
        mapped(MetadataTable([{"Audio": "a.wav", "Text": "Hi."}]))


def test_class_labels_in_a_struct_have_their_names():
    features = Features({"meta": {"who": ClassLabel(names=["anna", "bert"]), "n": Value("int64")}})
    assert class_names(features, ("meta", "who")).names == ["anna", "bert"]
    assert class_names(features, ("meta", "n")) is class_names(features, ("who",)) is None


@pytest.mark.parametrize("value, name", [(0, "anna"), (1, "bert"), (-1, None), (None, None), (2, None), (-2, None)])
def test_a_class_index_is_its_name_and_an_unknown_one_is_rejected(value, name):
    features = Features({"who": ClassLabel(names=["anna", "bert"])})
    labels = {"speaker": class_names(features, ("who",))}
    source = Source("corpus:train", MetadataTable([{"who": value}]), {"speaker": ("who",)}, {}, None, None, labels)
    if value in (2, -2):
        with pytest.raises(RejectedRow, match=f"speaker has the class '{value}', which is not one of 2"):
            source.stored_row(0)
    else:
        assert source.stored_row(0) == {"speaker": name}


def test_a_general_mapping_onto_a_column_that_the_source_has_too_is_refused_with_both_names():
    table = MetadataTable([{"audio": "a.wav", "text": "One.", "sentence": "Two.", "language": "en", "lang": "de"}])
    message = (
        r"both sentence \(by columns\) and text are a row's text; set columns in this source, e.g. {text: sentence}"
    )
    with pytest.raises(InputError, match=message):
        mapped(table, general={"text": "sentence"})
    assert mapped(table, own={"text": "sentence"})["text"] == ("sentence",)
    assert mapped(table, own={"text": "sentence"}, general={"text": "sentence"})["text"] == ("sentence",)
    assert mapped(table, general={"language": "lang"}, constants={"language"})["language"] == ("lang",)
    assert mapped(table, general={"text": "text"})["text"] == ("text",)


def test_tar_files_need_no_mapping_unless_two_members_are_the_text():
    row = {"__key__": "a", "json.text": "One.", "audio": "a.wav"}
    assert mapped(MetadataTable([row])) == {"id": ("__key__",), "text": ("json.text",), "audio": ("audio",)}
    both = MetadataTable([row | {"txt": "Two."}])
    with pytest.raises(InputError, match="both txt and json.text are a row's text; set columns, e.g. {text: txt}"):
        mapped(both)
    assert mapped(both, {"text": "json.text"})["text"] == ("json.text",)
