"""The length of a run (steps, epochs, hours of audio), and estimates of its time and memory."""

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
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.devices import peak_memory_gib
from higgs_recipes.provenance import describe_hardware
from higgs_recipes.samples import SampleDataset


logger = logging.getLogger(__name__)

# The first steps compile and allocate. Rows differ, so the time of a step is the mean of several.
WARM_STEPS, TIMED_STEPS = 10, 20


def epochs_to_train(config: SFTConfig, samples: SampleDataset) -> float | None:
    """Number of epochs of a run: `num_train_epochs`, or those that take `hours_seen` hours of the samples' audio."""
    if config.hours_seen is None:
        return config.num_train_epochs
    return config.hours_seen * 3600 / samples.audio_seconds()


@dataclass(frozen=True)
class RunLength:
    """The length of a run, and the speed that was measured with its settings."""

    steps: int  # of the whole run
    steps_done: int  # before this start of the run
    steps_per_epoch: int
    positions_per_epoch: int  # of text and audio, without padding
    hours_per_epoch: float  # of the supervised clips
    speed: Speed | None  # None: not measured with these settings

    @property
    def epochs(self) -> float:
        return self.steps / self.steps_per_epoch

    @property
    def seconds(self) -> float | None:
        """Time from this start to the end at the measured speed, without evaluations and checkpoints."""
        if self.speed is None:
            return None
        epochs = (self.steps - self.steps_done) / self.steps_per_epoch
        return epochs * self.positions_per_epoch / self.speed.positions_per_second

    def record(self) -> dict[str, Any]:
        """The entry in run.json."""
        expected = {"seconds": self.seconds, "measured": None if self.speed is None else asdict(self.speed)}
        return {
            "steps": self.steps,
            "epochs": self.epochs,
            "positions": round(self.epochs * self.positions_per_epoch),
            "audio_hours": self.epochs * self.hours_per_epoch,
            "expected": expected,
        }

    def describe(self, *, hardware: str) -> str:
        """The run in two sentences, for the log."""
        record = self.record()
        remaining = f" ({max(0, self.steps - self.steps_done):,} left)" if self.steps_done else ""
        return (
            f"{self.steps:,} steps{remaining}, {record['positions']:,} positions, {record['audio_hours']:.2f} h of "
            f"audio: {self.epochs:.2f} epochs of {self.hours_per_epoch:.2f} h. {self._expected(hardware)}"
        )

    def _expected(self, hardware: str) -> str:
        if self.speed is None:
            return "Time and memory: not measured for these settings; an estimate from the first steps follows"
        speed = self.speed
        note = "" if speed.hardware == hardware else f"; not measured on this hardware, {hardware}"
        return (
            f"Time {describe_seconds(self.seconds)} at {speed.positions_per_second:,.0f} positions/s, memory "
            f"{speed.peak_gib:.1f} GiB: measured on {_place(speed)}{note}"
        )

    def forecast(self, seconds_per_step: float, *, step: int, now: datetime, peak_gib: float) -> dict[str, Any]:
        """The end of the run from the speed of its own steps before `step`, without evaluations and checkpoints."""
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
    """A `RunLength.forecast` in one sentence, for the log."""
    return (
        f"at {forecast['positions_per_second']:,.0f} positions/s, {forecast['seconds_per_step']:.3g} s per step, this "
        f"run ends at {forecast['ends_at']}, in {describe_seconds(forecast['seconds_left'])}, plus evaluations and "
        f"checkpoints; peak memory so far {forecast['peak_memory_gib']:.1f} GiB"
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
    """Hardware and program of a measurement."""
    by = "" if speed.sharded_by is None else f" by {speed.sharded_by}"
    return f"{speed.hardware}{by} ({speed.made_by})"


def describe_seconds(seconds: float) -> str:
    """A time in hours, minutes and seconds, as text.

    >>> [describe_seconds(seconds) for seconds in (4.2, 200, 7980, 200_000)]
    ['4 s', '3 min 20 s', '2 h 13 min', '55 h 33 min']
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class RunEstimateCallback(TrainerCallback):
    """Log the length of the run, and its end after some timed steps. `record` is the entry of both in run.json.

    Args:
        samples: the training samples.
        model: config of the model.
        clock: a clock in seconds that stands still during evaluations and checkpoints.
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
            forecast = self.length.forecast(seconds, step=state.global_step, now=now, peak_gib=peak)
            self.record["forecast"] = forecast
            logger.info("step %d: %s", state.global_step, describe_forecast(forecast))


def _sharded_by(state: AcceleratorState) -> str | None:
    """How the weights of this run are sharded, in the terms of `Speed.sharded_by`."""
    if state.is_fsdp2:
        return FSDP if state.fsdp_plugin.reshard_after_forward else FSDP_KEPT
    kind = state.distributed_type
    return kind.value if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED) else None
