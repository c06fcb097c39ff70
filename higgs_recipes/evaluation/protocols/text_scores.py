"""Score the clips of a benchmark's texts: words, similarity to the reference clips, the voices of dialogues."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from higgs_recipes.audio.io import read_first_channel
from higgs_recipes.audio.pretrained import METRIC_MODEL_RATE
from higgs_recipes.audio.word_errors import ErrorCounts, utterance_errors
from higgs_recipes.chatml import SPEAKER_TAG
from higgs_recipes.evaluation.clip_judgments import Transcription, judge_clips
from higgs_recipes.evaluation.models import Models
from higgs_recipes.evaluation.protocols.benchmark import BenchmarkText
from higgs_recipes.evaluation.protocols.dialogue_scores import DialogueVoices, dialogue_voices
from higgs_recipes.evaluation.scores import (
    corpus_rate,
    has_all_turns,
    indexes_by_value,
    mean_score,
    share_score,
    transcript_fields,
    turn_entry,
)
from higgs_recipes.evaluation.scoring import SpokenClip
from higgs_recipes.normalizers import TextRule
from higgs_recipes.shared_work import map_shared, shared_errors


HIGH_RATE = 0.5
RECORDED = ("real", "codec")


@dataclass(frozen=True)
class ScoredText:
    """The clip of one text with its scores.

    Attributes:
        clip: None if it is missing.
        similarity: to the reference clip; None without one.
        voices: of a dialogue.
    """

    clip: SpokenClip | None
    transcription: Transcription
    similarity: float | None
    voices: DialogueVoices | None


def score_texts(
    texts: Sequence[BenchmarkText],
    clips: Mapping[str, Sequence[SpokenClip]],
    *,
    models: Models,
    rules: Sequence[TextRule],
    similarity: str,
    simplify: Callable[[str], str] = str,
    recordings: Sequence[Tensor] | None = None,
    groups: Sequence[str] = (),
) -> dict[str, Any]:
    """The fields `rows`, `clips` and `by_<group>` of metrics.json.

    Args:
        clips: one per text of each system; without samples if it is missing.
        rules: language, normalizer and unit of each text.
        similarity: name of the metric that is the cosine to the reference clip.
        simplify: applied to every transcript before it is normalized.
        recordings: of the system "real", at 16 kHz, resampled once; None: from its clips.
        groups: names of `BenchmarkText.columns` whose values have scores of their own.
    """
    references = reference_voices(texts, models)
    scored = {
        system: _score_system(texts, system_clips, references, models=models, rules=rules, simplify=simplify)
        for system, system_clips in clips.items()
    }
    if recordings is not None:
        scored["real"] = [
            _with_voice(text, voice, own)
            for text, voice, own in zip(
                scored["real"], map_shared(models.speaker.embed_resampled, recordings), references, strict=True
            )
        ]

    def summary(indexes: Sequence[int]) -> dict[str, dict[str, Any]]:
        return {
            system: _scores(
                [of[index] for index in indexes],
                is_generated=system not in RECORDED,
                similarity=similarity if any(texts[index].ref_audio for index in indexes) else None,
            )
            for system, of in scored.items()
        }

    entries = [_entry(text, rule) for text, rule in zip(texts, rules, strict=True)]
    for system, of in scored.items():
        for entry, text in zip(entries, of, strict=True):
            entry[system] = clip_entry(text)
    grouped = {
        f"by_{group}": {value: summary(indexes) for value, indexes in group_indexes(texts, group).items()}
        for group in groups
    }
    return {"rows": summary(range(len(texts))), "clips": entries, **grouped}


def group_indexes(texts: Sequence[BenchmarkText], group: str) -> dict[str, list[int]]:
    """The texts of each value of a column, sorted by value; empty if there are fewer than two values."""
    return indexes_by_value([str((text.columns or {})[group]) for text in texts])


def reference_voices(texts: Sequence[BenchmarkText], models: Models) -> list[dict[str, Tensor | None]]:
    """The embedding of each reference clip of each text, by its speaker tag."""
    if models.speaker is None:
        return [{} for _ in texts]
    with shared_errors():
        clips = [
            read_first_channel(source, name=f"row {text.id}, reference {number}", rate=METRIC_MODEL_RATE)
            for text in texts
            for number, source in enumerate(text.ref_audio)
        ]
    voices = iter(map_shared(models.speaker.embed_resampled, clips))
    return [{tag: next(voices) for tag, _ in zip(text.ref_tags, text.ref_audio, strict=False)} for text in texts]


def _score_system(
    texts: Sequence[BenchmarkText],
    clips: Sequence[SpokenClip],
    references: Sequence[Mapping[str, Tensor | None]],
    *,
    models: Models,
    rules: Sequence[TextRule],
    simplify: Callable[[str], str],
) -> list[ScoredText]:
    rows = [{"id": t.id, "text": t.text, "speaker": None, "turn_speakers": SPEAKER_TAG.findall(t.text)} for t in texts]
    judged = judge_clips(
        rows, [clip.waveform for clip in clips], asr_model=models.asr, speaker_model=models.speaker, rules=rules
    )
    judged = [_simplified(clip, rule, simplify) for clip, rule in zip(judged, rules, strict=True)]
    scored = []
    for row, clip, transcription, own in zip(rows, clips, judged, references, strict=True):
        present = clip if len(clip.waveform) else None
        if row["turn_speakers"]:
            turns = [(segment.speaker, segment.embedding) for segment in transcription.segments]
            scored.append(ScoredText(present, transcription, None, dialogue_voices(turns, own)))
        else:
            text = ScoredText(present, transcription, None, None)
            scored.append(_with_voice(text, transcription.segments[0].embedding, own))
    return scored


def _simplified(clip: Transcription, rule: TextRule, simplify: Callable[[str], str]) -> Transcription:
    transcript = simplify(clip.transcript)
    if transcript == clip.transcript:
        return clip
    (words,), (characters,) = (
        utterance_errors([clip.text], [transcript], rules=[rule], unit=unit) for unit in ("word", "character")
    )
    return Transcription(clip.text, transcript, words, characters, clip.segments)


def _with_voice(text: ScoredText, voice: Tensor | None, references: Mapping[str, Tensor | None]) -> ScoredText:
    """The text with the similarity of a voice to its first reference clip."""
    reference = next(iter(references.values()), None)
    missing = voice is None or reference is None
    similarity = None if missing else float(F.cosine_similarity(voice, reference, dim=0))
    return ScoredText(text.clip, text.transcription, similarity, text.voices)


def counted_errors(text: ScoredText) -> ErrorCounts:
    """The word errors of a text; a missing clip has the rate 100 %."""
    words = text.transcription.word_errors
    return words if text.clip is not None else ErrorCounts(words.length, words.length, words.skipped)


def word_scores(errors: Sequence[ErrorCounts], *, num_missing: int) -> dict[str, Any]:
    """`wer_macro`, `wer` and `wer_above_50` of one system.

    Args:
        errors: of each text; of a missing clip as many edits as words.
    """
    rates = [count.rate for count in errors]
    missing = {"missing": num_missing}
    return {
        "wer_macro": mean_score(rates, low=0.0, high=float("inf")) | missing,
        "wer": corpus_rate(errors) | missing,
        "wer_above_50": share_score([None if rate is None else rate > HIGH_RATE for rate in rates]) | missing,
    }


def _scores(texts: Sequence[ScoredText], *, is_generated: bool, similarity: str | None) -> dict[str, dict[str, Any]]:
    """The scores of one system on some texts, by metric. A metric that no text can have is left out."""
    scores = word_scores(list(map(counted_errors, texts)), num_missing=sum(text.clip is None for text in texts))
    singles = [text.similarity for text in texts if text.voices is None]
    if similarity is not None and singles:
        scores[similarity] = mean_score(singles, low=-1.0, high=1.0)
    dialogues = [text.voices for text in texts if text.voices is not None]
    if dialogues:
        scores["dialogue_voices"] = mean_score([voices.score for voices in dialogues], low=0.0, high=1.0)
        scores["intra_speaker"] = mean_score([voices.intra for voices in dialogues], low=0.0, high=1.0)
        scores["inter_speaker"] = mean_score([voices.dissimilarity for voices in dialogues], low=0.0, high=1.0)
        scores["turns_in_order"] = share_score(
            [has_all_turns(text.transcription.segments) for text in texts if text.voices is not None]
        )
    if is_generated:
        scores["stop_rate"] = share_score([None if text.clip is None else text.clip.stopped for text in texts])
    return scores


def _entry(text: BenchmarkText, rule: TextRule) -> dict[str, Any]:
    entry = {"id": text.id, "text": text.text, "speaker": None, "language": rule.language, "task": text.task}
    return entry | dict(text.columns or {})


def clip_entry(text: ScoredText) -> dict[str, Any]:
    """The entry of one clip in metrics.json."""
    words, voices = counted_errors(text), text.voices
    segments = text.transcription.segments if voices is not None else []
    return {
        **transcript_fields(text.transcription, words),
        "similarity": text.similarity,
        "dialogue_voices": None if voices is None else voices.score,
        "intra_speaker": None if voices is None else voices.intra,
        "inter_speaker": None if voices is None else voices.dissimilarity,
        "nearest_speaker": None,
        "stopped": None if text.clip is None else text.clip.stopped,
        "seconds": 0.0 if text.clip is None else text.clip.seconds,
        "turns": [turn_entry(segment) for segment in segments],
        "missing": text.clip is None,
    }
