"""Long recordings -> a corpus: real speech joined with pauses and noise, and files that hold none."""

import csv
import json
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
import soundfile
import torch
import torchaudio
from torch import Tensor

from higgs_recipes.audio.asr import PACKAGE_ASR_MODEL
from higgs_recipes.audio.io import read_audio
from higgs_recipes.audio.loudness import LoudnessMeter
from higgs_recipes.audio.vad import FRAME_SECONDS, VAD_RATE, SpeechDetector
from higgs_recipes.audio.word_errors import corpus_errors
from higgs_recipes.configs.segment import SegmentConfig
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.corpus.corpus import load_rows
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.curation import strike_rows
from higgs_recipes.ingest.segment_corpus import segment_recordings
from higgs_recipes.normalizers import choose_normalizer
from scripts import segment as segment_script
from tests.helpers.corpus_folder import encode_config, write_tone
from tests.helpers.import_folder import json_lines
from tests.helpers.paths import ROOT


CLIPS = ROOT / "tests/data/two_voices"
NOISE = 1e-3  # -60 dB of full scale: a quiet room
NUM_CLIPS = 4
# DNSMOS doubles a clip until it fills 9 s: shorter ones, their silence cut away, would be rated up to eight times.
MIN_CLIP_SECONDS = 2.76


@cache
def spoken(speaker: str) -> list[tuple[str, Tensor]]:
    """(text, waveform) of the first clips of a voice that are long enough."""
    with (CLIPS / "metadata.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["speaker"] == speaker]
    rows = [row for row in rows if soundfile.info(CLIPS / row["file_name"]).duration >= MIN_CLIP_SECONDS][:NUM_CLIPS]
    return [(row["text"], read_audio(CLIPS / row["file_name"], name=row["file_name"])) for row in rows]


def write_recording(path: Path, speaker: str, *, pauses: list[float], rate: int, gain: float = 1.0) -> list[tuple]:
    """A stereo recording of the voice's clips, a pause before each and two seconds of noise at the end.

    Returns:
        (start, end, text) of each clip, in seconds.
    """
    parts, places, at = [], [], 0.0
    for pause, (text, waveform) in zip(pauses, spoken(speaker), strict=False):
        parts += [torch.zeros(round(pause * SAMPLE_RATE)), waveform]
        places.append((at + pause, at + pause + len(waveform) / SAMPLE_RATE, text))
        at = places[-1][1]
    joined = torch.cat([*parts, torch.zeros(2 * SAMPLE_RATE)])
    joined = joined + NOISE * torch.randn(len(joined), generator=torch.Generator().manual_seed(0))
    samples = torchaudio.functional.resample(joined, SAMPLE_RATE, rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, (torch.stack([samples, 0.8 * samples], dim=1) * gain).clamp(-1, 1).numpy(), rate)
    return places


def config(*sources: Path | dict, output_dir: Path, **fields) -> SegmentConfig:
    return SegmentConfig(
        **{"sources": [str(each) if isinstance(each, Path) else each for each in sources], "asr": PACKAGE_ASR_MODEL}
        | {"output_dir": str(output_dir), "max_clipped_share": 0.001}
        | fields
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict:
    """One run over a folder of all kinds of files."""
    root = tmp_path_factory.mktemp("raw")
    folder = root / "in"
    places = write_recording(folder / "heart's <b>.flac", "heart", pauses=[0.5, 0.6, 1.5, 0.4], rate=44_100)
    write_recording(folder / "clipped.wav", "rms", pauses=[1.0], rate=SAMPLE_RATE, gain=60)
    noise = torch.randn(8 * 16_000, generator=torch.Generator().manual_seed(1))
    soundfile.write(folder / "silent.wav", torch.zeros(80_000).numpy(), 16_000)
    soundfile.write(folder / "noise.ogg", (0.1 * noise).numpy(), 16_000)
    (folder / "notes.wav").write_text("Recorded on Tuesday.")
    (folder / "zero.mp3").touch()
    (folder / "a video.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(100))
    (folder / "twice.flac").write_bytes((folder / "heart's <b>.flac").read_bytes())
    (folder / "readme.txt").write_text("no recording")
    (folder / "._clipped.wav").write_text("of a Mac")
    record = segment_recordings(
        config({"path": str(folder), "speaker": "heart"}, output_dir=root / "out", max_seconds=6.0)
    )
    return {
        "folder": folder,
        "out": root / "out",
        "places": places,
        "record": record,
        "rows": json_lines(root / "out/metadata.jsonl"),
        "rejects": json_lines(root / "out/rejects.jsonl"),
    }


def test_segments_hold_whole_utterances_and_their_lengths_are_in_range(made):
    spans = [(row["start"], row["end"]) for row in made["rows"]]
    assert spans == sorted(spans) and len(spans) >= 3
    for start, end in spans:
        assert 1.0 <= end - start <= 6.0
        for first, last, text in made["places"]:
            assert last <= start + 0.3 or first >= end - 0.3 or (start - 0.3 <= first and last <= end + 0.5), text
    held = [place for place in made["places"] if any(s <= (place[0] + place[1]) / 2 <= e for s, e in spans)]
    assert held == made["places"]


def test_segments_begin_and_end_in_silence(made):
    detector = SpeechDetector()
    for row in made["rows"]:
        waveform = read_audio(made["out"] / row["file_name"], name=row["id"])
        assert len(waveform) / SAMPLE_RATE == pytest.approx(row["duration"], abs=0.001)
        assert abs(waveform[0]) < 1e-3 and abs(waveform[-1]) < 1e-3  # faded
        loudest = waveform.abs().max()
        assert waveform[:1200].square().mean().sqrt() < loudest / 30
        assert waveform[-1200:].square().mean().sqrt() < loudest / 30
        heard = torchaudio.functional.resample(waveform, SAMPLE_RATE, VAD_RATE)
        probabilities, _ = detector.frames([heard])
        assert probabilities[0] < 0.5 and probabilities[-1] < 0.5 and probabilities.max() > 0.9
        speaks = (probabilities >= 0.5).nonzero() * FRAME_SECONDS
        assert speaks[0] < 0.3 and row["duration"] - speaks[-1] < 0.4  # the rest of a pause is trimmed


def test_transcripts_are_near_what_was_said(made):
    said, heard = (" ".join(texts) for texts in zip(*_pairs(made), strict=True))
    assert corpus_errors([said], [heard], rules=[choose_normalizer("basic", "en")]).rate < 0.2


def _pairs(made: dict) -> list[tuple[str, str]]:
    middles = [((first + last) / 2, text) for first, last, text in made["places"]]
    return [
        (" ".join(text for middle, text in middles if row["start"] < middle < row["end"]), row["text"])
        for row in made["rows"]
    ]


def test_what_was_measured_stands_in_columns(made):
    for row in made["rows"]:
        assert row["speaker"] == "heart" and row["language"] == "en" and row["file"] == "heart's <b>.flac"
        assert 0.7 < row["speech_probability"] <= 1 and 0 <= row["silence_share"] < 0.4
        assert 20 < row["snr_db"] < 60 and row["clipped_share"] == 0
        assert 1 < row["dnsmos_bak"] < 5 and 1 < row["dnsmos_p808"] < 5
        assert 2.5 < row["dnsmos_ovrl"] < row["dnsmos_sig"] < 5
        assert 8 < row["chars_per_second"] < 30 and 0 <= row["asr_disagreement"] <= 1
        waveform = read_audio(made["out"] / row["file_name"], name=row["id"])
        assert LoudnessMeter().lufs(waveform) == pytest.approx(row["loudness_lufs"] + row["gain_db"], abs=0.2)
        assert LoudnessMeter().lufs(waveform) == pytest.approx(-23, abs=0.2) or waveform.abs().max() > 0.85


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("silent.wav", "nobody speaks: in none of 5.0 s"),
        ("noise.ogg", "nobody speaks: in none of 8.0 s"),
        ("notes.wav", "not audio that can be read"),
        ("a video.mp4", "not audio that can be read"),
        ("zero.mp3", "zero bytes"),
        ("twice.flac", "same recording: heart's <b>.flac has it too"),
    ],
)
def test_a_file_without_speech_is_a_reject_with_its_reason(made, file, reason):
    (reject,) = [reject for reject in made["rejects"] if reject["file"] == file]
    assert reject["reason"].startswith(reason) and reject["start"] is None


def test_a_clipped_recording_is_rejected_with_its_place_and_what_was_measured(made):
    (reject,) = [reject for reject in made["rejects"] if reject["file"] == "clipped.wav"]
    assert reject["reason"].startswith("clipped_share too high: 0.") and reject["reason"].endswith("is 0.001")
    assert reject["clipped_share"] > 0.01 and 0.5 < reject["start"] < 1.5 < reject["end"]


def test_encode_takes_the_folder(made):
    corpus = load_rows(encode_config(made["out"], test_size=0))
    assert not corpus.rejects
    assert [row["text"] for row in corpus.rows] and {row["speaker"] for row in corpus.rows} == {"heart"}
    assert len(corpus.rows) == made["record"]["rows"] == len(made["rows"])


class _Page(HTMLParser):
    """The ids of the boxes, the sources of the players, and whether a tag came out of a name."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.boxes, self.players, self.bold = [], [], 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.bold += tag == "b"
        if tag == "input":
            self.boxes.append(attrs["value"])
        if tag == "audio":
            self.players.append(attrs["src"])


def test_the_page_has_a_box_and_a_player_a_row_and_escapes_names(made):
    html = (made["out"] / "listen.html").read_text(encoding="utf-8")
    page = _Page(html)
    assert sorted(page.boxes) == sorted(row["id"] for row in made["rows"])
    assert all((made["out"] / source).is_file() for source in page.players) and len(page.players) == len(page.boxes)
    assert "dnsmos_ovrl" in html and f">{made['record']['measured']['dnsmos_ovrl']['median']:.2f}<" in html
    assert not page.bold and "heart&#39;s &lt;b&gt;.flac" in html
    assert "http" not in html.replace("http-equiv", "")  # nothing from outside


def test_struck_rows_leave_the_corpus_and_stand_with_the_rejects(made, tmp_path, monkeypatch, capsys):
    ids = [row["id"] for row in made["rows"]]
    listed = tmp_path / "strike.txt"
    listed.write_text(f"{ids[1]}\r\n", encoding="utf-8-sig")
    struck = config(made["folder"], output_dir=made["out"], strike=str(listed))
    flags = ["--sources", str(made["folder"]), "--asr", "unused", "--output_dir", str(made["out"])]
    monkeypatch.setattr("sys.argv", ["segment.py", *flags, "--strike", str(listed)])
    segment_script.main()
    assert f"{len(ids) - 1} rows" in capsys.readouterr().out
    assert [row["id"] for row in json_lines(made["out"] / "metadata.jsonl")] == [ids[0], *ids[2:]]
    (reject,) = [each for each in json_lines(made["out"] / "rejects.jsonl") if each["id"] == ids[1]]
    assert reject["reason"] == "struck by hand" and reject["start"] == made["rows"][1]["start"]
    assert {path.stem for path in (made["out"] / "audio").iterdir()} == {ids[0], *ids[2:]}
    assert ids[1] not in (made["out"] / "listen.html").read_text(encoding="utf-8")
    record = json.loads((made["out"] / "segment.json").read_text())
    assert record["rows"] == len(ids) - 1 and record["rejects"]["struck by hand"] == 1
    assert strike_rows(struck) == record  # the same list again changes nothing

    listed.write_text("no-such-id\n")
    with pytest.raises(InputError, match="names 1 that .* never had: no-such-id"):
        strike_rows(struck)
    listed.write_text("\n".join(ids))
    with pytest.raises(InputError, match="names all"):
        strike_rows(struck)


def test_strike_says_what_is_missing(tmp_path):
    write_tone(tmp_path / "in/a.wav")
    missing = config(tmp_path / "in", output_dir=tmp_path / "out", strike=str(tmp_path / "none.txt"))
    with pytest.raises(InputError, match="strike: no such file"):
        strike_rows(missing)
    (tmp_path / "none.txt").touch()
    with pytest.raises(InputError, match="no segment.json; run once without --strike"):
        strike_rows(missing)


def test_strike_removes_nothing_outside_its_folder(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "precious.wav").write_bytes(b"mine")
    rows = [{"id": "a", "file_name": "../precious.wav"}, {"id": "b", "file_name": "audio/b.wav"}]
    (tmp_path / "out/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "out/rejects.jsonl").touch()
    (tmp_path / "out/segment.json").write_text("{}")
    (tmp_path / "strike.txt").write_text("a")
    with pytest.raises(InputError, match="file_name is '../precious.wav': it leaves the folder"):
        strike_rows(config(tmp_path / "in", output_dir=tmp_path / "out", strike=str(tmp_path / "strike.txt")))
    assert (tmp_path / "precious.wav").read_bytes() == b"mine"
    assert len(json_lines(tmp_path / "out/metadata.jsonl")) == 2


def test_a_folder_without_recordings_is_an_error(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="no recordings in .*: 0 files, none of them named .aac, "):
        segment_recordings(config(tmp_path / "in", output_dir=tmp_path / "out"))
    with pytest.raises(InputError, match="sources: no such folder"):
        segment_recordings(config(tmp_path / "nowhere", output_dir=tmp_path / "out"))
    write_tone(tmp_path / "in/a.wav")
    with pytest.raises(InputError, match="output_dir .* lies in .*, whose recordings are read"):
        segment_recordings(config(tmp_path / "in", output_dir=tmp_path / "in/out"))


def test_nothing_left_is_an_error_with_the_reasons(tmp_path):
    write_tone(tmp_path / "in/hum.wav", seconds=3)
    with pytest.raises(InputError, match="no segment is left of 1 recordings: .*nobody speaks"):
        segment_recordings(config(tmp_path / "in", output_dir=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
