"""What came by while training: losses by codebook, end marks, speed and memory, added up between two logs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import HiggsAudioV2Config

from higgs_recipes.constants import FRAMES_PER_SECOND
from higgs_recipes.devices import peak_memory_gib
from higgs_recipes.loss import DualFFNLosses


def summarize(losses: DualFFNLosses) -> dict[str, float]:
    """Means in nats and shares of right codes; what has no target is left out.

    Names: loss_text, loss_codebook_k, accuracy_codebook_k, eos_loss, eos_accuracy.
    """
    named = [("loss_text", losses.text_sum, losses.text_count)]
    named += [("eos_loss", losses.eos_sum, losses.eos_count), ("eos_accuracy", losses.eos_hits, losses.eos_count)]
    for k, (loss_sum, hits, count) in enumerate(
        zip(losses.codebook_sums, losses.codebook_hits, losses.codebook_counts, strict=True)
    ):
        named += [(f"loss_codebook_{k}", loss_sum, count), (f"accuracy_codebook_{k}", hits, count)]
    return {name: float(total) / int(count) for name, total, count in named if int(count)}


class TrainingMetrics:
    """What came by since the last log: losses, positions, seconds of audio, time."""

    def __init__(self) -> None:
        self.idle = 0.0  # seconds
        self._reset()

    def _reset(self) -> None:
        self.losses: DualFFNLosses | None = None
        self.seen: Tensor | None = None  # (2,) positions, codec steps
        self.waited = 0.0  # seconds
        self.started = time.perf_counter()

    def add(self, losses: DualFFNLosses, batch: dict[str, Tensor], *, config: HiggsAudioV2Config) -> None:
        frames, is_frame = batch["audio_input_ids"], batch["audio_input_ids_mask"]
        first_frames = ((frames == config.audio_stream_bos_id).all(dim=-1) & is_frame).sum()
        steps = is_frame.sum() - first_frames * (config.num_codebooks + 1)
        seen = torch.stack([(batch["input_ids"] != config.pad_token_id).sum(), steps])
        self.losses = losses if self.losses is None else self.losses + losses
        self.seen = seen if self.seen is None else self.seen + seen

    def waiting(self, batches: Iterator[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
        """The same batches; the time until each is there counts as waited for data."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def report(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over what all processes saw, and how fast; starts anew."""
        if self.losses is None:
            return {}
        losses = self.losses.unpack(accelerator.reduce(self.losses.pack(), reduction="sum"))
        positions, steps = accelerator.reduce(self.seen, reduction="sum").tolist()
        seconds = time.perf_counter() - self.started
        waits = accelerator.gather(torch.tensor([self.waited / seconds], device=accelerator.device))
        self._reset()
        return summarize(losses) | {
            "positions_per_second": positions / seconds,
            "audio_seconds_per_second": steps / FRAMES_PER_SECOND / seconds,
            # All processes wait for the one that waits longest.
            "data_wait_share": float(waits.max()),
            "peak_memory_gib": peak_memory_gib(),
        }

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time inside the block does not count as training."""
        began = time.perf_counter()
        yield
        took = time.perf_counter() - began
        self.started, self.idle = self.started + took, self.idle + took

    def clock(self) -> float:
        """Seconds of training since some moment."""
        return time.perf_counter() - self.idle
