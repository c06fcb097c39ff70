import gc
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


# Set before any Hugging Face library is imported, because they read these at import.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# Imported objects stay alive: collecting garbage during imports would take a quarter of their time.
gc.disable()

# The files with the longest tests. They run first, so that two processes end at about the same time.
LONG = (
    *("training/test_trainer.py", "ingest/test_segment_corpus.py", "test_end_to_end.py", "corpus/test_streaming.py"),
    *("evaluation/test_evaluate.py", "recipes/test_recipes.py", "test_rooms.py", "corpus/test_encode.py"),
    *("modeling/test_varlen_forward.py", "audio/test_asr.py", "modeling/test_train_modules.py", "hub/test_push.py"),
    *("benchmarks/test_train.py", "evaluation/test_report.py", "recipes/test_tiny_base.py"),
    *("recipes/test_hub_recipes.py", "ingest/test_segmenter.py", "training/test_run_estimate.py"),
    *("training/test_data.py", "hub/test_push_corpus.py"),
)


def pytest_configure(config) -> None:
    if config.getoption("numprocesses", default=None):  # this process only distributes tests
        from tests.helpers.forked_python import start_server

        start_server()  # in parallel with the imports of the workers
        return
    import torch

    # More threads than free cores slow a tiny model down by a multiple.
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items) -> None:
    names = {item: item.path.relative_to(Path(__file__).parent).as_posix() for item in items}
    items.sort(key=lambda item: LONG.index(names[item]) if names[item] in LONG else len(LONG))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def records_of_imports(tmp_path_factory):
    """The records of imports in a folder of the session, not in the home of whoever runs the tests."""
    from higgs_recipes.corpus.sources import link_roots

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link_roots, "RECORDS", tmp_path_factory.mktemp("imports"))
        yield


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 256 kB."""
    with mounted_disk(tmp_path / "small", "size=256k") as folder:
        yield folder


@pytest.fixture
def read_only_disk(tmp_path):
    """A folder on a disk that cannot be written."""
    with mounted_disk(tmp_path / "read_only", "ro") as folder:
        yield folder


@contextmanager
def mounted_disk(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
