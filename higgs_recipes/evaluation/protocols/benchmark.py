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
from higgs_recipes.chatml import Task, canonical_speaker_tags, conversation
from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.checks import check_clips
from higgs_recipes.evaluation.evaluate import Evaluation, generate_clips
from higgs_recipes.evaluation.protocols.dataset import Origin
from higgs_recipes.evaluation.scoring import SpokenClip, count_languages
from higgs_recipes.evaluation.setup import describe_setup
from higgs_recipes.hub.download import Snapshot
from higgs_recipes.hub.public import public_name
from higgs_recipes.hub.run_record import read_run
from higgs_recipes.languages import language_code
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.lora import fetch_adapter
from higgs_recipes.normalizers import TextRule, choose_normalizer
from higgs_recipes.provenance import run_environment
from higgs_recipes.shared_work import shared_device, shared_errors
from higgs_recipes.text import normalize_transcript


logger = logging.getLogger(__name__)


class NoSpeakerModel:
    """Of a benchmark that does not compare voices."""

    revision = score_name = ""

    def embed(self, waveforms: Sequence[Tensor]) -> list[None]:
        return [None] * len(waveforms)

    embed_resampled = embed


@dataclass(frozen=True)
class Models:
    """The models of an evaluation. The weights of the speech model are loaded only when it generates."""

    device: torch.device
    asr: ASRModel
    speaker: SpeakerModel
    codec: Codec
    base: Snapshot
    adapter: Snapshot | None


def load_models(config: EvaluateConfig, *, with_speaker: bool = True) -> Models:
    """Load the metric models, then the codec, and fetch the speech model.

    Raises:
        InputError: a package is missing, a model cannot be loaded, or clips may be longer than the window of the ASR
            model.
    """
    device = shared_device()
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
        else NoSpeakerModel(),
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
        ref_texts, ref_audio: of the reference clips.
        ref_tags: their speaker tags in a dialogue, such as SPEAKER0.
        columns: further columns of metrics.json, such as an emotion.
    """

    id: str
    text: str
    task: Task
    ref_texts: Sequence[str] = ()
    ref_audio: Sequence[AudioSource] = ()
    ref_tags: Sequence[str] = ("SPEAKER0",)
    columns: Mapping[str, Any] | None = None


def choose_rule(config: EvaluateConfig, models: Models, *, language: str) -> TextRule:
    """The language, normalizer and unit of a text.

    Raises:
        InputError: the ASR model does not transcribe the language, or the normalizer does not fit.
    """
    models.asr.check_language(language_code(language))
    return choose_normalizer(config.normalizer, language, spelling=models.asr.spelling)


def speak(texts: Sequence[BenchmarkText], config: EvaluateConfig, models: Models) -> dict[str, list[SpokenClip]]:
    """The clips of the base model and, with an adapter, of the fine-tuned model; text i has seed + i.

    Several processes share the texts; each returns all clips.

    Raises:
        InputError: a text or a reference clip cannot be used; names it.
    """
    with shared_errors():
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
            {"speaker_tag": tag, "ref_text": ref_text, "ref_audio": "prompt"}
            for tag, ref_text in zip(text.ref_tags, ref_texts, strict=False)
        ]
    }


def _normalized(text: str) -> str:
    return canonical_speaker_tags(normalize_transcript(text))


def finish(
    config: EvaluateConfig,
    models: Models,
    *,
    scored: dict[str, Any],
    clips: Mapping[str, Sequence[SpokenClip]],
    rules: Sequence[TextRule],
    benchmark: Mapping[str, Any],
    protocol: str,
    origin: Origin,
) -> Evaluation:
    """Build the evaluation: the scores, the checks of every evaluation, and the setup.

    Args:
        scored: as from `score_texts`.
        clips: one per text of each system; a missing clip has no samples.
        benchmark: as `report_text` and `detail_tables` read it.
        protocol: what the scores are, in words.
        origin: commit and split of the dataset.
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
        speaker_model=None if isinstance(models.speaker, NoSpeakerModel) else models.speaker,
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
        "dataset_revision": origin.commit,
        "split": origin.split,
        "held_out": None,
        "shared_with_train": None,
    }
    run = read_run((models.adapter or models.base).folder)
    return Evaluation(scored | metrics | checks | setup | run_environment(), waveforms, run)
