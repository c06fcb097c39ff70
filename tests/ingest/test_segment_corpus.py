"""Segmentation of a folder with all kinds of files."""

import json
from html.parser import HTMLParser

import pytest
import soundfile
import torch
import torchaudio

from higgs_recipes.audio.io import read_audio
from higgs_recipes.audio.loudness import LoudnessMeter
from higgs_recipes.audio.vad import FRAME_SECONDS, VAD_RATE, SpeechDetector
from higgs_recipes.audio.word_errors import corpus_errors
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.corpus.corpus import load_rows
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.curation import exclude_rows
from higgs_recipes.ingest.segment_corpus import segment_options, segment_recordings
from higgs_recipes.normalizers import choose_normalizer
from scripts import segment as segment_script
from tests.helpers.corpus_folder import encode_config, write_tone
from tests.helpers.import_folder import json_lines
from tests.helpers.raw_folder import segment_config, write_recording


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> dict:
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
    (folder / "readme.txt").write_text("not a recording")
    (folder / "._clipped.wav").write_text("macOS metadata")
    record = segment_recordings(
        segment_config({"path": str(folder), "speaker": "heart"}, output_dir=root / "out", max_seconds=6.0)
    )
    return {
        "folder": folder,
        "out": root / "out",
        "places": places,
        "record": record,
        "rows": json_lines(root / "out/metadata.jsonl"),
        "rejects": json_lines(root / "out/rejects.jsonl"),
    }


def test_segments_contain_whole_utterances_within_the_length_limits(run):
    spans = [(row["start"], row["end"]) for row in run["rows"]]
    assert spans == sorted(spans) and len(spans) >= 3
    for start, end in spans:
        assert 1.0 <= end - start <= 6.0
        for first, last, text in run["places"]:
            assert last <= start + 0.3 or first >= end - 0.3 or (start - 0.3 <= first and last <= end + 0.5), text
    contained = [place for place in run["places"] if any(s <= (place[0] + place[1]) / 2 <= e for s, e in spans)]
    assert contained == run["places"]


def test_segments_begin_and_end_in_silence(run):
    detector = SpeechDetector()
    for row in run["rows"]:
        waveform = read_audio(run["out"] / row["file_name"], name=row["id"])
        assert len(waveform) / SAMPLE_RATE == pytest.approx(row["duration"], abs=0.001)
        assert abs(waveform[0]) < 1e-3 and abs(waveform[-1]) < 1e-3  # faded
        loudest = waveform.abs().max()
        assert waveform[:1200].square().mean().sqrt() < loudest / 30
        assert waveform[-1200:].square().mean().sqrt() < loudest / 30
        resampled = torchaudio.functional.resample(waveform, SAMPLE_RATE, VAD_RATE)
        probabilities, _ = detector.frames([resampled])
        assert probabilities[0] < 0.5 and probabilities[-1] < 0.5 and probabilities.max() > 0.9
        speaks = (probabilities >= 0.5).nonzero() * FRAME_SECONDS
        assert speaks[0] < 0.3 and row["duration"] - speaks[-1] < 0.4  # the pause is trimmed


def test_transcripts_match_the_recorded_texts(run):
    texts, transcripts = (" ".join(part) for part in zip(*_pairs(run), strict=True))
    assert corpus_errors([texts], [transcripts], rules=[choose_normalizer("basic", "en")]).rate < 0.2


def _pairs(run: dict) -> list[tuple[str, str]]:
    middles = [((first + last) / 2, text) for first, last, text in run["places"]]
    return [
        (" ".join(text for middle, text in middles if row["start"] < middle < row["end"]), row["text"])
        for row in run["rows"]
    ]


def test_measurements_are_columns(run):
    for row in run["rows"]:
        assert row["speaker"] == "heart" and row["language"] == "en" and row["file"] == "heart's <b>.flac"
        assert 0.7 < row["speech_probability"] <= 1 and 0 <= row["silence_share"] < 0.4
        assert 20 < row["snr_db"] < 60 and row["clipped_share"] == 0
        assert 1 < row["dnsmos_bak"] < 5 and 1 < row["dnsmos_p808"] < 5
        assert 2.5 < row["dnsmos_ovrl"] < row["dnsmos_sig"] < 5
        assert 8 < row["chars_per_second"] < 30 and 0 <= row["asr_disagreement"] <= 1
        waveform = read_audio(run["out"] / row["file_name"], name=row["id"])
        assert LoudnessMeter().lufs(waveform) == pytest.approx(row["loudness_lufs"] + row["gain_db"], abs=0.2)
        assert LoudnessMeter().lufs(waveform) == pytest.approx(-23, abs=0.2) or waveform.abs().max() > 0.85


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("silent.wav", "nobody speaks: in 5.0 s"),
        ("noise.ogg", "nobody speaks: in 8.0 s"),
        ("notes.wav", "not audio that can be read"),
        ("a video.mp4", "not audio that can be read"),
        ("zero.mp3", "zero bytes"),
        ("twice.flac", "same recording: heart's <b>.flac has it too"),
    ],
)
def test_a_file_without_speech_is_rejected(run, file, reason):
    (reject,) = [reject for reject in run["rejects"] if reject["file"] == file]
    assert reject["reason"].startswith(reason) and reject["start"] is None


def test_a_clipped_segment_is_rejected_with_times_and_measurements(run):
    (reject,) = [reject for reject in run["rejects"] if reject["file"] == "clipped.wav"]
    assert reject["reason"].startswith("clipped_share too high: 0.") and reject["reason"].endswith("is 0.001")
    assert reject["clipped_share"] > 0.01 and 0.5 < reject["start"] < 1.5 < reject["end"]


def test_encode_reads_the_folder(run):
    corpus = load_rows(encode_config(run["out"], test_size=0))
    assert not corpus.rejects
    assert [row["text"] for row in corpus.rows] and {row["speaker"] for row in corpus.rows} == {"heart"}
    assert len(corpus.rows) == run["record"]["rows"] == len(run["rows"])


class _Page(HTMLParser):
    """The ids of the checkboxes, the sources of the players, and the number of <b> tags."""

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


def test_the_page_has_a_checkbox_and_a_player_per_row_and_escapes_names(run):
    html = (run["out"] / "listen.html").read_text(encoding="utf-8")
    page = _Page(html)
    assert sorted(page.boxes) == sorted(row["id"] for row in run["rows"])
    assert all((run["out"] / source).is_file() for source in page.players) and len(page.players) == len(page.boxes)
    assert "dnsmos_ovrl" in html and f">{run['record']['measured']['dnsmos_ovrl']['median']:.2f}<" in html
    assert not page.bold and "heart&#39;s &lt;b&gt;.flac" in html
    assert "http" not in html.replace("http-equiv", "")  # nothing external


def test_excluded_rows_move_to_the_rejects(run, tmp_path, monkeypatch, capsys):
    ids = [row["id"] for row in run["rows"]]
    list_path = tmp_path / "strike.txt"
    list_path.write_text(f"{ids[1]}\r\n", encoding="utf-8-sig")
    exclusion = segment_config(run["folder"], output_dir=run["out"], strike=str(list_path))
    flags = ["--sources", str(run["folder"]), "--asr", "unused", "--output_dir", str(run["out"])]
    monkeypatch.setattr("sys.argv", ["segment.py", *flags, "--strike", str(list_path)])
    segment_script.main()
    assert f"{len(ids) - 1} rows" in capsys.readouterr().out
    assert [row["id"] for row in json_lines(run["out"] / "metadata.jsonl")] == [ids[0], *ids[2:]]
    (reject,) = [line for line in json_lines(run["out"] / "rejects.jsonl") if line["id"] == ids[1]]
    assert reject["code"] == "struck" and reject["start"] == run["rows"][1]["start"]
    assert {path.stem for path in (run["out"] / "audio").iterdir()} == {ids[0], *ids[2:]}
    assert ids[1] not in (run["out"] / "listen.html").read_text(encoding="utf-8")
    record = json.loads((run["out"] / "segment.json").read_text())
    assert record["rows"] == len(ids) - 1 and record["rejects"][reject["reason"]] == 1
    assert exclude_rows(exclusion) == record  # the same list again has no effect

    list_path.write_text("no-such-id\n")
    with pytest.raises(InputError, match="has 1 ids that .* never had: no-such-id"):
        exclude_rows(exclusion)
    list_path.write_text("\n".join(ids))
    with pytest.raises(InputError, match="has the ids of all"):
        exclude_rows(exclusion)


def test_where_recordings_are_found_does_not_change_their_segments(tmp_path):
    options = segment_options(segment_config(tmp_path, output_dir=tmp_path / "out"))
    moved = {"follow_links": True, "speaker_per_file": True, "strike": "bad.txt", "overwrite_output_dir": True}
    assert segment_options(segment_config(tmp_path / "in", output_dir=tmp_path / "other", **moved)) == options
    assert segment_options(segment_config(tmp_path, output_dir=tmp_path, max_seconds=14.0)) != options


def test_a_run_without_segments_is_an_error_with_the_reasons(tmp_path):
    write_tone(tmp_path / "in/hum.wav", seconds=3)
    with pytest.raises(InputError, match="all segments of 1 recordings were rejected: .*nobody speaks"):
        segment_recordings(segment_config(tmp_path / "in", output_dir=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
