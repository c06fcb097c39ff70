"""What the protocols of benchmarks share: speak texts, choose the rules of their scores, build metrics.json."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from higgs_recipes.audio.decoding import AudioSource
from higgs_recipes.audio.io import read_audio
from higgs_recipes.chatml import Task, canonical_speaker_tags, conversation
from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.evaluation.checks import check_clips
from higgs_recipes.evaluation.evaluate import Evaluation, generate_clips
from higgs_recipes.evaluation.models import Models
from higgs_recipes.evaluation.protocols.dataset import Origin
from higgs_recipes.evaluation.scoring import SpokenClip, count_languages
from higgs_recipes.evaluation.setup import describe_setup
from higgs_recipes.hub.public import public_name
from higgs_recipes.languages import language_code
from higgs_recipes.normalizers import Normalizer, TextRule, choose_normalizer
from higgs_recipes.provenance import run_environment
from higgs_recipes.shared_work import shared_errors
from higgs_recipes.text import normalize_transcript


logger = logging.getLogger(__name__)


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


def choose_rule(config: EvaluateConfig, models: Models, *, language: str, automatic: Normalizer = "auto") -> TextRule:
    """The language, normalizer and unit of a text.

    Args:
        automatic: the normalizer that `auto` is in this benchmark.

    Raises:
        InputError: the ASR model does not transcribe the language, or the normalizer does not fit.
    """
    models.asr.check_language(language_code(language))
    name = automatic if config.normalizer == "auto" else config.normalizer
    return choose_normalizer(name, language, spelling=models.asr.spelling)


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
    return generate_clips(rows, config=config, models=models)


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
        benchmark: as `report_text` and `detail_tables` read it; without `warnings`, `anchors` and `anchors_note` it
            has none.
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
    setup = describe_setup(config, models, num_rows=len(scored["clips"]))
    metrics = {
        "by_task": {},
        "by_speaker": {},
        "by_language": {},
        "languages": count_languages(rules),
        "n": len(scored["clips"]) - num_skipped,
        "skipped": num_skipped,
        "protocol": protocol,
        "benchmark": {"id": config.protocol, "warnings": [], "anchors": [], "anchors_note": ""} | dict(benchmark),
        "dataset": public_name(config.dataset),
        "dataset_revision": origin.commit,
        "split": origin.split,
        "held_out": None,
        "shared_with_train": None,
    }
    return Evaluation(scored | metrics | checks | setup | run_environment(), waveforms, models.run)
