"""EmergentTTS-Eval (bosonai/EmergentTTS-Eval): a judge hears two clips of a difficult text and names the better one.

The judge of the published board (a version of gemini-2.5-pro) is no longer served, and its prompt is not repeated
here, so no score of this protocol compares with the board's. By default the fine-tuned model is compared with the base
model under one judge.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from higgs_recipes.audio.io import read_audio, wav_bytes
from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.evaluate import Evaluation
from higgs_recipes.evaluation.judge import Failure, Judge, Judgment, Pair
from higgs_recipes.evaluation.models import load_models
from higgs_recipes.evaluation.protocols.benchmark import (
    BenchmarkText,
    choose_rule,
    finish,
    speak,
)
from higgs_recipes.evaluation.protocols.dataset import BenchmarkTable, open_benchmark
from higgs_recipes.evaluation.protocols.text_scores import group_indexes, score_texts
from higgs_recipes.evaluation.scores import mean_score
from higgs_recipes.evaluation.scoring import SpokenClip
from higgs_recipes.evaluation.setup import sample_indexes
from higgs_recipes.generation.finished_clips import finished_folder
from higgs_recipes.shared_work import main_process_decides, shared_errors


COLUMNS = {"text": "text_to_synthesize"}
OPPONENTS = {"base": "the base model on the same seeds", "dataset": "the baseline's audio in the dataset"}


def evaluate_emergent_tts(config: EvaluateConfig) -> Evaluation:
    """Speak the texts of EmergentTTS-Eval and have them judged.

    Raises:
        InputError: the dataset or a model cannot be read, the judge cannot be asked, or there is nothing to compare.
    """
    with shared_errors():
        if config.opponent == "base" and config.adapter is None:
            raise InputError(
                "protocol emergent_tts_eval compares an adapter with its base: set adapter, or opponent: dataset"
            )
        judge = Judge(
            config.judge,
            url=config.judge_url,
            key_variable=config.judge_key_variable,
            seconds=config.judge_seconds,
            folder=finished_folder(config.output_dir),
        )
        data = open_benchmark(config, COLUMNS)
        data.require(["text", "category", *(["audio"] if config.opponent == "dataset" else [])])
        items = sample_indexes(len(data), config)
        texts = [_text(data, index) for index in items]
        baseline = _baseline_clips(data, items) if config.opponent == "dataset" else None
        models = load_models(config, with_speaker=False)
        rules = [choose_rule(config, models, language=data.language(i) or config.asr_language) for i in items]
    clips = speak(texts, config, models)
    scored = score_texts(texts, clips, models=models, rules=rules, similarity="prompt_similarity", groups=["category"])
    judged = {}
    for system in [system for system in ("base", "finetuned") if system in clips and system != config.opponent]:
        opponent = clips["base"] if baseline is None else baseline
        judged[system] = compare_with_opponent(judge, texts, clips[system], opponent, items=items)
        add_judgments(scored, judged[system], system=system, texts=texts)
    protocol = (
        "texts of EmergentTTS-Eval: each is spoken once without a reference clip, text i with seed + i; the judge "
        f"{config.judge} (temperature 0, this project's prompt) hears the clip and {OPPONENTS[config.opponent]}, in "
        "an order that is sampled for each item by its number, and gives scores from 0 to 3 and a winner; win rate: "
        "mean of 1 for a win, 0.5 for a tie and 0; answers that cannot be parsed and missing answers are left out and "
        "counted; 95 % interval: bootstrap-t over the texts; WER by the normalizer of each language"
    )
    benchmark = {
        "name": f"Texts of EmergentTTS-Eval, judged by {config.judge}",
        "headline": "win_rate",
        "note": (
            f"Wins against {OPPONENTS[config.opponent]}, by the judge {config.judge}: 50 % is a draw. Judge and "
            "prompt are not those of the published board, so these scores do not compare with it. n is the number of "
            "judged texts."
        ),
    }
    evaluation = finish(
        config,
        models,
        scored=scored,
        clips=clips,
        rules=rules,
        benchmark=benchmark,
        protocol=protocol,
        origin=data.origin,
    )
    evaluation.metrics["judge"] = {
        "model": config.judge,
        "temperature": 0,
        "opponent": config.opponent,
        "systems": {system: count_judgments(outcomes) for system, outcomes in judged.items()},
    }
    return evaluation


def _text(data: BenchmarkTable, index: int) -> BenchmarkText:
    category = data.value(index, "category")
    columns = {"category": str(category), "item": index}
    return BenchmarkText(data.id(index), data.text(index, "text"), "single_speaker_smart_voice", columns=columns)


def _baseline_clips(data: BenchmarkTable, items: Sequence[int]) -> list[SpokenClip]:
    clips = []
    for index in items:
        recording = data.recording(index, data.value(index, "audio"), name="audio")
        if recording is None:
            raise InputError(f"{data.where}, row {index}: no recording in column audio")
        clips.append(SpokenClip(read_audio(recording, name=f"row {index}, audio")))
    return clips


def is_swapped(item: int) -> bool:
    """Whether the judge hears the opponent first: sampled by the number of the item, as in the published code."""
    return bool(np.random.default_rng(item).random() > 0.5)


def compare_with_opponent(
    judge: Judge,
    texts: Sequence[BenchmarkText],
    clips: Sequence[SpokenClip],
    opponents: Sequence[SpokenClip],
    *,
    items: Sequence[int],
) -> list[dict[str, Any]]:
    """Judge each clip against its opponent.

    Returns:
        {"position", "value" (1, 0.5 or 0), "score", "opponent_score"} of each text, or {"position", "problem",
        "answer"}.
    """
    pairs = []
    for text, clip, opponent, item in zip(texts, clips, opponents, items, strict=True):
        wavs = [wav_bytes(clip.waveform), wav_bytes(opponent.waveform)]
        first, second = reversed(wavs) if is_swapped(item) else wavs
        pairs.append(Pair(text.text, text.columns["category"], first, second))
    answers = main_process_decides(lambda: judge.compare(pairs))  # each pair is paid for once
    return [_outcome(answer, item) for answer, item in zip(answers, items, strict=True)]


def _outcome(answer: Judgment | Failure, item: int) -> dict[str, Any]:
    position = 2 if is_swapped(item) else 1
    if isinstance(answer, Failure):
        return {"position": position, "problem": answer.kind, "answer": answer.detail}
    scores = [answer.score_1, answer.score_2]
    value = 0.5 if answer.winner == 0 else float(answer.winner == position)
    return {
        "position": position,
        "value": value,
        "score": scores[position - 1],
        "opponent_score": scores[2 - position],
    }


def add_judgments(
    scored: dict[str, Any], outcomes: Sequence[Mapping[str, Any]], *, system: str, texts: Sequence[BenchmarkText]
) -> None:
    """Add the win rate to the rows and groups, and each judgment to the entry of its clip."""

    def win_rate(indexes: Sequence[int]) -> dict[str, Any]:
        values = [outcomes[index]["value"] if "value" in outcomes[index] else None for index in indexes]
        return mean_score(values, low=0.0, high=1.0)

    scored["rows"][system]["win_rate"] = win_rate(range(len(texts)))
    for value, indexes in group_indexes(texts, "category").items():
        scored["by_category"][value][system]["win_rate"] = win_rate(indexes)
    for entry, outcome in zip(scored["clips"], outcomes, strict=True):
        entry[system]["judgment"] = dict(outcome)


def count_judgments(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How often the system won, tied and lost, what was left out, and how often the first clip won."""
    judged = [outcome for outcome in outcomes if "value" in outcome]
    decided = [outcome for outcome in judged if outcome["value"] != 0.5]
    first_wins = sum((outcome["position"] == 1) == (outcome["value"] == 1) for outcome in decided)
    return {
        "wins": sum(outcome["value"] == 1 for outcome in judged),
        "ties": len(judged) - len(decided),
        "losses": sum(outcome["value"] == 0 for outcome in judged),
        "unparsed": sum("problem" in outcome and outcome["problem"] == "unparsed" for outcome in outcomes),
        "no_answer": sum("problem" in outcome and outcome["problem"] == "no_answer" for outcome in outcomes),
        "first_wins": first_wins / len(decided) if decided else None,
        "mean_score": sum(outcome["score"] for outcome in judged) / len(judged) if judged else None,
        "mean_opponent_score": sum(outcome["opponent_score"] for outcome in judged) / len(judged) if judged else None,
    }
