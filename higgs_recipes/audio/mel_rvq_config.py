"""Config of the classical audio tokenizer `mel_rvq`."""

from transformers import PreTrainedConfig


class MelRVQConfig(PreTrainedConfig):
    """Config of a `MelRVQModel`.

    Args:
        sample_rate: Hz.
        hop_length: samples of a codec step.
        frames_per_step: frames stacked in a step; divides hop_length.
        n_fft: window and Fourier transform of a frame, in samples; a multiple of the frame hop.
        num_mels: mel bands (Slaney scale) from 0 Hz to half the sample rate.
        num_components: quantized principal components, the dimension of the codebooks.
        codebook_size, num_quantizers: codes per codebook; codebooks.
        beam: hypotheses that the search for codes keeps.
        level: root mean square of speech to which encode normalizes a clip, and which decode returns.
        floor_db: magnitude, relative to a full-scale sine, below which a band counts as silent.
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
                f"hop_length ({self.hop_length}) must be a multiple of frames_per_step ({self.frames_per_step}), and "
                f"n_fft ({self.n_fft}) a multiple of the frame hop, hop_length / frames_per_step, at least twice it"
            )

    @property
    def frame_hop(self) -> int:
        """Samples from one frame to the next."""
        return self.hop_length // self.frames_per_step
