"""Judge clips with an ASR model and a speaker model: the transcript, and the voice of each speaker segment."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from higgs_recipes.audio.asr import ASRModel
from higgs_recipes.audio.speaker import SpeakerModel
from higgs_recipes.audio.word_errors import ErrorCounts, utterance_errors
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.turn_alignment import (
    spoken_text,
    text_before_turns,
    turn_spans,
    turn_texts,
    turn_units,
)
from higgs_recipes.normalizers import TextRule
from higgs_recipes.shared_work import map_shared


MIN_TURN_SECONDS = 1.0  # the embedding of a shorter turn is not reliable

Span = tuple[float, float]  # start and end in seconds
State = Literal["heard", "empty", "not_found", "too_short", "no_voice"]


@dataclass(frozen=True)
class SpeakerSegment:
    """The part of a clip that one speaker speaks: the whole clip, or one turn of a dialogue.

    Attributes:
        speaker: None if unknown.
        span: None if the turn was not found in the clip.
        embedding: speaker embedding (D,); None unless `state` is "heard".
        state: "heard" if the segment has an embedding, "no_voice" if the speaker model finds no voice in it, "empty"
            for a turn without words, which cannot be found.
    """

    speaker: str | None
    span: Span | None
    embedding: Tensor | None
    state: State


@dataclass(frozen=True)
class Transcription:
    """One judged clip.

    Attributes:
        text: the spoken text, without speaker tags.
        transcript: the words that the ASR model recognized.
        word_errors, character_errors: of the transcript against the text.
        segments: one for a single speaker, one per turn for a dialogue.
    """

    text: str
    transcript: str
    word_errors: ErrorCounts
    character_errors: ErrorCounts
    segments: list[SpeakerSegment]


def check_turn_speakers(rows: Sequence[Mapping[str, Any]]) -> None:
    """Check that each dialogue has one entry in `turn_speakers` (a name or None) per turn of its text.

    Raises:
        InputError: the numbers of turns and entries differ, or there is text before the first turn; names the row.
    """
    for row in rows:
        before = text_before_turns(row["text"])
        if row["turn_speakers"] and before:
            raise InputError(
                f"row {row['id']}: text before the first speaker tag, which belongs to no turn: {before!r}; correct "
                "it and encode the corpus again"
            )
        num_turns, num_speakers = len(turn_texts(row["text"])), len(row["turn_speakers"])
        if num_speakers and num_turns != num_speakers:
            raise InputError(
                f"row {row['id']}: the text has {num_turns} turns and turn_speakers has {num_speakers} entries; "
                "encode the corpus again"
            )


def judge_clips(
    rows: Sequence[Mapping[str, Any]],
    waveforms: Sequence[Tensor],
    *,
    asr_model: ASRModel,
    speaker_model: SpeakerModel | None,
    rules: Sequence[TextRule],
) -> list[Transcription]:
    """Transcribe the clips and embed the voices in them. Several processes share the clips.

    Args:
        rows: `text`, `speaker` and `turn_speakers` (empty unless the row is a dialogue) of each clip.
        waveforms: the clips (N_i,).
        speaker_model: None: without embeddings.
        rules: language, normalizer and unit of each text.

    Raises:
        InputError: as `check_turn_speakers`, or the ASR model does not transcribe a language.
    """
    check_turn_speakers(rows)
    texts = [spoken_text(row["text"]) for row in rows]
    transcripts, spans = _transcribe(rows, waveforms, asr_model=asr_model, rules=rules)
    word_errors, character_errors = (
        utterance_errors(texts, transcripts, rules=rules, unit=unit) for unit in ("word", "character")
    )
    states = [
        [_state(span, text, rule=rule) for span, text in zip(clip_spans, turn_texts(row["text"]), strict=True)]
        if row["turn_speakers"]
        else ["heard"]
        for row, clip_spans, rule in zip(rows, spans, rules, strict=True)
    ]
    segments = _speaker_segments(rows, waveforms, spans, states, speaker_model=speaker_model)
    columns = (texts, transcripts, word_errors, character_errors, segments)
    return [Transcription(*fields) for fields in zip(*columns, strict=True)]


def _transcribe(
    rows: Sequence[Mapping[str, Any]],
    waveforms: Sequence[Tensor],
    *,
    asr_model: ASRModel,
    rules: Sequence[TextRule],
) -> tuple[list[str], list[list[Span | None]]]:
    """The transcript of each clip, and the spans of its speaker segments."""
    # Only dialogues need word times, which not every ASR model has.
    groups: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for index, (row, rule) in enumerate(zip(rows, rules, strict=True)):
        groups[rule.language, bool(row["turn_speakers"])].append(index)
    transcripts: dict[int, str] = {}
    spans: dict[int, list[Span | None]] = {}
    for (language, are_dialogues), indexes in groups.items():
        clips = [waveforms[index] for index in indexes]
        if are_dialogues:
            timed_words = map_shared(partial(asr_model.timed_words, language=language), clips)
            for index, words in zip(indexes, timed_words, strict=True):
                transcripts[index] = _word_separator(rules[index]).join(word.text for word in words)
                spans[index] = turn_spans(turn_texts(rows[index]["text"]), words, rule=rules[index])
        else:
            found = map_shared(partial(asr_model.transcribe, language=language), clips)
            transcripts |= zip(indexes, found, strict=True)
            spans |= {index: [(0.0, len(waveforms[index]) / SAMPLE_RATE)] for index in indexes}
    return [transcripts[index] for index in range(len(rows))], [spans[index] for index in range(len(rows))]


def _word_separator(rule: TextRule) -> str:
    """The separator between the timed words of a transcript. Korean has spaces, though its errors are in syllables."""
    return "" if rule.unit == "character" and rule.language != "ko" else " "


def _speaker_segments(
    rows: Sequence[Mapping[str, Any]],
    waveforms: Sequence[Tensor],
    spans: Sequence[Sequence[Span | None]],
    states: Sequence[Sequence[State]],
    *,
    speaker_model: SpeakerModel | None,
) -> list[list[SpeakerSegment]]:
    """The segments of each clip, from their spans. The speaker model runs once, on all of them."""
    audio = [
        _cut(waveform, span) if state == "heard" else waveform[:0]
        for waveform, clip_spans, clip_states in zip(waveforms, spans, states, strict=True)
        for span, state in zip(clip_spans, clip_states, strict=True)
    ]
    embeddings = iter([None] * len(audio) if speaker_model is None else map_shared(speaker_model.embed, audio))
    segments = []
    for row, clip_spans, clip_states in zip(rows, spans, states, strict=True):
        speakers = row["turn_speakers"] or [row["speaker"]]
        segments.append(
            [
                _segment(speaker, span, next(embeddings), state)
                for speaker, span, state in zip(speakers, clip_spans, clip_states, strict=True)
            ]
        )
    return segments


def _state(span: Span | None, text: str, *, rule: TextRule) -> State:
    """The state of a turn before its embedding is known."""
    if span is None:
        return "not_found" if turn_units(text, rule=rule) else "empty"
    return "too_short" if span[1] - span[0] < MIN_TURN_SECONDS else "heard"


def _segment(speaker: str | None, span: Span | None, embedding: Tensor | None, state: State) -> SpeakerSegment:
    has_no_voice = state == "heard" and embedding is None
    return SpeakerSegment(speaker, span, embedding, "no_voice" if has_no_voice else state)


def _cut(waveform: Tensor, span: Span) -> Tensor:
    start, end = (round(seconds * SAMPLE_RATE) for seconds in span)
    return waveform[start:end]


class SpeakerCentroids:
    """The mean embedding of each speaker over the real recordings.

    Args:
        recordings: the judged recordings. Each turn of a dialogue counts as a recording of its speaker.
    """

    def __init__(self, recordings: Sequence[Transcription]) -> None:
        by_speaker: dict[str, list[tuple[int, Tensor]]] = defaultdict(list)
        for row_index, recording in enumerate(recordings):
            for segment in recording.segments:
                if segment.speaker is not None and segment.embedding is not None:
                    by_speaker[segment.speaker].append((row_index, segment.embedding))
        self.speakers = sorted(by_speaker)
        self._row_indexes = {
            speaker: torch.tensor([index for index, _ in pairs]) for speaker, pairs in by_speaker.items()
        }
        self._embeddings = {
            speaker: torch.stack([embedding for _, embedding in pairs]) for speaker, pairs in by_speaker.items()
        }

    def centroid(self, speaker: str | None, *, without: int) -> Tensor | None:
        """The speaker's mean embedding (D,) over all rows except `without`; None if no other row has the speaker."""
        if speaker not in self._row_indexes:
            return None
        embeddings = self._embeddings[speaker][self._row_indexes[speaker] != without]
        return embeddings.mean(dim=0) if len(embeddings) else None

    def similarity(self, segment: SpeakerSegment, *, without: int) -> float | None:
        """The cosine of a segment's embedding and its own speaker's centroid; None if either is missing."""
        own = self.centroid(segment.speaker, without=without)
        return None if segment.embedding is None or own is None else _cosine(segment.embedding, own)

    def nearest(self, segment: SpeakerSegment, speakers: Sequence[str | None], *, without: int) -> str | None:
        """The speaker, of `speakers`, whose centroid is closest to a segment's embedding.

        None if the segment has no embedding, its own speaker has no centroid, or no other speaker has one.
        """
        centroids = {speaker: self.centroid(speaker, without=without) for speaker in dict.fromkeys(speakers)}
        known = {speaker: centroid for speaker, centroid in centroids.items() if centroid is not None}
        if segment.embedding is None or segment.speaker not in known or len(known) < 2:
            return None
        return max(known, key=lambda speaker: _cosine(segment.embedding, known[speaker]))


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(one, other, dim=0))
