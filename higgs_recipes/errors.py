"""The exceptions for errors that the user can fix, and how a script reports it."""

import errno
import importlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


logger = logging.getLogger(__name__)


class InputError(ValueError):
    """Invalid input or a missing package; the message says what is wrong, where (file, row id, field), what to do."""


class DiskError(InputError):
    """A file or folder cannot be read or written; never a property of a row, so no row is rejected for it."""


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


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Failures of a file system -> what to do.
_ADVICE = {
    **dict.fromkeys(_FULL, "make room or choose another folder"),
    errno.EROFS: "choose a folder on another disk",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "change its permissions or choose another folder"),
    **dict.fromkeys((errno.EBUSY, errno.ETXTBSY), "something else uses it: end that, or choose another folder"),
    errno.ENOTDIR: "a part of this path is a file; choose another path",
    errno.EISDIR: "expected a file; choose another path",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ELOOP: "its links form a circle; choose another path",
    **dict.fromkeys((errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE), "check the disk or the network"),
}
_NAMED_IN_TEXT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def disk_failure(error: BaseException | None) -> tuple[int, str | None] | None:
    """The error number of a failure of a file system and the file, if it is known; None for any other error.

    Writers in Rust and C++ (safetensors, Arrow) keep only the text of the system's error, or wrap it.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _ADVICE:
            return error.errno, None if error.filename is None else os.fsdecode(error.filename)
        for number in _NAMED_IN_TEXT:
            if os.strerror(number) in str(error):
                return number, None
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def is_full_disk(error: BaseException) -> bool:
    """Whether the disk is full, a quota is used up, or a file is too large for the disk."""
    failure = disk_failure(error)
    return failure is not None and failure[0] in _FULL


def describe_disk_failure(number: int, path: str) -> str:
    """What failed, where, and what to do.

    >>> describe_disk_failure(errno.EROFS, "outputs/voice")
    'outputs/voice: Read-only file system: choose a folder on another disk'
    """
    return f"{path}: {os.strerror(number)}: {_ADVICE[number]}"


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

    A failure of a file system (full, read-only, busy, no permission) is an `InputError` too. Every other exception
    keeps its traceback.
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
    except Exception as error:
        number, path = disk_failure(error) or (None, None)
        if number is None or path is None and number in (errno.EACCES, errno.EPERM):  # may be of a socket
            raise
        logger.error("%s", describe_disk_failure(number, path or "writing a file"))
        logger.debug("the failed call:", exc_info=error)
        sys.exit(2)
