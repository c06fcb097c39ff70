"""How long a run is: hours of audio, epochs or steps, one of them said by the recipe; and what that will take."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch.utils.data import DataLoader
from transformers import HiggsAudioV2Config, TrainerCallback

from higgs_recipes.configs.measured_speeds import (
    FSDP,
    FSDP_KEPT,
    POSITIONS_PER_HOUR,
    PUBLISHED_SHAPE,
    SETTINGS,
    Speed,
    find_speed,
)
from higgs_recipes.devices import peak_memory_gib
from higgs_recipes.provenance import describe_hardware
from higgs_recipes.samples import SampleDataset


@dataclass(frozen=True)
class RunLength:
    """What a run takes, from its corpus; and what others of its settings took, where that was measured."""

    steps: int  # of the whole run
    steps_done: int  # before this start of it
    steps_per_epoch: int
    positions_per_epoch: int  # of text and audio, padding not counted
    hours_per_epoch: float  # of the clips that are learned
    speed: Speed | None

    @property
    def epochs(self) -> float:
        return self.steps / self.steps_per_epoch

    @property
    def seconds(self) -> float | None:
        """From this start to the end at the measured speed; evaluations and checkpoints come on top."""
        if self.speed is None:
            return None
        epochs = (self.steps - self.steps_done) / self.steps_per_epoch
        return epochs * self.positions_per_epoch / self.speed.positions_per_second

    def record(self) -> dict[str, Any]:
        """What run.json says of it."""
        expected = {"seconds": self.seconds, "measured": None if self.speed is None else asdict(self.speed)}
        return {
            "steps": self.steps,
            "epochs": self.epochs,
            "positions": round(self.epochs * self.positions_per_epoch),
            "audio_hours": self.epochs * self.hours_per_epoch,
            "expected": expected,
        }

    def describe(self, *, hardware: str) -> str:
        """The run in two sentences."""
        made = self.record()
        left = f" ({self.steps - self.steps_done:,} left)" if self.steps_done else ""
        return (
            f"{self.steps:,} steps{left}, {made['positions']:,} positions, {made['audio_hours']:.2f} h of audio: "
            f"{self.epochs:.2f} epochs of {self.hours_per_epoch:.2f} h. {self._expected(hardware)}"
        )

    def _expected(self, hardware: str) -> str:
        if self.speed is None:
            return "Time and memory: not measured for these settings; some steps from now this log says when it ends"
        speed = self.speed
        here = "" if speed.hardware == hardware else f"; on this hardware, {hardware}, not measured"
        return (
            f"Time {describe_seconds(self.seconds)} at {speed.positions_per_second:,.0f} positions/s, memory "
            f"{speed.peak_gib:.1f} GiB: measured on {_place(speed)}{here}"
        )

    def forecast(self, seconds_per_step: float, *, step: int, now: datetime, peak_gib: float) -> dict[str, Any]:
        """When the run ends, from the speed of its own steps before `step`; evaluations and checkpoints aside."""
        seconds = (self.steps - step) * seconds_per_step
        return {
            "step": step,
            "seconds_per_step": seconds_per_step,
            "positions_per_second": self.positions_per_epoch / self.steps_per_epoch / seconds_per_step,
            "seconds_left": seconds,
            "ends_at": (now + timedelta(seconds=seconds)).isoformat(sep=" ", timespec="minutes"),
            "peak_memory_gib": peak_gib,
        }


def describe_forecast(forecast: Mapping[str, Any]) -> str:
    """A `RunLength.forecast` in a sentence."""
    return (
        f"at {forecast['positions_per_second']:,.0f} positions/s, {forecast['seconds_per_step']:.3g} s a step, this "
        f"run ends at {forecast['ends_at']}, in {describe_seconds(forecast['seconds_left'])}; evaluations and "
        f"checkpoints come on top; memory {forecast['peak_memory_gib']:.1f} GiB at most so far"
    )


def describe_speed(speed: Speed | None) -> str:
    """Describe a measurement as recipe heads do: speed, memory and hardware on one line, its source on the next."""
    if speed is None:
        return "Speed and memory: not measured with these settings"
    per_hour = describe_seconds(POSITIONS_PER_HOUR / speed.positions_per_second)
    sharded_by = "" if speed.sharded_by is None else f" by {speed.sharded_by}"
    return (
        f"{speed.positions_per_second:,.0f} positions/s, {speed.peak_gib:.1f} GiB, {per_hour} per hour of audio "
        f"on {speed.hardware}{sharded_by}\nMeasured by {speed.made_by}"
    )


def _place(speed: Speed) -> str:
    """Where and how a measurement was made."""
    by = "" if speed.sharded_by is None else f" by {speed.sharded_by}"
    return f"{speed.hardware}{by} ({speed.made_by})"


def describe_seconds(seconds: float) -> str:
    """A time as a person says it.

    >>> [describe_seconds(seconds) for seconds in (4.2, 200, 7980, 200_000)]
    ['4 s', '3 min 20 s', '2 h 13 min', '55 h 33 min']
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


logger = logging.getLogger(__name__)

# The first steps compile and find their memory; the mean of those that are timed hides that rows differ.
WARM_STEPS, TIMED_STEPS = 10, 20


class RunEstimateCallback(TrainerCallback):
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
