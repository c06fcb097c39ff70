"""run.json of saved weights: their step and losses, which are not those of the last step if they are the best ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerState

from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.files import atomic_write
from higgs_recipes.hub.run_record import LISTEN_SAMPLES, LISTEN_SCORES, LISTENING, RUN_INFO
from higgs_recipes.training.resume import SETTINGS


def write_run_record(
    folder: Path, run: Mapping[str, Any], args: SFTConfig, state: TrainerState, *, is_complete: bool
) -> None:
    """Write run.json.

    Args:
        folder: folder of the weights.
        run: the entries that do not depend on the weights; only a checkpoint needs its settings. The entry
            `listening` gets the scores of the last evaluation up to the step of the weights.
        args: the recipe.
        state: state of the trainer.
        is_complete: whether the weights are the result, which `load_best_model_at_end` decides, or a checkpoint.
    """
    is_best = is_complete and args.load_best_model_at_end and state.best_model_checkpoint is not None
    step = state.best_global_step if is_best else state.global_step
    logs = [entry for entry in state.log_history if entry["step"] <= step]
    train_logs = [entry for entry in logs if "loss" in entry]
    eval_logs = [entry for entry in logs if "eval_loss" in entry]
    losses = (train_logs[-1] if train_logs else {}) | (eval_logs[-1] if eval_logs else {})
    record = {name: value for name, value in run.items() if name != SETTINGS or not is_complete} | {
        "steps": step,
        "losses": {name: value for name, value in losses.items() if name not in LISTEN_SCORES},
        "log_history": state.log_history,
    }
    if LISTENING in run:
        scored = [entry for entry in eval_logs if LISTEN_SAMPLES in entry]
        record[LISTENING] = run[LISTENING] | {
            "step": scored[-1]["step"] if scored else None,
            "scores": {name: scored[-1][name] for name in LISTEN_SCORES if name in scored[-1]} if scored else {},
        }
    if is_best:
        metric = f"eval_{args.metric_for_best_model.removeprefix('eval_')}"
        record["best"] = {"metric": metric, "value": state.best_metric, "last_step": state.global_step}
    atomic_write(folder / RUN_INFO, json.dumps(record, indent=1) + "\n")


def describe_saved(run: Mapping[str, Any]) -> str:
    """The step of the saved weights, from run.json; if they are the best ones, with the metric.

    >>> describe_saved({"steps": 40, "best": {"metric": "eval_loss", "value": 4.25, "last_step": 60}})
    'step 40 of 60, the best by eval_loss (4.25)'
    """
    best = run.get("best")
    if best is None:
        return f"step {run['steps']}, the last one"
    return f"step {run['steps']} of {best['last_step']}, the best by {best['metric']} ({best['value']:.4g})"
