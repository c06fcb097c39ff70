"""The checkpoints of a run: written beside and renamed when all processes are done, found again to resume from;
and what a whole model has beside its weights.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME

from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.errors import InputError
from higgs_recipes.hub.run_record import RUN_INFO


STAGING = ".checkpoint.partial"  # a save that was killed leaves it; no push takes it


@contextmanager
def staged_checkpoint(folder: str | Path, *, publishes: bool, wait: Callable[[], None]) -> Iterator[Path]:
    """A folder inside `folder` for all processes to write one `checkpoint-N` into; the checkpoint comes to `folder`,
    in place of one of its name, when all have left the block. Killed before, `folder` has the checkpoints it had.

    Args:
        publishes: whether this process renames: one does, or one of each machine that has a disk of its own.
        wait: returns when all processes have called it.
    """
    staging = Path(folder) / STAGING
    if publishes and staging.exists():
        shutil.rmtree(staging)
    wait()  # nobody writes before what a killed save left is gone
    try:
        yield staging
        wait()  # each process writes its own random state, or its part of the optimizer's
        if publishes:
            (checkpoint,) = staging.iterdir()
            _flush(checkpoint)
            place = Path(folder) / checkpoint.name
            if place.exists():  # a run that was told to resume from an earlier one makes this one again
                os.replace(place, staging / "replaced")
            os.replace(checkpoint, place)
        wait()  # no process looks for the checkpoint before it has its name
    finally:
        if publishes:
            shutil.rmtree(staging, ignore_errors=True)


def _flush(folder: Path) -> None:
    """To the disk, so that a machine that loses its power finds the files as whole as their names say."""
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def checkpoint_to_resume(args: SFTConfig) -> str | None:
    """The checkpoint folder that the run starts from: the recipe's, the last one for "true", or None for a new run.

    Raises:
        InputError: the folder holds a finished run, or checkpoints that the recipe does not ask to resume, or none
            that is whole.
    """
    folder, asked = Path(args.output_dir), args.resume_from_checkpoint
    if (folder / RUN_INFO).is_file():
        raise InputError(f"{folder}: holds a finished run; choose another output_dir or remove it")
    whole = (path.parent for path in folder.glob(f"checkpoint-*/{TRAINER_STATE_NAME}"))
    # A name that goes on after the step is somebody's copy.
    by_step = {int(step): path for path in whole if (step := path.name.partition("-")[2]).isdecimal()}
    last = str(by_step[max(by_step)]) if by_step else None
    if asked in (None, False, "false", "False"):
        if last is not None:
            raise InputError(f"{last} is of an unfinished run: pass --resume_from_checkpoint true, or remove {folder}")
        return None
    if asked in (True, "true", "True"):
        if last is None:
            raise InputError(f"{folder}: no whole checkpoint to resume from; leave resume_from_checkpoint out")
        return last
    if not (Path(asked) / TRAINER_STATE_NAME).is_file():
        raise InputError(f"resume_from_checkpoint: no whole checkpoint (no {TRAINER_STATE_NAME}) at {asked}")
    return asked
