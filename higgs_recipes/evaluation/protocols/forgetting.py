"""What a fine-tuning forgets: the base and the fine-tuned model speak the same probe texts for what the base could do.

The dataset is a folder with probes.jsonl, or the file itself. Each line has `ability`, `language`, `text`, and for
cloning `ref_speakers`: a list of {"speaker_tag", "ref_text", "ref_audio"} with files of the folder. A text with
speaker tags is a dialogue.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from higgs_recipes.chatml import Task, is_dialogue
from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.comparison import compare_models
from higgs_recipes.evaluation.evaluate import Evaluation
from higgs_recipes.evaluation.protocols.benchmark import (
    BenchmarkText,
    choose_rule,
    finish,
    load_models,
    speak,
)
from higgs_recipes.evaluation.protocols.dataset import Origin
from higgs_recipes.evaluation.protocols.dialogue_scores import DEFINITION
from higgs_recipes.evaluation.protocols.text_scores import group_indexes, score_texts
from higgs_recipes.evaluation.setup import sample_indexes
from higgs_recipes.files import file_inside
from higgs_recipes.shared_work import shared_errors


PROBES = "probes.jsonl"
# The metrics that tell whether an ability is kept, where the probes of an ability have them.
TOLD_BY = ("wer_macro", "prompt_similarity", "dialogue_voices", "stop_rate")


def evaluate_forgetting(config: EvaluateConfig) -> Evaluation:
    """Compare the fine-tuned with the base model by ability.

    Raises:
        InputError: there is no adapter to compare, a line of the probes cannot be used, or a model cannot be loaded.
    """
    with shared_errors():
        if config.adapter is None:
            raise InputError("protocol forgetting compares an adapter with its base: set adapter")
        texts, languages = read_probes(config)
        models = load_models(config)
        rules = [choose_rule(config, models, language=language) for language in languages]
        dialogues = {rule.language for text, rule in zip(texts, rules, strict=True) if is_dialogue(text.text)}
        for language in sorted(dialogues):
            models.asr.timed_words([], language=language)  # raises if the ASR model has no word times
    clips = speak(texts, config, models)
    scored = score_texts(texts, clips, models=models, rules=rules, similarity="prompt_similarity", groups=["ability"])
    protocol = (
        "forgetting: probe texts for what the base model could do, each spoken once by base and fine-tuned model on "
        "the same seed; transcribed and normalized in the language of the text, WER counted in characters where words "
        f"have no spaces; similarity to the prompt: {models.speaker.score_name}; {DEFINITION}; differences: paired by "
        "text, bootstrap-t"
    )
    benchmark = {
        "name": "Forgetting",
        "headline": "wer_macro",
        "note": (
            "All probe texts together; the abilities are compared one by one below. Event tags are not scored "
            "themselves: the words around them are."
        ),
        "warnings": [],
        "anchors": [],
        "anchors_note": "",
    }
    evaluation = finish(
        config,
        models,
        scored=scored,
        clips=clips,
        rules=rules,
        benchmark=benchmark,
        protocol=protocol,
        origin=Origin(),
    )
    evaluation.metrics["abilities"] = compare_abilities(texts, evaluation.metrics)
    return evaluation


def compare_abilities(texts: Sequence[BenchmarkText], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Ability -> metric -> {"base", "finetuned"} and the paired difference, as from `compare_models`."""
    groups = group_indexes(texts, "ability") or {str(texts[0].columns["ability"]): list(range(len(texts)))}
    abilities = {}
    for ability, indexes in groups.items():
        rows = metrics["by_ability"][ability] if metrics["by_ability"] else metrics["rows"]
        differences = compare_models(rows, [metrics["clips"][index] for index in indexes])
        abilities[ability] = {
            metric: {system: rows[system][metric]["value"] for system in ("base", "finetuned")} | differences[metric]
            for metric in TOLD_BY
            if metric in differences
        }
    return abilities


def read_probes(config: EvaluateConfig) -> tuple[list[BenchmarkText], list[str]]:
    """Read the probes and their languages.

    Raises:
        InputError: no such file, or a line that cannot be used; names it.
    """
    path = Path(config.dataset).expanduser()
    path = path / PROBES if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"dataset {config.dataset}: no {PROBES}; name a folder with probes, or the file")
    lines = [(number, line) for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if line]
    if not lines:
        raise InputError(f"{path.name}: no probes")
    chosen = [lines[index] for index in sample_indexes(len(lines), config)]
    probes = [_read_line(line, where=f"{path.name}, line {number}", folder=path.parent) for number, line in chosen]
    return [text for text, _ in probes], [language or config.asr_language for _, language in probes]


def _read_line(line: str, *, where: str, folder: Path) -> tuple[BenchmarkText, str | None]:
    try:
        probe = json.loads(line)
        ability, text, references = probe["ability"], probe["text"], probe.get("ref_speakers") or []
        tags = [reference["speaker_tag"] for reference in references]
        ref_texts = [reference["ref_text"] for reference in references]
        names = [reference["ref_audio"] for reference in references]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{where}: not a probe ({error}): it needs ability, text and, for cloning, ref_speakers"
        ) from error
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where}: text is empty")
    ref_audio = [file_inside(folder, name, field=f"{where}: ref_audio") for name in names]
    task = _task(text, has_references=bool(references))
    columns = {"ability": str(ability)}
    name = str(probe.get("id", where))
    return BenchmarkText(name, text, task, ref_texts, ref_audio, tags, columns), probe.get("language")


def _task(text: str, *, has_references: bool) -> Task:
    if is_dialogue(text):
        return "multi_speaker_voice_cloning" if has_references else "multi_speaker_smart_voice"
    return "zero_shot_voice_cloning" if has_references else "single_speaker_smart_voice"
