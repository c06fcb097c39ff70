"""Seed-TTS-eval (BytedanceSpeech/seed-tts-eval): clone the voice of a prompt, score words and similarity to it.

The scores have the benchmark's name only with its own ASR model, speaker model and normalizer; with others the report
says what was replaced, and shows no published scores next to its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from higgs_recipes.audio.io import read_audio, read_first_channel
from higgs_recipes.audio.pretrained import METRIC_MODEL_RATE
from higgs_recipes.audio.speaker import SEED_TTS_SCORE
from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.evaluate import Evaluation
from higgs_recipes.evaluation.models import Models, load_models
from higgs_recipes.evaluation.protocols.benchmark import (
    BenchmarkText,
    choose_rule,
    finish,
    speak,
)
from higgs_recipes.evaluation.protocols.seed_tts_lists import Sentence, read_sentences
from higgs_recipes.evaluation.protocols.text_scores import score_texts
from higgs_recipes.evaluation.scoring import SpokenClip
from higgs_recipes.hub.public import public_name
from higgs_recipes.languages import language_code
from higgs_recipes.normalizers import Normalizer, TextRule, simplified_converter
from higgs_recipes.shared_work import shared_errors


NORMALIZERS: dict[str, Normalizer] = {"en": "seed_tts_en", "zh": "seed_tts_zh"}
ASR = {"en": "openai/whisper-large-v3", "zh": "funasr:paraformer-zh"}

HUMAN = "human recordings of the test set"
SEED_TTS, HIGGS_README, HIGGS_ISSUE, HIGGS_CODEC = (
    "published with Seed-TTS-eval",
    "claimed in the README of boson-ai/higgs-audio",
    "measured by a user of boson-ai/higgs-audio",
    "published for the codec of Higgs Audio v2",
)


def _anchor(name: str, source: str, wer: float, similarity: float) -> dict[str, Any]:
    scores = {"wer_macro": wer / 100, "prompt_similarity": similarity / 100}
    return {"name": name, "source": source, "scores": scores}


# Language -> published scores. There are none for the hard list.
ANCHORS = {
    "en": [
        _anchor(HUMAN, SEED_TTS, 2.14, 73.4),
        _anchor("Higgs Audio v2", HIGGS_README, 2.44, 67.7),
        _anchor("Higgs Audio v2", HIGGS_ISSUE, 3.09, 64.9),
        _anchor("codec resynthesis of the recordings", HIGGS_CODEC, 2.52, 67.0),
    ],
    "zh": [_anchor(HUMAN, SEED_TTS, 1.26, 75.5)],
}
ANCHORS_NOTE = (
    "Published scores of Seed-TTS-eval: WER is the mean over texts, similarity the mean cosine × 100. Differences of "
    "GPU, precision and sampling move them; compare with intervals in mind."
)


def evaluate_seed_tts(config: EvaluateConfig) -> Evaluation:
    """Run Seed-TTS-eval on the dataset of the recipe. Everything but the texts is checked before models are loaded.

    Raises:
        InputError: another language than en and zh, a missing package, a dataset or model that cannot be read.
    """
    with shared_errors():
        language = language_code(config.asr_language)
        if language not in NORMALIZERS:
            raise InputError(f"asr_language is {config.asr_language!r}: protocol seed_tts_eval has en and zh")
        simplify = simplified_converter() if language == "zh" else str
        sentences, origin = read_sentences(config)
        models = load_models(config)
        rule = choose_rule(config, models, language=language, automatic=NORMALIZERS[language])
        texts = [
            BenchmarkText(
                sentence.id, sentence.text, "zero_shot_voice_cloning", [sentence.ref_text], [sentence.ref_audio]
            )
            for sentence in sentences
        ]
        recorded = _real_clips(sentences, models)
    clips = recorded | speak(texts, config, models)
    rules = [rule] * len(sentences)
    scored = score_texts(
        texts,
        clips,
        models=models,
        rules=rules,
        similarity="prompt_similarity",
        simplify=simplify,
        recordings=_recordings(sentences),
    )
    benchmark = _benchmark(config, models, rule=rule, num_sentences=len(sentences))
    return finish(
        config,
        models,
        scored=scored,
        clips=clips,
        rules=rules,
        benchmark=benchmark,
        protocol=describe(models, rule=rule),
        origin=origin,
    )


def _real_clips(sentences: Sequence[Sentence], models: Models) -> dict[str, list[SpokenClip]]:
    """The recordings and their resynthesis, if the list has recordings; a missing one has no samples."""
    if not any(sentence.has_real for sentence in sentences):
        return {}
    recordings = [
        torch.empty(0)
        if sentence.real is None
        else read_audio(sentence.real, name=f"row {sentence.id}, gt_wav", max_seconds=models.asr.window_seconds)
        for sentence in sentences
    ]
    present = [index for index, recording in enumerate(recordings) if len(recording)]
    decoded = models.codec.decode(models.codec.encode([recordings[index] for index in present]))
    resynthesis = dict(zip(present, decoded, strict=True))
    return {
        "real": [SpokenClip(recording) for recording in recordings],
        "codec": [SpokenClip(resynthesis.get(index, torch.empty(0))) for index in range(len(recordings))],
    }


def _recordings(sentences: Sequence[Sentence]) -> list[Tensor] | None:
    """The recordings (N_i,) at 16 kHz, resampled once; without samples if missing. None if the list has none."""
    if not any(sentence.has_real for sentence in sentences):
        return None
    return [
        torch.empty(0)
        if sentence.real is None
        else read_first_channel(sentence.real, name=f"row {sentence.id}, gt_wav", rate=METRIC_MODEL_RATE)
        for sentence in sentences
    ]


def replaced_models(config: EvaluateConfig, models: Models, *, rule: TextRule) -> list[str]:
    """What differs from the benchmark, in words; empty if the scores may have its name."""
    language, normalizer = rule.language, NORMALIZERS[rule.language]
    replaced = []
    if config.asr != ASR[language]:
        replaced.append(f"ASR model {public_name(config.asr)} in place of {ASR[language]}")
    if models.speaker.score_name != SEED_TTS_SCORE:
        replaced.append(f"similarity {models.speaker.score_name} in place of {SEED_TTS_SCORE}")
    if rule.name != normalizer:
        replaced.append(f"normalizer {rule.name} in place of {normalizer}")
    return replaced


def _benchmark(config: EvaluateConfig, models: Models, *, rule: TextRule, num_sentences: int) -> dict[str, Any]:
    replaced = replaced_models(config, models, rule=rule)
    warnings = []
    if replaced:
        warnings.append(
            f"These are not scores of Seed-TTS-eval: {'; '.join(replaced)}. They do not compare with published ones."
        )
    if config.num_samples is not None:
        warnings.append(f"A quick look at {num_sentences} texts of the test set: the intervals are wide.")
    name = _test_set(config, rule.language)
    return {
        "id": f"{config.protocol}_{name}",
        "name": f"Zero-shot voice cloning, {name}" if replaced else f"Seed-TTS-eval {name}",
        "is_official": not replaced,
        "headline": "wer_macro",
        "note": (
            "Each value has its 95 % interval over the texts; n is the number of clips with a score. WER, mean over "
            "texts is the mean of each text's error rate, in which a missing clip has 100 %; word error rate (WER) is "
            f"of all texts together. The similarity to the prompt ({models.speaker.score_name}) is the cosine of clip "
            f"and prompt, times 100. WER counts {rule.unit}s."
        ),
        "warnings": warnings,
        "anchors": [] if replaced else ANCHORS[rule.language] if name == rule.language else [],
        "anchors_note": ANCHORS_NOTE,
    }


def _test_set(config: EvaluateConfig, language: str) -> str:
    return f"{language}-hard" if "hard" in f"{Path(config.dataset).name} {config.split}" else language


def describe(models: Models, *, rule: TextRule) -> str:
    """The protocol in words."""
    simplified = ", to simplified characters (zhconv zh-cn)" if rule.language == "zh" else ""
    return (
        "zero-shot voice cloning from one prompt with its text, each text once, text i with seed + i; transcribed "
        f"greedily in {rule.language}{simplified}; normalizer {rule.name}, without normalization of numbers, counted "
        f"in {rule.unit}s; WER, mean over texts: the mean of each text's edits over its length, missing clips as "
        f"100 %; similarity to the prompt: {models.speaker.score_name}, the cosine of clip and prompt at 16 kHz, "
        "whole clips, missing clips left out and counted; 95 % intervals over the texts: bootstrap-t, Clopper-Pearson "
        "for shares"
    )
