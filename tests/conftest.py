import os


# Set before any Hugging Face library is imported: they read these once, at import.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch  # noqa: E402


# More threads than free cores make a tiny model many times slower.
torch.set_num_threads(1)

# Files whose tests take ten seconds and more together. They go first, so that two processes end at about one time.
LONG = (
    *("test_trainer.py", "test_end_to_end.py", "test_streaming.py", "test_evaluation.py", "test_encoding.py"),
    *("test_segmenting.py", "test_hub.py", "test_base_corpus.py", "test_hub_recipes.py"),
    *("test_benchmark_train.py", "test_limits.py"),
    *("test_fast_path.py", "test_mel_rvq.py", "test_codec_fit.py", "test_corpus_push.py", "test_report.py"),
)


def pytest_collection_modifyitems(items) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
