"""Run a function in two processes that find each other like those of torchrun; both are forks of this process."""

import logging
import os
import pickle
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import PartialState


TIMEOUT = 60  # seconds


class Ended(NamedTuple):
    """A process that has ended.

    Attributes:
        code: its exit code; negative if a signal killed it.
        result: what the function returned; None if it raised.
        output: what it wrote to stdout and stderr.
    """

    code: int
    result: Any
    output: str


def run_on_two(function: Callable[[], Any], folder: Path) -> list[Ended]:
    """Call the function in both processes, with RANK 0 and 1.

    Args:
        folder: for the results and the output.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            _run(function, rank, port, folder)
        children.append(child)
    ended = []
    for rank, child in enumerate(children):
        _, status = os.waitpid(child, 0)
        result = folder / f"{rank}.pickle"
        ended.append(
            Ended(
                os.waitstatus_to_exitcode(status),
                pickle.loads(result.read_bytes()) if result.exists() else None,
                (folder / f"{rank}.log").read_text(encoding="utf-8"),
            )
        )
    return ended


def _run(function: Callable[[], Any], rank: int, port: int, folder: Path) -> None:
    code = 1
    try:
        signal.alarm(TIMEOUT)  # kills a process that waits for ever
        log = os.open(folder / f"{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
        logging.basicConfig(level=logging.INFO, force=True, stream=sys.stderr)
        os.environ |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
        }
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
        torch.set_num_threads(1)  # the threads of the parent do not exist here
        PartialState._reset_state()
        result = function()
        (folder / f"{rank}.pickle").write_bytes(pickle.dumps(result))
        code = 0
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
