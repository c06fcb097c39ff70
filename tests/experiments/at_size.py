"""Import, encode, check and collate a large corpus on one machine: rows per second and peak memory of each step.

python -m tests.experiments.at_size [ROWS, 100000 by default]

The recordings are half-second tones of 8 bits, each with its own pitch. A stub replaces the codec, whose speed
scripts/benchmark.py measures: this program measures the cost of rows.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from higgs_recipes.audio.codec import num_steps
from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs.corpus import EncodeConfig, ImportConfig
from higgs_recipes.corpus import encode as encoding
from higgs_recipes.corpus.encoded import load_encoded
from higgs_recipes.corpus.report import check_corpus
from higgs_recipes.ingest.import_corpus import import_corpus
from higgs_recipes.training.data import EncodedSamples, tokenize_rows
from tests.helpers.checkpoints import load_tiny
from tests.helpers.paths import ROOT


RATE, SECONDS, SPEAKERS = 8_000, 0.5, 100


def write_recordings(folder: Path, num_rows: int) -> None:
    """Write recordings in the layout of LJSpeech."""
    (folder / "wavs").mkdir(parents=True)
    seconds = torch.arange(round(RATE * SECONDS)) / RATE
    lines = []
    for index in range(num_rows):
        tone = 0.5 * torch.sin(2 * torch.pi * (100 + 0.03 * index) * seconds + index)
        soundfile.write(folder / "wavs" / f"{index:06d}.wav", tone.numpy(), RATE, subtype="PCM_U8")
        lines.append(f"{index:06d}|Sentence {index}.|Sentence {index}.\n")
    (folder / "metadata.csv").write_text("".join(lines), encoding="utf-8")


def run_import(folder: Path) -> None:
    import_corpus(
        ImportConfig(format="ljspeech", sources=[str(folder / "recordings")], output_dir=str(folder / "imported"))
    )


class StubCodec:
    """A codec whose codes (T, C) are the first samples of the waveform."""

    revision, num_codebooks = "stub", 8

    def encode(self, waveforms: Sequence[Tensor], *, batch_seconds: float) -> list[Tensor]:
        steps = [num_steps(len(waveform)) for waveform in waveforms]
        samples = [wave[: count * 8].view(count, 8) for wave, count in zip(waveforms, steps, strict=True)]
        return [(values.abs() * 1000).to(torch.int16) for values in samples]


def recipe(folder: Path) -> EncodeConfig:
    return EncodeConfig(
        sources=[str(folder / "imported")],
        codec_name_or_path="stub",
        output_dir=str(folder / "encoded"),
        cache_dir=str(folder / "cache"),
        keep_audio="none",
        test_size=0,
    )


def run_check(folder: Path) -> None:
    check_corpus(recipe(folder))


def run_encode(folder: Path) -> None:
    encoding.load_codec = lambda *args, **kwargs: StubCodec()
    encoding.encode_corpus(recipe(folder))


def run_collate(folder: Path) -> None:
    model, tokenizer = load_tiny()
    rows = load_encoded(folder / "encoded", split="train")
    samples = EncodedSamples(tokenize_rows(rows, tokenizer), tokenizer)
    loader = torch.utils.data.DataLoader(
        samples, batch_size=64, collate_fn=HiggsCollator(model.config, pack_to=8192), num_workers=0
    )
    assert sum(len(batch["row_index"]) for batch in loader) == len(samples)


STEPS = {"import": run_import, "encode": run_encode, "check": run_check, "collate": run_collate}


def main() -> None:
    if sys.argv[1:2] == ["step"]:
        torch.set_num_threads(1)
        STEPS[sys.argv[2]](Path(sys.argv[3]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)  # noqa: T201
        return
    num_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    report: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_recordings(folder / "recordings", num_rows)
        for step in STEPS:
            began = time.perf_counter()
            command = [sys.executable, "-m", "tests.experiments.at_size", "step", step, str(folder)]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
            seconds = time.perf_counter() - began
            report[step] = {
                "rows_per_second": round(num_rows / seconds, 1),
                "seconds": round(seconds, 1),
                "peak_mb": round(float(done.stdout.split()[-1])),
            }
            print(step, json.dumps(report[step]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
