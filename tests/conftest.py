import gc
import os


# Set before any Hugging Face library is imported: they read these once, at import.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# What is imported stays: to look through it for garbage again and again would be a quarter of the time of imports.
gc.disable()

# Files whose tests take longest together. They go first, so that two processes end at about one time.
LONG = (
    *("test_trainer.py", "test_segmenting.py", "test_end_to_end.py", "test_streaming.py", "test_evaluation.py"),
    *("test_recipes.py", "test_imports.py", "test_encoding.py", "test_fast_path.py", "test_judges.py"),
    *("test_train_modules.py", "test_hub.py", "test_benchmark_train.py", "test_report.py", "test_tiny_base.py"),
    *("test_hub_recipes.py", "test_segments.py", "test_run_length.py", "test_training_data.py", "test_corpus_push.py"),
)


def pytest_configure(config) -> None:
    if config.getoption("numprocesses", default=None):  # this process only hands out tests
        from tests.forked_python import start_server

        start_server()  # while they import what they test
        return
    import torch

    # More threads than free cores make a tiny model many times slower.
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()
