"""Emotional speech: clone a reference, and compare the emotion of the generated clip with that of the reference.

Any dataset with an `emotion` column. Rows have a `text` and their reference (`ref_audio`, `ref_text`). Without these
columns the reference of a row is another recording (`audio`) of the same speaker and emotion with another text.
"""

from collections import defaultdict
from typing import Any

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
from higgs_recipes.evaluation.protocols.text_scores import score_texts
from higgs_recipes.evaluation.setup import sample_indexes
from higgs_recipes.shared_work import shared_errors


EMOTION_SCORE = "sim_emotion2vec_plus_large"
ANCHORS = [
    {
        "name": "Higgs Audio v2, ESD",
        "source": "claimed in the README of boson-ai/higgs-audio",
        "scores": {"wer_macro": 0.0178, "emotion_similarity": 0.8613},
    }
]
ANCHORS_NOTE = (
    "The published score is of a selection of ESD that is not published, so it compares only roughly with any other."
)


def evaluate_emotion(config: EvaluateConfig) -> Evaluation:
    """Evaluate the emotion of cloned references.

    Raises:
        InputError: the dataset or a model cannot be read, or no row has a reference.
    """
    with shared_errors():
        data = open_benchmark(config)
        texts, languages, num_without = read_emotional_texts(data, config)
        models = load_models(config)
        rules = [choose_rule(config, models, language=language) for language in languages]
    clips = speak(texts, config, models)
    scored = score_texts(texts, clips, models=models, rules=rules, similarity="emotion_similarity", groups=["emotion"])
    is_emotion2vec = models.speaker.score_name == EMOTION_SCORE
    left_out = f"; {num_without} rows without another recording of their speaker and emotion were left out"
    protocol = (
        "emotional speech: each text is spoken once from its reference, text i with seed + i"
        f"{left_out if num_without else ''}; similarity of emotion: {models.speaker.score_name}, the cosine of clip "
        "and reference at 16 kHz, whole clips, mean over clips, times 100; WER, mean over texts: the mean of each "
        "text's edits over its length, with the normalizer of each language; 95 % intervals over the texts: "
        "bootstrap-t, Clopper-Pearson for shares"
    )
    benchmark = {
        "name": "Emotional speech",
        "headline": "emotion_similarity",
        "note": (
            "Each value has its 95 % interval over the texts; n is the number of clips with a score. The similarity "
            f"of emotion ({models.speaker.score_name}) is the cosine of the embeddings of clip and reference, times "
            f"100{left_out if num_without else ''}."
        ),
        "warnings": []
        if is_emotion2vec
        else [f"{models.speaker.score_name} is not emotion2vec-plus-large: its scores do not compare with others."],
        "anchors": ANCHORS if is_emotion2vec else [],
        "anchors_note": ANCHORS_NOTE,
    }
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


def read_emotional_texts(data: BenchmarkTable, config: EvaluateConfig) -> tuple[list[BenchmarkText], list[str], int]:
    """The texts with their references, their languages, and how many rows have no reference.

    Raises:
        InputError: a column is missing, or no row has a reference.
    """
    has_references = data.has("ref_audio")
    data.require(["text", "emotion", *(["ref_audio", "ref_text"] if has_references else ["audio", "speaker"])])
    partners = None if has_references else find_partners(data)
    texts, languages = [], []
    indexes = [index for index in range(len(data)) if partners is None or index in partners]
    for position in sample_indexes(len(indexes), config) if indexes else []:
        index = indexes[position]
        source, column = (index, "ref_audio") if partners is None else (partners[index], "audio")
        recording = data.recording(source, data.value(source, column), name=column)
        if recording is None:
            raise InputError(f"{data.where}, row {source}: no recording in column {column}")
        ref_text = data.text(source, "ref_text" if partners is None else "text")
        columns = {"emotion": str(data.value(index, "emotion"))}
        texts.append(
            BenchmarkText(
                data.id(index),
                data.text(index, "text"),
                "zero_shot_voice_cloning",
                [ref_text],
                [recording],
                columns=columns,
            )
        )
        languages.append(data.language(index) or config.asr_language)
    if not texts:
        raise InputError(
            f"{data.where}: no row has a reference: add the columns ref_audio and ref_text, or several recordings of "
            "a speaker and emotion"
        )
    return texts, languages, len(data) - len(indexes)


def find_partners(data: BenchmarkTable) -> dict[int, int]:
    """Row -> the next row, in a circle, of the same speaker and emotion with another text."""
    groups: dict[tuple[Any, Any], list[int]] = defaultdict(list)
    texts = [str(text).strip() for text in data.column("text")]
    for index, group in enumerate(zip(data.column("speaker"), data.column("emotion"), strict=True)):
        if None not in group:  # an unnamed speaker may be anybody
            groups[group].append(index)
    partners = {}
    for indexes in groups.values():
        for position, index in enumerate(indexes):
            others = indexes[position + 1 :] + indexes[:position]
            partner = next((other for other in others if texts[other] != texts[index]), None)
            if partner is not None:
                partners[index] = partner
    return partners
