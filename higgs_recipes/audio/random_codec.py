"""A codec with random weights, for tests and demos: its codes depend on the audio, its decoded audio is noise."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import DacFeatureExtractor, HiggsAudioV2TokenizerConfig, HiggsAudioV2TokenizerModel

from higgs_recipes.constants import HOP, SAMPLE_RATE
from higgs_recipes.files import explain_full_disk
from higgs_recipes.records import read_config


_DECODED_RMS = 0.05  # root mean square of decoded audio


def init_codec(
    config_json: str | Path, *, seed: int, output_dir: str | Path, device: str | torch.device = "cpu"
) -> None:
    """Write a random codec of the given config into the folder `output_dir`, which the caller stages.

    Default initialization does not give a usable codec: its codebooks are zeros, so every code is 0, and its
    activations vanish. Here both halves of the encoder are standardized to mean 0 and deviation 1, and each codebook
    is filled with the residuals that reach it, all from synthetic audio. So codes are well defined, vary with the
    audio and use all codebooks.

    Args:
        config_json: JSON file of a HiggsAudioV2TokenizerConfig.
        seed: seed of the weights and of the synthetic audio; on a CPU, equal seeds give equal codecs.
        output_dir: folder to write into.
        device: device that encodes the synthetic audio; the published size takes minutes on a CPU.

    Raises:
        InputError: the file is missing, not JSON or not such a config; or the disk is full.
    """
    config = read_config(config_json, HiggsAudioV2TokenizerConfig)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(), _one_thread():
        torch.manual_seed(seed)
        model = HiggsAudioV2TokenizerModel(config).eval().to(device)
        _fill_from_audio(model)
    with explain_full_disk(output_dir):
        model.save_pretrained(output_dir)
        # transformers' processor of the model loads it as its feature extractor.
        DacFeatureExtractor(sampling_rate=SAMPLE_RATE, hop_length=HOP).save_pretrained(output_dir)


@contextmanager
def _one_thread() -> Iterator[None]:
    # Rounding of sums depends on the number of threads: one gives the same weights on every machine, and layers this
    # small are not slower with it.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _fill_from_audio(model: HiggsAudioV2TokenizerModel) -> None:
    """Standardize the encoder and fill the codebooks from synthetic audio."""
    config = model.config
    # Each codebook has its own clip: earlier codebooks would quantize a shared one without a residual.
    clips = synthetic_audio(config.num_quantizers, num_steps=config.codebook_size).to(model.device)  # (C, N)

    _standardize(model.acoustic_encoder.conv2, model.acoustic_encoder(clips[:1, None]))
    semantic = model._extract_semantic_features(clips[:1, None]).transpose(1, 2)  # (1, D, T)
    _standardize(model.encoder_semantic.conv_blocks[-1].conv, model.encoder_semantic(semantic))
    for linear in (model.fc, *(layer.project_in for layer in model.quantizer.quantizers)):
        nn.init.orthogonal_(linear.weight)
    for layer in model.quantizer.quantizers:
        layer.project_out.weight.copy_(layer.project_in.weight.T)  # so that quantizing shrinks the residual

    for index, layer in enumerate(model.quantizer.quantizers):
        residual = _embed(model, clips[index])  # (1, D, T)
        for earlier in model.quantizer.quantizers[:index]:
            residual = residual - earlier.decode(earlier.encode(residual))
        vectors = layer.project_in(residual.transpose(1, 2))[0]  # (T, codebook_dim)
        layer.codebook.embed.copy_(vectors)
        layer.codebook.embed_avg.copy_(vectors)
        layer.codebook.cluster_size.fill_(1)

    for module in model.acoustic_decoder.modules():
        if isinstance(module, nn.ConvTranspose1d):
            nn.init.zeros_(module.bias)  # their random values are larger than the signal
    codes = model.encode(clips[:1, None]).audio_codes
    model.acoustic_decoder.conv2.weight.mul_(_DECODED_RMS / model.decode(codes).audio_values.square().mean().sqrt())


def _embed(model: HiggsAudioV2TokenizerModel, waveform: Tensor) -> Tensor:
    """Embed a waveform (N,) -> (1, D, T), the input of the model's quantizer."""
    semantic = model._extract_semantic_features(waveform[None, None]).transpose(1, 2)
    halves = [model.acoustic_encoder(waveform[None, None]), model.encoder_semantic(semantic)]
    return model.fc(torch.cat(halves, dim=1).transpose(1, 2)).transpose(1, 2)


def _standardize(conv: nn.Conv1d, activations: Tensor) -> None:
    """Scale and shift a convolution so that its activations (1, D, T) have mean 0 and deviation 1."""
    deviation, mean = torch.std_mean(activations, dim=(0, 2))
    conv.weight.div_(deviation[:, None, None])
    conv.bias.sub_(mean).div_(deviation)


def synthetic_audio(num_clips: int, *, num_steps: int) -> Tensor:
    """Speech-like clips (num_clips, N): syllables of random loudness, each a hum of random pitch with some hiss."""
    steps_per_syllable = 4
    num_syllables = -(-num_steps // steps_per_syllable)

    def per_syllable(low: float, high: float) -> Tensor:
        values = torch.empty(num_clips, num_syllables).uniform_(low, high)
        return values.repeat_interleave(steps_per_syllable * HOP, dim=1)[:, : num_steps * HOP]

    phase = torch.cumsum(2 * torch.pi * per_syllable(80.0, 400.0) / SAMPLE_RATE, dim=1)
    brightness = per_syllable(0.2, 0.9)
    hum = sum(brightness**k * torch.sin(k * phase) for k in range(1, 6))
    hiss = per_syllable(0.0, 0.5) * torch.randn_like(hum)
    return per_syllable(0.0, 0.2) * (hum + hiss)
