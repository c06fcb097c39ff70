"""What a fine-tuning forgets: the base and the fine-tuned model speak the same probe texts for what the base could do.

The dataset is a folder with probes.jsonl, or the file itself. Each line has `ability`, `language`, `text`, and for
cloning `ref_speakers`: a list of {"speaker_tag", "ref_text", "ref_audio"} with files of the folder. A text with
speaker tags is a dialogue.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from higgs_recipes.chatml import canonical_speaker_tags, is_dialogue
from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.corpus.sources.lines import json_lines
from higgs_recipes.errors import InputError, shown
from higgs_recipes.evaluation.comparison import compare_models
from higgs_recipes.evaluation.evaluate import Evaluation
from higgs_recipes.evaluation.models import load_models
from higgs_recipes.evaluation.protocols.benchmark import (
    BenchmarkText,
    choose_rule,
    finish,
    speak,
)
from higgs_recipes.evaluation.protocols.dataset import Origin
from higgs_recipes.evaluation.protocols.dialogue_scores import DEFINITION
from higgs_recipes.evaluation.protocols.references import read_references
from higgs_recipes.evaluation.protocols.text_scores import group_indexes, score_texts
from higgs_recipes.evaluation.setup import sample_indexes
from higgs_recipes.files import file_inside
from higgs_recipes.rejects import Reject
from higgs_recipes.shared_work import shared_errors


PROBES = "probes.jsonl"
NEEDED = "a probe needs ability, text and, for cloning, ref_speakers"
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
    probes = []
    for line in json_lines(path):
        if isinstance(line, Reject):
            where = f"{path.name}, line {line.columns['line']}"
            raise InputError(f"{where}: not a probe ({line.reason}): {NEEDED}")
        probes.append((f"{path.name}, line {line['line']}", line["stored"]))
    if not probes:
        raise InputError(f"{path.name}: no probes")
    chosen = [probes[index] for index in sample_indexes(len(probes), config)]
    texts = [_read_probe(probe, where=where, folder=path.parent) for where, probe in chosen]
    return [text for text, _ in texts], [language or config.asr_language for _, language in texts]


def _read_probe(probe: Mapping[str, Any], *, where: str, folder: Path) -> tuple[BenchmarkText, str | None]:
    for field in ("ability", "text"):
        if not isinstance(probe.get(field), str) or not probe[field].strip():
            raise InputError(f"{where}: {field} is {shown(probe.get(field))}: it must be text; {NEEDED}")
    language = probe.get("language")
    if language is not None and not isinstance(language, str):
        raise InputError(f"{where}: language is {shown(language)}: it must be a code or a name")
    text = canonical_speaker_tags(probe["text"])
    references = read_references(
        probe.get("ref_speakers"),
        text,
        where=where,
        recording=lambda name, field: file_inside(folder, name, field=f"{where}: {field}"),
    )
    name, columns = str(probe.get("id", where)), {"ability": probe["ability"]}
    task = references.task(text)
    return BenchmarkText(name, text, task, references.texts, references.audio, references.tags, columns), language
