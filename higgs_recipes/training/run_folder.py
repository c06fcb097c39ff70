"""The output folder of a training run: refused if it contains files of others, and recognized when complete."""

import re

from higgs_recipes.errors import InputError
from higgs_recipes.hub.result_files import CARD
from higgs_recipes.hub.result_state import ResultState, read_state
from higgs_recipes.hub.run_record import RUN_INFO
from higgs_recipes.run_lock import LOCK, PROBE
from higgs_recipes.training.checkpoints import STAGING


# What transformers, the trainer and the lock write before the run is complete.
_OF_A_RUN = re.compile(
    rf"checkpoint-\d+|runs|{re.escape(STAGING)}|{re.escape(LOCK)}|\.{PROBE}\.[0-9a-f]{{8}}\.partial"
)


def check_run_folder(state: ResultState) -> None:
    """Check that a training run can write to its output folder, before it loads anything.

    A run records in state.json that the folder is its own when it starts to train.

    Raises:
        InputError: the folder is a file, or it contains files that are not of a run.
    """
    folder = state.folder
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{existing} is a file, expected a folder: remove it or choose another output_dir")
    if folder.is_dir() and read_state(folder) is None:
        foreign = sorted(path.name for path in folder.iterdir() if _OF_A_RUN.fullmatch(path.name) is None)
        if foreign:
            named = ", ".join(foreign[:3]) + (" ..." if len(foreign) > 3 else "")
            raise InputError(
                f"{folder} exists and contains files that are not of a run: {named}; choose another output_dir"
            )


def is_trained(state: ResultState) -> bool:
    """Whether the same command has completed the training, but not its card or its push.

    run.json is written last, after the weights and the files of the base model.
    """
    if not (state.folder / RUN_INFO).is_file() or not state.is_same_run():
        return False
    return state.is_push_pending() or not (state.folder / CARD).is_file()
