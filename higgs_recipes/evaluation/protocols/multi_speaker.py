"""Dialogues: words over the whole dialogue, and whether each speaker keeps a voice of their own.

Rows have a `text` with speaker tags and, for cloning, `ref_speakers` (speaker_tag, ref_text, ref_audio of each).
Without references the model chooses the voices.
"""

from typing import Any

from higgs_recipes.chatml import canonical_speaker_tags, is_dialogue
from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.evaluate import Evaluation
from higgs_recipes.evaluation.models import load_models
from higgs_recipes.evaluation.protocols.benchmark import (
    BenchmarkText,
    choose_rule,
    finish,
    speak,
)
from higgs_recipes.evaluation.protocols.dataset import BenchmarkTable, open_benchmark
from higgs_recipes.evaluation.protocols.dialogue_scores import DEFINITION
from higgs_recipes.evaluation.protocols.references import read_references
from higgs_recipes.evaluation.protocols.text_scores import score_texts
from higgs_recipes.evaluation.setup import sample_indexes
from higgs_recipes.evaluation.turn_alignment import text_before_turns
from higgs_recipes.shared_work import shared_errors


def _anchor(name: str, wer: float, voices: float) -> dict[str, Any]:
    scores = {"wer": wer / 100, "dialogue_voices": voices / 100}
    return {
        "name": f"Higgs Audio v2, {name}",
        "source": "claimed in the README of boson-ai/higgs-audio",
        "scores": scores,
    }


ANCHORS = [
    _anchor("two-speaker conversation", 18.88, 51.95),
    _anchor("small talk with references", 11.89, 67.92),
    _anchor("small talk without references", 14.65, 55.28),
]
ANCHORS_NOTE = (
    "The published scores are of dialogues that are not published, by an implementation that is not published: they "
    "give the order of magnitude, and do not compare with this run."
)


def evaluate_multi_speaker(config: EvaluateConfig) -> Evaluation:
    """Evaluate dialogues.

    Raises:
        InputError: the dataset or a model cannot be read, a row is not a dialogue, or the ASR model has no word times.
    """
    with shared_errors():
        data = open_benchmark(config)
        texts, languages = read_dialogues(data, config)
        models = load_models(config)
        rules = [choose_rule(config, models, language=language) for language in languages]
        for language in sorted({rule.language for rule in rules}):
            models.asr.timed_words([], language=language)  # raises if the ASR model has no word times
    clips = speak(texts, config, models)
    scored = score_texts(texts, clips, models=models, rules=rules, similarity="prompt_similarity")
    with_references = sum(bool(text.ref_audio) for text in texts)
    benchmark = {
        "name": "Dialogues",
        "headline": "dialogue_voices",
        "note": (
            f"{with_references} of {len(texts)} dialogues have reference clips. Each value has its 95 % interval over "
            "the dialogues; n is the number of dialogues with a score. WER is over the whole dialogue without speaker "
            f"tags. Definition of the {DEFINITION}. Embeddings: {models.speaker.score_name}."
        ),
        "anchors": ANCHORS,
        "anchors_note": ANCHORS_NOTE,
    }
    protocol = (
        f"dialogues, each once, text i with seed + i; transcribed greedily with word times; {DEFINITION}; embeddings "
        f"of {models.speaker.score_name}; 95 % intervals over dialogues: bootstrap-t, Clopper-Pearson for shares"
    )
    return finish(
        config,
        models,
        scored=scored,
        clips=clips,
        rules=rules,
        benchmark=benchmark,
        protocol=protocol,
        origin=data.origin,
    )


def read_dialogues(data: BenchmarkTable, config: EvaluateConfig) -> tuple[list[BenchmarkText], list[str]]:
    """The dialogues of a dataset, and their languages.

    Raises:
        InputError: a row is not a dialogue, has text before its first turn, or a malformed reference.
    """
    data.require(["text"])
    texts, languages = [], []
    for index in sample_indexes(len(data), config):
        text = canonical_speaker_tags(data.text(index, "text"))
        if not is_dialogue(text) or text_before_turns(text):
            raise InputError(
                f"{data.where}, row {index}: not a dialogue: start each turn with [SPEAKER0], [SPEAKER1], ..."
            )
        references = read_references(
            data.value(index, "ref_speakers"),
            text,
            where=f"{data.where}, row {index}",
            recording=lambda value, field, index=index: data.recording(index, value, name=field),
        )
        task = references.task(text)
        texts.append(BenchmarkText(data.id(index), text, task, references.texts, references.audio, references.tags))
        languages.append(data.language(index) or config.asr_language)
    return texts, languages
