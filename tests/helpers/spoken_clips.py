"""Clips whose transcript and voice are encoded in their first two samples, with the metric models that read them."""

import torch
from torch import Tensor

from higgs_recipes.audio.asr import Word
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.evaluation.scoring import SpokenClip


WORDS = ("", "one", "two", "three")
WORD_SECONDS = 1.5  # length of a word in a dialogue
SINGLE, DIALOGUE = "single_speaker_smart_voice", "multi_speaker_smart_voice"


class NumberASRModel:
    """Transcribes a clip as the word whose index in `WORDS` is its first sample."""

    revision, window_seconds, spelling = "1", 30.0, None

    def __init__(self) -> None:
        self.languages: list[str] = []  # of the calls

    def check_language(self, language: str) -> None:
        pass

    def transcribe(self, waveforms: list[Tensor], *, language: str) -> list[str]:
        self.languages.append(language)
        return [WORDS[int(waveform[0])] if len(waveform) else "" for waveform in waveforms]

    def timed_words(self, waveforms: list[Tensor], *, language: str) -> list[list[Word]]:
        """One word per `WORD_SECONDS`, given by the first sample of that stretch."""
        self.languages.append(language)
        word_samples = round(WORD_SECONDS * SAMPLE_RATE)
        return [
            [
                Word(WORDS[int(piece[0])], WORD_SECONDS * index, WORD_SECONDS * (index + 1))
                for index, piece in enumerate(waveform.split(word_samples))
            ]
            for waveform in waveforms
        ]


class AngleSpeakerModel:
    """The embedding of a clip is the unit vector with the angle of its second sample; none if that is negative."""

    revision, score_name = "1", "cosine_of_angles"

    def embed(self, waveforms: list[Tensor]) -> list[Tensor | None]:
        return [
            torch.stack([waveform[1].cos(), waveform[1].sin()]) if len(waveform) and waveform[1] >= 0 else None
            for waveform in waveforms
        ]


def clip(word: int, angle: float, *, seconds: float = 1.0, stopped: bool | None = None) -> SpokenClip:
    """A clip of one word, in the voice of `angle`."""
    waveform = torch.zeros(round(seconds * SAMPLE_RATE))
    waveform[:2] = torch.tensor([float(word), angle])
    return SpokenClip(waveform, stopped)


def turn(word: int, angle: float) -> SpokenClip:
    """A turn of one word."""
    return clip(word, angle, seconds=WORD_SECONDS)


def dialogue(*turns: SpokenClip, stopped: bool | None = None) -> SpokenClip:
    """The turns as one clip."""
    return SpokenClip(torch.cat([turn.waveform for turn in turns]), stopped)


def row(name: str, text: str, speaker: str | None, *, turn_speakers: tuple[str | None, ...] = ()) -> dict:
    """A row to score; a dialogue if it has `turn_speakers`."""
    task = DIALOGUE if turn_speakers else SINGLE
    return {
        "id": name,
        "text": text,
        "speaker": speaker,
        "seed": 0,
        "task": task,
        "turn_speakers": list(turn_speakers),
    }
