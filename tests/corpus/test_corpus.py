import json
import os
import re
import unicodedata

import pytest
import soundfile
import torch
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value

from higgs_recipes.audio.io import read_audio
from higgs_recipes.corpus.corpus import load_rows, sentence, split_rows
from higgs_recipes.errors import InputError
from tests.helpers.audio_files import encode, half, of_unknown_length, with_cover, with_data_size, without_info
from tests.helpers.corpus_folder import encode_config, make_corpus, write_metadata, write_tone
from tests.helpers.tiny_codec import tone


def refusal(folder, **fields) -> str:
    with pytest.raises(InputError) as error:
        load_rows(encode_config(folder, **fields))
    return str(error.value)


def reasons(folder, **fields) -> dict[str, str]:
    """Id to reason of each reject."""
    records = [reject.record() for reject in load_rows(encode_config(folder, **fields)).rejects]
    return {record["id"]: record["reason"] for record in records}


def folder_with_bad_rows(folder, *bad_rows, **first):
    """A valid row, and invalid ones that differ from it in the given cells."""
    write_tone(folder / "good.wav", seconds=1.0)
    good = {"id": "good", "file_name": "good.wav", "text": "A good row."} | first
    write_metadata(folder, [good] + [good | row for row in bad_rows])
    return folder


# Rows


def test_a_row_is_normalized_and_checked(tmp_path):
    write_tone(tmp_path / "clips/one.wav", seconds=1.0, rate=44_100)
    write_metadata(
        tmp_path, [{"file_name": "clips/one.wav", "text": " It is  20°C", "speaker": "anna", "scene": "A room."}]
    )
    corpus = load_rows(encode_config(tmp_path))
    (row,) = corpus.rows
    assert row["id"] == "clips_one" and row["speaker"] == "anna" and row["language"] is None
    assert row["raw_text"] == " It is  20°C" and row["text"] == "It is 20 degrees Celsius."
    assert row["seconds"] == pytest.approx(1.0, abs=1e-3) and row["scene"] == "A room."
    assert row["name"] == "one.wav"  # without the path on this machine
    assert len(read_audio(corpus.recording(row["own"]), name="one")) == row["seconds"] * 24_000


def test_the_content_hash_does_not_depend_on_the_container(tmp_path):
    samples = (tone(0.5) * 2**15).to(torch.int16)
    for name, scale in (("a.wav", 1), ("b.flac", 1), ("c.wav", -1)):
        soundfile.write(tmp_path / name, (scale * samples).numpy(), 24_000)
    write_metadata(tmp_path, [{"file_name": name, "text": "A hum."} for name in ("a.wav", "b.flac", "c.wav")])
    first, second, other = (row["own"].content_hash for row in load_rows(encode_config(tmp_path)).rows)
    assert first == second != other


def test_csv_cells_are_text(tmp_path):
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
def test_recordings_of_any_rate_and_sample_format_are_valid(tmp_path, kind):
    write_tone(tmp_path / "clip.wav", **kind)
    write_metadata(tmp_path, [{"file_name": "clip.wav", "text": "A hum."}])
    assert len(load_rows(encode_config(tmp_path)).rows) == 1


def test_stereo_recordings_are_valid(tmp_path):
    soundfile.write(tmp_path / "clip.wav", torch.stack([tone(0.5), tone(0.5, hertz=300.0)], dim=1).numpy(), 24_000)
    write_metadata(tmp_path, [{"file_name": "clip.wav", "text": "A hum."}])
    assert len(load_rows(encode_config(tmp_path)).rows) == 1


# Rejects


def test_invalid_recordings_are_rejected_with_their_reasons(tmp_path):
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
    records = [reject.record() for reject in corpus.rejects]
    found = {record["id"] or f"row {record['row']}": record["reason"] for record in records}
    assert found.pop("words").startswith("recording: not audio that can be read")
    assert found.pop("empty").startswith("recording: zero bytes")
    assert found.pop("short") == "recording too short: 0.05 s, min_seconds is 0.3"
    assert found.pop("long") == "recording too long: 60.00 s, max_seconds is 30.0"
    assert found.pop("nan").startswith("recording: NaN or infinite samples")
    assert found.pop("silent").startswith("recording silent")
    assert found.pop("missing").startswith("recording: cannot be read: No such file")
    assert found.pop("outside") == "recording leaves its folder: outside.wav; move the recording into it"
    assert found.pop("absolute").startswith("recording leaves its folder: passwd")
    assert not found
    assert {record["file"] for record in records} == {f"{tmp_path}:train"}
    assert [record["row"] for record in records] == list(range(1, 10))
    assert corpus.reject_counts() == {
        "recording cannot be read": 4,
        "recording leaves its folder": 2,
        "recording too short": 1,
        "recording too long": 1,
        "recording silent": 1,
    }


def test_the_length_of_a_row_is_that_of_its_audio_not_of_its_header(tmp_path):
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
        "recording truncated or broken": 3,
        "recording with a sample rate out of range": 1,
        "recording cannot be read": 2,
    }
    found = {reject.columns["id"]: reject for reject in corpus.rejects}
    codes = {name: reject.code.value for name, reject in found.items()}
    assert codes.pop("ten_mhz.wav") == "bad_sample_rate"
    assert codes.pop("page.mp3") == codes.pop("pipe.wav") == "unreadable_audio"
    assert set(codes.values()) == {"truncated_audio"}
    stated = r"recording: truncated: [01]\.\d\d s of 2\.16 s are there; copy it again or drop it"
    assert all(re.fullmatch(stated, found[name].reason) for name in codes)
    assert found["page.mp3"].reason.startswith("recording: not audio that can be read")


def test_invalid_transcripts_are_rejected_with_their_reasons(tmp_path):
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
    assert "contains the special token <|eot_id|>, which is reserved for the prompt" in found.pop("control")
    assert found.pop("long") == "transcript too long: 1500 characters, the limit is 1000"
    assert found.pop("fast").startswith("transcript too long for its clip: 45 characters in 1.00 s")
    assert not found


def test_a_transcript_that_is_not_text_is_rejected(tmp_path):
    write_tone(tmp_path / "good.wav", seconds=1.0)
    rows = [{"file_name": "good.wav", "id": str(text), "text": text} for text in ("Good.", 5, None, ["a", "b"])]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = reasons(tmp_path)
    assert found["5"] == "transcript is not text: 5 is a int" and "is a list" in found["_a_b_"]
    assert found["None"].startswith("empty transcript")


def test_the_second_row_with_an_id_is_rejected(tmp_path):
    folder_with_bad_rows(tmp_path, {"text": "Another text."})
    assert reasons(tmp_path) == {"good": f"duplicate id: same as row 0 of {tmp_path}:train"}


def test_a_corpus_without_a_valid_row_is_refused(tmp_path):
    write_tone(tmp_path / "short.wav", seconds=0.05)
    write_metadata(tmp_path, [{"file_name": "short.wav", "text": "Short."}])
    assert "none of 1 rows passes the checks: {'recording too short': 1}; the first: " in refusal(tmp_path)


# Sources


def test_a_missing_column_is_named_with_the_existing_ones(tmp_path):
    write_tone(tmp_path / "a.wav")
    write_metadata(tmp_path, [{"file_name": "a.wav", "sentence": "A hum."}])
    message = refusal(tmp_path)
    assert "no column 'text' for text; the columns are audio, sentence; set columns, e.g. {text: audio}" in message
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
        ("./nowhere", "./nowhere is neither a folder nor a Hub id (user/name)"),
    ],
)
def test_an_invalid_source_is_refused(tmp_path, source, message):
    assert message in refusal(tmp_path, sources=[source])


def test_folders_that_are_not_a_corpus_are_refused(tmp_path):
    write_tone(tmp_path / "bare/a.wav")
    assert "is not a corpus: expected recordings with metadata.csv or metadata.jsonl" in refusal(tmp_path / "bare")
    make_corpus(tmp_path / "two")
    (tmp_path / "two/metadata.jsonl").write_text("{}")
    assert "has metadata.csv and metadata.jsonl; keep one" in refusal(tmp_path / "two")
    for content, message in [
        (
            "file_name,text\na.wav,One, two\n",
            "none of 1 lines is valid; the first: not one cell for each of file_name, text;",
        ),
        ("file_name,text\na.wav\n", "quote cells with commas; line 2 of metadata.csv"),
        ("file_name,text\n", "no rows"),
        ("file_name,text\na.wav,\xff\n", "not UTF-8"),
    ]:
        (tmp_path / "bare/metadata.csv").write_bytes(content.encode("latin-1"))
        assert message in refusal(tmp_path / "bare")
    (tmp_path / "bare/metadata.csv").unlink()
    for content, message in [("{", "the first: not JSON"), ("[]", "the first: not a JSON object but a list; line 1")]:
        (tmp_path / "bare/metadata.jsonl").write_text(content)
        assert message in refusal(tmp_path / "bare")


def test_splits_of_an_audio_folder_are_its_subfolders(tmp_path):
    make_corpus(tmp_path / "train", 3)
    make_corpus(tmp_path / "dev", 2)
    assert len(load_rows(encode_config(tmp_path)).rows) == 3
    assert len(load_rows(encode_config(tmp_path, sources=[{"path": str(tmp_path), "split": "dev"}])).rows) == 2
    assert "no split 'test'; the splits are dev, train" in refusal(
        tmp_path, sources=[{"path": str(tmp_path), "split": "test"}]
    )
    flat = str(tmp_path / "train")
    assert "the folder has no splits, leave split out" in refusal(tmp_path, sources=[{"path": flat, "split": "test"}])


def stored_dataset(tmp_path) -> Dataset:
    """Three rows with the bytes of recordings, a class label and an id."""
    make_corpus(tmp_path / "clips", 3)
    cells = [{"bytes": path.read_bytes(), "path": None} for path in sorted((tmp_path / "clips").glob("*.wav"))]
    rows = {"id": [7, 8, 9], "sentence": ["One.", "Two.", "Three."], "who": [0, 1, 0], "audio": cells}
    audio = {"bytes": Value("binary"), "path": Value("string")}
    classes = ClassLabel(names=["anna", "bert"])
    features = Features({"id": Value("int64"), "sentence": Value("string"), "who": classes, "audio": audio})
    return Dataset.from_dict(rows, features=features).cast_column("audio", Audio())


COLUMNS = {"text": "sentence", "speaker": "who"}


def assert_equals_stored_dataset(folder):
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
    assert_equals_stored_dataset(tmp_path / "one")
    DatasetDict({"train": rows, "dev": rows}).save_to_disk(tmp_path / "several")
    assert_equals_stored_dataset(tmp_path / "several")
    source = {"path": str(tmp_path / "several"), "split": "test"}
    assert "no split 'test'; the splits are dev, train" in refusal(tmp_path, sources=[source])


def test_parquet_folders_are_read(tmp_path):
    (tmp_path / "parquet/data").mkdir(parents=True)
    stored_dataset(tmp_path).to_parquet(tmp_path / "parquet/data/train-00000-of-00001.parquet")
    assert_equals_stored_dataset(tmp_path / "parquet")
    source = {"path": str(tmp_path / "parquet"), "split": "test"}
    assert "no split 'test'; the splits are train" in refusal(tmp_path, sources=[source])
    message = refusal(tmp_path / "parquet")
    assert "no column 'text' for text; the columns are id, sentence, who, audio" in message


def test_a_column_without_recordings_is_named(tmp_path):
    Dataset.from_dict({"text": ["One."], "audio": [[0.1, 0.2]]}).save_to_disk(tmp_path / "arrays")
    assert "audio is not a recording: samples without a sample rate; map a column" in refusal(tmp_path / "arrays")
    Dataset.from_dict({"text": ["One."], "audio": [5]}).save_to_disk(tmp_path / "numbers")
    assert "audio is not a recording: found int, expected a file name, the bytes" in refusal(tmp_path / "numbers")


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
    assert corpus.rejects[0].reason.startswith("ref_text is missing")


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
    assert [entry["ref_text"] for entry in row["ref_speakers"]] == ["I am 0.", "I am 1."]
    names = [corpus.recording(entry["clip"])["path"] for entry in row["ref_speakers"]]
    assert [name.rpartition("/")[2] for name in names] == ["a.wav", "b.wav"]
    assert corpus.rejects[0].reason.startswith("reference clip 0: cannot be read")
    (tmp_path / "metadata.jsonl").write_text(
        json.dumps(bad | {"ref_speakers": [entry | {"ref_text": 7} for entry in speakers]})
    )
    with pytest.raises(InputError, match="ref_text is not text: 7 is a int"):
        load_rows(encode_config(tmp_path, tasks={"multi_speaker_voice_cloning": 1.0}, ref_in_system=True))


# Mixtures


def mixture(tmp_path, *sizes_and_weights, seed=0):
    sources = []
    for index, (size, weight) in enumerate(sizes_and_weights):
        make_corpus(tmp_path / str(index), size, first_hertz=200.0 + 500 * index)
        sources.append({"path": str(tmp_path / str(index)), "weight": weight})
    return load_rows(encode_config(tmp_path, sources=sources, seed=seed))


def test_weights_are_the_proportions_of_the_mixture_and_rows_are_not_repeated(tmp_path):
    corpus = mixture(tmp_path, (6, 2), (9, 1))
    ids = [row["id"] for row in corpus.rows]
    assert len(ids) == len(set(ids)) == 9
    assert sum(row_id.startswith("0-") for row_id in ids) == 6  # exhausted
    assert list(corpus.num_not_sampled.values()) == [0, 6]
    again = [row["id"] for row in mixture(tmp_path, (6, 2), (9, 1)).rows]
    assert again == ids
    assert [row["id"] for row in mixture(tmp_path, (6, 2), (9, 1), seed=1).rows] != ids


def test_without_weights_all_rows_are_used(tmp_path):
    corpus = mixture(tmp_path, (2, None), (3, None))
    assert len(corpus.rows) == 5 and corpus.num_not_sampled == {}


def test_weights_on_only_some_sources_are_refused(tmp_path):
    with pytest.raises(InputError, match="only some have a weight"):
        mixture(tmp_path, (2, 1), (2, None))


# Splits


def rows_of(sentences, speakers=None):
    speakers = speakers or [None] * len(sentences)
    return [
        {"id": str(index), "text": text, "speaker": speaker}
        for index, (text, speaker) in enumerate(zip(sentences, speakers, strict=True))
    ]


def test_no_sentence_is_in_both_splits(tmp_path):
    rows = rows_of([f"Sentence {index % 20}{'!.'[index % 2]}" for index in range(60)])
    splits = split_rows(rows, encode_config(tmp_path, test_size=0.2, seed=3))
    train, test = ({row["text"].rstrip("!.") for row in splits[name]} for name in ("train", "test"))
    assert not train & test and len(splits["test"]) == 12 and len(splits["train"]) == 48


@pytest.mark.parametrize(
    "words",
    [["กิ", "กี", "กึ", "กู"], ["कि", "की", "कु"], ["bà", "bá", "bã", "ba"], ["ما", "مَا"], ["I ♥ it", "I it"], ["7", "8"]],
)
def test_sentences_that_differ_in_a_mark_or_symbol_are_different(words):
    for form in ("NFC", "NFD"):
        assert len({sentence(unicodedata.normalize(form, word)) for word in words}) == len(words)


@pytest.mark.parametrize(
    "one, two",
    [
        ("Hello, YOU!", "hello you."),
        (unicodedata.normalize("NFC", "Câu số một"), unicodedata.normalize("NFD", "câu số một.")),
        ("Straße", "STRASSE"),
        ("Zero\u200bwidth", "zero width"),
        ("“Quoted”", '"quoted"'),
    ],
)
def test_sentences_that_differ_in_case_form_or_punctuation_are_one(one, two):
    assert sentence(one) == sentence(two)


def test_no_speaker_is_in_both_splits(tmp_path):
    rows = rows_of([f"Sentence {index}." for index in range(30)], [f"speaker{index % 6}" for index in range(30)])
    splits = split_rows(rows, encode_config(tmp_path, test_size=7, split_by="speaker"))
    train, test = ({row["speaker"] for row in splits[name]} for name in ("train", "test"))
    assert not train & test and len(test) == 2  # whole speakers, until there are at least 7 rows


def test_the_split_depends_on_the_seed_only(tmp_path):
    rows = rows_of([f"Sentence {index}." for index in range(40)])
    first, again, other = (
        [row["id"] for row in split_rows(rows, encode_config(tmp_path, test_size=8, seed=seed))["test"]]
        for seed in (0, 0, 1)
    )
    assert first == again != other and len(first) == 8


def test_test_size_0_gives_no_test_split(tmp_path):
    assert list(split_rows(rows_of(["One.", "Two."]), encode_config(tmp_path, test_size=0))) == ["train"]


def test_impossible_splits_are_refused(tmp_path):
    rows = rows_of(["One.", "Two."], ["anna", "anna"])
    with pytest.raises(InputError, match="takes all 2 rows"):
        split_rows(rows, encode_config(tmp_path, test_size=2))
    with pytest.raises(InputError, match=r"by speaker takes all 2 rows \(1 groups\)"):
        split_rows(rows, encode_config(tmp_path, test_size=0.1, split_by="speaker"))
    with pytest.raises(InputError, match="row 0: split_by: speaker needs a speaker"):
        split_rows(rows_of(["One.", "Two."]), encode_config(tmp_path, split_by="speaker"))
