"""Each layout of other people's corpora, whole and broken: every bad line is a reject with its file and number."""

import doctest
import json
import re
import shutil
from pathlib import Path
from typing import get_args

import pytest

from higgs_recipes.configs.corpus import Format
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.formats import ms_swift
from higgs_recipes.ingest.formats.readers import READERS
from tests.helpers.audio_files import encode, half, of_unknown_length, with_data_size
from tests.helpers.import_folder import TEXTS, imported, write_tones
from tests.helpers.paths import ROOT
from tests.helpers.tiny_codec import tone


CLIPS = ROOT / "tests/data/two_voices"


def test_examples_in_the_docstrings_hold():
    assert doctest.testmod(ms_swift).failed == 0


def test_every_format_of_the_recipes_has_its_reader():
    assert tuple(READERS) == get_args(Format)
    for name, reader in READERS.items():
        assert reader.__name__ == f"read_{name}" and reader.__module__ == f"higgs_recipes.ingest.formats.{name}"


# Lists: one line a row


def swift_line(audio: str, content: str, *, user: str | None = None, **fields) -> str:
    messages = [{"role": "user", "content": user}] if user else []
    messages.append({"role": "assistant", "content": content})
    return json.dumps({"messages": messages, "audios": [audio], **fields}, ensure_ascii=False)


LINES = {  # format to (name of the list, head, a line of path and text)
    "ms_swift": ("list.jsonl", [], lambda audio, text: swift_line(audio, f"<think>{text}")),
    "gpt_sovits": ("list.list", [], lambda audio, text: f"{audio}|anna|zh|{text}"),
    "f5": ("metadata.csv", ["audio_file|text"], lambda audio, text: f"{audio}|{text}"),
}


@pytest.mark.parametrize("format", LINES)
def test_a_list_is_read_to_the_letter_with_windows_line_ends_and_a_mark(tmp_path, format):
    name, head, line = LINES[format]
    write_tones(tmp_path / "in", *[f"wavs/{index}.wav" for index in range(len(TEXTS))])
    lines = head + [line(f"wavs/{index}.wav", text) for index, text in enumerate(TEXTS)]
    (tmp_path / "in" / name).write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    rows, rejects = imported(tmp_path / "out", format=format, sources=[str(tmp_path / "in" / name)])
    assert [row["text"] for row in rows] == TEXTS and not rejects
    assert rows[1]["id"] == "wavs_1" and rows[1]["file_name"] == "audio/wavs/1.wav" and rows[1]["duration"] == 0.4
    assert {row["speaker"] for row in rows} == ({"anna"} if format == "gpt_sovits" else {None})  # never from a path


@pytest.mark.parametrize("format", LINES)
def test_what_is_broken_in_a_list_is_named_by_file_and_line(tmp_path, format):
    name, head, line = LINES[format]
    folder = write_tones(tmp_path / "in", "good.wav", "other.wav", "../outside.wav")
    (folder / "empty.wav").write_bytes(b"")
    (folder / "noise.wav").write_bytes(b"no audio at all")
    shutil.copy(folder / "good.wav", folder / "copy.wav")
    outside = str(tmp_path / "outside.wav")
    lines = [
        line("good.wav", "A good row.").encode(),
        b"",
        line("missing.wav", "Hello.").encode(),
        line("empty.wav", "Hello.").encode(),
        line("noise.wav", "Hello.").encode(),
        line("../outside.wav", "Hello.").encode(),
        line(outside, "Hello.").encode(),
        line("good.wav", "Hello.").encode(),
        line("copy.wav", "A good row.").encode(),
        line("other.wav", " ").encode(),
        line("other.wav", "caf\u00e9").encode("latin-1"),
        line("C:/clips/a.wav", "Hello.").encode(),
        b"{'torn': ",
        line(str(folder / "other.wav"), "Inside, and named from the root.").encode(),
    ]
    (folder / name).write_bytes(b"\n".join([*(each.encode() for each in head), *lines]))
    rows, rejects = imported(tmp_path / "out", format=format, sources=[str(folder / name)])
    assert [row["file_name"] for row in rows] == ["audio/good.wav", "audio/other.wav"]
    wanted = {
        3: "recording: cannot be read: No such file",
        4: "recording: zero bytes",
        5: "recording: not audio",
        6: "recording leaves its folder",
        7: "recording leaves its folder",
        8: "duplicate id: ",
        9: "same recording: ",
        10: "empty transcript",
        11: "not UTF-8 (byte 0xe9)",
        12: "recording leaves its folder",
        13: {"ms_swift": "not JSON", "gpt_sovits": "1 cells", "f5": "one cell"}[format],
    }
    shift = len(head)
    assert rejects.keys() == {(name, number + shift) for number in wanted}
    for number, reason in wanted.items():
        assert rejects[name, number + shift].startswith(reason), (number, rejects[name, number + shift])
    assert f"line {1 + shift} has good too" in rejects[name, 8 + shift]


@pytest.mark.parametrize("format", LINES)
def test_a_list_in_utf_16_is_refused(tmp_path, format):
    name, head, line = LINES[format]
    (tmp_path / name).write_text("\n".join([*head, line("a.wav", "Hello.")]), encoding="utf-16")
    with pytest.raises(InputError, match="UTF-16: save .* as UTF-8"):
        imported(tmp_path / "out", format=format, sources=[str(tmp_path / name)])


def test_marks_of_ms_swift_are_no_words(tmp_path):
    folder = write_tones(tmp_path / "in", *[f"{index}.wav" for index in range(9)])
    lines = [
        swift_line("0.wav", "<think>Good morning.", user="<audio> /translate", spk="tun"),
        swift_line("1.wav", "<think>A greeting.</think>\n\n<audio>Good morning.", spk="tun"),
        swift_line("2.wav", "Good morning.", spk="tun"),
        swift_line("3.wav", "<think>Only a thought.</think>", spk="tun"),
        swift_line("4.wav", "Good <think> morning.", spk="tun"),
        swift_line("5.wav", "Good morning.")[:-1] + ",}",  # a trailing comma
        '{"messages": [{"role": "user", "content": "Hi"}], "audios": ["6.wav"], "spk": "tun"}',
        swift_line("7.wav", "Hello.", spk="tun").replace('["7.wav"]', '["7.wav", "8.wav"]'),
        swift_line("8.wav", "No speaker."),
        "[1]",
    ]
    (folder / "huo_audio.jsonl").write_text("\n".join(lines))
    rows, rejects = imported(
        tmp_path / "out",
        format="ms_swift",
        columns={"speaker": "spk"},
        sources=[{"path": str(folder / "huo_audio.jsonl"), "language": "zh"}],
    )
    assert [(row["text"], row["speaker"], row["language"]) for row in rows] == [("Good morning.", "tun", "zh")] * 3
    assert [row["user_instruction"] for row in rows] == ["<audio> /translate", None, None]
    assert rows[0]["original_audio_path"] == "0.wav"
    assert re.fullmatch(r"not JSON: [^:]+: column \d+ \(char \d+\)", rejects["huo_audio.jsonl", 6])
    assert {line: reason.split(";")[0].split(":")[0] for (_, line), reason in rejects.items()} == {
        4: "empty transcript",
        5: "<think> stands inside the transcript",
        6: "not JSON",
        7: "0 turns of the assistant",
        8: "not one recording",
        9: "no field for speaker",
        10: "not a JSON object but a list",
    }


def test_gpt_sovits_keeps_the_bars_of_a_text_and_windows_paths(tmp_path):
    folder = write_tones(tmp_path / "in", "wavs/a.wav", "b.wav")
    (folder / "all.list").write_text("wavs\\a.wav|anna|ZH|one | two\nb.wav||en|Hello.\n")
    rows, _ = imported(tmp_path / "out", format="gpt_sovits", sources=[str(folder / "all.list")])
    assert [(row["text"], row["speaker"], row["language"]) for row in rows] == [
        ("one | two", "anna", "ZH"),
        ("Hello.", None, "en"),
    ]


def test_f5_reads_quotation_marks_as_csv_does_where_they_hold_the_whole_text(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav", "c.wav")
    (folder / "metadata.csv").write_text(
        'audio_file|text\na.wav|"one | ""two"""\nb.wav|"Yes," he said.\nc.wav|one | two\n'
    )
    source = str(folder / "metadata.csv")
    rows, rejects = imported(tmp_path / "out", format="f5", sources=[source])
    assert [row["text"] for row in rows] == ['one | "two"', '"Yes," he said.']
    assert rejects["metadata.csv", 4].startswith("more than two cells")
    (folder / "metadata.csv").write_text("a.wav|Hello.\n")
    with pytest.raises(InputError, match=r"metadata.csv line 1: the head must be audio_file\|text"):
        imported(tmp_path / "out", format="f5", sources=[source])


# Folders


def test_ljspeech_takes_the_normalised_text_and_guesses_no_speaker(tmp_path):
    folder = write_tones(tmp_path / "LJ", "wavs/LJ-1.wav", "wavs/LJ-2.wav", "wavs/LJ-3.wav")
    lines = [
        'LJ-1|Mr. "B" at 8|Mister "B" at eight',
        "LJ-2|xin chào",
        "LJ-3|a|",
        "LJ-1|again",
        "LJ-9|x",
        "LJ-8",
        "|||",
    ]
    (folder / "metadata.csv").write_text("\r\n".join(lines))
    rows, rejects = imported(tmp_path / "out", format="ljspeech", sources=[str(folder)])
    assert [(row["id"], row["text"], row["speaker"]) for row in rows] == [
        ("LJ-1", 'Mister "B" at eight', None),
        ("LJ-2", "xin chào", None),
        ("LJ-3", "a", None),
    ]
    assert {line: reason.split(":")[0].split(";")[0] for (_, line), reason in rejects.items()} == {
        4: "duplicate id",
        5: "recording",
        6: "1 cells",
        7: "4 cells",
    }
    with pytest.raises(InputError, match="cannot be read: No such file or directory: .*metadata.csv"):
        imported(tmp_path / "out", format="ljspeech", sources=[str(tmp_path)])


def libritts(folder: Path) -> Path:
    for index, (name, text) in enumerate({"84_1_0": "你好。\n", "84_1_1": "Hello.", "174_2_0": ""}.items()):
        speaker, chapter, _ = name.split("_")
        place = folder / "train-clean-100" / speaker / chapter
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(CLIPS / f"0{index}_{('heart', 'rms')[index % 2]}.flac", place / f"{name}.wav")
        (place / f"{name}.normalized.txt").write_text(text)
        (place / f"{name}.original.txt").write_text("not this")
    return folder


@pytest.mark.parametrize(
    "table, content",
    [
        ("SPEAKERS.txt", "; comment\n;ID |SEX| SUBSET |MINUTES| NAME\n84   | F | train-clean-100 | 25.03 | X\n"),
        ("speakers.tsv", "READER\tGENDER\tSUBSET\tNAME\n84\tF\ttrain-clean-100\tX Y\n"),
    ],
)
def test_the_tree_of_libritts_is_the_speaker(tmp_path, table, content):
    folder = libritts(tmp_path / "LibriTTS")
    (folder / table).write_text(content)
    chapter = folder / "train-clean-100/84/1"
    write_tones(chapter, "84_1_2.wav")
    (chapter / "84_1_3.normalized.txt").write_text("Hello.")
    (chapter / "84_1_1.normalized.txt").write_bytes(b"ok\ncaf\xe9")
    for source, where in ((folder, "train-clean-100/"), (folder / "train-clean-100", "")):
        rows, rejects = imported(tmp_path / "out", format="libritts", sources=[str(source)])
        (row,) = rows
        assert (row["id"], row["text"], row["speaker"], row["gender"]) == ("84_1_0", "你好。", "84", "female")
        assert row["file_name"] == f"audio/{where}84/1/84_1_0.wav"
        assert rejects.pop(("84_1_1.normalized.txt", 1)).startswith("not UTF-8 (byte 0xe9)")
        assert {name: reason.split(":")[0] for (name, _), reason in rejects.items()} == {
            "174_2_0.normalized.txt": "empty transcript",
            "84_1_2.wav": "no transcript for this recording",
            "84_1_3.normalized.txt": "no recording for this transcript",
        }
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no recordings where this layout has them"):
        imported(tmp_path / "out", format="libritts", sources=[str(tmp_path / "empty")])


@pytest.mark.parametrize("audio", ["wav48_silence_trimmed/{}/{}_mic1.flac", "wav48/{}/{}.wav"])
def test_the_tree_of_vctk_is_the_speaker_and_its_first_microphone_speaks(tmp_path, audio):
    folder = tmp_path / "VCTK"
    for speaker in ("p225", "p226"):
        write_tones(folder, audio.format(speaker, f"{speaker}_001"))
        (folder / f"txt/{speaker}").mkdir(parents=True)
        (folder / f"txt/{speaker}/{speaker}_001.txt").write_text("Please call Stella.\r\n")
    write_tones(folder, "other.wav", audio.format("p225", "p225_002"), audio.format("p226", "p226_001"))
    if "mic1" in audio:
        write_tones(folder, "wav48_silence_trimmed/p225/p225_001_mic2.flac")
    (folder / "speaker-info.txt").write_text(
        "ID  AGE  GENDER  ACCENTS  REGION\n225  23  F  English\np226  22  M  English\n"
    )
    rows, rejects = imported(tmp_path / "out", format="vctk", sources=[str(folder)])
    assert [(row["id"], row["text"], row["speaker"], row["gender"]) for row in rows] == [
        ("p225_001", "Please call Stella.", "p225", "female"),
        ("p226_001", "Please call Stella.", "p226", "male"),
    ]
    (reason,) = rejects.values()
    assert reason == "no transcript for this recording"


def kaldi(folder: Path, **tables: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tables.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text(content)
    return folder


def test_kaldi_joins_its_tables(tmp_path):
    write_tones(tmp_path / "audio", "1.wav", "2.wav", "3.wav", "4.wav")
    data = kaldi(
        tmp_path / "data",
        wav_scp=f"u1 {tmp_path}/audio/1.wav\nu2\t2.wav\nu3 sph2pipe 3.sph |\nu4 4.wav\nu5 9.wav\nu1 3.wav\nu7\n",
        text="u1 你好 42\nu2 Hello  there\nu3 By command.\nu5 Missing.\nu6 No line.\nu2 Again\n",
        utt2spk="u1 anna\nu2 bert\n",
        spk2gender="anna f\n",
        utt2lang="u1 zh\n",
    )
    rows, rejects = imported(tmp_path / "out", format="kaldi", sources=[str(data)], audio_dir=str(tmp_path / "audio"))
    assert [(row["id"], row["text"], row["speaker"], row["gender"], row["language"]) for row in rows] == [
        ("u1", "你好 42", "anna", "female", "zh"),
        ("u2", "Hello  there", "bert", None, None),
    ]
    assert {place: reason.split(":")[0].split(";")[0] for place, reason in rejects.items()} == {
        ("text", 3): "recording by a command",
        ("text", 4): "recording",
        ("text", 5): "no recording",
        ("text", 6): "duplicate id",
        ("wav.scp", 4): "recording without a text",
        ("wav.scp", 6): "duplicate id",
        ("wav.scp", 7): "one cell",
    }


def test_kaldi_segments_are_cut_where_recordings_are_copied(tmp_path):
    shutil.copytree(CLIPS, tmp_path / "data")
    data = kaldi(
        tmp_path / "data",
        wav_scp="r1 00_heart.flac\n",
        text="u1 One.\nu2 Two.\nu3 Three.\nu4 Four.\nu5 Five.\nu6 Six.\n",
        segments="u1 r1 0.0 0.5\nu2 r1 0.5 1.25\nu3 r1 90 91\nu4 r1 2 1\nu5 r1 x y\n",
    )
    rows, rejects = imported(tmp_path / "out", format="kaldi", sources=[str(data)], copy_audio=True)
    assert [(row["file_name"], row["duration"]) for row in rows] == [("audio/u1.wav", 0.5), ("audio/u2.wav", 0.75)]
    assert {line: reason.split(":")[0] for (_, line), reason in rejects.items()} == {
        3: "segment too late",
        4: "no segment",
        5: "no segment",
        6: "no segment",
    }
    with pytest.raises(InputError, match="part of a longer file; set copy_audio: true"):
        imported(tmp_path / "out", format="kaldi", sources=[str(data)])


def test_durations_are_those_that_were_read(tmp_path):
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


def test_segments_of_a_truncated_recording_are_cut_out_of_what_is_there(tmp_path):
    """A whole recording may end up to a second before its last segment does, as times are rounded."""
    content = encode(tone(4.0), rate=24_000)
    data = kaldi(
        tmp_path / "data",
        wav_scp="r1 a.wav\nr2 b.wav\n",
        text="u1 One.\nu2 Two.\nu3 Three.\n",
        segments="u1 r1 0.0 1.5\nu2 r1 1.5 2.5\nu3 r2 1.5 4.5\n",
    )
    (data / "a.wav").write_bytes(half(content))
    (data / "b.wav").write_bytes(content)
    rows, rejects = imported(tmp_path / "out", format="kaldi", sources=[str(data)], copy_audio=True)
    assert [(row["id"], row["duration"]) for row in rows] == [("u1", 1.5), ("u3", 2.5)]
    (reason,) = rejects.values()
    assert (
        reason == "segment too late: it ends at 2.5 s, the recording at 2.00 s (truncated: 2.00 s of 4.00 s are there)"
    )


def test_audio_folders_and_their_columns(tmp_path):
    folder = write_tones(tmp_path / "in", "a.wav", "b.wav", "c.wav", "d.wav")
    (folder / "metadata.csv").write_bytes(
        b'file_name,transcription,speaker\r\na.wav,"One, ""two""",anna\r\nb.wav,x\r\nc.wav,Three.,\r\n'
        + b'd.wav,caf\xe9,bert\r\nd.wav,"NA",bert\r\n'
    )
    fields = {"format": "audiofolder", "sources": [str(folder)], "columns": {"text": "transcription"}}
    rows, rejects = imported(tmp_path / "out", **fields)
    assert [(row["text"], row["speaker"]) for row in rows] == [
        ('One, "two"', "anna"),
        ("Three.", None),
        ("NA", "bert"),
    ]
    assert rejects["metadata.csv", 3].startswith("not one cell for each") and ("metadata.csv", 5) in rejects
    (folder / "metadata.csv").write_text('file_name,transcription\na.wav,"never closed\nb.wav,lost\n')
    with pytest.raises(InputError, match="metadata.csv', 'line': 3, 'id': None, 'reason': 'unexpected end of data"):
        imported(tmp_path / "out", **fields)
    (folder / "metadata.csv").rename(folder / "metadata.jsonl")
    with pytest.raises(InputError, match="line': 1, .*not JSON"):
        imported(tmp_path / "out", **fields)
    (folder / "metadata.jsonl").unlink()
    with pytest.raises(InputError, match="neither metadata.csv nor metadata.jsonl"):
        imported(tmp_path / "out", **fields)
