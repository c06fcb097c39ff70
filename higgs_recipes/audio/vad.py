"""Voice activity detection with silero-vad: the probability of speech in each frame of a recording.

The weights ship in the package.
"""

from collections.abc import Iterable
from importlib.metadata import version

import torch
from torch import Tensor

from higgs_recipes.errors import import_module


VAD_RATE = 16_000  # Hz
FRAME_SAMPLES = 512
FRAME_SECONDS = FRAME_SAMPLES / VAD_RATE


class SpeechDetector:
    """silero-vad in ONNX: a recurrent network that reads a recording frame by frame.

    Attributes:
        revision: package and version.

    Raises:
        InputError: silero-vad is not installed.
    """

    def __init__(self) -> None:
        num_threads = torch.get_num_threads()
        silero_vad = import_module(
            "silero_vad", needed_by="segment", install="pip install 'silero-vad[onnx-cpu]>=6.2.3,<7'"
        )
        torch.set_num_threads(num_threads)  # importing the package sets 1 for the whole process
        self.model = silero_vad.load_silero_vad(onnx=True)
        self.revision = f"silero-vad {version('silero-vad')}"

    def frames(self, pieces: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Speech probability (P,) and mean power (P,) of each frame of `FRAME_SECONDS`.

        Args:
            pieces: a recording at `VAD_RATE`, as consecutive waveforms (N_i,) of any length. The last frame is padded
                with zeros.
        """
        self.model.reset_states()
        probabilities, powers, rest = [], [], torch.zeros(0)
        for piece in pieces:
            whole, rest = _split(torch.cat([rest, piece]))
            self._append_frames(whole, probabilities, powers)
        if len(rest):
            last = torch.nn.functional.pad(rest, (0, FRAME_SAMPLES - len(rest)))
            self._append_frames(last[None], probabilities, powers)
        return torch.tensor(probabilities), torch.tensor(powers)

    @torch.inference_mode()
    def _append_frames(self, frames: Tensor, probabilities: list[float], powers: list[float]) -> None:
        """Append the results of frames (P, FRAME_SAMPLES) to both lists."""
        probabilities += [self.model(frame[None], VAD_RATE).item() for frame in frames]
        powers += frames.square().mean(dim=1).tolist()


def _split(waveform: Tensor) -> tuple[Tensor, Tensor]:
    """Split a waveform (N,) into whole frames (P, FRAME_SAMPLES) and the rest."""
    whole = len(waveform) // FRAME_SAMPLES * FRAME_SAMPLES
    return waveform[:whole].view(-1, FRAME_SAMPLES), waveform[whole:]
