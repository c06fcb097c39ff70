"""The door to silero-vad: where in a recording somebody speaks. Its weights lie in the package."""

from collections.abc import Iterable
from importlib.metadata import version

import torch
from torch import Tensor

from higgs_recipes.errors import import_module


VAD_RATE = 16_000  # Hz
FRAME_SAMPLES = 512
FRAME_SECONDS = FRAME_SAMPLES / VAD_RATE


class SpeechDetector:
    """silero-vad in ONNX: a network with a state, that hears a recording frame by frame from its beginning."""

    def __init__(self) -> None:
        num_threads = torch.get_num_threads()
        silero_vad = import_module(
            "silero_vad", needed_by="segment", install="pip install 'silero-vad[onnx-cpu]>=6.2.3,<7'"
        )
        torch.set_num_threads(num_threads)  # the package sets 1, for the whole process
        self.model = silero_vad.load_silero_vad(onnx=True)
        self.revision = f"silero-vad {version('silero-vad')}"

    def frames(self, pieces: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Probability of speech (P,) and power (P,) of each frame of `FRAME_SECONDS`.

        Args:
            pieces: a recording at `VAD_RATE`, in pieces (N_i,) of any length; what is over at its end is filled up
                with zeros.
        """
        self.model.reset_states()
        probabilities, powers, rest = [], [], torch.zeros(0)
        for piece in pieces:
            whole, rest = _split(torch.cat([rest, piece]))
            self._hear(whole, probabilities, powers)
        if len(rest):
            self._hear(torch.nn.functional.pad(rest, (0, FRAME_SAMPLES - len(rest)))[None], probabilities, powers)
        return torch.tensor(probabilities), torch.tensor(powers)

    @torch.inference_mode()
    def _hear(self, frames: Tensor, probabilities: list[float], powers: list[float]) -> None:
        probabilities += [self.model(frame[None], VAD_RATE).item() for frame in frames]
        powers += frames.square().mean(dim=1).tolist()


def _split(waveform: Tensor) -> tuple[Tensor, Tensor]:
    """A waveform (N,) as whole frames (P, FRAME_SAMPLES), and what is left of it."""
    whole = len(waveform) // FRAME_SAMPLES * FRAME_SAMPLES
    return waveform[:whole].view(-1, FRAME_SAMPLES), waveform[whole:]
