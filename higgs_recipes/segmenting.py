"""Folders of long recordings without transcripts -> a corpus folder that encode takes as it is.

Where somebody speaks (vad), where to cut (cutting), what is said (judges), what is worth keeping (the recipe's bounds
on what was measured), and a page to hear it all and strike rows (striking). Nothing is dropped without a line in
rejects.jsonl, with its file, its seconds and what was measured.
"""

import logging
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from higgs_recipes.audio import write_wav
from higgs_recipes.corpus_configs import CONSTANTS
from higgs_recipes.cutting import SPEECH_STARTS, Segment, cut_segments
from higgs_recipes.delay import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.files import git_commit, sha256_file, staged_folder
from higgs_recipes.generation import single_device
from higgs_recipes.judges import BATCH_SIZE, Recogniser, load_recogniser
from higgs_recipes.loudness import LoudnessMeter, gain_db
from higgs_recipes.metrics import utterance_errors
from higgs_recipes.provenance import library_versions
from higgs_recipes.recordings import Recording, faded, slowed
from higgs_recipes.segment_config import SegmentConfig
from higgs_recipes.striking import count_reasons, write_lists
from higgs_recipes.vad import FRAME_SECONDS, VAD_RATE, SpeechDetector


logger = logging.getLogger(__name__)

Row = dict[str, Any]

SUFFIXES = set(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .m4a .mp4 .aac .wma .webm .mkv".split())
FADE_SECONDS = 0.01
# Column to the knobs that bound it from below and from above. The first need no transcript.
_SOUND_BOUNDS = {
    "speech_probability": ("min_speech_probability", None),
    "silence_share": (None, "max_silence_share"),
    "snr_db": ("min_snr_db", None),
    "clipped_share": (None, "max_clipped_share"),
}
_TEXT_BOUNDS = {
    "chars_per_second": ("min_chars_per_second", "max_chars_per_second"),
    "asr_disagreement": (None, "max_asr_disagreement"),
}


def segment_recordings(config: SegmentConfig) -> Row:
    """Write the corpus; returns what segment.json says: recordings, rows, seconds, rejects by reason, recipe ...

    Raises:
        InputError: a source that is not there or holds no recordings, a recogniser that cannot be had, or not one good
            segment in all of them.
    """
    recordings = _find_recordings(config)
    recogniser = load_recogniser(
        config.asr, revision=config.asr_revision, language=config.asr_language, device=single_device()
    )
    detector, meter = SpeechDetector(), LoudnessMeter()
    rows, rejects, heard = [], [], Counter()
    with staged_folder(config.output_dir, overwrite=config.overwrite_output_dir) as folder:
        candidates = _candidates(recordings, detector, meter=meter, config=config, heard=heard)
        for row, waveform in _transcribed(candidates, recogniser=recogniser, config=config):
            if "reason" in row:
                rejects.append(row)
                continue
            write_wav(folder / row["file_name"], waveform)
            rows.append(row)
        if not rows:
            raise InputError(
                f"no segment is left of {len(recordings)} recordings: {count_reasons(rejects)}; "
                f"the first: {rejects[0]}"
            )
        record = {
            "sources": config.sources,
            "recordings": len(recordings),
            "recorded_seconds": round(heard["seconds"], 2),
            "asr": config.asr,
            "asr_revision": recogniser.revision,
            "vad": detector.revision,
            "recipe": asdict(config),
            "git_commit": git_commit(),
            "versions": library_versions(),
        }
        return write_lists(folder, rows, rejects, record=record)


def _find_recordings(config: SegmentConfig) -> list[tuple[Path, str, Row]]:
    """(path, name for ids, row so far) of every recording in the sources, in the order of their paths."""
    recordings, names = [], set()
    output = Path(config.output_dir).expanduser().resolve()
    for index, source in enumerate(config.sources):
        source = {"path": source} if isinstance(source, str) else source
        folder = Path(source["path"]).expanduser()
        if not folder.is_dir():
            raise InputError(f"sources: no such folder: {source['path']}")
        if output.is_relative_to(folder.resolve()):
            raise InputError(f"output_dir {config.output_dir} lies in {source['path']}, whose recordings are read")
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
        found = [path for path in files if path.suffix.lower() in SUFFIXES]
        if not found:
            raise InputError(
                f"sources: no recordings in {source['path']}: {len(files)} files, none of them named "
                f"{', '.join(sorted(SUFFIXES))}"
            )
        if len(found) < len(files):
            logger.warning("%s: %d files are no recordings by their names", source["path"], len(files) - len(found))
        constants = {key: source.get(key) for key in CONSTANTS} | {
            "language": source.get("language", config.asr_language)
        }
        for path in found:
            inner = path.relative_to(folder)
            label = os.fsencode(inner.as_posix()).decode(errors="backslashreplace")
            speaker = label.removesuffix(path.suffix) if config.speaker_per_file else constants["speaker"]
            prefix = f"{index}-" if len(config.sources) > 1 else ""
            name = prefix + _fit(label.removesuffix(path.suffix))
            while name in names:  # a.wav beside a.mp3
                name += "_"
            names.add(name)
            recordings.append((path, name, {"file": label} | constants | {"speaker": speaker}))
    return recordings


def _candidates(
    recordings: Iterable[tuple[Path, str, Row]],
    detector: SpeechDetector,
    *,
    meter: LoudnessMeter,
    config: SegmentConfig,
    heard: Counter,
) -> Iterator[tuple[Row, Tensor | None]]:
    """Every segment of every recording: measured, and with its waveform (N,), or with the reason of a reject."""
    hashes = {}
    for path, name, row in tqdm(recordings, desc="Segmenting", unit=" files"):
        nowhere = {"id": None, "start": None, "end": None}
        try:
            with Recording(path) as recording:
                digest = sha256_file(path)
                if digest in hashes:
                    raise InputError(f"same recording: {hashes[digest]} has it too")
                hashes[digest] = row["file"]
                heard["seconds"] += recording.seconds
                probabilities, powers = detector.frames(recording.pieces(VAD_RATE))
                segments = cut_segments(
                    probabilities,
                    frame_seconds=FRAME_SECONDS,
                    min_seconds=config.min_seconds,
                    max_seconds=config.max_seconds,
                    min_pause=config.min_pause,
                    max_pause=config.max_pause,
                )
                if not segments:
                    raise InputError(f"nobody speaks: in none of {recording.seconds:.1f} s")
                for segment in segments:
                    # In milliseconds: an id that a list names means the same sound in a later run, or nothing.
                    segment_id = f"{name}-{round(segment.start * 1000):08d}-{round(segment.end * 1000):08d}"
                    found = row | {"id": segment_id, "start": segment.start, "end": segment.end}
                    sound = _sound(segment, recording, frames=(probabilities, powers), meter=meter)
                    yield _levelled(found | sound[0], sound[1], flaw=segment.flaw, config=config)
        except InputError as error:
            yield row | nowhere | {"reason": str(error)}, None


def _sound(
    segment: Segment, recording: Recording, *, frames: tuple[Tensor, Tensor], meter: LoudnessMeter
) -> tuple[Row, Tensor]:
    """What is measured on a segment's sound, and its waveform (N,)."""
    waveform, clipped = recording.span(segment.start, min(segment.end, recording.seconds), rate=SAMPLE_RATE)
    probabilities, powers = (_frames_between(each, segment.start, segment.end) for each in frames)
    around = _frames_between(frames[1], segment.start - 1, segment.end + 1)
    speaks = probabilities >= SPEECH_STARTS
    loudness = meter.lufs(waveform)
    return {
        "duration": round(len(waveform) / SAMPLE_RATE, 3),
        "speech_probability": round(float(probabilities.mean()), 3),
        "silence_share": round(1 - float(speaks.float().mean()), 3),
        "snr_db": round(_decibels(powers[speaks].mean()) - _decibels(around.quantile(0.1)), 1),
        "clipped_share": round(clipped, 6),
        "loudness_lufs": None if loudness is None else round(loudness, 1),
    }, waveform


def _levelled(row: Row, waveform: Tensor, *, flaw: str | None, config: SegmentConfig) -> tuple[Row, Tensor | None]:
    """A measured segment at the recipe's loudness and with faded ends, or with the reason of a reject."""
    reason = flaw or _out_of_bounds(row, _SOUND_BOUNDS, config)
    if reason is None and row["loudness_lufs"] is None:
        reason = "too quiet: it has no loudness"
    if reason is not None:
        return row | {"reason": reason}, None
    row["gain_db"] = 0.0
    if config.target_lufs is not None:
        row["gain_db"] = round(gain_db(waveform, loudness=row["loudness_lufs"], target=config.target_lufs), 1)
    waveform = waveform * 10 ** (row["gain_db"] / 20)
    return row, faded(waveform, num_samples=round(FADE_SECONDS * SAMPLE_RATE))


def _transcribed(
    candidates: Iterable[tuple[Row, Tensor | None]], *, recogniser: Recogniser, config: SegmentConfig
) -> Iterator[tuple[Row, Tensor | None]]:
    """The candidates, those with a waveform as rows of the corpus, or with the reason why they are none."""
    candidates = iter(candidates)
    while batch := list(islice(candidates, BATCH_SIZE)):
        waveforms = [waveform for _, waveform in batch if waveform is not None]
        texts = recogniser.transcribe(waveforms)
        again = recogniser.transcribe([slowed(waveform) for waveform in waveforms])
        errors = utterance_errors(texts, again, normalizer=config.normalizer)
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
            reason = "no words: the recogniser hears none" if error.rate is None else None
            reason = reason or _out_of_bounds(row, _TEXT_BOUNDS, config)
            yield row | ({} if reason is None else {"reason": reason}), waveform


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


def _fit(label: str) -> str:
    return re.sub(r"[^\w.-]+", "_", PurePath(label).as_posix()).lstrip(".")
