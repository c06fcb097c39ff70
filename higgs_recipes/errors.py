"""The exceptions for errors that the user can fix, and how a script reports it."""

import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


logger = logging.getLogger(__name__)


class InputError(ValueError):
    """Invalid input or a missing package; the message says what is wrong, where (file, row id, field), what to do."""


class TooLongError(InputError):
    """A recording is longer than the caller accepts.

    Attributes:
        detail: the length and the limit.
    """

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(f"too long: {detail}")


def shown(value: Any, *, limit: int = 100) -> str:
    """A value of the user's in an error message, shortened to a number of characters.

    >>> shown(["a.wav", 7]), shown("abcdef", limit=4)
    ("['a.wav', 7]", "'abc...")
    """
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deep, or an integer of thousands of digits
        return f"a {type(value).__name__}"
    return text if len(text) <= limit else f"{text[:limit]}..."


def import_module(name: str, *, needed_by: str, install: str) -> ModuleType:
    """Import a module of an optional package.

    Args:
        name: full name of the module.
        needed_by: the feature that needs it, for the error message.
        install: the command that installs it, for the error message.

    Raises:
        InputError: the module, or one that it imports, is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"{needed_by} needs the module {error.name}, which is not installed: {install}") from error


@contextmanager
def exit_on_input_error() -> Iterator[None]:
    """Log an `InputError` as one line and exit with code 2; a `FloatingPointError` (a non-finite loss) with code 1.

    Every other exception keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for http_client in ("httpx", "httpx2"):  # used by huggingface_hub; logs each request with its signed URL
        logging.getLogger(http_client).setLevel(logging.WARNING)
    try:
        yield
    except InputError as error:
        logger.error("%s", error)
        sys.exit(2)
    except FloatingPointError as error:  # raised by the trainer, with the step and the rows
        logger.error("%s", error)
        sys.exit(1)
