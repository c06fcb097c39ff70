"""Checks of rows: valid ones and rejects differ by type, whatever the columns of the source are called."""

import json

import pytest
import soundfile
import torch

from higgs_recipes.corpus.corpus import check_rows
from higgs_recipes.corpus.sources.source import open_sources
from higgs_recipes.rejects import Reject, RejectCode
from tests.helpers.corpus_folder import encode_config, write_tone


def checked(folder, *rows, **fields) -> list:
    write_tone(folder / "a.wav", seconds=1.0)
    lines = [json.dumps({"file_name": "a.wav", "text": "One.", "id": str(i)} | row) for i, row in enumerate(rows)]
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    config = encode_config(folder, **fields)
    return check_rows(open_sources(config), config)


def test_columns_may_have_the_names_of_reject_fields(tmp_path):
    named = {"reason": "a reason", "code": "silent", "row": 7, "file": "x", "source": 3, "reject": {}}
    (row,) = checked(tmp_path, named)
    assert not isinstance(row, Reject)
    assert (row["source"], row["row"], row["file"], row["id"]) == (0, 0, f"{tmp_path}:train", "0")


@pytest.mark.parametrize(
    "row, code, field",
    [
        ({"text": " "}, RejectCode.EMPTY_TRANSCRIPT, "text"),
        ({"text": 5}, RejectCode.NOT_TEXT, "text"),
        ({"text": "word " * 300}, RejectCode.LONG_TRANSCRIPT, "text"),
        ({"text": "This is far too long for one second."}, RejectCode.TOO_MANY_CHARACTERS, "text"),
        ({"text": "Say <|eot_id|> now."}, RejectCode.INVALID_FIELD, "text of the user turn"),
        ({"task": "singing"}, RejectCode.INVALID_FIELD, "task"),
        ({"file_name": "none.wav"}, RejectCode.UNREADABLE_AUDIO, "audio"),
        ({"file_name": None}, RejectCode.MISSING_AUDIO, "audio"),
        ({"file_name": "short.wav"}, RejectCode.TOO_SHORT, "audio"),
        ({"file_name": "silent.wav"}, RejectCode.SILENT, "audio"),
        ({"file_name": "../a.wav"}, RejectCode.OUTSIDE_FOLDER, "audio"),
        ({"ref_audio_file_name": "short.wav", "ref_text": "Hi."}, RejectCode.TOO_SHORT, "ref_audio"),
        ({"ref_audio_file_name": "a.wav"}, RejectCode.INVALID_FIELD, "ref_text"),
        ({"ref_audio_file_name": "a.wav", "ref_text": 7}, RejectCode.NOT_TEXT, "ref_text"),
        ({"turns": [{"speaker": "a", "text": "Hi.", "audio": "silent.wav"}]}, RejectCode.SILENT, "turns.0"),
        ({"turns": [{"speaker": "a"}]}, RejectCode.INVALID_TURNS, "turns"),
        ({"text": "Well, [SPEAKER0] hi."}, RejectCode.INVALID_TURNS, "text"),
        ({"text": "[SPEAKER0] Hi. [SPEAKER1]"}, RejectCode.INVALID_TURNS, "text"),
    ],
)
def test_a_reject_has_its_code_field_and_place(tmp_path, row, code, field):
    write_tone(tmp_path / "short.wav", seconds=0.05)
    soundfile.write(tmp_path / "silent.wav", torch.zeros(24_000).numpy(), 24_000)
    fields = {"max_chars_per_second": 20.0, "tasks": {"zero_shot_voice_cloning": 1.0}}
    good, reject = checked(tmp_path, {}, row, **fields)
    assert not isinstance(good, Reject) and isinstance(reject, Reject)
    assert (reject.code, reject.field, reject.task) == (code, field, None)
    assert reject.columns == {"source": 0, "row": 1, "file": f"{tmp_path}:train", "id": "1"}


@pytest.mark.parametrize(
    "text, reason",
    [
        ("Well, [SPEAKER0] hi.", "text before the first speaker tag: 'Well,'; begin with the tag of who says it"),
        ("[speaker0] Hi. [SPEAKER1] …", "turn 2 has no words; give [SPEAKER1] some, or remove the tag"),
        ("[SPEAKER0][SPEAKER1] Hi.", "turn 1 has no words; give [SPEAKER0] some, or remove the tag"),
    ],
)
def test_words_outside_turns_and_turns_without_words_are_rejected(tmp_path, text, reason):
    (reject,) = checked(tmp_path, {"text": text})
    assert (reject.reason, reject.category) == (reason, "invalid turns")


def test_speaker_tags_of_any_case_are_those_of_the_model(tmp_path):
    text = "[speaker0] Hi.\n[ Speaker 1] [laugh]"
    (row,) = checked(tmp_path, {"text": text})
    assert row["text"] == "[SPEAKER0] Hi.\n[SPEAKER1] <SE>[Laughter]</SE>" and row["raw_text"] == text


@pytest.mark.parametrize("row", [{"text": "Hel\0lo."}, {"speaker": "an\x1bna"}])
def test_control_characters_are_rejected(tmp_path, row):
    (reject,) = checked(tmp_path, row)
    assert reject.code is RejectCode.INVALID_UNICODE and "the control character '\\x" in reject.reason


def test_categories_do_not_depend_on_the_message(tmp_path):
    """The task of the row looks like a reason, with a row number and colons."""
    evil = "row 1: too short: max_seconds is ; no reference; ("
    _, reject = checked(tmp_path, {}, {"task": evil})
    assert reject.category == "invalid task" and reject.reason.startswith(f"task is {evil!r}; use one of")


@pytest.mark.parametrize("label", ["speaker", "language", "gender", "scene"])
def test_a_label_that_is_nan_is_none(tmp_path, label):
    nan, number, text = checked(tmp_path, {label: float("nan")}, {label: 12}, {label: "nan"})
    assert (nan[label], number[label], text[label]) == (None, "12", "nan")


@pytest.mark.parametrize("value", [["a"], {"a": 1}, float("inf"), 10**100, "\ud800"])
def test_a_label_that_is_neither_text_nor_a_number_is_rejected(tmp_path, value):
    good, reject = checked(tmp_path, {}, {"speaker": value})
    assert not isinstance(good, Reject) and reject.field == "speaker"
    assert reject.code is (RejectCode.INVALID_UNICODE if value == "\ud800" else RejectCode.INVALID_FIELD)
    assert reject.columns["id"] == "1"


@pytest.mark.parametrize(
    "text", ["。", "……", "\u200b", "，", "...", "- -", "?!", "♪", "[SPEAKER0]", "\u0301", "\ufeff。"]
)
def test_a_transcript_without_a_word_is_rejected(tmp_path, text):
    good, reject = checked(tmp_path, {"text": "กิ"}, {"text": text})
    assert not isinstance(good, Reject)
    assert (reject.code, reject.field) == (RejectCode.NO_WORDS, "text")
    assert reject.reason == f"no words: text is {text!r}; write what is spoken, or remove the row"


@pytest.mark.parametrize("text", ["5", "é", "你", "[laugh]", "@ 7"])
def test_a_transcript_with_a_letter_a_digit_or_an_event_is_valid(tmp_path, text):
    assert not isinstance(checked(tmp_path, {"text": text})[0], Reject)


def test_references_and_turns_need_words_too(tmp_path):
    tasks = {"tasks": {"zero_shot_voice_cloning": 1.0}}
    write_tone(tmp_path / "b.wav", seconds=1.0, hertz=300.0)
    turns = [{"speaker": "a", "text": "Hm.", "audio": "a.wav"}, {"speaker": "b", "text": "…", "audio": "b.wav"}]
    reference, turn = checked(tmp_path, {"ref_audio_file_name": "b.wav", "ref_text": "。"}, {"turns": turns}, **tasks)
    assert (reference.code, reference.field) == (RejectCode.NO_WORDS, "ref_text")
    assert (turn.code, turn.field) == (RejectCode.NO_WORDS, "text")


def test_a_reference_that_is_the_clip_itself_is_rejected(tmp_path):
    tasks = {"tasks": {"zero_shot_voice_cloning": 1.0, "multi_speaker_voice_cloning": 1.0}}
    write_tone(tmp_path / "copy.wav", seconds=1.0)  # as a.wav
    write_tone(tmp_path / "b.wav", seconds=1.0, hertz=300.0)
    ref_speakers = [{"speaker_tag": f"SPEAKER{i}", "ref_text": "Hi.", "ref_audio": f"{'ba'[i]}.wav"} for i in range(2)]
    good, same, copy, dialogue = checked(
        tmp_path,
        {"ref_audio_file_name": "b.wav", "ref_text": "Other words."},
        {"ref_audio_file_name": "a.wav", "ref_text": "One."},
        {"ref_audio_file_name": "copy.wav", "ref_text": "One."},
        {"text": "[SPEAKER0] Hi.\n[SPEAKER1] Yes.", "ref_speakers": ref_speakers},
        **tasks,
    )
    assert not isinstance(good, Reject)
    assert [(row.code, row.field) for row in (same, copy, dialogue)] == [
        (RejectCode.SAME_RECORDING, "ref_audio"),
        (RejectCode.SAME_RECORDING, "ref_audio"),
        (RejectCode.SAME_RECORDING, "ref_speakers.1"),
    ]
    assert same.reason.startswith(
        "same recording: the reference is the recording of the row itself; give another clip"
    )


def test_the_name_of_a_recording_is_valid_unicode(tmp_path):
    raw = "录音".encode("gbk").decode("utf-8", "surrogateescape")
    write_tone(tmp_path / "clips/b.wav", seconds=1.0)
    (tmp_path / f"{raw}.wav").write_bytes((tmp_path / "clips/b.wav").read_bytes())
    first, second = checked(tmp_path, {"file_name": f"{raw}.wav", "id": None}, {"file_name": "clips\\b.wav"})
    assert first["name"].encode() and first["id"].encode() and first["name"].endswith(".wav")
    assert second["name"] == "b.wav"
