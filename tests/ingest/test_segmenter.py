"""Segmentation of one recording: measurements and bounds."""

import pytest
import soundfile
import torch

from higgs_recipes.errors import InputError
from higgs_recipes.ingest.raw_recordings import find_raw_recordings
from higgs_recipes.ingest.segmenter import Segmenter
from higgs_recipes.rejects import Reject, RejectCode
from tests.helpers.raw_folder import segment_config, write_recording


class Listener:
    """An ASR model: one word per 0.1 s; "steady" for loud audio, no word for quiet audio."""

    revision, window_seconds, spelling = "of a test", 30.0, None

    def __init__(self):
        self.languages = []  # of the calls

    def check_language(self, language):
        if language not in ("en", "vi", "th"):
            raise InputError(f"no such language: {language}")

    def transcribe(self, waveforms, *, language):
        self.languages.append(language)
        words = [" ".join(map(str, range(round(len(waveform) / 2_400)))) for waveform in waveforms]
        peaks = [float(waveform.abs().max()) for waveform in waveforms]
        return [
            "steady" if peak > 0.8 else text if peak > 0.2 else "" for peak, text in zip(peaks, words, strict=True)
        ]


def test_transcripts_outside_the_bounds_are_rejected_with_both_transcripts(tmp_path):
    row = {"duration": 4.0, "silence_share": 0.5, "file": "a.wav"}
    candidates = [(row | {"id": str(level)}, torch.full((96_000,), level)) for level in (0.9, 0.5, 0.1)]
    bad = Reject(RejectCode.TOO_SHORT, "segment", "0.1 s").at({"id": "bad"})
    candidates.insert(1, bad)

    def transcribed(**bounds):
        config = segment_config(tmp_path, output_dir=tmp_path / "out", **bounds)
        return list(Segmenter(config, Listener()).transcribed(candidates, language="en"))

    (steady, _), still_bad, fickle, silent = transcribed(max_asr_disagreement=0.04)
    assert (steady["text"], steady["asr_disagreement"]) == ("steady", 0)
    assert steady["chars_per_second"] == 3.0  # six letters in two seconds of speech
    assert still_bad is bad
    # Slowed by a twentieth, its 40 words are 42.
    assert fickle.reason == "asr_disagreement too high: 0.05, max_asr_disagreement is 0.04"
    assert [len(fickle.columns[name].split()) for name in ("text", "text_slowed")] == [40, 42]
    assert silent.reason == "no words: the transcript is empty"
    slow, _, fluent, _ = transcribed(min_chars_per_second=4.0)
    assert slow.category == "chars_per_second too low" and not isinstance(fluent, Reject)
    assert transcribed(max_chars_per_second=5.0)[2].reason.startswith("chars_per_second too high: ")


def test_each_source_is_transcribed_and_compared_in_its_own_language(tmp_path):
    sources = [{"path": "a", "language": "Vietnamese"}, {"path": "b", "language": "th"}, "c"]
    listener = Listener()
    segmenter = Segmenter(segment_config(*sources, output_dir=tmp_path / "out"), listener)
    rules = {language: (rule.name, rule.unit, rule.language) for language, rule in segmenter.rules.items()}
    assert rules == {
        "Vietnamese": ("words", "word", "vi"),
        "th": ("characters", "character", "th"),
        "en": ("whisper_en_no_spelling", "word", "en"),  # asr_language
    }
    row = {"id": "a", "duration": 4.0, "silence_share": 0.5, "file": "a.wav"}
    waveform = torch.full((96_000,), 0.5)
    ((in_words, _),) = segmenter.transcribed([(row, waveform)], language="Vietnamese")
    ((in_characters, _),) = segmenter.transcribed([(row, waveform)], language="th")
    assert listener.languages == ["vi", "vi", "th", "th"]
    # 40 words, 42 when slowed; the digits of 0 to 39 are 70 characters, those of 40 and 41 four more.
    assert (in_words["asr_disagreement"], in_characters["asr_disagreement"]) == (2 / 40, round(4 / 70, 3))


def test_a_language_that_the_asr_model_does_not_know_is_refused_before_any_recording(tmp_path):
    for language, message in (("yue", "no such language: yue"), ("klingon", "'klingon' is not a language code")):
        with pytest.raises(InputError, match=message):
            Segmenter(segment_config({"path": "a", "language": language}, output_dir=tmp_path / "out"), Listener())


@pytest.mark.slow
def test_noise_lowers_dnsmos_and_min_dnsmos_rejects_before_transcription(tmp_path):
    write_recording(tmp_path / "in/clean.flac", "heart", pauses=[0.5], rate=24_000)
    samples, rate = soundfile.read(tmp_path / "in/clean.flac")
    noise = torch.randn(samples.shape, generator=torch.Generator().manual_seed(0)).numpy()
    soundfile.write(tmp_path / "in/noisy.flac", samples + 0.01 * noise, rate)
    listener = Listener()
    config = segment_config(tmp_path / "in", output_dir=tmp_path / "out", min_dnsmos=2.8)
    clean, noisy = (list(Segmenter(config, listener).segments(file)) for file in find_raw_recordings(config))
    assert clean[0][0]["dnsmos_ovrl"] > 2.8 and "text" in clean[0][0]
    row = noisy[0].columns
    assert noisy[0].reason == f"dnsmos_ovrl too low: {row['dnsmos_ovrl']:g}, min_dnsmos is 2.8"
    assert row["dnsmos_bak"] < clean[0][0]["dnsmos_bak"] - 0.3 and "text" not in row
