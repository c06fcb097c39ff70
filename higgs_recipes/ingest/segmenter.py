"""A recording -> its segments: cut, measured, leveled, transcribed, and judged by the recipe's bounds.

What is measured becomes columns. The ASR model's agreement with itself is one of them: a segment is transcribed again
slowed by a twentieth, which changes the sound and not the words; `asr_disagreement` is the word error rate between the
two transcripts. It is no WER: an error that is made twice is not seen.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

from torch import Tensor

from higgs_recipes.audio.asr import BATCH_SIZE, ASRModel
from higgs_recipes.audio.dnsmos import DNSMOS
from higgs_recipes.audio.long_recording import LongRecording, faded, slowed
from higgs_recipes.audio.loudness import LoudnessMeter, gain_db
from higgs_recipes.audio.vad import FRAME_SECONDS, VAD_RATE, SpeechDetector
from higgs_recipes.audio.word_errors import utterance_errors
from higgs_recipes.configs.segment import SegmentConfig
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.ingest.raw_recordings import RawRecording
from higgs_recipes.ingest.segmentation import SPEECH_STARTS, Segment, cut_segments


Row = dict[str, Any]

FADE_SECONDS = 0.01
# Column to the knobs that bound it from below and from above, in the order in which they cost time.
_SOUND_BOUNDS = {
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
    """A recipe's knobs and the models that it segments with.

    Raises:
        InputError: a package that is not installed.
    """

    def __init__(self, config: SegmentConfig, asr_model: ASRModel) -> None:
        self.config, self.asr_model = config, asr_model
        self.detector, self.loudness, self.quality = SpeechDetector(), LoudnessMeter(), DNSMOS()

    @property
    def revisions(self) -> dict[str, str]:
        return {
            "asr": self.config.asr,
            "asr_revision": self.asr_model.revision,
            "vad": self.detector.revision,
            "dnsmos": self.quality.revision,
        }

    def segments(self, file: RawRecording) -> Iterator[tuple[Row, Tensor | None]]:
        """Every segment of a recording: a row with its waveform (N,), or a row with the reason of its reject.

        Raises:
            InputError: broken audio, or nobody speaks in it.
        """
        return self.transcribed(self._candidates(file))

    def _candidates(self, file: RawRecording) -> Iterator[tuple[Row, Tensor | None]]:
        with LongRecording(file.path, contents=file.contents) as recording:
            if recording.contents.flaw is not None:  # a reject for what is missing
                yield (
                    file.columns
                    | {
                        "id": None,
                        "start": round(recording.seconds, 3),
                        "end": None,
                        "reason": recording.contents.flaw,
                    },
                    None,
                )
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
                raise InputError(f"nobody speaks: in none of {recording.seconds:.1f} s")
            for segment in segments:
                # In milliseconds: an id that a list names means the same sound in a later run, or nothing.
                segment_id = f"{file.name}-{round(segment.start * 1000):08d}-{round(segment.end * 1000):08d}"
                row = file.columns | {"id": segment_id, "start": segment.start, "end": segment.end}
                sound, waveform = self._sound(segment, recording, frames=(probabilities, powers))
                yield self._leveled(row | sound, waveform, flaw=segment.flaw)

    def _sound(
        self, segment: Segment, recording: LongRecording, *, frames: tuple[Tensor, Tensor]
    ) -> tuple[Row, Tensor]:
        """What is measured on a segment's sound as it was recorded, and its waveform (N,)."""
        waveform, clipped = recording.span(segment.start, min(segment.end, recording.seconds), rate=SAMPLE_RATE)
        probabilities, powers = (_frames_between(each, segment.start, segment.end) for each in frames)
        around = _frames_between(frames[1], segment.start - 1, segment.end + 1)
        speaks = probabilities >= SPEECH_STARTS
        loudness = self.loudness.lufs(waveform)
        return {
            "duration": round(len(waveform) / SAMPLE_RATE, 3),
            "speech_probability": round(float(probabilities.mean()), 3),
            "silence_share": round(1 - float(speaks.float().mean()), 3),
            "snr_db": round(_decibels(powers[speaks].mean()) - _decibels(around.quantile(0.1)), 1),
            "clipped_share": round(clipped, 6),
            "loudness_lufs": None if loudness is None else round(loudness, 1),
        }, waveform

    def _leveled(self, row: Row, waveform: Tensor, *, flaw: str | None) -> tuple[Row, Tensor | None]:
        """A measured segment at the recipe's loudness, its ends faded, rated; or with the reason of a reject."""
        reason = flaw or _out_of_bounds(row, _SOUND_BOUNDS, self.config)
        if reason is None and row["loudness_lufs"] is None:
            reason = "too quiet: it has no loudness"
        if reason is not None:
            return row | {"reason": reason}, None
        gain, target = 0.0, self.config.target_lufs
        if target is not None:
            gain = round(gain_db(waveform, loudness=row["loudness_lufs"], target=target), 1)
        waveform = faded(waveform * 10 ** (gain / 20), num_samples=round(FADE_SECONDS * SAMPLE_RATE))
        row |= {"gain_db": gain} | self.quality.scores(waveform)
        reason = _out_of_bounds(row, _QUALITY_BOUNDS, self.config)
        return (row, waveform) if reason is None else (row | {"reason": reason}, None)

    def transcribed(self, candidates: Iterable[tuple[Row, Tensor | None]]) -> Iterator[tuple[Row, Tensor | None]]:
        """The candidates, those with a waveform with their transcript, or with the reason why they are no rows."""
        candidates = iter(candidates)
        while batch := list(islice(candidates, BATCH_SIZE)):
            waveforms = [waveform for _, waveform in batch if waveform is not None]
            texts = self.asr_model.transcribe(waveforms)
            again = self.asr_model.transcribe([slowed(waveform) for waveform in waveforms])
            errors = utterance_errors(texts, again, normalizer=self.config.normalizer)
            said = zip(texts, again, errors, strict=True)
            for row, waveform in batch:
                if waveform is None:
                    yield row, None
                    continue
                text, second, error = next(said)
                speech_seconds = row["duration"] * (1 - row["silence_share"])
                row = row | {
                    "file_name": f"audio/{row['id']}.wav",
                    "text": text,
                    "text_slowed": second,
                    "asr_disagreement": None if error.rate is None else round(error.rate, 3),
                    "chars_per_second": round(len(text) / speech_seconds, 1),
                }
                reason = "no words: the ASR model hears none" if error.rate is None else None
                reason = reason or _out_of_bounds(row, _TEXT_BOUNDS, self.config)
                yield (row, waveform) if reason is None else (row | {"reason": reason}, None)


def _out_of_bounds(row: Row, bounds: Mapping[str, tuple[str | None, str | None]], config: SegmentConfig) -> str | None:
    limits = asdict(config) | {None: None}
    for column, (least, most) in bounds.items():
        if limits[least] is not None and row[column] < limits[least]:
            return f"{column} too low: {row[column]:g}, {least} is {limits[least]:g}"
        if limits[most] is not None and row[column] > limits[most]:
            return f"{column} too high: {row[column]:g}, {most} is {limits[most]:g}"
    return None


def _frames_between(frames: Tensor, start: float, end: float) -> Tensor:
    return frames[max(0, math.floor(start / FRAME_SECONDS)) : math.ceil(end / FRAME_SECONDS)]


def _decibels(power: Tensor) -> float:
    return 10 * math.log10(max(float(power), 1e-10))  # below lies the rounding of 16 bits
