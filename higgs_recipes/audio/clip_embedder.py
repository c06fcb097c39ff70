"""What the speaker models share: clips are resampled to 16 kHz and embedded one by one as unit vectors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from higgs_recipes.audio.pretrained import METRIC_MODEL_RATE, resample_for_metrics


MIN_VOICE_SECONDS = 0.5  # one x-vector frame needs 0.3 s of context; shorter clips do not characterize a voice


class ClipEmbedder(ABC):
    """A `SpeakerModel` of a model that embeds one clip. Clips are not padded, which would change the embedding."""

    def embed(self, waveforms: Sequence[Tensor]) -> list[Tensor | None]:
        """Embed each clip (N_i,) at `SAMPLE_RATE` as a unit vector; None for a clip that cannot be embedded."""
        return self.embed_resampled([resample_for_metrics(waveform) for waveform in waveforms])

    def embed_resampled(self, clips: Sequence[Tensor]) -> list[Tensor | None]:
        """As `embed`, of clips (N_i,) at `METRIC_MODEL_RATE`."""
        embeddings = [self.embed_one(clip) if self.is_usable(clip) else None for clip in clips]
        return [None if embedding is None else embedding / embedding.norm() for embedding in embeddings]

    def is_usable(self, clip: Tensor) -> bool:
        """Whether a clip (N,) is long enough, and not silent."""
        return len(clip) >= MIN_VOICE_SECONDS * METRIC_MODEL_RATE and bool(clip.any())

    @abstractmethod
    def embed_one(self, clip: Tensor) -> Tensor | None:
        """The embedding (D,) of a clip (N,) on the CPU, of any length; None if the model finds no voice in it."""


def score_name(name: str) -> str:
    """The name of the cosine of a model's embeddings, by the last part of its Hub id or path.

    >>> score_name("microsoft/wavlm-base-plus-sv")
    'sim_wavlm_base_plus_sv'
    """
    return "sim_" + name.rstrip("/").rsplit("/", 1)[-1].replace("-", "_")
