"""The shape of the classical audio tokenizer, as its config.json has it."""

from transformers import PreTrainedConfig


class MelRVQConfig(PreTrainedConfig):
    """The shape of a `MelRVQModel`.

    Args:
        sample_rate: Hz. hop_length: samples of a step; frames_per_step: frames stacked in it, which divides it.
        n_fft: samples that a frame hears and the length of its Fourier transform; a multiple of the frames' hop.
        num_mels: bands of the mel scale (Slaney's) from 0 Hz to half the rate.
        num_components: principal components that are quantized, the dimension of the codebooks.
        codebook_size, num_quantizers: codes in a codebook; codebooks.
        beam: beginnings that the search for codes keeps.
        level: root mean square of the speech of a clip, which encode brings every clip to and decode gives back.
        floor_db: magnitude, relative to a full-scale sine, below which a band is silent.
        phase_iterations, momentum: of fast Griffin-Lim (Perraudin, Balazs, Søndergaard, 2013).
    """

    model_type = "mel_rvq"

    sample_rate: int = 24_000
    hop_length: int = 960
    frames_per_step: int = 4
    n_fft: int = 960
    num_mels: int = 80
    num_components: int = 112
    codebook_size: int = 1024
    num_quantizers: int = 8
    beam: int = 3
    level: float = 0.1
    floor_db: float = -92.0
    phase_iterations: int = 16
    momentum: float = 0.99

    def __post_init__(self, **kwargs) -> None:
        super().__post_init__(**kwargs)
        if self.hop_length % self.frames_per_step or self.n_fft % self.frame_hop or self.n_fft <= self.frame_hop:
            raise ValueError(
                f"hop_length {self.hop_length} must be frames_per_step {self.frames_per_step} frames, and n_fft "
                f"{self.n_fft} a multiple of a frame's hop, at least 2 of them"
            )

    @property
    def frame_hop(self) -> int:
        return self.hop_length // self.frames_per_step
