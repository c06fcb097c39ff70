"""Segment one recording: cut it, measure, level and transcribe the segments, and apply the bounds of the recipe.

Each measurement is a column. `asr_disagreement` is the word error rate between two transcripts of a segment: at normal
speed and slowed by 5 %, which changes the audio but not the words. It is not a WER: an error that the ASR model makes
twice is not detected.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from torch import Tensor

from higgs_recipes.audio.asr import BATCH_SIZE, ASRModel
from higgs_recipes.audio.dnsmos import DNSMOS
from higgs_recipes.audio.long_recording import LongRecording, fade_edges, slow_down
from higgs_recipes.audio.loudness import LoudnessMeter, gain_db
from higgs_recipes.audio.vad import FRAME_SECONDS, VAD_RATE, SpeechDetector
from higgs_recipes.audio.word_errors import utterance_errors
from higgs_recipes.configs.model import source_mapping
from higgs_recipes.configs.segment import SegmentConfig
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.ingest.raw_recordings import RawRecording
from higgs_recipes.ingest.rows import SegmentRow
from higgs_recipes.ingest.segmentation import SPEECH_STARTS, Segment, cut_segments
from higgs_recipes.languages import language_code
from higgs_recipes.normalizers import choose_normalizer
from higgs_recipes.rejects import Reject, RejectCode, RejectedRow, rejected_as


# A segment with its waveform (N,), or a reject whose columns are the measurements made so far.
Candidate = tuple[SegmentRow, Tensor] | Reject

FADE_SECONDS = 0.01
# Column -> the config fields of its lower and upper bound. The cheapest measurements come first.
_AUDIO_BOUNDS = {
    "speech_probability": ("min_speech_probability", None),
    "silence_share": (None, "max_silence_share"),
    "snr_db": ("min_snr_db", None),
    "clipped_share": (None, "max_clipped_share"),
}
_QUALITY_BOUNDS = {"dnsmos_ovrl": ("min_dnsmos", None)}
_TEXT_BOUNDS = {
    "chars_per_second": ("min_chars_per_second", "max_chars_per_second"),
    "asr_disagreement": (None, "max_asr_disagreement"),
}


class Segmenter:
    """The options of a recipe and the models for segmentation.

    Raises:
        InputError: a package is not installed, or the ASR model does not support the language of a source.
    """

    def __init__(self, config: SegmentConfig, asr_model: ASRModel) -> None:
        self.config, self.asr_model = config, asr_model
        self.rules = {}
        for language in sorted({config.language_of(source_mapping(source)) for source in config.sources}):
            asr_model.check_language(language_code(language))
            self.rules[language] = choose_normalizer(config.normalizer, language, spelling=asr_model.spelling)
        self.detector, self.loudness, self.quality = SpeechDetector(), LoudnessMeter(), DNSMOS()

    @property
    def revisions(self) -> dict[str, str]:
        return {
            "asr": self.config.asr,
            "asr_revision": self.asr_model.revision,
            "vad": self.detector.revision,
            "dnsmos": self.quality.revision,
        }

    def segments(self, file: RawRecording) -> Iterator[Candidate]:
        """Yield every segment of a recording.

        Raises:
            RejectedRow: broken audio or no speech; the rest of the recording is rejected.
        """
        return self.transcribed(self._candidates(file), language=file.columns["language"])

    def _candidates(self, file: RawRecording) -> Iterator[Candidate]:
        with (
            rejected_as(RejectCode.UNREADABLE_AUDIO, "audio"),
            LongRecording(file.path, contents=file.contents) as recording,
        ):
            if recording.contents.flaw is not None:  # a reject for what is missing
                missing = file.columns | {"id": None, "start": round(recording.seconds, 3), "end": None}
                yield Reject(RejectCode.TRUNCATED_AUDIO, "audio", recording.contents.flaw).at(missing)
            probabilities, powers = self.detector.frames(recording.pieces(VAD_RATE))
            segments = cut_segments(
                probabilities,
                frame_seconds=FRAME_SECONDS,
                min_seconds=self.config.min_seconds,
                max_seconds=self.config.max_seconds,
                min_pause=self.config.min_pause,
                max_pause=self.config.max_pause,
            )
            if not segments:
                raise RejectedRow(RejectCode.NO_SPEECH, "audio", f"in {recording.seconds:.1f} s")
            for segment in segments:
                # Times in the id: in a later run, the same id is the same audio or does not exist.
                segment_id = f"{file.name}-{round(segment.start * 1000):08d}-{round(segment.end * 1000):08d}"
                row = file.columns | {"id": segment_id, "start": segment.start, "end": segment.end}
                measurements, waveform = self._measured(segment, recording, frames=(probabilities, powers))
                yield self._leveled(row | measurements, waveform, flaw=segment.flaw)

    def _measured(
        self, segment: Segment, recording: LongRecording, *, frames: tuple[Tensor, Tensor]
    ) -> tuple[SegmentRow, Tensor]:
        """Measurements of a segment before leveling, and its waveform (N,).

        Args:
            frames: speech probability (P,) and power (P,) of each frame of the recording.
        """
        waveform, clipped = recording.span(segment.start, min(segment.end, recording.seconds), rate=SAMPLE_RATE)
        probabilities, powers = (_frames_between(values, segment.start, segment.end) for values in frames)
        around = _frames_between(frames[1], segment.start - 1, segment.end + 1)
        is_speech = probabilities >= SPEECH_STARTS
        loudness = self.loudness.lufs(waveform)
        return {
            "duration": round(len(waveform) / SAMPLE_RATE, 3),
            "speech_probability": round(float(probabilities.mean()), 3),
            "silence_share": round(1 - float(is_speech.float().mean()), 3),
            "snr_db": round(_decibels(powers[is_speech].mean()) - _decibels(around.quantile(0.1)), 1),
            "clipped_share": round(clipped, 6),
            "loudness_lufs": None if loudness is None else round(loudness, 1),
        }, waveform

    def _leveled(self, row: SegmentRow, waveform: Tensor, *, flaw: Reject | None) -> Candidate:
        """A segment at the loudness of the recipe, with faded ends and DNSMOS scores; or its reject."""
        flaw = flaw or _out_of_bounds(row, _AUDIO_BOUNDS, self.config)
        if flaw is None and row["loudness_lufs"] is None:
            flaw = Reject(RejectCode.NO_LOUDNESS, detail="its loudness is not measurable")
        if flaw is not None:
            return flaw.at(row)
        gain, target = 0.0, self.config.target_lufs
        if target is not None:
            gain = round(gain_db(waveform, loudness=row["loudness_lufs"], target=target), 1)
        waveform = fade_edges(waveform * 10 ** (gain / 20), num_samples=round(FADE_SECONDS * SAMPLE_RATE))
        row |= {"gain_db": gain} | self.quality.scores(waveform)
        flaw = _out_of_bounds(row, _QUALITY_BOUNDS, self.config)
        return (row, waveform) if flaw is None else flaw.at(row)

    def transcribed(self, candidates: Iterable[Candidate], *, language: str) -> Iterator[Candidate]:
        """Add transcripts to the candidates, and reject those with unsuitable transcripts.

        Args:
            language: of the source, or `asr_language`.
        """
        candidates, rule = iter(candidates), self.rules[language]
        while batch := list(islice(candidates, BATCH_SIZE)):
            waveforms = [candidate[1] for candidate in batch if not isinstance(candidate, Reject)]
            slowed = [slow_down(waveform) for waveform in waveforms]
            texts, texts_slowed = (
                self.asr_model.transcribe(clips, language=rule.language) for clips in (waveforms, slowed)
            )
            errors = utterance_errors(texts, texts_slowed, rules=[rule] * len(texts))
            transcripts = zip(texts, texts_slowed, errors, strict=True)
            for candidate in batch:
                if isinstance(candidate, Reject):
                    yield candidate
                    continue
                row, waveform = candidate
                text, text_slowed, error = next(transcripts)
                speech_seconds = row["duration"] * (1 - row["silence_share"])
                row = row | {
                    "file_name": f"audio/{row['id']}.wav",
                    "text": text,
                    "text_slowed": text_slowed,
                    "asr_disagreement": None if error.rate is None else round(error.rate, 3),
                    "chars_per_second": round(len(text) / speech_seconds, 1),
                }
                if error.rate is None:
                    flaw = Reject(RejectCode.NO_WORDS, detail="the transcript is empty")
                else:
                    flaw = _out_of_bounds(row, _TEXT_BOUNDS, self.config)
                yield (row, waveform) if flaw is None else flaw.at(row)


def _out_of_bounds(
    row: SegmentRow, bounds: Mapping[str, tuple[str | None, str | None]], config: SegmentConfig
) -> Reject | None:
    for column, (lower, upper) in bounds.items():
        low, high = (name and getattr(config, name) for name in (lower, upper))
        if low is not None and row[column] < low:
            return Reject(RejectCode.TOO_LOW, column, f"{row[column]:g}, {lower} is {low:g}")
        if high is not None and row[column] > high:
            return Reject(RejectCode.TOO_HIGH, column, f"{row[column]:g}, {upper} is {high:g}")
    return None


def _frames_between(frames: Tensor, start: float, end: float) -> Tensor:
    return frames[max(0, math.floor(start / FRAME_SECONDS)) : math.ceil(end / FRAME_SECONDS)]


def _decibels(power: Tensor) -> float:
    return 10 * math.log10(max(float(power), 1e-10))  # the rounding error of 16-bit samples
