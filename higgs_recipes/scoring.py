"""Waveforms and texts -> scores: words by a recogniser, voices by a speaker model, each with its interval and n."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from higgs_recipes.delay import SAMPLE_RATE
from higgs_recipes.judges import Recogniser, SpeakerModel
from higgs_recipes.metrics import WordErrors, bootstrap_interval, utterance_errors


PROTOCOL = (
    "fine-tuned voice: every held-out text is spoken once, row i with seed + i; WER and CER are corpus rates (edits "
    "of all texts over their words or characters); similarity is the cosine to the centroid of the speaker's other "
    "held-out recordings (never the row's own), mean over clips; duration ratio is generated over real length, mean "
    "over clips; intervals are 95 % percentile bootstraps over the texts (1,000 resamples)"
)
BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Clip:
    """A waveform (N,) and whether its generation ended by itself; None where nothing was generated."""

    waveform: Tensor
    stopped: bool | None = None


def score_clips(
    rows: Sequence[Mapping[str, Any]],
    clips: Mapping[str, Sequence[Clip]],
    *,
    recogniser: Recogniser,
    speaker_model: SpeakerModel,
    normalizer: str,
) -> dict[str, Any]:
    """The fields rows, clips, n and skipped of metrics.json.

    Args:
        rows: `id`, `text` (what is said), `speaker` (None if unknown) and `seed` of each text.
        clips: for "real", and any of "codec", "base" and "finetuned", a clip for each row.

    A score that cannot be had is None and not in the row's n: WER where the text holds no word once normalised,
    similarity where the clip holds no voice or its speaker has no other recording.
    """
    texts = [row["text"] for row in rows]
    real_seconds = [_seconds(clip) for clip in clips["real"]]
    voices = speaker_model.embed([clip.waveform for clip in clips["real"]])
    centroids = leave_one_out_centroids(voices, [row["speaker"] for row in rows])
    summary: dict[str, dict] = {}
    details = [{name: row[name] for name in ("id", "text", "speaker", "seed")} for row in rows]
    skipped = 0
    for name, row_clips in clips.items():
        assert len(row_clips) == len(rows), (name, len(row_clips), len(rows))
        transcripts = recogniser.transcribe([clip.waveform for clip in row_clips])
        words = utterance_errors(texts, transcripts, normalizer=normalizer)
        characters = utterance_errors(texts, transcripts, normalizer=normalizer, unit="character")
        skipped = sum(each.skipped for each in words)  # by the texts alone, so the same in every row
        embedded = voices if name == "real" else speaker_model.embed([clip.waveform for clip in row_clips])
        similarities = [_cosine(voice, centroid) for voice, centroid in zip(embedded, centroids, strict=True)]
        summary[name] = {
            "wer": _corpus_rate(words),
            "cer": _corpus_rate(characters),
            "similarity": _mean(similarities),
        }
        if name not in ("real", "codec"):
            ratios = [_seconds(clip) / seconds for clip, seconds in zip(row_clips, real_seconds, strict=True)]
            summary[name]["stop_rate"] = _mean([float(bool(clip.stopped)) for clip in row_clips])
            summary[name]["duration_ratio"] = _mean(ratios)
        for index, clip in enumerate(row_clips):
            details[index][name] = {
                # By number: a row's id is anybody's text, and no file name.
                "wav": f"samples/{index:04d}_{name}.wav",
                "transcript": transcripts[index],
                "wer": words[index].rate,
                "similarity": similarities[index],
                "stopped": clip.stopped,
                "seconds": _seconds(clip),
            }
    return {"rows": summary, "n": len(rows) - skipped, "skipped": skipped, "clips": details}


def leave_one_out_centroids(voices: Sequence[Tensor | None], speakers: Sequence[str | None]) -> list[Tensor | None]:
    """For each row the mean of its speaker's other voices; None where the speaker is unknown or has no other voice.

    >>> voices = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), None, torch.tensor([0.6, 0.8])]
    >>> [None if each is None else each.tolist() for each in leave_one_out_centroids(voices, ["a", "a", "a", "b"])]
    [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5], None]
    """
    centroids = []
    for index, speaker in enumerate(speakers):
        others = [
            voice
            for other, voice in enumerate(voices)
            if voice is not None and other != index and speaker is not None and speakers[other] == speaker
        ]
        centroids.append(torch.stack(others).mean(dim=0) if others else None)
    return centroids


def _seconds(clip: Clip) -> float:
    return len(clip.waveform) / SAMPLE_RATE


def _cosine(voice: Tensor | None, centroid: Tensor | None) -> float | None:
    if voice is None or centroid is None:
        return None
    return float(F.cosine_similarity(voice, centroid, dim=0))


def _corpus_rate(errors: Sequence[WordErrors]) -> dict[str, Any]:
    total = sum(errors, WordErrors(0, 0))
    interval = bootstrap_interval([(each.edits, each.words) for each in errors], seed=BOOTSTRAP_SEED)
    return _score(total.rate, interval, n=len(errors) - total.skipped, skipped=total.skipped)


def _mean(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    interval = bootstrap_interval(known, seed=BOOTSTRAP_SEED)
    value = sum(known) / len(known) if known else None
    return _score(value, interval, n=len(known), skipped=len(values) - len(known))


def _score(value: float | None, interval: tuple[float, float] | None, *, n: int, skipped: int) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {"value": value, "low": low, "high": high, "n": n, "skipped": skipped}
