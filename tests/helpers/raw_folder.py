"""Recordings for tests of segmentation: real speech joined with pauses and noise."""

import csv
from functools import cache
from pathlib import Path

import soundfile
import torch
import torchaudio
from torch import Tensor

from higgs_recipes.audio.asr import PACKAGE_ASR_MODEL
from higgs_recipes.audio.io import read_audio
from higgs_recipes.configs.segment import SegmentConfig
from higgs_recipes.constants import SAMPLE_RATE
from tests.helpers.paths import ROOT


CLIPS = ROOT / "tests/data/two_voices"


NOISE = 1e-3  # -60 dB of full scale: a quiet room


NUM_CLIPS = 4


MIN_CLIP_SECONDS = 2.76


@cache
def spoken(speaker: str) -> list[tuple[str, Tensor]]:
    """(text, waveform) of the first clips of a voice with at least `MIN_CLIP_SECONDS`."""
    with (CLIPS / "metadata.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["speaker"] == speaker]
    rows = [row for row in rows if soundfile.info(CLIPS / row["file_name"]).duration >= MIN_CLIP_SECONDS][:NUM_CLIPS]
    return [(row["text"], read_audio(CLIPS / row["file_name"], name=row["file_name"])) for row in rows]


def write_recording(path: Path, speaker: str, *, pauses: list[float], rate: int, gain: float = 1.0) -> list[tuple]:
    """Write a stereo recording of the clips of a voice, with a pause before each and two seconds of noise at the end.

    Returns:
        (start, end, text) of each clip, in seconds.
    """
    parts, places, at = [], [], 0.0
    for pause, (text, waveform) in zip(pauses, spoken(speaker), strict=False):
        parts += [torch.zeros(round(pause * SAMPLE_RATE)), waveform]
        places.append((at + pause, at + pause + len(waveform) / SAMPLE_RATE, text))
        at = places[-1][1]
    joined = torch.cat([*parts, torch.zeros(2 * SAMPLE_RATE)])
    joined = joined + NOISE * torch.randn(len(joined), generator=torch.Generator().manual_seed(0))
    samples = torchaudio.functional.resample(joined, SAMPLE_RATE, rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, (torch.stack([samples, 0.8 * samples], dim=1) * gain).clamp(-1, 1).numpy(), rate)
    return places


def segment_config(*sources: Path | dict, output_dir: Path, **fields) -> SegmentConfig:
    return SegmentConfig(
        **{"sources": [str(each) if isinstance(each, Path) else each for each in sources], "asr": PACKAGE_ASR_MODEL}
        | {"output_dir": str(output_dir), "max_clipped_share": 0.001}
        | fields
    )
