"""Checkpoints of a run: written to a staging folder and renamed when complete, and found again to resume from."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate.logging import get_logger
from transformers import EarlyStoppingCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.errors import InputError
from higgs_recipes.hub.run_record import RUN_INFO
from higgs_recipes.records import read_record


logger = get_logger(__name__)  # logs in the main process only

STAGING = ".checkpoint.partial"  # remains after a killed save; never pushed


@contextmanager
def staged_checkpoint(folder: str | Path, *, publishes: bool, wait: Callable[[], None]) -> Iterator[Path]:
    """A folder inside `folder` into which all processes write one `checkpoint-N`.

    When all processes have left the block, the checkpoint is moved to `folder` and replaces one of the same name. If a
    process is killed before, the checkpoints in `folder` do not change.

    Args:
        folder: the folder of the run.
        publishes: whether this process moves the checkpoint: one process does, or one per machine if each machine has
            its own disk.
        wait: a barrier, which returns when all processes have called it.
    """
    staging = Path(folder) / STAGING
    if publishes and staging.exists():
        shutil.rmtree(staging)
    wait()  # the remains of a killed save are deleted before any process writes
    try:
        yield staging
        wait()  # each process writes its random state, or its shard of the optimizer state
        if publishes:
            (checkpoint,) = staging.iterdir()
            _flush(checkpoint)
            final = Path(folder) / checkpoint.name
            if final.exists():  # a run resumed from an earlier checkpoint writes this one again
                os.replace(final, staging / "replaced")
            os.replace(checkpoint, final)
        wait()  # the checkpoint has its final name before any process looks for it
    finally:
        if publishes:
            shutil.rmtree(staging, ignore_errors=True)


def record_final_path(state: TrainerState, folder: Path, *, staging: Path, writes: bool) -> None:
    """Record the final path of a staged checkpoint, if it is the best one.

    Args:
        folder: the folder of the run.
        writes: whether this process writes the state of the checkpoint.
    """
    best = state.best_model_checkpoint
    if best is not None and Path(best).parent == staging:
        state.best_model_checkpoint = str(folder / Path(best).name)
        if writes:
            state.save_to_json(str(Path(best) / TRAINER_STATE_NAME))


def _flush(folder: Path) -> None:
    """Flush all files to the disk, so that a checkpoint is complete even after a power loss."""
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def complete_checkpoints(folder: str | Path) -> dict[int, Path]:
    """The complete checkpoints in the folder of a run, by step, the earliest first.

    Names with more than the step, e.g. copies made by the user, are ignored.
    """
    paths = [path.parent for path in Path(folder).glob(f"checkpoint-*/{TRAINER_STATE_NAME}")]
    by_step = {int(step): path for path in paths if (step := path.name.partition("-")[2]).isdecimal()}
    return dict(sorted(by_step.items()))


def delete_old_checkpoints(args: SFTConfig, state: TrainerState, *, is_complete: bool) -> None:
    """Delete the earliest checkpoints until `save_total_limit` are left, but neither the best nor the last one.

    The order is that of the steps: the clock may have been set back, or the files copied. A run that has resumed from
    an earlier checkpoint leaves those of later steps, which it will write again.

    Args:
        is_complete: whether the result is saved, so that the last checkpoint is needed only if it is the best.
    """
    if args.save_total_limit is None:
        return
    kept = (
        {state.best_global_step}
        if is_complete and state.best_global_step
        else {state.best_global_step, state.global_step}
    )
    checkpoints = {
        step: path for step, path in complete_checkpoints(args.output_dir).items() if step <= state.global_step
    }
    others = [path for step, path in checkpoints.items() if step not in kept]
    for path in others[: max(len(checkpoints) - args.save_total_limit, 0)]:
        shutil.rmtree(path)


def has_all_steps(state: TrainerState) -> bool:
    """Whether the training that a state belongs to is complete: it has all its steps, or was stopped early."""
    if state.global_step >= state.max_steps:
        return True
    early = state.stateful_callbacks.get(EarlyStoppingCallback.__name__)
    if early is None:
        return False
    return early["attributes"]["early_stopping_patience_counter"] >= early["args"]["early_stopping_patience"]


def restore_resumed(state: TrainerState, folder: str | Path, *, early_stopping: EarlyStoppingCallback | None) -> None:
    """Restore what transformers does not when training begins: the patience, and the best checkpoint of a moved run.

    Args:
        state: state of the trainer, that of the checkpoint in a resumed run.
        folder: the folder of the run.
        early_stopping: the callback of the trainer.
    """
    if early_stopping is not None:
        saved = state.stateful_callbacks[EarlyStoppingCallback.__name__]["attributes"]
        early_stopping.early_stopping_patience_counter = saved["early_stopping_patience_counter"]
    best = Path(folder) / f"checkpoint-{state.best_global_step}"
    if state.best_model_checkpoint is None and best.is_dir():
        state.best_model_checkpoint = str(best)


def checkpoint_to_resume(args: SFTConfig, *, is_same_run: bool = False) -> str | None:
    """The checkpoint to resume from: the recipe's, the last one for "true", or None for a new run.

    Args:
        args: the recipe.
        is_same_run: whether the same command has made the checkpoints: it resumes from the last one if only the result
            was not saved.

    Raises:
        InputError: the folder contains a finished run, or checkpoints but the recipe does not resume; or there is no
            complete checkpoint to resume from.
    """
    folder, requested = Path(args.output_dir), args.resume_from_checkpoint
    if (folder / RUN_INFO).is_file():
        raise InputError(
            f"{folder}: holds a finished run; choose another output_dir (scripts/README.md: how to push it)"
        )
    checkpoints = complete_checkpoints(folder)
    last = str(checkpoints[max(checkpoints)]) if checkpoints else None
    if requested in (None, False, "false", "False"):
        if last is None:
            return None
        if is_same_run and has_all_steps(TrainerState(**read_record(Path(last) / TRAINER_STATE_NAME))):
            logger.info("%s is complete: only its result is saved", last)
            return last
        raise InputError(
            f"{last} belongs to an unfinished run: pass --resume_from_checkpoint true, or remove {folder}"
        )
    if requested in (True, "true", "True"):
        if last is None:
            raise InputError(f"{folder}: no complete checkpoint to resume from; remove resume_from_checkpoint")
        return last
    if not (Path(requested) / TRAINER_STATE_NAME).is_file():
        raise InputError(f"resume_from_checkpoint: no complete checkpoint (no {TRAINER_STATE_NAME}) at {requested}")
    return requested
