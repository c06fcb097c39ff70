"""The one exception for what a person can mend, be it input or a missing package, and its way out of a script."""

import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


logger = logging.getLogger(__name__)


class InputError(ValueError):
    """Bad input: the message says what is wrong, where (file, row id, field) and what to do."""


def import_module(name: str, *, needed_by: str, install: str) -> ModuleType:
    """A module of an optional package.

    Raises:
        InputError: it, or what it needs itself, is not installed; says by which command it is.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"{needed_by} needs the module {error.name}, which is not installed: {install}") from error


@contextmanager
def exit_on_input_error() -> Iterator[None]:
    """Turn an `InputError` into one logged line and exit code 2, and a loss that is NaN into one and exit code 1.

    Every other exception keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for http_client in ("httpx", "httpx2"):  # of huggingface_hub: a line for each request, with its signed URL
        logging.getLogger(http_client).setLevel(logging.WARNING)
    try:
        yield
    except InputError as error:
        logger.error("%s", error)
        sys.exit(2)
    except FloatingPointError as error:  # as the trainer raises it: it says the step and the rows
        logger.error("%s", error)
        sys.exit(1)
