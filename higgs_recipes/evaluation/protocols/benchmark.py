"""What the protocols of benchmarks share: load models, speak texts, score words, build metrics.json."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from higgs_recipes.audio.asr import ASRModel, load_asr_model
from higgs_recipes.audio.codec import Codec, load_codec
from higgs_recipes.audio.decoding import AudioSource
from higgs_recipes.audio.io import read_audio
from higgs_recipes.audio.speaker import SpeakerModel, load_speaker_model
from higgs_recipes.audio.word_errors import ErrorCounts, utterance_errors
from higgs_recipes.chatml import Task, canonical_speaker_tags, conversation
from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.devices import single_device
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.checks import check_clips
from higgs_recipes.evaluation.evaluate import Evaluation, generate_clips
from higgs_recipes.evaluation.scores import corpus_rate, error_fields, mean_score, share_score
from higgs_recipes.evaluation.scoring import SpokenClip, count_languages
from higgs_recipes.evaluation.setup import describe_setup
from higgs_recipes.hub.download import Snapshot
from higgs_recipes.hub.public import public_name
from higgs_recipes.hub.run_record import read_run
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.lora import fetch_adapter
from higgs_recipes.normalizers import TextRule
from higgs_recipes.provenance import run_environment
from higgs_recipes.text import normalize_transcript


logger = logging.getLogger(__name__)

MISSING_RATE = 1.0  # the error rate of a clip that is missing
HIGH_RATE = 0.5


@dataclass(frozen=True)
class Models:
    """The models of an evaluation. The weights of the speech model are loaded only when it generates."""

    device: torch.device
    asr: ASRModel
    speaker: SpeakerModel | None
    codec: Codec
    base: Snapshot
    adapter: Snapshot | None


def load_models(config: EvaluateConfig, *, with_speaker: bool = True) -> Models:
    """Load the metric models, then the codec, and fetch the speech model.

    Raises:
        InputError: a package is missing, a model cannot be loaded, or clips may be longer than the window of the ASR
            model.
    """
    device = single_device()
    asr_model = load_asr_model(config.asr, revision=config.asr_revision, device=device)
    if config.max_seconds > asr_model.window_seconds:
        raise InputError(
            f"max_seconds is {config.max_seconds}, but {config.asr} transcribes at most "
            f"{asr_model.window_seconds:.0f} s: lower it"
        )
    return Models(
        device=device,
        asr=asr_model,
        speaker=load_speaker_model(config.speaker, revision=config.speaker_revision, device=device)
        if with_speaker
        else None,
        codec=load_codec(config.codec_name_or_path, revision=config.codec_revision, device=device),
        base=fetch_base(config),
        adapter=config.adapter and fetch_adapter(config.adapter, revision=config.adapter_revision),
    )


@dataclass(frozen=True)
class BenchmarkText:
    """A text to speak.

    Attributes:
        text: as it is scored.
        task: of `chatml.conversation`.
        ref_texts, ref_audio: of the reference clips, in the order of the speakers.
        columns: further columns of metrics.json, such as an emotion.
    """

    id: str
    text: str
    task: Task
    ref_texts: Sequence[str] = ()
    ref_audio: Sequence[AudioSource] = ()
    columns: Mapping[str, Any] | None = None


def speak(texts: Sequence[BenchmarkText], config: EvaluateConfig, models: Models) -> dict[str, list[SpokenClip]]:
    """The clips of the base model and, with an adapter, of the fine-tuned model; text i has seed + i.

    Raises:
        InputError: a text or a reference clip cannot be used; names it.
    """
    references = [
        read_audio(source, name=f"row {text.id}, reference {number}")
        for text in texts
        for number, source in enumerate(text.ref_audio)
    ]
    codes = iter(models.codec.encode(references))
    rows = []
    for text in texts:
        messages = json.dumps(conversation(_conversation_row(text), task=text.task))
        rows.append({"messages": messages, "ref_codes": [next(codes).tolist() for _ in text.ref_audio]})
    return generate_clips(
        rows,
        config=config,
        base=models.base,
        adapter=models.adapter,
        codec=models.codec,
        device=models.device,
    )


def _conversation_row(text: BenchmarkText) -> dict[str, Any]:
    row = {"id": text.id, "text": _normalized(text.text)}
    ref_texts = [_normalized(ref_text) for ref_text in text.ref_texts]
    if text.task == "zero_shot_voice_cloning":
        return row | {"ref_text": ref_texts[0], "ref_audio": "prompt"}
    return row | {
        "ref_speakers": [
            {"speaker_tag": f"SPEAKER{index}", "ref_text": ref_text, "ref_audio": "prompt"}
            for index, ref_text in enumerate(ref_texts)
        ]
    }


def _normalized(text: str) -> str:
    return canonical_speaker_tags(normalize_transcript(text))


def word_scores(errors: Sequence[ErrorCounts], missing: Sequence[bool]) -> dict[str, Any]:
    """`wer_macro`, `wer` and `wer_above_50` of one system. A missing clip has the rate 100 %, in the corpus rate too.

    Args:
        errors: of each text.
        missing: whether its clip is missing.
    """
    counted = [
        ErrorCounts(count.length, count.length, count.skipped) if is_missing else count
        for count, is_missing in zip(errors, missing, strict=True)
    ]
    rates = [count.rate for count in counted]
    num_missing = {"missing": sum(missing)}
    return {
        "wer_macro": mean_score(rates, low=0.0, high=float("inf")) | num_missing,
        "wer": corpus_rate(counted) | num_missing,
        "wer_above_50": share_score([None if rate is None else rate > HIGH_RATE for rate in rates]) | num_missing,
    }


def clip_entry(
    clip: SpokenClip | None, transcript: str, words: ErrorCounts, characters: ErrorCounts, *, similarity: float | None
) -> dict[str, Any]:
    """The entry of one clip in metrics.json; a missing clip has no `wav`."""
    return {
        "transcript": transcript,
        "wer": MISSING_RATE if clip is None and not words.skipped else words.rate,
        **error_fields(words, characters),
        "similarity": similarity,
        "nearest_speaker": None,
        "stopped": None if clip is None else clip.stopped,
        "seconds": 0.0 if clip is None else clip.seconds,
        "turns": [],
        "missing": clip is None,
    }


def both_errors(
    texts: Sequence[str], transcripts: Sequence[str], rules: Sequence[TextRule]
) -> tuple[list[ErrorCounts], list[ErrorCounts]]:
    """The word errors and the character errors of each text."""
    words, characters = (
        utterance_errors(texts, transcripts, rules=rules, unit=unit) for unit in ("word", "character")
    )
    return words, characters


def finish(
    config: EvaluateConfig,
    models: Models,
    *,
    scored: dict[str, Any],
    clips: Mapping[str, Sequence[SpokenClip]],
    rules: Sequence[TextRule],
    benchmark: Mapping[str, Any],
    protocol: str,
) -> Evaluation:
    """Build the evaluation: the scores, the checks of every evaluation, and the setup.

    Args:
        scored: `rows`, and `clips` without their wav files.
        clips: one per text of each system; a missing clip has no samples.
        benchmark: as `report_text` and `detail_tables` read it.
        protocol: what the scores are, in words.
    """
    for index, entry in enumerate(scored["clips"]):
        entry["seed"] = config.seed + index
        for system in clips:
            entry[system]["wav"] = None if entry[system]["missing"] else f"samples/{index:04d}_{system}.wav"
    checks = check_clips(scored, clips, rules)
    num_skipped = sum(entry["base"]["wer"] is None for entry in scored["clips"])
    waveforms: dict[str, list[Tensor]] = {system: [clip.waveform for clip in of] for system, of in clips.items()}
    setup = describe_setup(
        config,
        asr_model=models.asr,
        speaker_model=models.speaker,
        codec=models.codec,
        base=models.base,
        adapter=models.adapter,
        num_rows=len(scored["clips"]),
    )
    metrics = {
        "by_task": {},
        "by_speaker": {},
        "by_language": {},
        "languages": count_languages(rules),
        "n": len(scored["clips"]) - num_skipped,
        "skipped": num_skipped,
        "protocol": protocol,
        "benchmark": dict(benchmark),
        "dataset": public_name(config.dataset),
        "dataset_revision": config.dataset_revision,
        "split": config.split,
        "held_out": None,
        "shared_with_train": None,
    }
    run = read_run((models.adapter or models.base).folder)
    return Evaluation(scored | metrics | checks | setup | run_environment(), waveforms, run)
