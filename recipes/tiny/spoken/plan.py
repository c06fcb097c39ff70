"""Which voice says what, how fast, and the clips that come of it: audio/<voice>/<number>.flac and metadata.jsonl."""

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
# Beside the voices themselves: a recording that is heard faster or slower, and so higher or lower, is another's voice.
SPEEDS = (0.86, 0.93, 1.0, 1.07, 1.15)
LENGTHS = {4: "short", 8: "medium", 14: "long"}  # most words of each; a first stage of training takes the short ones


@dataclass(frozen=True)
class Clip:
    number: int  # in the whole corpus, over all shards
    text: str
    origin: str
    voice: str
    is_described: bool = True  # the voice is told by its scene, and not by a clip of it
    speed: float = 1.0

    @property
    def speaker(self) -> str:
        return self.voice if self.speed == 1.0 else f"{self.voice}_{self.speed}"

    @property
    def file_name(self) -> str:
        return f"audio/{self.voice}/{self.number:07d}.flac"


def plan_hours(shares: Mapping[str, float], *, hours: float, wordnet: Path, seed: int) -> Iterator[Clip]:
    """Each next text goes to the voice that is furthest behind its share of the hours, by estimate.

    Half the clips have no scene and a drawn speed: what tells its voice is another clip of the same, so that cloning
    is learned from the sound and from more voices than there are.
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
    """Every voice reads every sentence: to judge by, never to train on."""
    for place, line in enumerate(harvard_lists(first, last)):
        for index, voice in enumerate(voices):
            number = ((first - 1) * LIST_SIZE + place) * len(voices) + index
            yield Clip(number, line, HARVARD_ORIGIN, voice, is_described)


def speak(folder: Path, clip: Clip) -> tuple[Clip, float]:
    """Writes the clip unless it is there; gives its length in seconds."""
    path = folder / clip.file_name
    if not path.exists():
        try:
            samples, rate = VOICES[clip.voice].speak(clip.text)
            samples = prepare(samples, round(rate * clip.speed / 10) * 10)  # in tens of Hz, as resample takes them
        except ValueError as error:
            raise ValueError(f"{clip.voice} reading {clip.text!r}: {error}") from error
        part = path.with_suffix(".part")
        soundfile.write(part, samples, RATE, format="FLAC", subtype="PCM_16")
        part.rename(path)  # a run that is cut off leaves no half clip under its name
    return clip, soundfile.info(path).duration


def metadata_row(clip: Clip) -> dict[str, str | None]:
    """A described voice is told by its scene alone; what the others teach, the recipe of encode draws."""
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
    """Speaks all clips and writes the metadata last, so that a folder with metadata is whole."""
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
