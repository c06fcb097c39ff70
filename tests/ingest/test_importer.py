"""Rows with their recordings: copies, constants, duplicates and rejects."""

import hashlib
import json
import os
import shutil
import unicodedata
from pathlib import Path

import pytest
import soundfile

from higgs_recipes.configs.corpus import ImportConfig
from higgs_recipes.corpus.corpus import load_rows
from higgs_recipes.corpus.rows import file_safe_id
from higgs_recipes.corpus.sources.listing import is_audio_name
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.import_corpus import import_corpus
from tests.helpers.audio_files import encode, half, of_unknown_length, with_data_size
from tests.helpers.corpus_folder import encode_config, write_metadata, write_tone
from tests.helpers.higgs_folder import full_folder
from tests.helpers.import_folder import imported, json_lines, write_tones
from tests.helpers.tiny_codec import tone


def test_copied_recordings_are_unchanged(tmp_path):
    folder = full_folder(tmp_path / "higgs")
    imported(tmp_path / "out", format="train_higgs_audio", sources=[str(folder)], copy_audio=True)
    shutil.rmtree(folder)
    copies = {path.name: path for path in (tmp_path / "out/audio").rglob("*.wav")}
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in copies.items()}
    full_folder(folder)
    assert len(copies) == 6
    for path in folder.rglob("*.wav"):
        assert hashes[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_constants_and_ids_of_two_sources(tmp_path):
    sources = []
    for index, speaker in enumerate(("tun", "huo")):
        folder = tmp_path / speaker
        write_tone(folder / "0.wav", hertz=200.0 + 50 * index)
        (folder / "all.list").write_text("0.wav|someone|zh|你好\n")
        sources.append({"path": str(folder / "all.list"), "speaker": speaker, "gender": "M"})
    rows, rejects = imported(tmp_path / "out", format="gpt_sovits", sources=sources)
    assert [(row["id"], row["speaker"], row["gender"], row["file_name"]) for row in rows] == [
        ("0-0", "tun", "male", "audio/0/0.wav"),
        ("1-0", "huo", "male", "audio/1/0.wav"),
    ]
    assert not rejects


def test_constants_override_columns(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav")
    write_metadata(folder, [{"file_name": "a.wav", "text": "Hello.", "speaker": "anna", "who": "bert"}])
    fields = {"format": "audiofolder", "columns": {"speaker": "who"}}
    for source, speaker in (({"path": str(folder)}, "bert"), ({"path": str(folder), "speaker": "carl"}, "carl")):
        (row,), _ = imported(tmp_path / "out", sources=[source], **fields)
        assert row["speaker"] == speaker


def test_a_duplicate_recording_in_another_source_is_rejected(tmp_path):
    write_tone(tmp_path / "a/x.wav")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for name, text in (("a", "Hello."), ("b", "Bye.")):
        (tmp_path / name / "all.list").write_text(f"x.wav|anna|en|{text}\n")
    sources = [str(tmp_path / name / "all.list") for name in "ab"]
    rows, rejects = imported(tmp_path / "out", format="gpt_sovits", sources=sources)
    assert len(rows) == 1
    assert rejects == {("all.list", 1): f"same recording with another transcript: {sources[0]} line 1 has it too"}


def test_rejects_have_codes_and_are_counted_by_category(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav")
    lines = ["a.wav|x|en|Hello.", "b.wav|x|en| ", "one cell", "none.wav|x|en|two: too long; (", "../c.wav|x|en|Hi."]
    (folder / "all.list").write_text("\n".join(lines))
    imported(tmp_path / "out", format="gpt_sovits", sources=[str(folder / "all.list")])
    rejects = json_lines(tmp_path / "out/rejects.jsonl")
    assert [(reject["line"], reject["code"]) for reject in rejects] == [
        (2, "empty_transcript"),
        (3, "wrong_cells"),
        (4, "unreadable_audio"),
        (5, "outside_folder"),
    ]
    assert all(list(reject) == ["file", "line", "id", "reason", "code"] for reject in rejects)
    assert json.loads((tmp_path / "out/import.json").read_text())["rejects"] == {
        "empty transcript": 1,
        "wrong number of cells": 1,
        "recording cannot be read": 1,
        "recording leaves its folder": 1,
    }


def test_durations_are_those_of_the_decoded_audio(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    flac, wav = encode(tone(1.5), rate=24_000, format="FLAC"), encode(tone(1.5), rate=24_000)
    files = {"pipe.flac": of_unknown_length(flac), "not_closed.wav": with_data_size(wav, 0), "half.wav": half(wav)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "metadata.csv").write_text("file_name,text\n" + "".join(f"{name},Words.\n" for name in files))
    for copy_audio in (True, False):
        rows, rejects = imported(
            tmp_path / f"{copy_audio}", format="audiofolder", sources=[str(folder)], copy_audio=copy_audio
        )
        assert [(row["id"], row["duration"]) for row in rows] == [("pipe", 1.5), ("not_closed", 1.5)]
        assert [*rejects.values()] == ["recording: truncated: 0.75 s of 1.50 s are there; copy it again or drop it"]
        for row in rows:
            assert (tmp_path / f"{copy_audio}" / row["file_name"]).read_bytes() in files.values()


# Names and ids


NAMES = {
    "Thai": ["กิ.wav", "กี.wav", "กึ.wav", "กู.wav"],
    "Hindi": ["कि.wav", "की.wav", "कु.wav", "क.wav"],
    "Vietnamese in NFD": [unicodedata.normalize("NFD", f"{name}.wav") for name in ("bà", "bá", "bã", "ba")],
    "ASCII": ["take 1.wav", "take_1.wav", "take#1.wav", "take.1.wav", "take-1.wav"],
    "emoji": ["🎉.wav", "😀.wav", "🎉🎉.wav", "_.wav"],
    "folders": ["a/b_c.wav", "a_b/c.wav", "a_b_c.wav", "a/b/c.wav"],
    "suffixes": ["a.wav", "a.flac", "a.ogg", "a.flac.wav"],
    "no suffixes": ["take.0", "take.1", "take"],
    "dots": [".hidden.wav", "hidden.wav", "a..wav", "a.wav"],
    "both normal forms": [unicodedata.normalize(form, "x/bà.wav") for form in ("NFC", "NFD")],
}


def write_files(folder: Path, names: list[str]) -> None:
    """Recordings at these paths, all different, whatever their suffix."""
    for index, name in enumerate(names):
        suffix = Path(name).suffix if is_audio_name(name) else ".wav"
        write_tone(folder / f"temporary{suffix}", seconds=0.4, hertz=200.0 + 10 * index)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"temporary{suffix}").rename(folder / name)


@pytest.mark.parametrize("copy_audio", [True, False])
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_each_file_has_its_own_id(tmp_path, names, copy_audio):
    write_files(tmp_path / "in", names)
    lines = [f"{name}|x|en|Sentence {index}." for index, name in enumerate(names)]
    (tmp_path / "in/all.list").write_text("\n".join(lines), encoding="utf-8")
    source = str(tmp_path / "in/all.list")
    rows, rejects = imported(tmp_path / "out", format="gpt_sovits", sources=[source], copy_audio=copy_audio)
    assert not rejects and [row["text"] for row in rows] == [f"Sentence {index}." for index in range(len(names))]
    ids = [row["id"] for row in rows]
    assert len(set(ids)) == len(names) and all(file_safe_id(row_id) == row_id for row_id in ids)
    for name, row in zip(names, rows, strict=True):
        assert (tmp_path / "out" / row["file_name"]).read_bytes() == (tmp_path / "in" / name).read_bytes()
    assert len(load_rows(encode_config(tmp_path / "out", test_size=0)).rows) == len(names)
    again, _ = imported(tmp_path / "again", format="gpt_sovits", sources=[source])
    assert [row["id"] for row in again] == ids


def test_names_of_letters_are_ids(tmp_path):
    names = ["กิ.wav", "कि.wav", "LJ001-0001.wav", "take.1.wav", "bà.wav"]
    write_files(tmp_path / "in", names)
    write_metadata(tmp_path / "in", [{"file_name": name, "text": name} for name in names])
    rows, _ = imported(tmp_path / "out", format="audiofolder", sources=[str(tmp_path / "in")])
    assert [row["id"] for row in rows] == [name.removesuffix(".wav") for name in names]


def test_the_id_column_is_one_to_one_with_ids(tmp_path):
    own = [
        "take 1",
        "take_1",
        0,
        "7",
        7,
        "bà",
        unicodedata.normalize("NFD", "bà"),
        None,
        "",
        float("nan"),
        ["a"],
        True,
    ]
    names = [f"{index}.wav" for index in range(len(own))]
    write_files(tmp_path / "in", names)
    stored = [{"file_name": name, "text": name, "id": row_id} for name, row_id in zip(names, own, strict=True)]
    (tmp_path / "in/metadata.jsonl").write_text("\n".join(map(json.dumps, stored)))
    rows, rejects = imported(tmp_path / "out", format="audiofolder", sources=[str(tmp_path / "in")])
    assert [row["id"] for row in rows] == [
        "take_1",
        "take_1-9a32fda2",
        "0",
        "7",
        "bà",
        "7.wav-68f404be",
        "8",
        "9",
        "True",
    ]
    assert {line: reason.split(":")[0] for (_, line), reason in rejects.items()} == {
        5: "duplicate id",
        7: "duplicate id",
        11: "id is a list",
    }


def test_a_name_in_nfc_in_the_list_is_a_name_in_nfd_on_the_disk(tmp_path):
    write_files(tmp_path / "in", [unicodedata.normalize("NFD", "tiếng/bà.wav")])
    (tmp_path / "in/all.list").write_text(unicodedata.normalize("NFC", "tiếng/bà.wav|x|vi|Chào."), encoding="utf-8")
    (row,), _ = imported(tmp_path / "out", format="gpt_sovits", sources=[str(tmp_path / "in/all.list")])
    assert (row["id"], row["text"]) == ("tiếng_bà", "Chào.") and (tmp_path / "out" / row["file_name"]).is_file()


@pytest.mark.parametrize("copy_audio", [True, False])
def test_names_in_other_encodings_are_stored_in_utf_8(tmp_path, copy_audio):
    folder = write_tones(tmp_path / "in", "a.wav")
    for index, name in enumerate(("录音.wav", "录像.wav")):
        write_tone(folder / "temporary.wav", hertz=300.0 + 50 * index)
        os.rename(folder / "temporary.wav", folder / os.fsdecode(name.encode("gbk")))
        (folder / os.fsdecode(name.replace("wav", "txt").encode("gbk"))).write_text("第一句。", encoding="utf-8")
    (folder / "a.txt").write_text("Hello.")
    rows, rejects = imported(
        tmp_path / "out", format="train_higgs_audio", sources=[str(folder)], copy_audio=copy_audio
    )
    assert len(rows) == 3 and not rejects and len({row["id"] for row in rows}) == 3
    for row in rows:
        row["file_name"].encode()
        assert soundfile.info(tmp_path / "out" / row["file_name"]).frames
    assert len(load_rows(encode_config(tmp_path / "out", test_size=0)).rows) == 3


def test_a_source_whose_name_is_not_utf_8_is_recorded(tmp_path):
    folder = tmp_path / os.fsdecode("录音".encode("gbk"))
    (write_tones(tmp_path / "in", "a.wav") / "a.txt").write_text("Hello.")
    (tmp_path / "in").rename(folder)
    config = ImportConfig(format="train_higgs_audio", sources=[str(folder)], output_dir=str(tmp_path / "out"))
    assert import_corpus(config)["rows"] == 1
    assert json.loads((tmp_path / "out/import.json").read_text(encoding="utf-8"))["sources"] == [str(folder)]


# Values


def import_values(tmp_path: Path, *rows: dict, **fields) -> tuple[list[dict], dict[int, str]]:
    """Import rows as metadata.jsonl; returns (rows, {line: reason of the reject})."""
    write_tones(tmp_path / "in", *[f"{index}.wav" for index in range(len(rows))])
    stored = [{"file_name": f"{index}.wav", "text": "Hello."} | row for index, row in enumerate(rows)]
    (tmp_path / "in/metadata.jsonl").write_text("\n".join(map(json.dumps, stored)))
    config = {"format": "audiofolder", "sources": [str(tmp_path / "in")]} | fields
    found, rejects = imported(tmp_path / "out", **config)
    return found, {line: reason for (_, line), reason in rejects.items()}


def test_nan_is_no_speaker(tmp_path):
    rows, rejects = import_values(tmp_path, {"speaker": float("nan")}, {"speaker": "nan"}, {"speaker": 7})
    assert [row["speaker"] for row in rows] == [None, "nan", "7"] and not rejects


def test_transcripts_without_words_are_rejected(tmp_path):
    texts = ["Hello.", "。", "……", "\u200b", "，", "🎉", "...", "42", "♪ la ♪", "ก็"]
    rows, rejects = import_values(tmp_path, *[{"text": text} for text in texts])
    assert [row["text"] for row in rows] == ["Hello.", "42", "♪ la ♪", "ก็"]
    assert rejects[2] == "empty transcript: '。' has no words" and sorted(rejects) == [2, 3, 4, 5, 6, 7]


def test_a_missing_column_is_told_from_an_empty_cell(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav")
    lines = ['{"file_name": "a.wav", "sentence": "Hi."}', '{"file_name": "b.wav", "text": ""}', '{"text": "Hi."}']
    lines += ['{"file_name": "b.wav", "text": null}', '{"file_name": "", "text": "Hi."}']
    lines += ['{"file_name": "a.wav", "text": 5}']
    (folder / "metadata.jsonl").write_text("\n".join([*lines, '{"file_name": "a.wav", "text": "Hi."}']))
    _, rejects = imported(tmp_path / "out", format="audiofolder", sources=[str(folder)])
    assert [reason for _, reason in sorted(rejects.items())] == [
        "no field for text: the fields are 'file_name', 'sentence'; map one with columns",
        "empty transcript: add a text or remove the row",
        "no field for audio: the fields are 'text'; map one with columns",
        "empty transcript: add a text or remove the row",
        "no file name: recording is ''",
        "transcript is not text: 5 is a int",
    ]


def test_a_list_with_other_separators_names_its_columns(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav")
    (folder / "metadata.csv").write_text("file_name\ttext\na.wav\tHello.\n")
    with pytest.raises(InputError, match=r"no field for audio: the fields are 'file_name\\\\ttext'|are separated by"):
        imported(tmp_path / "out", format="audiofolder", sources=[str(folder)])


def test_the_same_words_in_two_normal_forms_are_the_same_words(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav")
    for name in ("b", "c"):
        shutil.copy(folder / "a.wav", folder / f"{name}.wav")
    texts = ["Tiếng Việt", unicodedata.normalize("NFD", "Tiếng Việt"), "Tieng Viet"]
    lines = [f"{name}.wav|x|vi|{text}" for name, text in zip("abc", texts, strict=True)]
    (folder / "all.list").write_text("\n".join(lines), encoding="utf-8")
    _, rejects = imported(tmp_path / "out", format="gpt_sovits", sources=[str(folder / "all.list")])
    assert [reason.split(":")[0] for reason in rejects.values()] == [
        "same recording",
        "same recording with another transcript",
    ]


def test_a_reference_that_is_the_clip_itself_is_rejected(tmp_path):
    write_tones(tmp_path / "in", "copy.wav")  # the tone of 0.wav
    rows, rejects = import_values(
        tmp_path,
        {"ref_audio": "copy.wav"},
        {"ref_audio": "0.wav"},
        {"ref_audio": "2.wav"},
        {"ref_speakers": [{"speaker_tag": "[SPEAKER0]", "ref_audio": "3.wav"}]},
        {"ref_audio": ""},
    )
    assert [row["id"] for row in rows] == ["1", "4"]
    reason = "ref_audio is the clip itself: use another recording of the speaker"
    assert rejects == dict.fromkeys((1, 3, 4), reason)


def test_rows_without_a_quality_score_are_kept_and_counted(tmp_path, caplog):
    rows, rejects = import_values(
        tmp_path, {}, {"quality_score": 0.9}, {"quality_score": 0.1}, {"quality_score": "NaN"}, min_quality_score=0.5
    )
    assert [row["quality_score"] for row in rows] == [None, 0.9]
    assert rejects == {
        3: "quality_score too low: 0.1, min_quality_score is 0.5",
        4: "quality_score is not a number: 'NaN'",
    }
    assert "1 rows have no quality_score" in caplog.text


@pytest.mark.parametrize(
    "row, reason",
    [
        ({"speaker": ["a"]}, "speaker is not text"),
        ({"scene": {"a": 1}}, "scene is not text"),
        ({"ref_speakers": "anna"}, "ref_speakers is not a list of"),
        ({"ref_speakers": [{"speaker_tag": ["x"]}]}, "reference clip is not text: ['x'] is a list"),
        ({"ref_audio": ["a.wav"]}, "no file name: reference clip is ['a.wav']"),
        ({"quality_score": [1]}, "quality_score is not a number: [1]"),
        ({"quality_score": 10**400}, "quality_score is not a number: 1000"),
        ({"text": {"a": 1}}, "transcript is not text: {'a': 1} is a dict"),
        ({"speaker": "\ud83d"}, "invalid Unicode"),
    ],
)
def test_values_of_other_types_are_rejected(tmp_path, row, reason):
    _, rejects = import_values(tmp_path, row, {})
    assert rejects[1].startswith(reason)


def test_rejects_are_summarized_by_category_with_the_first_example(tmp_path, caplog):
    import_values(tmp_path, {}, {"file_name": "no.wav"}, {"file_name": "none.wav"}, {"text": ""})
    place = f"{tmp_path}/in/metadata.jsonl line"
    assert f"2 rejected: recording cannot be read; the first: {place} 2: recording: cannot be read: No" in caplog.text
    assert f"1 rejected: empty transcript; the first: {place} 4: empty transcript: add a text" in caplog.text


def test_an_empty_list_is_an_error(tmp_path):
    for format, content in (("gpt_sovits", ""), ("f5", "audio_file|text\n"), ("f5", ""), ("ms_swift", "[\n]")):
        (tmp_path / "list").write_text(f"\n\n{content}\n")
        with pytest.raises(InputError, match="no rows in .*list"):
            imported(tmp_path / "out", format=format, sources=[str(tmp_path / "list")])


def test_audio_dir_must_be_a_folder(tmp_path):
    (tmp_path / "a.list").write_text("a.wav|x|en|Hello.")
    fields = {"format": "gpt_sovits", "sources": [str(tmp_path / "a.list")], "audio_dir": str(tmp_path / "nowhere")}
    with pytest.raises(InputError, match="audio_dir: no such folder: .*nowhere"):
        imported(tmp_path / "out", **fields)
