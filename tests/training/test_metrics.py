"""Training metrics: means over targets, positions and audio of the batches, and time without pauses."""

import time

import pytest
import torch
from accelerate import Accelerator

from higgs_recipes.collator import HiggsCollator
from higgs_recipes.loss import DualFFNLosses
from higgs_recipes.training.metrics import TrainingMetrics, summarize
from tests.helpers.tiny import golden_config, golden_samples


CONFIG = golden_config()


def losses(*, scale: int = 1) -> DualFFNLosses:
    """Losses of two codebooks; the second has no targets."""
    return DualFFNLosses(
        text_sum=torch.tensor(6.0 * scale),
        text_count=torch.tensor(3 * scale),
        codebook_sums=torch.tensor([8.0 * scale, 0.0]),
        codebook_counts=torch.tensor([4 * scale, 0]),
        codebook_hits=torch.tensor([1 * scale, 0]),
        eos_sum=torch.tensor(2.0 * scale),
        eos_count=torch.tensor(1 * scale),
        eos_hits=torch.tensor(1 * scale),
    )


def test_means_are_over_targets_and_parts_without_targets_are_left_out():
    assert summarize(losses()) == {
        "loss_text": 2.0,
        "loss_codebook_0": 2.0,
        "accuracy_codebook_0": 0.25,
        "eos_loss": 2.0,
        "eos_accuracy": 1.0,
    }


@pytest.mark.parametrize("pack_to", [None, 130])
def test_report_has_the_positions_and_the_audio_of_all_batches(pack_to, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    metrics, samples = TrainingMetrics(), golden_samples()
    for batch in (samples[:2], samples[2:]):
        metrics.add(losses(), HiggsCollator(CONFIG, pack_to=pack_to)(batch), config=CONFIG)
    now[0] += 5
    report = metrics.report(Accelerator(cpu=True))
    positions = 32 + 65 + 26 + 127
    steps = sum(len(clip) for sample in samples for clip in sample["codes"])
    assert report["positions_per_second"] == pytest.approx(positions / 5)
    assert report["audio_seconds_per_second"] == pytest.approx(steps / 25 / 5)
    assert report["loss_text"] == 2.0 and report["data_wait_share"] == 0 and report["peak_memory_gib"] > 0
    assert metrics.report(Accelerator(cpu=True)) == {}  # a new interval


def test_time_until_a_batch_arrives_counts_as_waiting_and_pauses_do_not_count(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    metrics = TrainingMetrics()

    def slow_batches():
        for batch in HiggsCollator(CONFIG)(golden_samples()), None:
            now[0] += 3
            if batch is None:
                return
            yield batch

    began = metrics.clock()
    for batch in metrics.time_waits(slow_batches()):
        now[0] += 2
        metrics.add(losses(), batch, config=CONFIG)
    with metrics.paused():
        now[0] += 100
    assert metrics.clock() - began == 3 + 2 + 3
    assert metrics.report(Accelerator(cpu=True))["data_wait_share"] == pytest.approx(6 / 8)
