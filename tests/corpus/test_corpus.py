import json
import os
import re

import pytest
import soundfile
import torch
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value

from higgs_recipes.audio.io import read_audio
from higgs_recipes.corpus.corpus import load_rows, split_rows
from higgs_recipes.errors import InputError
from tests.helpers.audio_files import encode, half, of_unknown_length, with_cover, with_data_size, without_info
from tests.helpers.corpus_folder import encode_config, make_corpus, write_metadata, write_tone
from tests.helpers.tiny_codec import tone


def refusal(folder, **fields) -> str:
    with pytest.raises(InputError) as error:
        load_rows(encode_config(folder, **fields))
    return str(error.value)


def reasons(folder, **fields) -> dict[str, str]:
    """Reject's id to its reason; one good row is added, as a corpus without any is refused."""
    return {reject["id"]: reject["reason"] for reject in load_rows(encode_config(folder, **fields)).rejects}


def folder_with_bad_rows(folder, *bad_rows, **first):
    """A good row and then bad ones, each a mapping over the good one's cells."""
    write_tone(folder / "good.wav", seconds=1.0)
    good = {"id": "good", "file_name": "good.wav", "text": "A good row."} | first
    write_metadata(folder, [good] + [good | row for row in bad_rows])
    return folder


# Rows


def test_a_row_is_normalised_and_checked(tmp_path):
    write_tone(tmp_path / "clips/one.wav", seconds=1.0, rate=44_100)
    write_metadata(
        tmp_path, [{"file_name": "clips/one.wav", "text": " It is  20°C", "speaker": "anna", "scene": "A room."}]
    )
    corpus = load_rows(encode_config(tmp_path))
    (row,) = corpus.rows
    assert row["id"] == "clips_one" and row["speaker"] == "anna" and row["language"] is None
    assert row["raw_text"] == " It is  20°C" and row["text"] == "It is 20 degrees Celsius."
    assert row["seconds"] == pytest.approx(1.0, abs=1e-3) and row["scene"] == "A room."
    assert row["name"] == "one.wav"  # not where it lies on this machine
    assert len(read_audio(corpus.recording(row["own"]), name="one")) == row["seconds"] * 24_000


def test_the_same_sound_has_the_same_hash_in_any_container(tmp_path):
    samples = (tone(0.5) * 2**15).to(torch.int16)
    for name, scale in (("a.wav", 1), ("b.flac", 1), ("c.wav", -1)):
        soundfile.write(tmp_path / name, (scale * samples).numpy(), 24_000)
    write_metadata(tmp_path, [{"file_name": name, "text": "A hum."} for name in ("a.wav", "b.flac", "c.wav")])
    first, second, other = (row["own"].content_hash for row in load_rows(encode_config(tmp_path)).rows)
    assert first == second != other


def test_csv_cells_stay_the_texts_they_are(tmp_path):
    rows = [{"file_name": f"{text}.wav", "text": text, "speaker": "007"} for text in ("NA", "null", "1984")]
    for row in rows:
        write_tone(tmp_path / row["file_name"])
    write_metadata(tmp_path, rows)
    assert [(row["raw_text"], row["speaker"]) for row in load_rows(encode_config(tmp_path)).rows] == [
        ("NA", "007"),
        ("null", "007"),
        ("1984", "007"),
    ]


@pytest.mark.parametrize(
    "kind",
    [{"subtype": "PCM_U8"}, {"subtype": "PCM_24"}, {"rate": 96_000}, {"rate": 8_000}],
    ids=["8-bit", "24-bit", "96 kHz", "8 kHz"],
)
def test_odd_recordings_are_good_rows(tmp_path, kind):
    write_tone(tmp_path / "clip.wav", **kind)
    write_metadata(tmp_path, [{"file_name": "clip.wav", "text": "A hum."}])
    assert len(load_rows(encode_config(tmp_path)).rows) == 1


def test_stereo_is_a_good_row(tmp_path):
    soundfile.write(tmp_path / "clip.wav", torch.stack([tone(0.5), tone(0.5, hertz=300.0)], dim=1).numpy(), 24_000)
    write_metadata(tmp_path, [{"file_name": "clip.wav", "text": "A hum."}])
    assert len(load_rows(encode_config(tmp_path)).rows) == 1


# Rejects


def test_bad_recordings_are_rejected_with_their_reasons(tmp_path):
    (tmp_path / "words.wav").write_text("Glue the sheet to the dark blue background.")
    (tmp_path / "empty.wav").write_bytes(b"")
    write_tone(tmp_path / "short.wav", seconds=0.05)
    write_tone(tmp_path / "long.wav", seconds=60.0, rate=8_000)
    soundfile.write(tmp_path / "nan.wav", torch.full((24_000,), float("nan")).numpy(), 24_000, subtype="FLOAT")
    soundfile.write(tmp_path / "silent.wav", torch.zeros(24_000).numpy(), 24_000)
    names = ("words", "empty", "short", "long", "nan", "silent", "missing")
    bad = [{"id": name, "file_name": f"{name}.wav"} for name in names]
    bad += [{"id": "outside", "file_name": "../outside.wav"}, {"id": "absolute", "file_name": "/etc/passwd"}]
    write_tone(tmp_path.parent / "outside.wav")

    corpus = load_rows(encode_config(folder_with_bad_rows(tmp_path, *bad)))
    assert [row["id"] for row in corpus.rows] == ["good"]
    found = {reject["id"] or f"row {reject['row']}": reject["reason"] for reject in corpus.rejects}
    assert found.pop("words").startswith("recording not audio that can be read")
    assert found.pop("empty").startswith("recording zero bytes")
    assert found.pop("short") == "recording too short: 0.05 s, min_seconds is 0.3"
    assert found.pop("long") == "recording too long: 60.00 s, max_seconds is 30.0"
    assert found.pop("nan").startswith("recording NaN or infinite samples")
    assert found.pop("silent").startswith("recording silent")
    assert found.pop("missing").startswith("recording cannot be read: No such file")
    assert "audio leaves the folder" in found.pop("row 8") and "audio leaves the folder" in found.pop("row 9")
    assert not found
    assert {reject["file"] for reject in corpus.rejects} == {f"{tmp_path}:train"}
    assert [reject["row"] for reject in corpus.rejects] == list(range(1, 10))
    assert corpus.reject_counts()["recording too short"] == 1 and sum(corpus.reject_counts().values()) == 9


def test_a_row_is_as_long_as_its_recording_and_not_as_its_header_says(tmp_path):
    sound = tone(2.16)
    mp3 = encode(sound, rate=24_000, format="MP3", bitrate_mode="VARIABLE")
    wav, flac = encode(sound, rate=24_000), encode(sound, rate=24_000, format="FLAC")
    good = {
        "phone.wav": encode(tone(2.16, rate=8_000), rate=8_000, subtype="GSM610"),
        "pipe.flac": of_unknown_length(flac),
        "bare.mp3": without_info(mp3),
        "cover.mp3": with_cover(without_info(mp3)),
        "not_closed.wav": with_data_size(wav, 0),
        "joined.flac": 2 * flac,
        "antiphase.wav": encode(torch.stack([sound, -sound], dim=1), rate=24_000),
    }
    bad = {"half.mp3": half(mp3), "half.wav": half(wav), "half.flac": half(flac)}
    bad |= {"ten_mhz.wav": encode(sound, rate=10_000_000), "page.mp3": b"<!DOCTYPE html>"}
    for name, content in (good | bad).items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe.wav")
    names = [*good, *bad, "pipe.wav"]
    folder_with_bad_rows(tmp_path, *[{"id": name, "file_name": name, "text": name} for name in names])
    corpus = load_rows(encode_config(tmp_path))
    seconds = {row["id"]: row["seconds"] for row in corpus.rows if row["id"] != "good"}
    assert seconds.keys() == good.keys()
    assert seconds.pop("joined.flac") == 4.32
    assert all(length == pytest.approx(2.16, abs=0.08) for length in seconds.values())
    assert corpus.reject_counts() == {
        "recording truncated": 3,
        "recording sample rate out of range": 1,
        "recording not audio that can be read": 1,
        "recording cannot be read": 1,
    }
    truncated = [reject["reason"] for reject in corpus.rejects if "truncated" in reject["reason"]]
    assert all(re.fullmatch(r"recording truncated: [01]\.\d\d s of 2\.16 s are there; .*", each) for each in truncated)


def test_bad_transcripts_are_rejected_with_their_reasons(tmp_path):
    bad = {
        "empty": "",
        "blank": " \n ",
        "control": "Say <|eot_id|> now.",
        "long": "word " * 300,
        "fast": "This sentence is far too long for its second.",
    }
    folder_with_bad_rows(tmp_path, *[{"id": name, "text": text} for name, text in bad.items()])
    found = reasons(tmp_path, max_chars_per_second=20.0)
    assert found.pop("empty").startswith("empty transcript") and found.pop("blank").startswith("empty transcript")
    assert "holds <|eot_id|>, a mark that only the prompt may set" in found.pop("control")
    assert found.pop("long") == "transcript too long: 1500 characters, at most 1000 are taken"
    assert found.pop("fast").startswith("transcript too long for its clip: 45 characters in 1.00 s")
    assert not found


def test_a_transcript_that_is_no_text_is_rejected(tmp_path):
    write_tone(tmp_path / "good.wav", seconds=1.0)
    rows = [{"file_name": "good.wav", "id": str(text), "text": text} for text in ("Good.", 5, None, ["a", "b"])]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = reasons(tmp_path)
    assert found["5"] == "transcript is no text: 5 is a int" and "is a list" in found["_a_b_"]
    assert found["None"].startswith("empty transcript")


def test_the_second_row_of_an_id_is_rejected(tmp_path):
    folder_with_bad_rows(tmp_path, {"text": "Another text."})
    assert reasons(tmp_path) == {"good": f"duplicate id: row 0 of {tmp_path}:train has it too"}


def test_a_corpus_without_a_good_row_is_refused(tmp_path):
    write_tone(tmp_path / "short.wav", seconds=0.05)
    write_metadata(tmp_path, [{"file_name": "short.wav", "text": "Short."}])
    assert "no row is left of 1: {'recording too short': 1}; the first: " in refusal(tmp_path)


# Sources


def test_a_missing_column_is_named_with_those_there_are(tmp_path):
    write_tone(tmp_path / "a.wav")
    write_metadata(tmp_path, [{"file_name": "a.wav", "sentence": "A hum."}])
    message = refusal(tmp_path)
    assert "no column 'text' for text; it has audio, sentence; name the right one under columns" in message
    (row,) = load_rows(encode_config(tmp_path, columns={"text": "sentence"})).rows
    assert row["text"] == "A hum."
    assert "no column 'words' for text" in refusal(tmp_path, columns={"text": "words"})
    assert "columns: unknown key 'txt'; did you mean 'text'?" in refusal(tmp_path, columns={"txt": "sentence"})


def test_a_source_has_its_own_columns_and_constants(tmp_path):
    make_corpus(tmp_path / "a", 2)
    write_tone(tmp_path / "b/x.wav", hertz=500.0)
    write_metadata(tmp_path / "b", [{"file_name": "x.wav", "sentence": "Hello."}])
    other = {"path": str(tmp_path / "b"), "columns": {"text": "sentence"}, "speaker": "carl", "language": "en"}
    rows = load_rows(encode_config(tmp_path, sources=[str(tmp_path / "a"), other])).rows
    assert [row["id"] for row in rows] == ["0-00", "0-01", "1-x"]
    assert [(row["speaker"], row["language"]) for row in rows] == [("anna", None), ("bert", None), ("carl", "en")]


@pytest.mark.parametrize(
    "source, message",
    [
        ({"path": "x", "colums": {}}, "sources: unknown key 'colums'; did you mean 'columns'?"),
        ({"name": "en"}, "has no path"),
        ({"path": "x", "weight": "much"}, "weight is 'much'; it must be int or float"),
        ({"path": "x", "weight": 0}, "weight of x is 0; it must be positive"),
        ({"path": 5}, "path is 5; it must be str"),
        ("./nowhere", "no such folder, and no Hub id"),
    ],
)
def test_a_wrong_source_is_named(tmp_path, source, message):
    assert message in refusal(tmp_path, sources=[source])


def test_folders_that_are_no_corpus_are_named(tmp_path):
    write_tone(tmp_path / "bare/a.wav")
    assert "no corpus; need metadata.csv or metadata.jsonl" in refusal(tmp_path / "bare")
    make_corpus(tmp_path / "two")
    (tmp_path / "two/metadata.jsonl").write_text("{}")
    assert "holds metadata.csv and metadata.jsonl; keep one" in refusal(tmp_path / "two")
    for content, message in [
        ("file_name,text\na.wav,One, two\n", "line 2: not one cell for each of file_name, text; quote commas"),
        ("file_name,text\na.wav\n", "line 2: not one cell"),
        ("file_name,text\n", "no rows"),
        ("file_name,text\na.wav,\xff\n", "not UTF-8"),
    ]:
        (tmp_path / "bare/metadata.csv").write_bytes(content.encode("latin-1"))
        assert message in refusal(tmp_path / "bare")
    (tmp_path / "bare/metadata.csv").unlink()
    for content, message in [("{", "line 1: not JSON"), ("[]", "line 1: not a JSON object")]:
        (tmp_path / "bare/metadata.jsonl").write_text(content)
        assert message in refusal(tmp_path / "bare")


def test_splits_of_an_audio_folder_are_its_subfolders(tmp_path):
    make_corpus(tmp_path / "train", 3)
    make_corpus(tmp_path / "dev", 2)
    assert len(load_rows(encode_config(tmp_path)).rows) == 3
    assert len(load_rows(encode_config(tmp_path, sources=[{"path": str(tmp_path), "split": "dev"}])).rows) == 2
    assert "no split 'test'; it has dev, train" in refusal(
        tmp_path, sources=[{"path": str(tmp_path), "split": "test"}]
    )
    flat = str(tmp_path / "train")
    assert "it has only one, leave split out" in refusal(tmp_path, sources=[{"path": flat, "split": "test"}])


def stored_dataset(tmp_path) -> Dataset:
    """Three rows with the recordings' bytes inside, a class label and an id."""
    make_corpus(tmp_path / "clips", 3)
    cells = [{"bytes": path.read_bytes(), "path": None} for path in sorted((tmp_path / "clips").glob("*.wav"))]
    rows = {"id": [7, 8, 9], "sentence": ["One.", "Two.", "Three."], "who": [0, 1, 0], "audio": cells}
    audio = {"bytes": Value("binary"), "path": Value("string")}
    classes = ClassLabel(names=["anna", "bert"])
    features = Features({"id": Value("int64"), "sentence": Value("string"), "who": classes, "audio": audio})
    return Dataset.from_dict(rows, features=features).cast_column("audio", Audio())


COLUMNS = {"text": "sentence", "speaker": "who"}


def assert_is_the_stored_dataset(folder):
    corpus = load_rows(encode_config(folder, columns=COLUMNS))
    assert [(row["id"], row["text"], row["speaker"]) for row in corpus.rows] == [
        ("7", "One.", "anna"),
        ("8", "Two.", "bert"),
        ("9", "Three.", "anna"),
    ]
    assert len(read_audio(corpus.recording(corpus.rows[1]["own"]), name="8")) == round(0.44 * 24_000)


def test_save_to_disk_folders_are_read(tmp_path):
    rows = stored_dataset(tmp_path)
    rows.save_to_disk(tmp_path / "one")
    assert_is_the_stored_dataset(tmp_path / "one")
    DatasetDict({"train": rows, "dev": rows}).save_to_disk(tmp_path / "several")
    assert_is_the_stored_dataset(tmp_path / "several")
    source = {"path": str(tmp_path / "several"), "split": "test"}
    assert "no split 'test'; it has train, dev" in refusal(tmp_path, sources=[source])


def test_parquet_folders_are_read(tmp_path):
    (tmp_path / "parquet/data").mkdir(parents=True)
    stored_dataset(tmp_path).to_parquet(tmp_path / "parquet/data/train-00000-of-00001.parquet")
    assert_is_the_stored_dataset(tmp_path / "parquet")
    source = {"path": str(tmp_path / "parquet"), "split": "test"}
    assert "Unknown split \"test\". Should be one of ['train']" in refusal(tmp_path, sources=[source])
    message = refusal(tmp_path / "parquet")
    assert "no column 'text' for text; it has id, sentence, who, audio" in message


def test_a_column_that_holds_no_recording_is_named(tmp_path):
    rows = Dataset.from_dict({"text": ["One."], "audio": [[0.1, 0.2]]})
    rows.save_to_disk(tmp_path / "arrays")
    assert "audio holds no recording: it is a list, need a file name or bytes" in refusal(tmp_path / "arrays")


# Cloning


def test_reference_clips_are_clips_of_the_row(tmp_path):
    for name in ("a.wav", "b.wav"):
        write_tone(tmp_path / name, hertz=200.0 if name == "a.wav" else 300.0)
    row = {"file_name": "a.wav", "text": "Hello.", "ref_audio_file_name": "b.wav", "ref_text": "Before."}
    write_metadata(tmp_path, [row | {"id": "good"}, row | {"id": "no_text", "ref_text": ""}])
    corpus = load_rows(encode_config(tmp_path, tasks={"zero_shot_voice_cloning": 1.0}))
    (row,) = corpus.rows
    assert row["reference"]["ref_text"] == "Before." and row["reference"]["name"] == "b.wav"
    assert corpus.recording(row["reference"]["clip"])["path"].endswith("b.wav")
    assert corpus.rejects[0]["reason"].startswith("ref_text is missing")


def test_dialogues_have_a_reference_clip_for_each_speaker(tmp_path):
    for name in ("a.wav", "b.wav", "talk.wav"):
        write_tone(tmp_path / name, seconds=2.0, hertz={"a.wav": 200.0, "b.wav": 300.0, "talk.wav": 400.0}[name])
    speakers = [
        {"speaker_tag": f"SPEAKER{index}", "ref_text": f"I am {index}.", "ref_audio": name}
        for index, name in enumerate(("a.wav", "b.wav"))
    ]
    row = {"file_name": "talk.wav", "text": "[SPEAKER0] Hi.\n[SPEAKER1] Well.", "ref_speakers": speakers}
    bad = row | {"id": "bad", "ref_speakers": [speakers[0] | {"ref_audio": "none.wav"}, speakers[1]]}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(bad) + "\n")
    corpus = load_rows(encode_config(tmp_path, tasks={"multi_speaker_voice_cloning": 1.0}))
    (row,) = corpus.rows
    assert [each["ref_text"] for each in row["ref_speakers"]] == ["I am 0.", "I am 1."]
    names = [corpus.recording(each["clip"])["path"] for each in row["ref_speakers"]]
    assert [name.rpartition("/")[2] for name in names] == ["a.wav", "b.wav"]
    assert corpus.rejects[0]["reason"].startswith("reference clip 0 cannot be read")
    (tmp_path / "metadata.jsonl").write_text(
        json.dumps(bad | {"ref_speakers": [each | {"ref_text": 7} for each in speakers]})
    )
    with pytest.raises(InputError, match="ref_text is no text: 7 is a int"):
        load_rows(encode_config(tmp_path, tasks={"multi_speaker_voice_cloning": 1.0}, ref_in_system=True))


# Mixtures


def mixture(tmp_path, *sizes_and_weights, seed=0):
    sources = []
    for index, (size, weight) in enumerate(sizes_and_weights):
        make_corpus(tmp_path / str(index), size, first_hertz=200.0 + 500 * index)
        sources.append({"path": str(tmp_path / str(index)), "weight": weight})
    return load_rows(encode_config(tmp_path, sources=sources, seed=seed))


def test_weights_are_the_proportions_of_the_mixture_and_no_row_comes_twice(tmp_path):
    corpus = mixture(tmp_path, (6, 2), (9, 1))
    ids = [row["id"] for row in corpus.rows]
    assert len(ids) == len(set(ids)) == 9
    assert sum(row_id.startswith("0-") for row_id in ids) == 6  # used up
    assert list(corpus.num_not_drawn.values()) == [0, 6]
    again = [row["id"] for row in mixture(tmp_path, (6, 2), (9, 1)).rows]
    assert again == ids
    assert [row["id"] for row in mixture(tmp_path, (6, 2), (9, 1), seed=1).rows] != ids


def test_without_weights_all_rows_are_taken(tmp_path):
    corpus = mixture(tmp_path, (2, None), (3, None))
    assert len(corpus.rows) == 5 and corpus.num_not_drawn == {}


def test_a_weight_on_one_source_only_is_refused(tmp_path):
    with pytest.raises(InputError, match="some have a weight and some have none"):
        mixture(tmp_path, (2, 1), (2, None))


# Splits


def rows_of(sentences, speakers=None):
    speakers = speakers or [None] * len(sentences)
    return [
        {"id": str(index), "text": text, "speaker": speaker}
        for index, (text, speaker) in enumerate(zip(sentences, speakers, strict=True))
    ]


def test_no_sentence_stands_on_both_sides(tmp_path):
    rows = rows_of([f"Sentence {index % 20}{'!.'[index % 2]}" for index in range(60)])
    splits = split_rows(rows, encode_config(tmp_path, test_size=0.2, seed=3))
    train, test = ({row["text"].rstrip("!.") for row in splits[name]} for name in ("train", "test"))
    assert not train & test and len(splits["test"]) == 12 and len(splits["train"]) == 48


def test_no_speaker_stands_on_both_sides(tmp_path):
    rows = rows_of([f"Sentence {index}." for index in range(30)], [f"speaker{index % 6}" for index in range(30)])
    splits = split_rows(rows, encode_config(tmp_path, test_size=7, split_by="speaker"))
    train, test = ({row["speaker"] for row in splits[name]} for name in ("train", "test"))
    assert not train & test and len(test) == 2  # whole speakers, until there are 7 rows


def test_the_split_is_drawn_by_the_seed_alone(tmp_path):
    rows = rows_of([f"Sentence {index}." for index in range(40)])
    first, again, other = (
        [row["id"] for row in split_rows(rows, encode_config(tmp_path, test_size=8, seed=seed))["test"]]
        for seed in (0, 0, 1)
    )
    assert first == again != other and len(first) == 8


def test_test_size_0_holds_nothing_out(tmp_path):
    assert list(split_rows(rows_of(["One.", "Two."]), encode_config(tmp_path, test_size=0))) == ["train"]


def test_splits_that_cannot_be_are_refused(tmp_path):
    rows = rows_of(["One.", "Two."], ["anna", "anna"])
    with pytest.raises(InputError, match="takes all 2 rows"):
        split_rows(rows, encode_config(tmp_path, test_size=2))
    with pytest.raises(InputError, match=r"by speaker takes all 2 rows \(1 groups\)"):
        split_rows(rows, encode_config(tmp_path, test_size=0.1, split_by="speaker"))
    with pytest.raises(InputError, match="row 0: no speaker to split by"):
        split_rows(rows_of(["One.", "Two."]), encode_config(tmp_path, split_by="speaker"))
