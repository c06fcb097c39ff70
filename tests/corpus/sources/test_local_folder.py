"""Folders on this machine: their splits, the files that belong to them, and nothing outside."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Audio, Dataset, DatasetDict

from higgs_recipes.audio.io import read_audio
from higgs_recipes.corpus.corpus import load_rows
from higgs_recipes.errors import InputError
from tests.helpers.corpus_folder import encode_config, make_corpus, write_metadata, write_tone
from tests.recipes.test_hub_recipes import card, recording, tar


def load(folder: Path, **source):
    return load_rows(encode_config(folder, sources=[{"path": str(folder), **source}]))


def texts(folder: Path, **source) -> list[str]:
    corpus = load(folder, **source)
    assert not corpus.rejects, corpus.rejects
    return [row["text"] for row in corpus.rows]


def refusal(folder: Path, **source) -> str:
    with pytest.raises(InputError) as error:
        load(folder, **source)
    return str(error.value)


def write_parquet(path: Path, rows: list[str], audio: list | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = audio or [{"bytes": recording(index), "path": None} for index in range(len(rows))]
    pq.write_table(pa.table({"text": rows, "audio": cells}), path)


# Splits


def write_split(folder: Path, name: str, num_rows: int) -> None:
    """A split as a subfolder, whose texts name it."""
    rows = [{"file_name": f"{index}.wav", "text": f"{name} {index}."} for index in range(num_rows)]
    for index, row in enumerate(rows):
        write_tone(folder / name / row["file_name"], hertz=200.0 + 40 * index)
    write_metadata(folder / name, rows)


def splits_in_metadata(folder: Path) -> None:
    for name, num_rows in (("train", 4), ("dev", 2)):
        write_split(folder, name, num_rows)


def splits_on_disk(folder: Path) -> None:
    data = {
        name: Dataset.from_dict(
            {
                "text": [f"{name} {i}." for i in range(size)],
                "audio": [{"bytes": recording(i), "path": None} for i in range(size)],
            }
        )
        for name, size in (("train", 4), ("dev", 2))
    }
    DatasetDict(data).save_to_disk(folder)


def splits_in_parquet(folder: Path) -> None:
    for name, size in (("train", 4), ("dev", 2)):
        write_parquet(folder / f"data/{name}-00000-of-00001.parquet", [f"{name} {index}." for index in range(size)])


def splits_in_tar(folder: Path) -> None:
    for name, size in (("train", 4), ("dev", 2)):
        members = {}
        for index in range(size):
            members |= {f"{name}{index}.txt": f"{name} {index}.".encode(), f"{name}{index}.wav": recording(index)}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}-00000-of-00001.tar").write_bytes(tar(members))


LAYOUTS = [splits_in_metadata, splits_on_disk, splits_in_parquet, splits_in_tar]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_splits_are_read_one_by_one_together_and_in_part(tmp_path, layout):
    layout(tmp_path / "corpus")
    train, dev = [f"train {index}." for index in range(4)], [f"dev {index}." for index in range(2)]
    for split, expected in (
        ("train", train),
        ("dev", dev),
        ("train+dev", train + dev),
        ("dev+train", dev + train),
        ("train[:2]", train[:2]),
        ("train[50%:]+dev[-1:]", train[2:] + dev[1:]),
    ):
        assert texts(tmp_path / "corpus", split=split) == expected, split
    assert sorted(texts(tmp_path / "corpus", split="all")) == sorted(train + dev)
    assert "no split 'test'; the splits are dev, train" in refusal(tmp_path / "corpus", split="train+test")
    assert "Unrecognized instruction format" in refusal(tmp_path / "corpus", split="train[a]")


def test_rows_of_one_name_in_two_splits_are_two_rows(tmp_path):
    splits_in_metadata(tmp_path / "corpus")
    corpus = load(tmp_path / "corpus", split="train+dev")
    assert [row["id"] for row in corpus.rows] == ["train_0.wav", "train_1.wav", "2", "3", "dev_0.wav", "dev_1.wav"]
    path = corpus.recording(corpus.rows[4]["own"])["path"]
    assert path == str(tmp_path / "corpus/dev/0.wav")


def test_a_folder_without_splits_is_train(tmp_path):
    make_corpus(tmp_path / "corpus", 3)
    assert len(texts(tmp_path / "corpus", split="train[:2]")) == 2
    message = "no split 'dev'; the folder has no splits, leave split out"
    assert message in refusal(tmp_path / "corpus", split="dev")
    Dataset.from_dict({"text": ["One."], "audio": [{"bytes": recording(0), "path": None}]}).save_to_disk(
        tmp_path / "saved"
    )
    assert texts(tmp_path / "saved") == ["One."] and message in refusal(tmp_path / "saved", split="dev")


def test_splits_of_parquet_files_are_in_their_names_or_on_the_card(tmp_path):
    for index, name in enumerate(("a.parquet", "b/test_1.parquet", "c/eval/0.parquet", "validation.parquet")):
        write_parquet(tmp_path / "corpus" / name, [f"{index}."])
    assert texts(tmp_path / "corpus") == ["0."] and texts(tmp_path / "corpus", split="test") == ["1.", "2."]
    configs = card(("one", {"train": "a.parquet", "other": "b/*"}), ("two", {"train": ["c/**", "validation.parquet"]}))
    (tmp_path / "corpus/README.md").write_bytes(configs)
    assert texts(tmp_path / "corpus", name="one", split="other") == ["1."]
    assert texts(tmp_path / "corpus", name="two") == ["3.", "2."] or texts(tmp_path / "corpus", name="two") == [
        "2.",
        "3.",
    ]
    assert "no configuration None; set name to one of one, two" in refusal(tmp_path / "corpus")
    assert "no configuration 'three'; set name to one of one, two" in refusal(tmp_path / "corpus", name="three")


def test_a_part_of_a_split_without_rows_is_refused(tmp_path):
    write_parquet(tmp_path / "corpus/a.parquet", ["One.", "Two."])
    for split in ("train[2:]", "train[:10%]", "train[1:1]"):
        assert f"split '{split}' has no rows: train has 2" in refusal(tmp_path / "corpus", split=split)
    assert texts(tmp_path / "corpus", split="train[1:]") == ["Two."]


def test_a_split_whose_files_are_not_all_there_is_named(tmp_path, caplog):
    for name in ("train-00000-of-00001", "dev-00000-of-00003", "dev-00002-of-00003"):
        write_parquet(tmp_path / f"corpus/data/{name}.parquet", [f"{name}."])
    assert len(texts(tmp_path / "corpus", split="dev")) == 2
    assert f"{tmp_path}/corpus: 2 of 3 files data/dev-* are there: the split is not whole" in caplog.text
    assert "data/train-*" not in caplog.text


@pytest.mark.parametrize(
    "head, message",
    [
        ("configs: 5", "README.md: configs in its head is not a list"),
        ("configs: [{data_files: 7}]", "README.md has a configuration 'default' whose data_files match no .parquet"),
        ("configs: [{data_files: ../*.parquet}]", "whose data_files match no .parquet or .tar file: set files"),
        ("configs: [", "README.md: its head cannot be read: not YAML"),
        ("a: &a [*a]", "README.md: its head cannot be read: line 1: an alias inside the value that it stands for"),
    ],
)
def test_a_card_that_cannot_be_used_is_named(tmp_path, head, message):
    write_parquet(tmp_path / "corpus/a.parquet", ["One."])
    (tmp_path / "corpus/README.md").write_text(f"---\n{head}\n---\n")
    assert message in refusal(tmp_path / "corpus")
    assert texts(tmp_path / "corpus", files="*.parquet") == ["One."]


def test_a_path_that_is_too_long_is_no_folder(tmp_path):
    assert "is neither a folder nor a Hub id" in refusal(tmp_path / ("n" * 5000))


def test_files_selects_files_of_a_folder(tmp_path):
    splits_in_tar(tmp_path / "corpus")
    write_parquet(tmp_path / "corpus/more.parquet", ["More."])
    assert "has parquet files and tar files; set files, e.g. files: '*.parquet'" in refusal(tmp_path / "corpus")
    assert texts(tmp_path / "corpus", files="*.parquet") == ["More."]
    assert texts(tmp_path / "corpus", files="dev*.tar") == ["dev 0.", "dev 1."]
    assert "no .parquet or .tar file matches files '*.zip'" in refusal(tmp_path / "corpus", files="*.zip")


# Names


@pytest.mark.parametrize("name", ["a [x]", "a *", "a ?", "a [!b]"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_names_of_folders_are_not_patterns(tmp_path, layout, name):
    for neighbor in ("a x", "a b", "a c", "a"):
        write_parquet(tmp_path / neighbor / "train.parquet", ["Of the neighbor."])
    layout(tmp_path / name)
    assert texts(tmp_path / name, split="dev") == ["dev 0.", "dev 1."]


def test_names_of_files_are_not_patterns(tmp_path):
    write_parquet(tmp_path / "corpus/part[1].parquet", ["One."])
    write_parquet(tmp_path / "other/part1.parquet", ["Other."])
    assert texts(tmp_path / "corpus") == ["One."]
    write_parquet(tmp_path / "corpus/part1.parquet", ["Two."])
    assert texts(tmp_path / "corpus") == ["Two.", "One."]


def test_hidden_files_are_not_read(tmp_path):
    write_parquet(tmp_path / "corpus/a.parquet", ["One."])
    for name in ("._a.parquet", ".cache/b.parquet", "__MACOSX/c.parquet"):
        (tmp_path / "corpus" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "corpus" / name).write_bytes(b"not parquet")
    assert texts(tmp_path / "corpus") == ["One."]


# Recordings beside a parquet file


def test_a_parquet_file_can_name_recordings_beside_it_or_in_the_folder(tmp_path):
    folder = tmp_path / "corpus"
    for name in ("data/a.wav", "data/clips/b.wav", "c.wav", "d.wav"):
        write_tone(folder / name, hertz=200.0 + len(name))
    write_parquet(folder / "data/train.parquet", ["1.", "2.", "3."], ["a.wav", "clips/b.wav", "c.wav"])
    write_parquet(folder / "more/x.parquet", ["4."], [{"path": "../d.wav", "bytes": None}])
    corpus = load(folder)
    paths = [Path(corpus.recording(row["own"])["path"]).resolve() for row in corpus.rows]
    names = ["data/a.wav", "data/clips/b.wav", "c.wav", "d.wav"]
    assert paths == [(folder / name).resolve() for name in names] and not corpus.rejects
    again = ["../c.wav", "data/../c.wav", str(folder / "c.wav"), "data/a.wav"]
    write_parquet(folder / "data/train.parquet", ["1.", "2.", "3.", "5.", "6."], ["a.wav", *again])
    corpus = load(folder)
    assert [row["text"] for row in corpus.rows] == ["1.", "2.", "4."] and corpus.reject_counts() == {"duplicate id": 3}


def test_a_parquet_file_can_name_its_recordings_as_an_audio_folder_does(tmp_path):
    folder = tmp_path / "corpus"
    for name in ("a.wav", "b.wav"):
        write_tone(folder / name, hertz=200.0 + ord(name[0]))
    table = {"text": ["One."], "file_name": ["a.wav"], "ref_audio_file_name": ["b.wav"], "ref_text": ["Two."]}
    pq.write_table(pa.table(table), folder / "metadata.parquet")
    sources = [{"path": str(folder)}]
    (row,) = load_rows(encode_config(folder, sources=sources, tasks={"zero_shot_voice_cloning": 1.0})).rows
    assert (row["id"], row["name"], row["reference"]["name"]) == ("a", "a.wav", "b.wav")


# What leads out of the folder


@pytest.fixture
def private(tmp_path) -> Path:
    write_tone(tmp_path / "private/secret.wav")
    return tmp_path / "private/secret.wav"


@pytest.mark.parametrize("in_bytes", [True, False])
def test_a_cell_cannot_name_a_recording_of_this_machine(tmp_path, private, in_bytes):
    cell = {"bytes": str(private), "path": None} if in_bytes else {"bytes": None, "path": str(private)}
    write_parquet(tmp_path / "parquet/train.parquet", ["Taken."], [cell])
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/metadata.jsonl").write_text(json.dumps({"text": "Taken.", "audio": cell}))
    Dataset.from_dict({"text": ["Taken."], "audio": [cell]}).save_to_disk(tmp_path / "saved")
    reason = "audio is not a recording: its bytes are str" if in_bytes else "recording leaves its folder: secret.wav"
    for name in ("parquet", "metadata", "saved"):
        assert f"'reason': {reason!r}"[:-1] in refusal(tmp_path / name)


def test_a_saved_dataset_cannot_name_files_outside_its_folder(tmp_path):
    rows = Dataset.from_dict({"text": ["Private."], "audio": [{"bytes": recording(0), "path": None}]})
    rows.save_to_disk(tmp_path / "private")
    for name in ("one", "several"):
        saved = rows if name == "one" else DatasetDict({"train": rows})
        saved.save_to_disk(tmp_path / name)
        place = tmp_path / name / ("train" if name == "several" else "")
        state = json.loads((place / "state.json").read_text())
        for filename in (
            "../private/data-00000-of-00001.arrow",
            str(tmp_path / "private/data-00000-of-00001.arrow"),
            5,
        ):
            changed = state | {"_data_files": [{"filename": filename}]}
            (place / "state.json").write_text(json.dumps(changed))
            assert "filename is" in refusal(tmp_path / name)
        (place / "state.json").write_text(json.dumps(state))
        arrow = place / "data-00000-of-00001.arrow"
        arrow.unlink()
        arrow.symlink_to(tmp_path / "private/data-00000-of-00001.arrow")
        assert "it leaves the folder" in refusal(tmp_path / name)
    (tmp_path / "several/dataset_dict.json").write_text(json.dumps({"splits": ["../private"]}))
    assert "it leaves the folder" in refusal(tmp_path / "several")
    for content in ("[]", "{}", '{"splits": 5}', "{"):
        (tmp_path / "several/dataset_dict.json").write_text(content)
        assert refusal(tmp_path / "several")


@pytest.mark.parametrize("name", ["train.parquet", "train.tar"])
def test_a_data_file_that_is_a_link_to_a_file_outside_is_refused(tmp_path, name):
    write_parquet(tmp_path / "private/train.parquet", ["Private."])
    (tmp_path / "private/train.tar").write_bytes(tar({"a.txt": b"Private.", "a.wav": recording(0)}))
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / name).symlink_to(tmp_path / "private" / name)
    assert "is a link to a file outside" in refusal(tmp_path / "corpus")


def test_recordings_that_no_line_names_are_counted(tmp_path, caplog):
    for name in ("a.wav", "b\u0061\u0300.wav", "c.wav", "d/e.wav", ".hidden.wav", ".git/f.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_tone(tmp_path / name)
    rows = [{"file_name": str(tmp_path / "a.wav"), "text": "One."}, {"file_name": "b\u00e0.wav", "text": "Two."}]
    write_metadata(tmp_path, rows)
    assert len(load_rows(encode_config(tmp_path)).rows) == 2
    assert "metadata.csv: no line names 2 recordings: 'c.wav', 'd/e.wav'" in caplog.text


def test_a_linked_folder_is_named(tmp_path, caplog):
    write_parquet(tmp_path / "other/b.parquet", ["Other."])
    write_parquet(tmp_path / "corpus/a.parquet", ["One."])
    (tmp_path / "corpus/linked").symlink_to(tmp_path / "other")
    assert texts(tmp_path / "corpus") == ["One."]
    assert "the linked folder linked is not read; give it as a source" in caplog.text


# Audio as other people store it


@pytest.mark.parametrize(
    "audio",
    [
        lambda clip, samples: {"bytes": clip},
        lambda clip, samples: clip,
        lambda clip, samples: {"bytes": clip, "path": "gone.wav"},
        lambda clip, samples: {"array": samples, "sampling_rate": 24_000},
        lambda clip, samples: {"array": samples, "sampling_rate": 24_000, "path": "gone.wav"},
        lambda clip, samples: samples,
    ],
    ids=["bytes without path", "bytes", "bytes with a path", "array", "array with a path", "list of floats"],
)
def test_audio_is_read_as_bytes_and_as_samples(tmp_path, audio):
    clip = recording(0)
    samples = read_audio(clip, name="clip").tolist()
    (tmp_path / "corpus").mkdir()
    table = pa.table({"text": ["One."], "audio": [audio(clip, samples)], "rate": [24_000]})
    pq.write_table(table, tmp_path / "corpus/train.parquet")
    columns = {"sampling_rate": "rate"} if isinstance(table["audio"][0].as_py(), list) else {}
    corpus = load(tmp_path / "corpus", columns=columns)
    (row,) = corpus.rows
    waveform = corpus.waveform(row["own"], name="row")
    assert waveform.tolist() == pytest.approx(samples, abs=1e-6) and row["seconds"] == pytest.approx(3.2)


def test_audio_features_of_datasets_are_read(tmp_path):
    rows = Dataset.from_dict({"text": ["One."], "audio": [{"bytes": recording(0), "path": None}]})
    rows = rows.cast_column("audio", Audio())
    (tmp_path / "corpus").mkdir()
    rows.to_parquet(tmp_path / "corpus/train.parquet")
    assert texts(tmp_path / "corpus") == ["One."]


def test_a_row_whose_text_is_not_utf_8_is_rejected_and_the_others_are_read(tmp_path):
    texts_ = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\2\0\0\0\6\0\0\0"), pa.py_buffer(b"\xff\xfeOne."))
    cells = [{"bytes": recording(index), "path": None} for index in range(2)]
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.table({"text": texts_, "audio": cells}), tmp_path / "corpus/train.parquet")
    corpus = load(tmp_path / "corpus")
    assert [row["text"] for row in corpus.rows] == ["One."]
    assert [reject.reason for reject in corpus.rejects] == [
        "invalid Unicode: a text is not UTF-8 (byte 0xff); convert it or remove the row"
    ]


def test_a_corpus_can_be_moved_to_another_folder(tmp_path):
    splits_in_parquet(tmp_path / "corpus")
    shutil.move(tmp_path / "corpus", tmp_path / "moved")
    assert len(texts(tmp_path / "moved")) == 4
