"""Metrics of training, accumulated between two logs: losses by codebook, EOS, speed, memory."""

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
    """Mean losses in nats and top-1 accuracies; one without targets is left out.

    Returns:
        loss_text, loss_codebook_k, accuracy_codebook_k, eos_loss, eos_accuracy.
    """
    named = [("loss_text", losses.text_sum, losses.text_count)]
    named += [("eos_loss", losses.eos_sum, losses.eos_count), ("eos_accuracy", losses.eos_hits, losses.eos_count)]
    for k, (loss_sum, hits, count) in enumerate(
        zip(losses.codebook_sums, losses.codebook_hits, losses.codebook_counts, strict=True)
    ):
        named += [(f"loss_codebook_{k}", loss_sum, count), (f"accuracy_codebook_{k}", hits, count)]
    return {name: float(total) / int(count) for name, total, count in named if int(count)}


class TrainingMetrics:
    """Losses, positions, seconds of audio and time since the last `report`."""

    def __init__(self) -> None:
        self.paused_seconds = 0.0  # in all `paused` blocks
        self.reset()

    def reset(self) -> None:
        """Start a new interval."""
        self.losses: DualFFNLosses | None = None
        self.counts: Tensor | None = None  # (2,) positions, codec steps
        self.data_seconds = 0.0  # spent waiting for data
        self.started = time.perf_counter()

    def add(self, losses: DualFFNLosses, batch: dict[str, Tensor], *, config: HiggsAudioV2Config) -> None:
        """Add a micro-batch."""
        frames, is_frame = batch["audio_input_ids"], batch["audio_input_ids_mask"]  # (B, F, C), (B, F)
        is_first = (frames == config.audio_stream_bos_id).all(dim=-1) & is_frame  # (B, F) the BOS row of each clip
        num_steps = is_frame.sum() - is_first.sum() * (config.num_codebooks + 1)
        counts = torch.stack([(batch["input_ids"] != config.pad_token_id).sum(), num_steps])  # (2,)
        self.losses = losses if self.losses is None else self.losses + losses
        self.counts = counts if self.counts is None else self.counts + counts

    def time_waits(self, batches: Iterator[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
        """Yield the same batches, and count the time until each arrives as waiting for data."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.data_seconds += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def report(self, accelerator: Accelerator) -> dict[str, float]:
        """Means and speeds of the interval over all processes; starts a new interval."""
        if self.losses is None:
            return {}
        losses = self.losses.unpack(accelerator.reduce(self.losses.pack(), reduction="sum"))
        positions, steps = accelerator.reduce(self.counts, reduction="sum").tolist()
        seconds = time.perf_counter() - self.started
        wait_shares = accelerator.gather(torch.tensor([self.data_seconds / seconds], device=accelerator.device))
        self.reset()
        return summarize(losses) | {
            "positions_per_second": positions / seconds,
            "audio_seconds_per_second": steps / FRAMES_PER_SECOND / seconds,
            "data_wait_share": float(wait_shares.max()),  # all processes wait for the slowest
            "peak_memory_gib": peak_memory_gib(),
        }

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time inside the block as training."""
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        self.started, self.paused_seconds = self.started + seconds, self.paused_seconds + seconds

    def clock(self) -> float:
        """A clock in seconds that stops in `paused` blocks; only differences are meaningful."""
        return time.perf_counter() - self.paused_seconds
