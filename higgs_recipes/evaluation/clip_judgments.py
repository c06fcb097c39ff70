"""What the judges hear in clips: the words, and the voice of each clip or, in a dialogue, of each turn."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from higgs_recipes.audio.asr import ASRModel
from higgs_recipes.audio.speaker import SpeakerModel
from higgs_recipes.audio.word_errors import WordErrors, utterance_errors
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.turn_alignment import spoken_text, turn_spans, turn_texts


MIN_TURN_SECONDS = 1.0  # a shorter span says too little about a voice

Span = tuple[float, float]  # start and end in seconds


@dataclass(frozen=True)
class Part:
    """What one speaker says in a clip: all of it, or a turn of a dialogue.

    Attributes:
        span: None of a turn that was not found.
        embedding: of the voice; None where `state` is not "heard".
        state: "no_voice" where there is sound and the speaker model finds no voice in it.
    """

    speaker: str | None
    span: Span | None
    embedding: Tensor | None
    state: Literal["heard", "not_found", "too_short", "no_voice"]


@dataclass(frozen=True)
class Transcription:
    """What was heard in one clip; `parts` has one for a single speaker, and one for each turn of a dialogue."""

    transcript: str
    words: WordErrors
    characters: WordErrors
    parts: list[Part]


def check_turn_speakers(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise `InputError` unless each dialogue names a speaker, known or None, for each turn of its text."""
    for row in rows:
        num_turns, num_speakers = len(turn_texts(row["text"])), len(row["turn_speakers"])
        if num_speakers and num_turns != num_speakers:
            raise InputError(
                f"row {row['id']}: {num_turns} turns in its text and {num_speakers} turn_speakers; encode it again"
            )


def hear(
    rows: Sequence[Mapping[str, Any]],
    waveforms: Sequence[Tensor],
    *,
    asr_model: ASRModel,
    speaker_model: SpeakerModel,
    normalizer: str,
) -> list[Transcription]:
    """What is heard in the clips (N_i,) of the rows: `text`, `speaker` and `turn_speakers`, empty where a row is no
    dialogue. The tags of a dialogue are not read out, and no words of its reference.

    Raises:
        InputError: as `check_turn_speakers`.
    """
    check_turn_speakers(rows)
    recognized = _recognize(rows, waveforms, asr_model=asr_model, normalizer=normalizer)
    transcripts = [transcript for transcript, _ in recognized]
    texts = [spoken_text(row["text"]) for row in rows]
    words = utterance_errors(texts, transcripts, normalizer=normalizer)
    characters = utterance_errors(texts, transcripts, normalizer=normalizer, unit="character")
    states = [
        [_state(span, is_turn=bool(row["turn_speakers"])) for span in spans]
        for row, (_, spans) in zip(rows, recognized, strict=True)
    ]
    pieces = [
        _cut(waveform, span if state == "heard" else (0.0, 0.0))
        for waveform, (_, spans), of_row in zip(waveforms, recognized, states, strict=True)
        for span, state in zip(spans, of_row, strict=True)
    ]
    embeddings = iter(speaker_model.embed(pieces))
    heard = []
    for index, (row, (transcript, spans)) in enumerate(zip(rows, recognized, strict=True)):
        parts = []
        for speaker, span, state in zip(row["turn_speakers"] or [row["speaker"]], spans, states[index], strict=True):
            embedding = next(embeddings)
            is_mute = state == "heard" and embedding is None
            parts.append(Part(speaker, span, embedding, "no_voice" if is_mute else state))
        heard.append(Transcription(transcript, words[index], characters[index], parts))
    return heard


def _recognize(
    rows: Sequence[Mapping[str, Any]], waveforms: Sequence[Tensor], *, asr_model: ASRModel, normalizer: str
) -> list[tuple[str, list[Span | None]]]:
    """For each row its transcript and where its parts lie."""
    dialogues = [index for index, row in enumerate(rows) if row["turn_speakers"]]
    singles = [index for index, row in enumerate(rows) if not row["turn_speakers"]]
    recognized: dict[int, tuple[str, list[Span | None]]] = {}
    # Not every ASR model can time words; those of single clips need no times.
    timed = asr_model.timed_words([waveforms[index] for index in dialogues]) if dialogues else []
    for index, words in zip(dialogues, timed, strict=True):
        spans = turn_spans(turn_texts(rows[index]["text"]), words, normalizer=normalizer)
        recognized[index] = " ".join(word.text for word in words), spans
    for index, transcript in zip(singles, asr_model.transcribe([waveforms[index] for index in singles]), strict=True):
        recognized[index] = transcript, [(0.0, len(waveforms[index]) / SAMPLE_RATE)]
    return [recognized[index] for index in range(len(rows))]


def _state(span: Span | None, *, is_turn: bool) -> Literal["heard", "not_found", "too_short"]:
    if span is None:
        return "not_found"
    return "too_short" if is_turn and span[1] - span[0] < MIN_TURN_SECONDS else "heard"


def _cut(waveform: Tensor, span: Span) -> Tensor:
    start, end = (round(edge * SAMPLE_RATE) for edge in span)
    return waveform[start:end]


class SpeakerCentroids:
    """The voice of each speaker, as the held-out recordings have it.

    Args:
        recorded: what was heard in the recordings; of a dialogue each turn is one of its speaker.
    """

    def __init__(self, recorded: Sequence[Transcription]) -> None:
        found: dict[str, list[tuple[int, Tensor]]] = defaultdict(list)
        for row, heard in enumerate(recorded):
            for part in heard.parts:
                if part.speaker is not None and part.embedding is not None:
                    found[part.speaker].append((row, part.embedding))
        self.speakers = sorted(found)
        self._rows = {speaker: torch.tensor([row for row, _ in found[speaker]]) for speaker in found}
        self._embeddings = {speaker: torch.stack([each for _, each in found[speaker]]) for speaker in found}

    def of(self, speaker: str | None, *, without: int) -> Tensor | None:
        """The mean embedding (D,) of the speaker's recordings but those of the row `without`; None if none is left."""
        if speaker not in self._rows:
            return None
        others = self._embeddings[speaker][self._rows[speaker] != without]
        return others.mean(dim=0) if len(others) else None

    def similarity(self, part: Part, *, without: int) -> float | None:
        """The cosine of a part to its own speaker's voice."""
        own = self.of(part.speaker, without=without)
        return None if part.embedding is None or own is None else _cosine(part.embedding, own)

    def nearest(self, part: Part, speakers: Sequence[str | None], *, without: int) -> str | None:
        """Whose voice of these speakers a part is nearest to; None where it has no voice, its own speaker has none, or
        no other speaker has."""
        voices = {speaker: self.of(speaker, without=without) for speaker in dict.fromkeys(speakers)}
        known = {speaker: voice for speaker, voice in voices.items() if voice is not None}
        if part.embedding is None or part.speaker not in known or len(known) < 2:
            return None
        return max(known, key=lambda speaker: _cosine(part.embedding, known[speaker]))


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(one, other, dim=0))
