"""A folder that the processes of one run of the tests share; it goes with the process that asked for it first."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path


NAME = "HIGGS_RECIPES_TESTS_FOLDER"  # to the processes that are started


def shared_folder() -> Path:
    if NAME not in os.environ:
        os.environ[NAME] = tempfile.mkdtemp(prefix="higgs_recipes_tests_")
        atexit.register(shutil.rmtree, os.environ[NAME], ignore_errors=True)
    return Path(os.environ[NAME])
