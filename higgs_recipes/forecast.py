"""What a run will take, said before its first step; and after some steps, from their own speed, when it ends."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch.utils.data import DataLoader
from transformers import HiggsAudioV2Config, TrainerCallback

from higgs_recipes.meter import peak_memory_gib
from higgs_recipes.provenance import describe_hardware
from higgs_recipes.run_length import RunLength, describe_forecast
from higgs_recipes.samples import SampleDataset
from higgs_recipes.speeds import FSDP, FSDP_KEPT, PUBLISHED_SHAPE, SETTINGS, find_speed


logger = logging.getLogger(__name__)

# The first steps compile and find their memory; the mean of those that are timed hides that rows differ.
WARM_STEPS, TIMED_STEPS = 10, 20


class Forecast(TrainerCallback):
    """Log the run's length, and its end when steps have been timed. `record` is what run.json says of both.

    Args:
        clock: seconds, in which evaluations and checkpoints do not count.
    """

    def __init__(self, samples: SampleDataset, model: HiggsAudioV2Config, *, clock: Callable[[], float]) -> None:
        self.samples, self.clock = samples, clock
        self.is_published_size = all(model.to_dict()[name] == value for name, value in PUBLISHED_SHAPE.items())
        self.record: dict[str, Any] = {}

    def on_train_begin(self, args, state, control, train_dataloader: DataLoader, **kwargs) -> None:
        if not state.is_world_process_zero:
            return
        hardware, speed = describe_hardware(), None
        if self.is_published_size:
            recipe = {name: getattr(args, name) for name in SETTINGS}
            speed = find_speed(recipe, hardware=hardware, sharded_by=_sharded_by(AcceleratorState()))
        self.length = RunLength(
            steps=state.max_steps,
            steps_done=state.global_step,
            steps_per_epoch=-(-len(train_dataloader) // args.gradient_accumulation_steps),
            positions_per_epoch=sum(self.samples.num_positions()),
            hours_per_epoch=self.samples.audio_seconds() / 3600,
            speed=speed,
        )
        self.record = self.length.record()
        logger.info("this run: %s", self.length.describe(hardware=hardware))

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if not state.is_world_process_zero:
            return
        done = state.global_step - self.length.steps_done
        if done == WARM_STEPS:
            self.began = self.clock()
        elif done == WARM_STEPS + TIMED_STEPS:
            seconds = (self.clock() - self.began) / TIMED_STEPS
            now, peak = datetime.now().astimezone(), peak_memory_gib()
            made = self.length.forecast(seconds, step=state.global_step, now=now, peak_gib=peak)
            self.record["forecast"] = made
            logger.info("step %d: %s", state.global_step, describe_forecast(made))


def _sharded_by(state: AcceleratorState) -> str | None:
    """How this run's weights lie, as `Speed.sharded_by` has it."""
    if state.is_fsdp2:
        return FSDP if state.fsdp_plugin.reshard_after_forward else FSDP_KEPT
    kind = state.distributed_type
    return kind.value if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED) else None
