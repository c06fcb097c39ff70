import doctest

import pytest
import torch

from higgs_recipes import scoring
from higgs_recipes.delay import SAMPLE_RATE
from higgs_recipes.scoring import Clip, leave_one_out_centroids, score_clips


class SpellingRecogniser:
    """Hears the word whose number the first sample is; a judge whose verdict the test can name."""

    revision, window_seconds = "1", 30.0
    words = ("", "one", "two", "three")

    def transcribe(self, waveforms):
        return [self.words[int(waveform[0])] if len(waveform) else "" for waveform in waveforms]


class AngleSpeakerModel:
    """A voice is the angle that the second sample is; below 0 there is none."""

    revision, score_name = "1", "cosine_of_angles"

    def embed(self, waveforms):
        return [
            torch.stack([waveform[1].cos(), waveform[1].sin()]) if waveform[1] >= 0 else None for waveform in waveforms
        ]


def clip(word: int, angle: float, *, seconds: float = 1.0, stopped: bool | None = None) -> Clip:
    waveform = torch.zeros(round(seconds * SAMPLE_RATE))
    waveform[:2] = torch.tensor([float(word), angle])
    return Clip(waveform, stopped)


def row(name: str, text: str, speaker: str | None, seed: int) -> dict:
    return {"id": name, "text": text, "speaker": speaker, "seed": seed}


def score(rows, clips):
    return score_clips(
        rows, clips, recogniser=SpellingRecogniser(), speaker_model=AngleSpeakerModel(), normalizer="basic"
    )


ROWS = [row("a", "One.", "x", 5), row("b", "Two three.", "x", 6), row("c", "...", "y", 7)]
REAL = [clip(1, 0.0), clip(2, 1.0, seconds=2.0), clip(3, 0.5)]


def test_doctests():
    assert doctest.testmod(scoring).failed == 0


def test_the_error_rate_is_of_all_words_together_and_of_each_clip():
    scored = score(ROWS, {"real": REAL})
    wer = scored["rows"]["real"]["wer"]
    assert (wer["value"], wer["n"], wer["skipped"]) == (1 / 3, 2, 1)  # "three" was not heard
    assert wer["low"] <= wer["value"] <= wer["high"]
    assert [detail["real"]["wer"] for detail in scored["clips"]] == [0.0, 0.5, None]
    assert [detail["real"]["transcript"] for detail in scored["clips"]] == ["one", "two", "three"]


def test_a_text_without_words_is_skipped_and_counted():
    scored = score(ROWS, {"real": REAL})
    assert (scored["n"], scored["skipped"]) == (2, 1)
    assert scored["rows"]["real"]["cer"]["n"] == 2


def test_similarity_is_to_the_speakers_other_recordings_and_never_to_the_rows_own():
    rows = [row(name, "One.", "x", 0) for name in "abc"]
    angles = [0.0, 0.4, 1.0]
    scored = score(rows, {"real": [clip(1, angle) for angle in angles], "base": [clip(1, 0.0, stopped=True)] * 3})
    for index in range(3):
        others = [torch.tensor(angle) for other, angle in enumerate(angles) if other != index]
        centroid = sum(torch.stack([angle.cos(), angle.sin()]) for angle in others) / 2
        for name, angle in (("real", angles[index]), ("base", 0.0)):
            voice = torch.tensor([angle]).cos().item(), torch.tensor([angle]).sin().item()
            expected = (voice[0] * centroid[0] + voice[1] * centroid[1]) / centroid.norm()
            assert scored["clips"][index][name]["similarity"] == pytest.approx(float(expected), abs=1e-6)


def test_a_speaker_with_one_recording_and_a_clip_without_voice_have_no_similarity():
    scored = score(ROWS, {"real": REAL, "base": [clip(1, -1.0), clip(1, 0.0), clip(1, 0.0)]})
    assert [detail["base"]["similarity"] is None for detail in scored["clips"]] == [True, False, True]
    assert scored["rows"]["base"]["similarity"]["n"] == 1
    assert scored["rows"]["base"]["similarity"]["skipped"] == 2


def test_a_score_that_no_clip_has_is_none_and_not_a_number():
    scored = score([row("a", "...", None, 0)], {"real": [clip(1, 0.0)]})
    nothing = {"value": None, "low": None, "high": None, "n": 0, "skipped": 1}
    assert scored["rows"]["real"] == {"wer": nothing, "cer": nothing, "similarity": nothing}


def test_rows_of_unknown_speakers_share_no_voice():
    assert leave_one_out_centroids([torch.ones(2), torch.ones(2)], [None, None]) == [None, None]


def test_stop_rate_and_duration_are_of_generated_clips_alone():
    generated = [clip(1, 0.0, stopped=True), clip(2, 0.0, seconds=1.0, stopped=False), clip(3, 0.0, stopped=True)]
    scored = score(ROWS, {"real": REAL, "codec": REAL, "finetuned": generated})
    assert "stop_rate" not in scored["rows"]["real"] and "duration_ratio" not in scored["rows"]["codec"]
    assert scored["rows"]["finetuned"]["stop_rate"]["value"] == pytest.approx(2 / 3)
    assert scored["rows"]["finetuned"]["duration_ratio"]["value"] == pytest.approx((1 + 0.5 + 1) / 3)


def test_a_rows_id_never_names_a_file():
    scored = score([row("../../etc/passwd", "One.", "x", 0)], {"real": [clip(1, 0.0)]})
    assert scored["clips"][0]["real"]["wav"] == "samples/0000_real.wav"
