"""The records of an evaluation, for the tests of its report: metrics.json, run.json, and the clips."""

import torch
from torch import Tensor

from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.metrics_schema import SYSTEMS


RUN = {
    "method": "lora",
    "steps": 20,
    "hardware": "CPU x86_64, 2 threads",
    "git_commit": "abc",
    "log_history": [
        {"step": step, "loss": 7.0 / step, "loss_text": 1.0 / step, "eos_accuracy": step / 20, "eos_loss": 2.0 / step}
        | {f"loss_codebook_{index}": (6.0 + index) / step for index in range(8)}
        for step in range(1, 21)
    ]
    + [{"step": 20, "eval_loss": 0.5}],
}


def score(value: float | None, *, n: int) -> dict:
    """A score whose interval is from half to one and a half times its value."""
    interval = {"low": None, "high": None} if value is None else {"low": value * 0.5, "high": value * 1.5}
    return {"value": value, "n": n, "skipped": 0, "note": "bootstrap-t"} | interval


def difference(value: float, *, n: int) -> dict:
    """A paired difference, and what its interval shows."""
    verdict = "no difference shown" if value == 0 else "better"
    interval = {"low": -0.25, "high": 0.25} if value == 0 else {"low": value - 0.0625, "high": value + 0.0625}
    return {"value": value, "n": n, "note": "bootstrap-t", "verdict": verdict} | interval


def without_interval(value: float, *, n: int) -> dict:
    """A score of too few clips for an interval."""
    return score(value, n=n) | {"low": None, "high": None, "note": f"too few: {n}, an interval needs 10"}


def metrics(num_clips: int = 2, *, text: str = "Hello there.", **changes) -> dict:
    """metrics.json of one speaker, with `changes` to its fields."""
    rows = {
        system: {"wer": score(0.125, n=num_clips), "cer": score(0.0625, n=num_clips), "similarity": score(None, n=0)}
        for system in SYSTEMS
    }
    for system in ("base", "finetuned"):
        rows[system] |= {"stop_rate": score(0.5, n=num_clips), "duration_ratio": score(1.25, n=num_clips)}
    clips = [
        {"id": f"row{index}", "text": text, "speaker": "heart", "language": "en", "seed": index}
        | {
            system: {
                "wav": f"samples/{index:04d}_{system}.wav",
                "transcript": text,
                "wer": 0.0,
                "similarity": 0.875,
                "nearest_speaker": None,
                "turns": [],
                "flags": [],
                "stopped": None if system in ("real", "codec") else True,
                "seconds": 0.1,
            }
            for system in SYSTEMS
        }
        for index in range(num_clips)
    ]
    return {
        "rows": rows,
        "by_speaker": {},
        "by_task": {},
        "by_language": {},
        "languages": {"en": {"normalizer": "whisper_en", "unit": "word", "n": num_clips}},
        "n": num_clips,
        "skipped": 1,
        "clips": clips,
        "benchmark": None,
        "comparison": {"wer": difference(-0.125, n=num_clips), "duration_ratio": difference(0.0, n=num_clips)},
        "codes": {"changed": 0.75, "identical": 0, "n": num_clips},
        "transcript_flags": {
            system: {"silence": 0, "stock_phrase": 0, "loop": 0, "n": num_clips} for system in SYSTEMS
        },
        "protocol": "protocol of the test",
        "asr": "openai/whisper-large-v3",
        "asr_revision": "asr123",
        "asr_language": "en",
        "speaker": "package:resemblyzer",
        "speaker_revision": "Resemblyzer 0.1.4",
        "speaker_score": "ge2e_cosine",
        "normalizer": "auto",
        "seeds": "0 to 1, one for each text",
        "dataset": "me/corpus",
        "dataset_revision": None,
        "split": "test",
        "held_out": True,
        "shared_with_train": 0,
        "codec": "local@0123",
        "base_model": "model",
        "base_revision": None,
        "adapter": "voice",
        "adapter_revision": None,
        "untrained_base": False,
        "git_commit": "fedcba",
        "hardware": "1 x NVIDIA H100",
        "versions": {"torch": "2.14.1", "deepspeed": None},
    } | changes


def two_speaker_metrics(*, speaker: str = "heart") -> dict:
    """metrics.json of two speakers, with the turns of a dialogue between them."""
    record = metrics()
    record["rows"]["real"] |= {"nearest_speaker": score(1.0, n=2), "turn_voice": score(0.75, n=4)}
    record["by_speaker"] = dict.fromkeys((speaker, "rms"), record["rows"])
    turn = {"speaker": speaker, "span": [0.5, 2.0], "state": "heard", "nearest_speaker": "rms"}
    missing = turn | {"span": None, "state": "not_found"}
    turns = [turn, turn | {"nearest_speaker": None}, missing, missing | {"state": "empty"}]
    record["clips"][1]["base"]["turns"] = turns
    return record


def waveforms(num_clips: int = 2) -> dict[str, list[Tensor]]:
    """The clips of each system: a tone of 0.1 s each."""
    tone = 0.5 * torch.sin(torch.arange(SAMPLE_RATE // 10) / 10)
    return {system: [tone for _ in range(num_clips)] for system in SYSTEMS}
