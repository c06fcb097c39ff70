"""How long a run is: hours of audio, epochs or steps, one of them said by the recipe; and what that will take."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from math import inf
from typing import Any

from higgs_recipes.errors import InputError
from higgs_recipes.speeds import POSITIONS_PER_HOUR, Speed


DEFAULT_EPOCHS = 3.0  # transformers' own


def epochs_asked(*, hours_seen: float | None, num_train_epochs: float | None, max_steps: int) -> float | None:
    """The epochs of a recipe; None where `hours_seen` makes them, which is known with the corpus.

    With `max_steps` (-1 is none) transformers leaves the epochs unread.

    Raises:
        InputError: either is not positive, or `hours_seen` stands beside another length.
    """
    if num_train_epochs is not None and not 0 < num_train_epochs < inf:
        raise InputError(f"num_train_epochs must be positive and finite, got {num_train_epochs}")
    if hours_seen is None:
        return DEFAULT_EPOCHS if num_train_epochs is None else num_train_epochs
    if not 0 < hours_seen < inf:
        raise InputError(f"hours_seen must be positive and finite, got {hours_seen}")
    others = {"max_steps": max_steps if max_steps > 0 else None, "num_train_epochs": num_train_epochs}
    given = [f"{name} {value}" for name, value in others.items() if value is not None]
    if given:
        raise InputError(
            f"hours_seen {hours_seen} and {' and '.join(given)} each say how long the run is: keep one; on the "
            "command line --hours_seen null takes a recipe's out"
        )
    return None


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
    """A measurement as the head of a recipe has it."""
    if speed is None:
        return "not measured with these settings"
    return (
        f"{speed.positions_per_second:,.0f} positions/s, {speed.peak_gib:.1f} GiB, "
        f"{describe_seconds(POSITIONS_PER_HOUR / speed.positions_per_second)}, on {_place(speed)}"
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
