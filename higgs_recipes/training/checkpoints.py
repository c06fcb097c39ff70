"""Checkpoints of a run: written to a staging folder and renamed when complete, and found again to resume from."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME

from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.errors import InputError
from higgs_recipes.hub.run_record import RUN_INFO


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


def _flush(folder: Path) -> None:
    """Flush all files to the disk, so that a checkpoint is complete even after a power loss."""
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def checkpoint_to_resume(args: SFTConfig) -> str | None:
    """The checkpoint to resume from: the recipe's, the last one for "true", or None for a new run.

    Raises:
        InputError: the folder contains a finished run, or checkpoints but the recipe does not resume; or there is no
            complete checkpoint to resume from.
    """
    folder, requested = Path(args.output_dir), args.resume_from_checkpoint
    if (folder / RUN_INFO).is_file():
        raise InputError(
            f"{folder}: holds a finished run; choose another output_dir (scripts/README.md: how to push it)"
        )
    complete = (path.parent for path in folder.glob(f"checkpoint-*/{TRAINER_STATE_NAME}"))
    # Names with more than the step, e.g. copies made by the user, are ignored.
    by_step = {int(step): path for path in complete if (step := path.name.partition("-")[2]).isdecimal()}
    last = str(by_step[max(by_step)]) if by_step else None
    if requested in (None, False, "false", "False"):
        if last is not None:
            raise InputError(
                f"{last} belongs to an unfinished run: pass --resume_from_checkpoint true, or remove {folder}"
            )
        return None
    if requested in (True, "true", "True"):
        if last is None:
            raise InputError(f"{folder}: no complete checkpoint to resume from; remove resume_from_checkpoint")
        return last
    if not (Path(requested) / TRAINER_STATE_NAME).is_file():
        raise InputError(f"resume_from_checkpoint: no complete checkpoint (no {TRAINER_STATE_NAME}) at {requested}")
    return requested
