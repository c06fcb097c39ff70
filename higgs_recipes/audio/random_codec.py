"""A codec with random weights, for tests and demos: its codes mean something, its sound does not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import DacFeatureExtractor, HiggsAudioV2TokenizerConfig, HiggsAudioV2TokenizerModel

from higgs_recipes.constants import HOP, SAMPLE_RATE
from higgs_recipes.files import explain_full_disk
from higgs_recipes.records import read_config


_LOUDNESS = 0.05  # root mean square of decoded sound


def init_codec(
    config_json: str | Path, *, seed: int, output_dir: str | Path, device: str | torch.device = "cpu"
) -> None:
    """Write a random codec of the given config into the folder `output_dir`, which the caller stages.

    A codec that is only drawn is no codec: its codebooks are zeros, so that every code is 0, and its activations
    vanish. Here both halves of the encoder are brought to mean 0 and deviation 1, and each codebook is filled with
    what reaches it, all from synthetic sounds. So the codes are well defined, vary with the audio and use all
    codebooks; what the decoder makes of them is noise.

    Args:
        config_json: file of a HiggsAudioV2TokenizerConfig.
        seed: of the weights and of the sounds; the same seed gives the same codec on a CPU.
        device: where the codec hears the sounds: a codec of the published size takes minutes on a CPU.

    Raises:
        InputError: the file is missing, not JSON or no such config; or the disk is full.
    """
    config = read_config(config_json, HiggsAudioV2TokenizerConfig)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(), _one_thread():
        torch.manual_seed(seed)
        model = HiggsAudioV2TokenizerModel(config).eval().to(device)
        _fill_from_sounds(model)
    with explain_full_disk(output_dir):
        model.save_pretrained(output_dir)
        # So that transformers' own processor for the model finds its audio half.
        DacFeatureExtractor(sampling_rate=SAMPLE_RATE, hop_length=HOP).save_pretrained(output_dir)


@contextmanager
def _one_thread() -> Iterator[None]:
    # Sums are rounded by how they are shared out: one thread gives the same weights on every machine, and layers this
    # small gain nothing from more.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _fill_from_sounds(model: HiggsAudioV2TokenizerModel) -> None:
    config = model.config
    # A codebook filled from sounds that filled an earlier one would see them quantized exactly: each has its own.
    sounds = synthetic_sounds(config.num_quantizers, num_steps=config.codebook_size).to(model.device)  # (C, N)

    _standardize(model.acoustic_encoder.conv2, model.acoustic_encoder(sounds[:1, None]))
    semantic = model._extract_semantic_features(sounds[:1, None]).transpose(1, 2)  # (1, D, T)
    _standardize(model.encoder_semantic.conv_blocks[-1].conv, model.encoder_semantic(semantic))
    for linear in (model.fc, *(layer.project_in for layer in model.quantizer.quantizers)):
        nn.init.orthogonal_(linear.weight)
    for layer in model.quantizer.quantizers:
        layer.project_out.weight.copy_(layer.project_in.weight.T)  # what is quantized leaves the residual

    for index, layer in enumerate(model.quantizer.quantizers):
        residual = _embed(model, sounds[index])  # (1, D, T)
        for earlier in model.quantizer.quantizers[:index]:
            residual = residual - earlier.decode(earlier.encode(residual))
        vectors = layer.project_in(residual.transpose(1, 2))[0]  # (T, codebook_dim)
        layer.codebook.embed.copy_(vectors)
        layer.codebook.embed_avg.copy_(vectors)
        layer.codebook.cluster_size.fill_(1)

    for module in model.acoustic_decoder.modules():
        if isinstance(module, nn.ConvTranspose1d):
            nn.init.zeros_(module.bias)  # as drawn, they drown the codes
    codes = model.encode(sounds[:1, None]).audio_codes
    model.acoustic_decoder.conv2.weight.mul_(_LOUDNESS / model.decode(codes).audio_values.square().mean().sqrt())


def _embed(model: HiggsAudioV2TokenizerModel, sound: Tensor) -> Tensor:
    """What the model's `encode` quantizes, (1, D, T)."""
    semantic = model._extract_semantic_features(sound[None, None]).transpose(1, 2)
    halves = [model.acoustic_encoder(sound[None, None]), model.encoder_semantic(semantic)]
    return model.fc(torch.cat(halves, dim=1).transpose(1, 2)).transpose(1, 2)


def _standardize(conv: nn.Conv1d, activations: Tensor) -> None:
    """Scale and shift a convolution so that the activations (1, D, T) it gave have mean 0 and deviation 1."""
    deviation, mean = torch.std_mean(activations, dim=(0, 2))
    conv.weight.div_(deviation[:, None, None])
    conv.bias.sub_(mean).div_(deviation)


def synthetic_sounds(num_sounds: int, *, num_steps: int) -> Tensor:
    """Something like speech: syllables of drawn loudness, a hum of drawn pitch and some hiss each; (num_sounds, N)."""
    steps_per_syllable = 4
    num_syllables = -(-num_steps // steps_per_syllable)

    def each_syllable(low: float, high: float) -> Tensor:
        drawn = torch.empty(num_sounds, num_syllables).uniform_(low, high)
        return drawn.repeat_interleave(steps_per_syllable * HOP, dim=1)[:, : num_steps * HOP]

    phase = torch.cumsum(2 * torch.pi * each_syllable(80.0, 400.0) / SAMPLE_RATE, dim=1)
    brightness = each_syllable(0.2, 0.9)
    hum = sum(brightness**k * torch.sin(k * phase) for k in range(1, 6))
    hiss = each_syllable(0.0, 0.5) * torch.randn_like(hum)
    return each_syllable(0.0, 0.2) * (hum + hiss)
