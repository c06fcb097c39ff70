"""The codec (audio tokenizer): waveforms (N,) -> codes (T, C) and back, N = T * `HOP`.

A codec is transformers' HiggsAudioV2TokenizerModel or this package's `mel_rvq`. The semantic encoder of the former
normalizes over time, so padding a clip changes its codes. Therefore only waveforms of equal padded length share a
batch; the codes of a clip then do not depend on the batch, except for rounding (99.9 % of codes are equal in float32).
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, HiggsAudioV2TokenizerModel

from higgs_recipes.audio.convolutions import Arithmetic, convolution_arithmetic
from higgs_recipes.audio.mel_rvq import MelRVQModel
from higgs_recipes.constants import CODEC_BATCH_SECONDS, HOP, SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.files import sha256_files
from higgs_recipes.hub.download import Snapshot, fetch
from higgs_recipes.hub.public import is_hub_id
from higgs_recipes.hub.safe_files import check_checkpoint


WEIGHTS = "model.safetensors"
_DECODED_TOGETHER = 64  # clips

_MODELS = {"higgs_audio_v2_tokenizer": HiggsAudioV2TokenizerModel, "mel_rvq": MelRVQModel}
_MODEL_TYPES = " or ".join(_MODELS)


@dataclass(frozen=True)
class Codec:
    """A loaded codec in float32.

    Attributes:
        revision: identity of the codec: "<Hub id>@<commit>", or "local@" and 16 hex digits of its files' hash.
        arithmetic: of `encode`: exact float32, or TF32 in convolutions on a GPU, as transformers encodes there by
            default: faster, and some codes are neighboring ones. Waveforms are always decoded in float32.
    """

    model: HiggsAudioV2TokenizerModel | MelRVQModel
    revision: str
    arithmetic: Arithmetic = "float32"

    @property
    def num_codebooks(self) -> int:
        return self.model.config.num_quantizers

    @property
    def codebook_size(self) -> int:
        return self.model.config.codebook_size

    @torch.inference_mode()
    def encode(self, waveforms: Sequence[Tensor], *, batch_seconds: float = CODEC_BATCH_SECONDS) -> list[Tensor]:
        """Encode waveforms (N_i,) -> codes (T_i, C), int16 on the CPU, in the same order; T_i = ceil(N_i / HOP)."""
        steps = [num_steps(len(waveform)) for waveform in waveforms]
        codes: list[Tensor] = [torch.empty(0)] * len(steps)
        for indexes in equal_length_batches(steps, batch_seconds=batch_seconds):
            batch = torch.stack([pad_to_steps(waveforms[index]) for index in indexes])  # (B, N)
            with convolution_arithmetic(self.arithmetic, self.model.device):
                encoded = self.model.encode(batch[:, None].to(self.model.device)).audio_codes  # (B, C, T)
            assert encoded.shape == (len(indexes), self.num_codebooks, steps[indexes[0]]), encoded.shape
            for index, clip in zip(indexes, encoded.transpose(1, 2).to("cpu", torch.int16), strict=True):
                # Copied: a view would keep the whole batch in memory.
                codes[index] = clip.clone(memory_format=torch.contiguous_format)
        return codes

    @torch.inference_mode()
    def decode(self, codes: Sequence[Tensor], *, batch_seconds: float = CODEC_BATCH_SECONDS) -> list[Tensor]:
        """Decode codes (T_i, C) -> waveforms (T_i * HOP,), float32 on the CPU, in the same order.

        Raises:
            ValueError: no steps, a wrong number of codebooks, or codes outside the codebook, such as BOS or EOS.
        """
        for clip in codes:
            if clip.ndim != 2 or not len(clip) or clip.shape[1] != self.num_codebooks:
                raise ValueError(f"codes have shape {tuple(clip.shape)}, need (T, {self.num_codebooks}) with T > 0")
            if clip.min() < 0 or clip.max() >= self.codebook_size:
                found = f"{clip.min()} to {clip.max()}"
                raise ValueError(f"codes range from {found}, need 0 to {self.codebook_size - 1}: undelay frames first")
        waveforms: list[Tensor] = [torch.empty(0)] * len(codes)
        for indexes in equal_length_batches([len(clip) for clip in codes], batch_seconds=batch_seconds):
            batch = torch.stack([codes[index].long() for index in indexes]).transpose(1, 2)  # (B, C, T)
            with convolution_arithmetic("float32", self.model.device):
                decoded = self.model.decode(batch.to(self.model.device)).audio_values[:, 0]  # (B, N)
            assert decoded.shape == (len(indexes), batch.shape[2] * HOP), decoded.shape
            for index, clip in zip(indexes, decoded.cpu(), strict=True):
                waveforms[index] = clip.clone()
        return waveforms

    def decode_in_turn(self, codes: Sequence[Tensor]) -> Iterator[Tensor]:
        """As `decode`, with few waveforms in memory at a time."""
        for start in range(0, len(codes), _DECODED_TOGETHER):
            yield from self.decode(codes[start : start + _DECODED_TOGETHER])


def num_steps(num_samples: int) -> int:
    """Codec steps of a waveform; the last one may be filled in part.

    >>> num_steps(24_000), num_steps(24_001)
    (25, 26)
    """
    return math.ceil(num_samples / HOP)


def pad_to_steps(waveform: Tensor) -> Tensor:
    """Pad a waveform (N,) with zeros to a multiple of `HOP` samples."""
    (num_samples,) = waveform.shape
    assert num_samples, "the waveform is empty"
    return F.pad(waveform, (0, num_steps(num_samples) * HOP - num_samples))


def equal_length_batches(steps: Sequence[int], *, batch_seconds: float) -> list[list[int]]:
    """Batch the indexes of clips of equal length, longest clips first.

    Args:
        steps: codec steps of each clip.
        batch_seconds: audio per batch at most; a longer clip is a batch of its own.

    >>> equal_length_batches([50, 25, 50, 50], batch_seconds=4.0)
    [[0, 2], [3], [1]]
    """
    by_length: dict[int, list[int]] = {}
    for index, length in enumerate(steps):
        by_length.setdefault(length, []).append(index)
    batches = []
    for length, indexes in sorted(by_length.items(), reverse=True):
        size = max(1, int(batch_seconds * SAMPLE_RATE / HOP) // length)
        batches += [indexes[start : start + size] for start in range(0, len(indexes), size)]
    return batches


def load_codec(
    name_or_path: str | Path, *, revision: str | None, device: str | torch.device, exact: bool = True
) -> Codec:
    """Load a codec from a folder or the Hub, in float32 and evaluation mode.

    Args:
        exact: encode in exact float32 on a GPU too; see `Codec.arithmetic`.

    Raises:
        InputError: not found, not a codec checkpoint (config.json or weights missing, another model type, broken or
            incomplete weights), or a sample rate or hop other than `SAMPLE_RATE` and `HOP`.
    """
    files = fetch(name_or_path, revision=revision, allow_patterns=["*.json", WEIGHTS])
    folder = files.folder
    for file_name in ("config.json", WEIGHTS):
        if not (folder / file_name).is_file():
            raise InputError(f"codec {name_or_path}: no {file_name}; give a transformers checkpoint of {_MODEL_TYPES}")
    check_checkpoint(folder, name=f"codec {name_or_path}")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:  # not JSON, or an unknown model type
        config_error = str(error).splitlines()[0]
        raise InputError(f"codec {name_or_path}: config.json is not that of {_MODEL_TYPES}: {config_error}") from error
    if config.model_type not in _MODELS:
        raise InputError(f"codec {name_or_path}: config.json has model_type {config.model_type}, need {_MODEL_TYPES}")
    if (config.sample_rate, config.hop_length) != (SAMPLE_RATE, HOP):
        found = f"{config.sample_rate} Hz in hops of {config.hop_length}"
        raise InputError(f"codec {name_or_path}: {found}, need {SAMPLE_RATE} and {HOP}")
    try:
        model, loaded = _MODELS[config.model_type].from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"codec {name_or_path}: {WEIGHTS} cannot be loaded ({error}); fetch it again") from error
    if loaded["missing_keys"]:  # transformers would only warn and initialize them at random
        missing = sorted(loaded["missing_keys"])
        raise InputError(f"codec {name_or_path}: {WEIGHTS} lacks {len(missing)} weights, e.g. {missing[0]}")
    arithmetic = "float32" if exact or torch.device(device).type == "cpu" else "tf32"
    return Codec(model.eval().requires_grad_(False).to(device), _identity(files), arithmetic)


def codec_revision(name_or_path: str | Path, *, revision: str | None) -> str:
    """Return the `Codec.revision` that `load_codec` would give; a pinned commit is not fetched.

    Raises:
        InputError: not found, or a folder without weights.
    """
    if is_hub_id(str(name_or_path)) and re.fullmatch("[0-9a-f]{40}", revision or ""):
        return f"{name_or_path}@{revision}"
    return _identity(fetch(name_or_path, revision=revision, allow_patterns=["config.json"]))


def local_revision(folder: Path) -> str:
    """Return the `Codec.revision` of a local codec: a hash of its weights and its config.

    Raises:
        InputError: either file is missing.
    """
    for name in (WEIGHTS, "config.json"):
        if not (folder / name).is_file():
            raise InputError(f"codec {folder}: no {name}; give a transformers checkpoint of {_MODEL_TYPES}")
    return f"local@{sha256_files([folder / WEIGHTS, folder / 'config.json'])}"


def _identity(files: Snapshot) -> str:
    return local_revision(files.folder) if files.commit is None else f"{files.name}@{files.commit}"
