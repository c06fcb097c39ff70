"""One recording at a time: what is measured on a segment, and what the recipe's bounds make of it."""

import sys

import pytest
import soundfile
import torch
import torchaudio

from higgs_recipes.audio import dnsmos as quality
from higgs_recipes.audio.dnsmos import DNSMOS
from higgs_recipes.audio.loudness import LoudnessMeter, gain_db
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.raw_recordings import find_raw_recordings
from higgs_recipes.ingest.segmenter import Segmenter
from tests.ingest.test_segment_corpus import config, spoken, write_recording


def test_loudness_is_that_of_another_implementation():
    for _, waveform in spoken("heart")[:2]:
        reference = torchaudio.functional.loudness(waveform[None], SAMPLE_RATE)
        assert LoudnessMeter().lufs(waveform) == pytest.approx(float(reference), abs=0.1)


def test_gain_stops_where_the_peak_would_clip():
    _, waveform = spoken("heart")[0]
    loudness = LoudnessMeter().lufs(waveform)
    louder = waveform * 10 ** (gain_db(waveform, loudness=loudness, target=-5.0) / 20)
    assert float(louder.abs().max()) == pytest.approx(10 ** (-1 / 20), rel=1e-3)
    assert LoudnessMeter().lufs(torch.zeros(24_000)) is LoudnessMeter().lufs(waveform[:100]) is None


class Listener:
    """An ASR model of one word a tenth of a second, but "steady" in what is loud and nothing in what is quiet."""

    revision, window_seconds = "of a test", 30.0

    def transcribe(self, waveforms):
        words = [" ".join(map(str, range(round(len(waveform) / 2_400)))) for waveform in waveforms]
        peaks = [float(waveform.abs().max()) for waveform in waveforms]
        return [
            "steady" if peak > 0.8 else text if peak > 0.2 else "" for peak, text in zip(peaks, words, strict=True)
        ]


def test_bounds_on_the_transcript_reject_with_both_transcripts(tmp_path):
    row = {"duration": 4.0, "silence_share": 0.5, "file": "a.wav"}
    candidates = [(row | {"id": str(level)}, torch.full((96_000,), level)) for level in (0.9, 0.5, 0.1)]
    candidates.insert(1, ({"id": "bad", "reason": "too short: 0.1 s"}, None))

    def transcribed(**bounds):
        knobs = config(tmp_path, output_dir=tmp_path / "out", **bounds)
        return [row for row, _ in Segmenter(knobs, Listener()).transcribed(candidates)]

    steady, bad, fickle, silent = transcribed(max_asr_disagreement=0.04)
    assert "reason" not in steady and (steady["text"], steady["asr_disagreement"]) == ("steady", 0)
    assert steady["chars_per_second"] == 3.0  # six letters in two seconds of speech
    assert bad == {"id": "bad", "reason": "too short: 0.1 s"}
    # Slowed by a twentieth, its 40 words are 42.
    assert fickle["reason"] == "asr_disagreement too high: 0.05, max_asr_disagreement is 0.04"
    assert (len(fickle["text"].split()), len(fickle["text_slowed"].split())) == (40, 42)
    assert silent["reason"] == "no words: the ASR model hears none"
    assert [row.get("reason", "")[:22] for row in transcribed(min_chars_per_second=4.0)] == [
        "chars_per_second too l", "too short: 0.1 s", "", "no words: the ASR mode"
    ]  # fmt: skip
    assert transcribed(max_chars_per_second=5.0)[2]["reason"].startswith("chars_per_second too high: ")


def test_the_two_ratings_that_the_package_gives_for_a_clip_are_the_columns():
    from speechmos import dnsmos

    text, waveform = spoken("heart")[0]
    scores = DNSMOS().scores(waveform)
    heard = torchaudio.functional.resample(waveform, 24_000, 16_000)
    expected = dnsmos.run(heard.numpy(), 16_000)
    assert scores == {f"dnsmos_{name}": pytest.approx(expected[f"{name}_mos"], abs=0.006) for name in
                      ("ovrl", "sig", "bak", "p808")}  # fmt: skip
    assert all(1 <= score <= 5 for score in scores.values())


def test_of_a_truncated_recording_what_is_there_is_segmented_and_the_rest_is_a_reject(tmp_path):
    write_recording(tmp_path / "in/a.flac", "heart", pauses=[0.5, 0.5], rate=24_000)
    path = tmp_path / "in/a.flac"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    knobs = config(tmp_path / "in", output_dir=tmp_path / "out", min_dnsmos=None)
    (file,) = find_raw_recordings(knobs)
    (missing, _), *segments = Segmenter(knobs, Listener()).segments(file)
    assert missing["reason"] == f"truncated: {file.seconds:.2f} s of {soundfile.info(path).duration:.2f} s are there"
    assert (missing["id"], missing["start"], missing["file"]) == (None, round(file.seconds, 3), "a.flac")
    assert [row for row, waveform in segments if waveform is not None]


@pytest.mark.slow
def test_a_rating_falls_with_noise_and_the_bound_rejects_it_before_it_is_transcribed(tmp_path):
    write_recording(tmp_path / "in/clean.flac", "heart", pauses=[0.5], rate=24_000)
    samples, rate = soundfile.read(tmp_path / "in/clean.flac")
    noise = torch.randn(samples.shape, generator=torch.Generator().manual_seed(0)).numpy()
    soundfile.write(tmp_path / "in/noisy.flac", samples + 0.01 * noise, rate)
    listener = Listener()
    knobs = config(tmp_path / "in", output_dir=tmp_path / "out", min_dnsmos=2.8)
    clean, noisy = (list(Segmenter(knobs, listener).segments(file)) for file in find_raw_recordings(knobs))
    assert clean[0][0]["dnsmos_ovrl"] > 2.8 and "text" in clean[0][0]
    row, waveform = noisy[0]
    assert row["reason"] == f"dnsmos_ovrl too low: {row['dnsmos_ovrl']:g}, min_dnsmos is 2.8"
    assert row["dnsmos_bak"] < clean[0][0]["dnsmos_bak"] - 0.3 and "text" not in row and waveform is None


def test_other_networks_than_those_meant_are_refused(monkeypatch):
    monkeypatch.setitem(quality._NETWORKS, "model_v8.onnx", "0" * 64)
    with pytest.raises(InputError, match=r"model_v8.onnx has the SHA-256 9246480c58567bc6, not 00000000"):
        DNSMOS()


@pytest.mark.parametrize("module", ["speechmos.dnsmos", "onnxruntime"])
def test_a_package_that_is_missing_is_named_with_its_installation(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"segment needs the module {module}, .* pip install 'speechmos"):
        DNSMOS()
