"""Several processes of `accelerate launch` share the work of a run, whose result is that of one process.

All processes call these functions, with equal arguments and in the same order. With one process they do nothing more
than call what they are given.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from tqdm.auto import tqdm

from higgs_recipes.errors import InputError


BLOCK = 16  # items of `map_shared` that stay together: batches of metric models have the same clips as in one process

Item, Result = TypeVar("Item"), TypeVar("Result")


def join_processes(*, timeout: timedelta = timedelta(days=7)) -> PartialState:
    """The state of this process in a script whose processes share the work.

    Args:
        timeout: longer than accelerate's 10 minutes, because processes wait for the slowest share.
    """
    # Without `cpu`, accelerate takes two processes without a GPU for two separate runs.
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=timeout)


def shared_device() -> torch.device:
    """The device of this process in a script whose processes share the work; only the main process logs progress."""
    state = join_processes()
    if not state.is_main_process:
        logging.getLogger("higgs_recipes").setLevel(logging.WARNING)
    return state.device


@contextmanager
def shared_errors() -> Iterator[None]:
    """End all processes if one has an `InputError` inside: the main process raises the first one, the others exit.

    Inside, processes must not wait for each other. Any other exception is raised at once, and the launcher ends the
    other processes.
    """
    state = PartialState()
    if state.num_processes == 1:
        yield
        return
    message = None
    try:
        yield
    except InputError as error:
        message = str(error)
    messages = [found for found in gather_object([message]) if found is not None]
    if messages and state.is_main_process:
        raise InputError(messages[0])
    if messages:
        sys.exit(2)


def main_process_decides(decide: Callable[[], Result]) -> Result:
    """What the main process computes, in all processes."""
    state = PartialState()
    with shared_errors():
        decided = [decide() if state.is_main_process else None]
    if state.num_processes > 1:
        broadcast_object_list(decided)
    return decided[0]


def own_share(sizes: Sequence[float]) -> list[int]:
    """The indexes of this process's share: the largest first, dealt out in turn."""
    state = PartialState()
    order = sorted(range(len(sizes)), key=lambda index: -sizes[index])
    return order[state.process_index :: state.num_processes]


def gather_pairs(pairs: Sequence[tuple[int, Result]]) -> dict[int, Result]:
    """The pairs (index, result) of all processes."""
    return dict(gather_object(list(pairs)) if PartialState().num_processes > 1 else pairs)


def map_shared(function: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]) -> list[Result]:
    """`function(items)`, a result for each item, in blocks that are dealt out to the processes.

    Raises:
        InputError: in the main process, if `function` raises one in any process.
    """
    if PartialState().num_processes == 1:
        return list(function(items))
    blocks = [range(start, min(start + BLOCK, len(items))) for start in range(0, len(items), BLOCK)]
    results: list[tuple[int, Result]] = []
    with shared_errors():
        for number in own_share([0.0] * len(blocks)):
            results += zip(blocks[number], function([items[index] for index in blocks[number]]), strict=True)
    gathered = gather_pairs(results)
    return [gathered[index] for index in range(len(items))]


def progress_bar(total: int, description: str, *, unit: str) -> Any:
    """A progress bar of the main process; the others show none."""
    return tqdm(total=total, desc=description, unit=f" {unit}", disable=not PartialState().is_main_process)
