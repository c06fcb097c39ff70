"""Plan which voice reads which text and how fast, and make the clips: audio/<voice>/<number>.flac, metadata.jsonl."""

import json
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import soundfile

from .clips import LEAD_SECONDS, RATE, TRAIL_SECONDS, prepare
from .texts import LIST_SIZE, base_texts, harvard_lists
from .voices import BASE_VOICES, DEMO_VOICES, EXTRA_VOICES


VOICES = BASE_VOICES | EXTRA_VOICES | DEMO_VOICES
HARVARD_ORIGIN = "Harvard sentences"
# A recording that is played faster or slower, and so higher or lower, is a different voice.
SPEEDS = (0.86, 0.93, 1.0, 1.07, 1.15)
LENGTHS = {4: "short", 8: "medium", 14: "long"}  # maximum number of words of each


@dataclass(frozen=True)
class Clip:
    number: int  # in the whole corpus, across shards
    text: str
    origin: str
    voice: str
    is_described: bool = True  # the voice is described by a scene, not by a reference clip
    speed: float = 1.0

    @property
    def speaker(self) -> str:
        return self.voice if self.speed == 1.0 else f"{self.voice}_{self.speed}"

    @property
    def file_name(self) -> str:
        return f"audio/{self.voice}/{self.number:07d}.flac"


def plan_hours(shares: Mapping[str, float], *, hours: float, wordnet: Path, seed: int) -> Iterator[Clip]:
    """Assign each text to the voice that is furthest behind its share of the hours, by estimate.

    Half the clips have no scene and a random speed. Only another clip identifies their voice, so that cloning is
    trained on audio and on more voices than the synthesizers have.
    """
    spoken = dict.fromkeys(shares, 0.0)  # seconds over share
    total = 0.0
    for number, text in enumerate(base_texts(wordnet, seed=seed)):
        if total >= hours * 3600:
            return
        voice = min(spoken, key=spoken.__getitem__)
        draw = random.Random(f"{seed} {number}")
        is_described = draw.random() < 0.5
        speed = 1.0 if is_described else draw.choice(SPEEDS)
        seconds = LEAD_SECONDS + TRAIL_SECONDS + len(text.words) / VOICES[voice].letters_per_second / speed
        spoken[voice] += seconds / shares[voice]
        total += seconds
        yield Clip(number, text.words, text.origin, voice, is_described, speed)


def plan_harvard(voices: list[str], *, first: int, last: int, is_described: bool) -> Iterator[Clip]:
    """Let every voice read every sentence: for evaluation, never for training."""
    for place, line in enumerate(harvard_lists(first, last)):
        for index, voice in enumerate(voices):
            number = ((first - 1) * LIST_SIZE + place) * len(voices) + index
            yield Clip(number, line, HARVARD_ORIGIN, voice, is_described)


def speak(folder: Path, clip: Clip) -> tuple[Clip, float]:
    """Write the clip unless it exists; return it with its length in seconds."""
    path = folder / clip.file_name
    if not path.exists():
        try:
            samples, rate = VOICES[clip.voice].speak(clip.text)
            samples = prepare(samples, round(rate * clip.speed / 10) * 10)  # a multiple of 10 Hz, for resample
        except ValueError as error:
            raise ValueError(f"{clip.voice} reading {clip.text!r}: {error}") from error
        part = path.with_suffix(".part")
        soundfile.write(part, samples, RATE, format="FLAC", subtype="PCM_16")
        part.rename(path)  # an interrupted run leaves no partial clip under this name
    return clip, soundfile.info(path).duration


def metadata_row(clip: Clip) -> dict[str, str | None]:
    """The metadata of a clip. Rows without a scene get their task from the recipe of encode."""
    words = len(clip.text.split())
    return {
        "file_name": clip.file_name,
        "text": clip.text,
        "speaker": clip.speaker,
        "language": "en",
        "gender": VOICES[clip.voice].gender,
        "scene": VOICES[clip.voice].scene if clip.is_described else None,
        "task": "single_speaker_smart_voice" if clip.is_described else None,
        "length": next(name for most, name in LENGTHS.items() if words <= most),
        "origin": clip.origin,
    }


def make_corpus(clips: list[Clip], folder: Path, *, workers: int) -> None:
    """Make all clips and write the metadata last, so that a folder with metadata is complete."""
    for voice in {clip.voice for clip in clips}:
        (folder / "audio" / voice).mkdir(parents=True, exist_ok=True)
    seconds: Counter[str] = Counter()
    start = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        spoken = pool.imap_unordered(partial(speak, folder), clips, chunksize=16)
        for done, (clip, length) in enumerate(spoken, start=1):
            seconds[clip.voice] += length
            if done % 2000 == 0 or done == len(clips):
                passed = time.monotonic() - start
                rate = seconds.total() / passed
                print(f"{done}/{len(clips)} clips, {seconds.total() / 3600:.2f} h, {rate:.0f} x real time", flush=True)
    with open(folder / "metadata.jsonl", "w", encoding="utf-8") as metadata:
        metadata.writelines(json.dumps(metadata_row(clip)) + "\n" for clip in clips)
    letters = Counter()
    for clip in clips:
        letters[clip.voice] += len(clip.text) / clip.speed
    for voice, length in sorted(seconds.items()):
        count = sum(clip.voice == voice for clip in clips)
        pace = letters[voice] / (length - count * (LEAD_SECONDS + TRAIL_SECONDS))
        print(f"{voice}: {count} clips, {length / 3600:.3f} h, {pace:.2f} letters a second")
