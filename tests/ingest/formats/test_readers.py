"""Every format with the errors of real corpora: valid rows are unchanged, broken rows are rejected with their line."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from higgs_recipes.configs.corpus import Format
from higgs_recipes.ingest.formats.readers import READERS
from tests.helpers.corpus_folder import write_tone
from tests.helpers.import_folder import TEXTS, imported


def test_every_format_has_its_reader():
    assert tuple(READERS) == get_args(Format)
    for name, reader in READERS.items():
        assert reader.__name__ == f"read_{name}" and reader.__module__ == f"higgs_recipes.ingest.formats.{name}"


@dataclass(frozen=True)
class Utterance:
    """`clip` is the name of its recording."""

    name: str
    text: str
    clip: str
    encoding: str = "utf-8"


Place = tuple[str, int]


GOOD = [Utterance(f"good{index}", text, f"good{index}") for index, text in enumerate(TEXTS)]


BROKEN = {  # rows that every format rejects
    "missing": Utterance("missing", "Hello.", "missing"),
    "zero": Utterance("zero", "Hello.", "zero"),
    "noise": Utterance("noise", "Hello.", "noise"),
    "latin": Utterance("latin", "café", "latin", "latin-1"),
    "empty": Utterance("empty", " ", "empty"),
}


TWICE = Utterance("good0", "Again.", "good0")


REASONS = {
    "missing": "recording: cannot be read: No such file",
    "zero": "recording: zero bytes",
    "noise": "recording: not audio",
    "latin": "not UTF-8 (byte 0xe9)",
    "empty": "empty transcript",
    "twice": "duplicate id: ",
    "up": "recording leaves its folder",
    "root": "recording leaves its folder",
    "comma": "not JSON: ",
}


def write_clips(path_of: Callable[[str], Path]) -> None:
    """A recording for each name but "missing", at the path of the format; all differ."""
    for index, name in enumerate([each.clip for each in GOOD] + ["latin", "empty"]):
        write_tone(path_of(name), seconds=0.4, hertz=200.0 + 10 * index)
    path_of("zero").write_bytes(b"")
    path_of("noise").write_bytes(b"no audio at all")


def windows(lines: list[bytes]) -> bytes:
    """With a byte order mark, an empty line after the first two, and Windows line ends."""
    return b"\xef\xbb\xbf" + b"\r\n".join([*lines[:2], b"", *lines[2:], b""])


def swift(audio: str, text: str) -> str:
    return json.dumps({"messages": [{"role": "assistant", "content": text}], "audios": [audio]}, ensure_ascii=False)


def comma_cells(*cells: str) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


LISTS = {  # format: (file, header, line of (path, text), whether the file is the source)
    "ms_swift": ("list.jsonl", [], swift, True),
    "gpt_sovits": ("all.list", [], lambda audio, text: f"{audio}|anna|en|{text}", True),
    "f5": ("metadata.csv", ["audio_file|text"], lambda audio, text: f"{audio}|{text}", True),
    "ljspeech": ("metadata.csv", [], lambda audio, text: f"{audio[5:-4]}|{text}", False),
    "audiofolder csv": ("metadata.csv", ["file_name,text"], comma_cells, False),
    "audiofolder jsonl": (
        "metadata.jsonl",
        [],
        lambda audio, text: json.dumps({"file_name": audio, "text": text}, ensure_ascii=False),
        False,
    ),
}


@pytest.mark.parametrize("format", LISTS)
def test_a_list_with_every_error(tmp_path, format):
    name, head, line, is_source = LISTS[format]
    folder = tmp_path / "in"
    write_clips(lambda clip: folder / "wavs" / f"{clip}.wav")
    write_tone(tmp_path / "outside.wav", hertz=999.0)
    rows = {each.name: each for each in GOOD} | BROKEN | {"twice": TWICE}
    paths = {key: f"wavs/{each.clip}.wav" for key, each in rows.items()}
    lines = [(key, line(paths[key], each.text).encode(each.encoding)) for key, each in rows.items()]
    lines.append(("up", line("wavs/../../outside.wav", "Hello.").encode()))
    if format != "ljspeech":  # it has names and no paths
        lines.append(("root", line(str(tmp_path / "outside.wav"), "Hello.").encode()))
    if "json" in name:
        lines.append(("comma", line("wavs/good1.wav", "Hello.").encode()[:-1] + b",}"))
    (folder / name).write_bytes(windows([*(each.encode() for each in head), *(each for _, each in lines)]))
    keys = [*head, *(key for key, _ in lines)]
    keys.insert(2, "the empty line")
    place_of = {key: (name, number) for number, key in enumerate(keys, start=1)}

    source = folder / name if is_source else folder
    found, rejects = imported(tmp_path / "out", format=format.split()[0], sources=[str(source)])
    assert [row["text"] for row in found] == TEXTS
    if format == "ljspeech":  # the id of the broken line cannot be read
        assert rejects.pop(("latin.wav", 1)) == "no transcript for this recording"
    assert rejects.keys() == {place_of[key] for key, _ in lines if key in REASONS}
    for key, reason in REASONS.items():
        if key in dict(lines):
            assert rejects[place_of[key]].startswith(reason), (key, rejects[place_of[key]])
    assert f"line {place_of['good0'][1]} has " in rejects[place_of["twice"]]


def test_a_kaldi_folder_with_every_error(tmp_path):
    folder = tmp_path / "in"
    write_clips(lambda clip: folder / "wavs" / f"{clip}.wav")
    write_tone(tmp_path / "outside.wav", hertz=999.0)
    rows = {each.name: each for each in GOOD} | BROKEN | {"twice": TWICE}
    texts = [f"{each.name} {each.text}".encode(each.encoding) for each in rows.values()]
    clips = [f"{each.name} wavs/{each.clip}.wav".encode() for each in rows.values()]
    texts += [b"up Hello.", b"root Hello."]
    clips += [b"up wavs/../../outside.wav", f"root {tmp_path}/outside.wav".encode()]
    (folder / "text").write_bytes(windows(texts))
    (folder / "wav.scp").write_bytes(windows(clips))
    found, rejects = imported(tmp_path / "out", format="kaldi", sources=[str(folder)])
    assert [row["text"] for row in found] == TEXTS
    keys = [*rows, "up", "root"]
    line_of = {key: number + (number > 2) for number, key in enumerate(keys, start=1)}
    reasons = REASONS | {"empty": "one cell: no value for empty"}
    for key in (*BROKEN, "twice", "up", "root"):
        assert rejects.pop(("text", line_of[key])).startswith(reasons[key]), key
    # The recording of a line of text that cannot be read has no transcript.
    expected = {"latin": "no transcript for this", "empty": "no transcript for this", "twice": "duplicate id: "}
    for key, reason in expected.items():
        assert rejects.pop(("wav.scp", line_of[key])).startswith(reason), key
    assert not rejects


def libritts(folder: Path, name: str, *, chapter: str = "1") -> tuple[Path, Path]:
    stem = folder / "84" / chapter / f"84_1_{name}"
    return stem.with_suffix(".wav"), stem.with_suffix(".normalized.txt")


def vctk(folder: Path, name: str, *, speaker: str = "p225") -> tuple[Path, Path]:
    return folder / "wav48" / speaker / f"p225_{name}.wav", folder / "txt" / speaker / f"p225_{name}.txt"


def bare_folder(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.wav", folder / f"{name}.txt"


TREES = {"libritts": libritts, "vctk": vctk, "train_higgs_audio": bare_folder}


@pytest.mark.parametrize("format", TREES)
def test_a_folder_tree_with_every_error(tmp_path, format):
    folder, files = tmp_path / "in", TREES[format]
    for each in [*GOOD, *BROKEN.values()]:
        for path in files(folder, each.name):
            path.parent.mkdir(parents=True, exist_ok=True)
        files(folder, each.name)[1].write_bytes(windows([each.text.encode(each.encoding)]))
    write_clips(lambda clip: files(folder, clip)[0])
    write_tone(files(folder, "orphan")[0], hertz=888.0)
    found, rejects = imported(tmp_path / "out", format=format, sources=[str(folder)])
    assert [row["text"] for row in found] == TEXTS
    for key in BROKEN:
        reason = {"missing": "no recording for this transcript"}.get(key, REASONS[key])
        assert rejects.pop((files(folder, key)[1].name, 1)).startswith(reason), key
    if format == "train_higgs_audio":
        assert rejects.pop(("orphan.txt", 1)).startswith("cannot be read: No such file")
    else:
        assert rejects.pop((files(folder, "orphan")[0].name, 1)) == "no transcript for this recording"
    assert not rejects


@pytest.mark.parametrize("format, place", [("libritts", {"chapter": "2"}), ("vctk", {"speaker": "p226"})])
def test_a_duplicate_utterance_is_rejected(tmp_path, format, place):
    folder, files = tmp_path / "in", TREES[format]
    for index, (wav, txt) in enumerate((files(folder, "x"), files(folder, "x", **place))):
        write_tone(wav, hertz=300.0 + 50 * index)
        txt.parent.mkdir(parents=True, exist_ok=True)
        txt.write_text(f"Take {index}.")
    (row,), rejects = imported(tmp_path / "out", format=format, sources=[str(folder)])
    assert row["text"] == "Take 0."
    first = files(folder, "x")
    assert set(rejects.values()) == {f"duplicate id: {path} has {first[0].stem} too" for path in first}


def test_a_metadata_json_with_every_error(tmp_path):
    folder = tmp_path / "in"
    write_clips(lambda clip: folder / f"{clip}.wav")
    write_tone(tmp_path / "outside.wav", hertz=999.0)
    rows = {each.name: each for each in GOOD} | BROKEN | {"twice": TWICE}
    rows |= {"up": Utterance("up", "Hello.", "../outside"), "root": Utterance("root", "Hello.", f"{tmp_path}/outside")}
    samples = []
    for key, each in rows.items():
        (folder / f"{key}.txt").write_bytes(windows([each.text.encode(each.encoding)]))
        samples.append({"id": each.name, "audio_file": f"{each.clip}.wav", "transcript_file": f"{key}.txt"})
    lines = json.dumps({"samples": samples}, indent=1).split("\n")
    (folder / "metadata.json").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    starts = [number for number, line in enumerate(lines, start=1) if line == "  {"]
    found, rejects = imported(tmp_path / "out", format="train_higgs_audio", sources=[str(folder)])
    assert [row["text"] for row in found] == TEXTS
    for key, start in zip(rows, starts, strict=True):
        if key in REASONS:
            assert rejects.pop(("metadata.json", start)).startswith(REASONS[key]), key
    assert not rejects
