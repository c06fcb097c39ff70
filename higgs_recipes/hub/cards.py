"""Model and dataset cards, rendered from the records of runs. The functions write no files.

A missing field is an `InputError` that names the record and the field.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import DatasetCardData, ModelCardData
from huggingface_hub.utils import yaml_dump

from higgs_recipes.errors import InputError
from higgs_recipes.hub.evaluation_card import UNTRAINED, update_evaluation
from higgs_recipes.hub.lineage import HIGGS_LICENSE
from higgs_recipes.hub.markdown import code, code_block, escape_marks, facts, literal, table
from higgs_recipes.hub.public import is_hub_id, public_name, with_revision
from higgs_recipes.hub.run_record import checked_run, describe_listening
from higgs_recipes.records import Fields


Record = Mapping[str, Any]

LICENSE = {
    "license": "other",
    "license_name": HIGGS_LICENSE,
    "license_link": "https://huggingface.co/bosonai/higgs-tts-2-3b-base",
}
# The license of the weights requires this exact sentence in every distributed derivative.
LICENSE_NOTICE = (
    "Built with Higgs Materials licensed from Boson AI USA, Inc., Copyright Boson AI USA, Inc., All Rights Reserved "
    "and Meta Llama 3 licensed under the Meta Llama 3 Community License, Copyright Meta Platforms, Inc., "
    "All Right Reserved"
)
LOSS_COLUMNS = (
    ["step", "loss", "loss_text"]
    + [f"loss_codebook_{k}" for k in range(8)]
    + ["eos_loss", "eos_accuracy", "eval_loss", "learning_rate"]
)
MAX_LOSS_ROWS = 12
CORPUS_COLUMNS = {
    "id": "name of the row",
    "text": "normalized transcript, the input of the model",
    "raw_text": "transcript of the source",
    "speaker": "speaker",
    "language": "language",
    "scene": "description of the scene, or null",
    "task": "task of the row",
    "messages": "the conversation, as a JSON string",
    "codes": "codes of the recording, undelayed (T, C): T steps of 40 ms, C codebooks",
    "ref_codes": "codes of the reference clips",
    "ref_texts": "transcripts of the reference clips",
    "turn_speakers": "speaker of each turn of a dialogue",
    "seconds": "length of the recording",
    "codec": "audio tokenizer of the codes",
    "content_hash": "hash of the recording",
    "audio": "the recording, or null",
}


def adapter_card(run: Record, *, name: str, metrics: Record | None = None) -> str:
    """Render the card of an adapter, or of a fully fine-tuned model (method "full").

    Args:
        run: run.json.
        name: Hub id, or folder, by which the model is loaded.
        metrics: metrics.json of its evaluation, if it was evaluated.

    Raises:
        InputError: a field is missing, or the recipe contains a token.
    """
    run = checked_run(run, "run.json")
    has_notice = run.get("higgs_license") is not False  # an older record does not say: the notice stays
    base, is_adapter, untrained = run["base_model"], run["method"] == "lora", _is_untrained(run)
    data = ModelCardData(
        base_model=base if is_hub_id(base) else None,
        datasets=[dataset["path"] for dataset in _datasets(run) if is_hub_id(dataset["path"])] or None,
        library_name="peft" if is_adapter else "transformers",
        pipeline_tag="text-to-speech",
        tags=["higgs-audio-v2", "text-to-speech", "lora" if is_adapter else "full-fine-tuning"],
        **(LICENSE if has_notice else {}),
    )
    kind = "A LoRA adapter" if is_adapter else "A fine-tuned model"
    sections = [
        f"# {literal(public_name(name))}\n",
        UNTRAINED if untrained else "",
        f"{kind} for speech, trained from the Higgs Audio v2 model "
        f"{code(with_revision(base, run['base_revision']))} for {run['steps']} steps with higgs_recipes.\n",
        _loading(name, base=base if is_adapter else None, revision=run["base_revision"]),
        _training(run),
        _license() if has_notice else "",
    ]
    card = _assemble(data, sections)
    return card if metrics is None else update_evaluation(card, metrics, name=name)


def merged_card(merge: Record, *, name: str, run: Record | None = None) -> str:
    """Render the card of a merged checkpoint.

    Args:
        merge: merge.json: {"base_model", "base_revision", "adapter", "adapter_revision", "dtype", "git_commit",
            "versions", "hardware", "higgs_license", "max_logit_difference", "mean_logit_difference",
            "likeliest_codes_equal"}; the last three compare its logits with the adapter's and are null unless checked.
        name: Hub id, or folder, by which the model is loaded.
        run: run.json of the adapter, if it has one.

    Raises:
        InputError: a field is missing, or the recipe contains a token.
    """
    merge, run = Fields(merge, "merge.json"), run and checked_run(run, "run.json")
    base, untrained = merge["base_model"], run is not None and _is_untrained(run)
    has_notice = merge.get("higgs_license") is not False or (run is not None and run.get("higgs_license") is True)
    data = ModelCardData(
        base_model=base if is_hub_id(base) else None,
        library_name="transformers",
        pipeline_tag="text-to-speech",
        tags=["higgs-audio-v2", "text-to-speech", "merged"],
        **(LICENSE if has_notice else {}),
    )
    about = {
        "base model": with_revision(base, merge["base_revision"]),
        "adapter": with_revision(merge["adapter"], merge["adapter_revision"]),
        "weights": merge["dtype"],
        "merged against adapter": describe_logit_check(merge),
        "commit": merge["git_commit"],
        "hardware": merge["hardware"],
        "versions": merge["versions"],
    }
    sections = [
        f"# {literal(public_name(name))}\n",
        UNTRAINED if untrained else "",
        "A Higgs Audio v2 checkpoint: an adapter merged into its base model. It loads with plain transformers.\n",
        _loading(name, base=None, revision=None),
        "## Merge\n\n" + facts(about),
        _training(run) if run else "The training of the adapter is not recorded: it has no run.json.\n",
        _license() if has_notice else "",
    ]
    return _assemble(data, sections)


def describe_logit_check(merge: Record) -> str:
    """Summarize the comparison of a merged model's logits with the adapter's, from merge.json."""
    if merge["max_logit_difference"] is None:
        return "not checked"
    return (
        f"logits differ by at most {merge['max_logit_difference']:.3g}, on average "
        f"{merge['mean_logit_difference']:.3g}; the most likely codes are equal in "
        f"{merge['likeliest_codes_equal']:.2%}"
    )


def corpus_card(corpus: Record, *, name: str) -> str:
    """Render the card of an encoded corpus.

    Args:
        corpus: corpus.json: {"codec", "codec_arithmetic" (absent in older corpora), "sources": [name or {"path", ...},
            ...], "license" (Hub identifier of the recordings' license, such as cc0-1.0, or None), "splits":
            {split: {"rows", "seconds"}}, "rejects": {reason: rows}, "recipe", "git_commit", "versions"}.
        name: Hub id, or folder, by which the corpus is loaded.

    Raises:
        InputError: a field is missing, a split has an invalid name, or the recipe contains a token.
    """
    corpus = Fields(corpus, "corpus.json")
    splits, rejects, sources = corpus["splits"], corpus["rejects"], [_path(source) for source in corpus["sources"]]
    for split in splits:
        if re.fullmatch(r"\w+", split) is None:  # it is used in file name patterns
            raise InputError(f"corpus.json: split {split!r}: use letters, digits and _ only")
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in splits]
    data = DatasetCardData(
        license=corpus["license"] or "unknown",
        source_datasets=[source for source in sources if is_hub_id(source)] or None,
        task_categories=["text-to-speech"],
        tags=["higgs-audio-v2", "audio-codes"],
        configs=[{"config_name": "default", "data_files": files}],
    )
    split_rows = [[split, size["rows"], _hours(size["seconds"])] for split, size in splits.items()]
    column_rows = [[code(column), content] for column, content in CORPUS_COLUMNS.items()]
    reject_rows = [[escape_marks(str(reason)), count] for reason, count in rejects.items()]
    about = {
        "codec": corpus["codec"],
        "arithmetic of the codec": corpus.get("codec_arithmetic") or "not recorded",
        "sources": [public_name(source) for source in sources],
        "license of the recordings": corpus["license"] or "not recorded, see the sources",
        "commit": corpus["git_commit"],
        "versions": corpus["versions"],
    }
    loading = f"from datasets import load_dataset\n\nrows = load_dataset({_quote(public_name(name))}, "
    loading += f"split={_quote(next(iter(splits)))})"
    sections = [
        f"# {literal(public_name(name))}\n",
        "Speech as codes of the Higgs Audio v2 tokenizer, ready for fine-tuning with higgs_recipes.\n",
        code_block(loading, "python"),
        facts(about),
        "## Splits\n\n" + table(["split", "rows", "hours"], split_rows),
        "## Columns\n\n" + table(["column", "content"], column_rows),
        "## Rejected\n\n" + (table(["reason", "rows"], reject_rows) if rejects else "No rows.\n"),
        _recipe(corpus),
    ]
    return _assemble(data, sections)


def _is_untrained(run: Fields) -> bool:
    # By the base's own record, or measured before training; an older record does not say.
    return run.get("untrained_base") is True


def _datasets(run: Fields) -> list[Fields]:
    return [Fields(dataset, "run.json: datasets") for dataset in run["datasets"]]


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}"


def _path(source: str | Record) -> str:
    return source if isinstance(source, str) else Fields(source, "corpus.json: sources")["path"]


def _loading(name: str, *, base: str | None, revision: str | None) -> str:
    """The section with the code that loads a model: as an adapter of `base`, or without a base if it is None."""
    model = base or name
    pin = f", model_revision={_quote(revision)}" if base and revision and is_hub_id(base) else ""
    adapter = f", adapter={_quote(public_name(name))}" if base else ""
    hint = "" if is_hub_id(model) else "  # a local folder: give its path"
    lines = (
        "from higgs_recipes.configs import ModelConfig\n"
        "from higgs_recipes.modeling import load_model\n\n"
        f"config = ModelConfig(model_name_or_path={_quote(public_name(model))}{pin}){hint}\n"
        f'model, tokenizer = load_model(config{adapter}, device="cuda")'
    )
    return f"## How to load it\n\n{code_block(lines, 'python')}"


def _quote(text: str) -> str:
    """A string in Python code, in double quotes."""
    return json.dumps(text)


def _training(run: Fields) -> str:
    datasets = [
        [escape_marks(public_name(data["path"])), data["rows"], _hours(data["seconds"]), code(data["fingerprint"])]
        for data in _datasets(run)
    ]
    about = {
        "base model": with_revision(run["base_model"], run["base_revision"]),
        "fingerprint of the base": run["base_fingerprint"],
        "codec": run["codec"],
        "commit": run["git_commit"],
        "hardware": run["hardware"],
        "versions": run["versions"],
        "losses of the best step" if run.get("best") else "last losses": run["losses"],
        **({"best step": {"step": run["steps"]} | run["best"]} if run.get("best") else {}),
        **({"scores of its speech": speech} if (speech := describe_listening(run)) else {}),
    }
    if run.get("adapter") is not None:
        about = {"continues the adapter": with_revision(run["adapter"], run.get("adapter_revision"))} | about
    return (
        f"## Training\n\n{facts(about)}\n{table(['dataset', 'rows', 'hours', 'fingerprint'], datasets)}\n"
        f"{_losses(run['log_history'])}\n{_recipe(run)}"
    )


def _losses(log_history: Sequence[Record]) -> str:
    """The table of logged losses: at most `MAX_LOSS_ROWS` evenly spaced steps, with the first and the last."""
    steps: dict[int, dict[str, Any]] = {}
    for logged in log_history:  # training and evaluation log a step in separate records
        steps.setdefault(logged["step"], {}).update(logged)
    if not steps:
        return "No losses were logged.\n"
    rows, num_shown = [steps[step] for step in sorted(steps)], min(len(steps), MAX_LOSS_ROWS)
    shown = [rows[index * (len(rows) - 1) // max(num_shown - 1, 1)] for index in range(num_shown)]
    columns = [column for column in LOSS_COLUMNS if any(column in row for row in shown)]
    return table(columns, [[row.get(column, "") for column in columns] for row in shown])


def _recipe(record: Fields) -> str:
    recipe = record["recipe"]
    for field, value in recipe.items():
        # transformers replaces a token by "<HUB_TOKEN>"; any other value is a real token.
        if field.endswith("token") and value is not None and not str(value).startswith("<"):
            raise InputError(
                f"{record.file}: field 'recipe.{field}' contains a token: remove it, the file is published"
            )
    shown = {field: value for field, value in recipe.items() if not field.endswith("token")}
    plain = json.loads(json.dumps(shown))  # tuples become lists, as YAML has no tuples
    return f"## Recipe\n\n{code_block(yaml_dump(plain, sort_keys=False), 'yaml')}"


def _license() -> str:
    return (
        "## License\n\nWeights derived from Higgs Audio v2 are subject to the license of its weights, the "
        f"[Boson Higgs Audio 2 Community License]({LICENSE['license_link']}).\n\n> {LICENSE_NOTICE}\n"
    )


def _assemble(data: ModelCardData | DatasetCardData, sections: Sequence[str]) -> str:
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(section for section in sections if section)
