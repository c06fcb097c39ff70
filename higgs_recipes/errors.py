"""The one exception for input that a person can mend, and its one-line way out of a script."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


logger = logging.getLogger(__name__)


class InputError(ValueError):
    """Bad input: the message says what is wrong, where (file, row id, field) and what to do."""


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
