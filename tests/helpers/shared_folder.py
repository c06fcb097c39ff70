"""A folder shared by all processes of a test run; the process that created it removes it at its end."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path


NAME = "HIGGS_RECIPES_TESTS_FOLDER"  # environment variable for child processes


def shared_folder() -> Path:
    if NAME not in os.environ:
        os.environ[NAME] = tempfile.mkdtemp(prefix="higgs_recipes_tests_")
        atexit.register(shutil.rmtree, os.environ[NAME], ignore_errors=True)
    return Path(os.environ[NAME])
