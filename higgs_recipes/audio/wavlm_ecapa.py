"""The speaker model of Seed-TTS-eval: WavLM-large, fine-tuned for speaker verification, with an ECAPA-TDNN head.

    waveform (N,) at 16 kHz -> layer norm -> WavLM's hidden states (L + 1, T, D) -> weighted sum (D, T)
    -> TDNN blocks (C, T) -> (P, T) -> attentive statistics (2 P,) -> embedding (E,)

The classes are named and ordered so that their weights have the published checkpoint's names. One clip at a time:
padding would change the embedding.
"""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import WavLMConfig, WavLMModel

from higgs_recipes.audio.convolutions import convolution_arithmetic
from higgs_recipes.errors import InputError


MIN_SAMPLES = 720  # at 16 kHz: two frames, without which the instance norm over time is undefined
NORM_EPS = 1e-5

# WavLM-large as it was fine-tuned. Its max_bucket_distance is 800; the default of transformers is another one.
WAVLM_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "hidden_act": "gelu",
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "conv_bias": False,
    "feat_extract_norm": "layer",
    "feat_extract_activation": "gelu",
    "do_stable_layer_norm": True,
    "layer_norm_eps": 1e-5,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "num_buckets": 320,
    "max_bucket_distance": 800,
}

# Name in the published checkpoint -> name in transformers; the order matters.
_WAVLM_NAMES = [
    (r"^mask_emb$", "masked_spec_embed"),
    (r"^(feature_extractor\.conv_layers\.\d+)\.0\.weight$", r"\1.conv.weight"),
    (r"^(feature_extractor\.conv_layers\.\d+)\.2\.1\.", r"\1.layer_norm."),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"^encoder\.pos_conv\.0\.bias$", "encoder.pos_conv_embed.conv.bias"),
    (r"^encoder\.pos_conv\.0\.weight_g$", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"^encoder\.pos_conv\.0\.weight_v$", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.self_attn\.relative_attention_bias\.", ".attention.rel_attn_embed."),
    (r"\.self_attn\.grep_linear\.", ".attention.gru_rel_pos_linear."),
    (r"\.self_attn\.grep_a$", ".attention.gru_rel_pos_const"),
    (r"\.self_attn\.", ".attention."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
]
_ORIGINAL_WAVLM = "feature_extract.model."
_CLASSIFIER = "loss_calculator."  # of the training
# torch's older names of the two parts of a normalized weight.
_OLD_PARTS = {
    "conv.weight_g": "conv.parametrizations.weight.original0",
    "conv.weight_v": "conv.parametrizations.weight.original1",
}


class ConvReluNorm(nn.Module):
    """Convolution with zero padding, ReLU, batch norm, in this order."""

    def __init__(self, in_channels: int, channels: int, *, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, channels, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, features: Tensor) -> Tensor:  # (B, C_in, T) -> (B, C, T)
        return self.bn(torch.relu(self.conv(features)))


class Res2ConvReluNorm(nn.Module):
    """Chunks of channels, each convolved after the result of the one before is added; the last is passed through."""

    def __init__(self, channels: int, *, num_chunks: int, dilation: int) -> None:
        super().__init__()
        width = channels // num_chunks
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, 3, dilation=dilation, padding=dilation) for _ in range(num_chunks - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(num_chunks - 1))

    def forward(self, features: Tensor) -> Tensor:  # (B, C, T)
        *chunks, last = features.chunk(len(self.convs) + 1, dim=1)  # (B, C / num_chunks, T) each
        results: list[Tensor] = []
        for chunk, conv, norm in zip(chunks, self.convs, self.bns, strict=True):
            inputs = chunk + results[-1] if results else chunk
            results.append(norm(torch.relu(conv(inputs))))
        return torch.cat([*results, last], dim=1)


class SqueezeExcitation(nn.Module):
    """Scale each channel by a number in (0, 1) that depends on the mean of all channels over time."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, bottleneck)
        self.linear2 = nn.Linear(bottleneck, channels)

    def forward(self, features: Tensor) -> Tensor:  # (B, C, T)
        scale = torch.sigmoid(self.linear2(torch.relu(self.linear1(features.mean(dim=2)))))  # (B, C)
        return features * scale[:, :, None]


class TDNNBlock(nn.Module):
    """A residual block; its attributes are named as in the checkpoint."""

    def __init__(self, channels: int, *, num_chunks: int, dilation: int, bottleneck: int) -> None:
        super().__init__()
        self.Conv1dReluBn1 = ConvReluNorm(channels, channels)
        self.Res2Conv1dReluBn = Res2ConvReluNorm(channels, num_chunks=num_chunks, dilation=dilation)
        self.Conv1dReluBn2 = ConvReluNorm(channels, channels)
        self.SE_Connect = SqueezeExcitation(channels, bottleneck)

    def forward(self, features: Tensor) -> Tensor:  # (B, C, T)
        convolved = self.Conv1dReluBn2(self.Res2Conv1dReluBn(self.Conv1dReluBn1(features)))
        return features + self.SE_Connect(convolved)


class AttentiveStatistics(nn.Module):
    """Mean and standard deviation over time, weighted for each channel and frame."""

    def __init__(self, channels: int, attention_channels: int) -> None:
        super().__init__()
        self.linear1 = nn.Conv1d(channels, attention_channels, 1)
        self.linear2 = nn.Conv1d(attention_channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:  # (B, P, T) -> (B, 2 P)
        weights = torch.softmax(self.linear2(torch.tanh(self.linear1(features))), dim=2)  # (B, P, T)
        mean = (weights * features).sum(dim=2)  # (B, P)
        variance = (weights * features**2).sum(dim=2) - mean**2
        return torch.cat([mean, variance.clamp(min=1e-9).sqrt()], dim=1)


class EcapaHead(nn.Module):
    """ECAPA-TDNN on a weighted sum of hidden states, with the sizes of a state dict."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        channels, num_features, kernel = state["layer1.conv.weight"].shape
        pooled, _, _ = state["conv.weight"].shape
        embedding_size, _ = state["linear.weight"].shape
        attention_channels, _, _ = state["pooling.linear1.weight"].shape
        bottleneck, _ = state["layer2.SE_Connect.linear1.weight"].shape
        num_chunks = channels // state["layer2.Res2Conv1dReluBn.convs.0.weight"].shape[0]
        self.layer1 = ConvReluNorm(num_features, channels, kernel=kernel)
        self.layer2, self.layer3, self.layer4 = (
            TDNNBlock(channels, num_chunks=num_chunks, dilation=dilation, bottleneck=bottleneck)
            for dilation in (2, 3, 4)
        )
        self.conv = nn.Conv1d(3 * channels, pooled, 1)
        self.pooling = AttentiveStatistics(pooled, attention_channels)
        self.bn = nn.BatchNorm1d(2 * pooled)
        self.linear = nn.Linear(2 * pooled, embedding_size)

    def forward(self, states: Tensor) -> Tensor:  # (B, T, D) -> (B, E)
        features = F.instance_norm(states.transpose(1, 2) + 1e-6, eps=NORM_EPS)  # (B, D, T)
        layer2 = self.layer2(self.layer1(features))
        layer3 = self.layer3(layer2)
        layer4 = self.layer4(layer3)
        joined = torch.relu(self.conv(torch.cat([layer2, layer3, layer4], dim=1)))  # (B, P, T)
        return self.linear(self.bn(self.pooling(joined)))


class WavLMEcapa(nn.Module):
    """WavLM and its head, in float32 and evaluation mode, from `load_wavlm_ecapa`."""

    def __init__(self, config: WavLMConfig, head: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.wavlm = WavLMModel(config)
        self.feature_weight = nn.Parameter(torch.zeros(config.num_hidden_layers + 1))
        self.ecapa = EcapaHead(head)

    def hidden_states(self, waveform: Tensor) -> Tensor:
        """The states (L + 1, T, D) of a clip (N,) at 16 kHz; the last one is that after the encoder's final norm."""
        samples = F.layer_norm(waveform, waveform.shape, eps=NORM_EPS)[None]  # (1, N)
        output = self.wavlm(samples, output_hidden_states=True)
        # hidden_states[-1] of transformers 5 is the last layer's output before the norm.
        return torch.cat([*output.hidden_states[:-1], output.last_hidden_state])  # (L + 1, T, D)

    def weighted_sum(self, states: Tensor) -> Tensor:
        """The sum (T, D) of states (L + 1, T, D), weighted by the softmax of the learned weights."""
        return torch.einsum("l,ltd->td", torch.softmax(self.feature_weight, dim=0), states)

    @torch.inference_mode()
    def forward(self, waveform: Tensor) -> Tensor:  # (N,) at 16 kHz -> (E,)
        (num_samples,) = waveform.shape
        assert num_samples >= MIN_SAMPLES, num_samples
        with convolution_arithmetic("float32", waveform.device):
            (embedding,) = self.ecapa(self.weighted_sum(self.hidden_states(waveform))[None])
        return embedding


def load_wavlm_ecapa(
    weights: Mapping[str, Tensor], *, wavlm_config: Mapping[str, object] | None = None, name: str = "WavLM-ECAPA"
) -> WavLMEcapa:
    """Build the model from a state dict; every weight must fit.

    Args:
        weights: under the names of `WavLMEcapa`, or under those of the published checkpoint.
        wavlm_config: fields of the `WavLMConfig`; None: those of WavLM-large.
        name: name of the weights in messages.

    Raises:
        InputError: weights are missing, unknown, or have another shape.
    """
    state = rename_weights(weights)
    head = {key.removeprefix("ecapa."): weight for key, weight in state.items() if key.startswith("ecapa.")}
    try:
        model = WavLMEcapa(WavLMConfig(**(WAVLM_LARGE if wavlm_config is None else wavlm_config)), head)
        missing, unexpected = model.load_state_dict(state, strict=False)
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{name}: not the weights of WavLM-large with an ECAPA-TDNN head: {reason}") from error
    # Neither is used: the embedding of masked frames, and the counters of batch norms.
    missing = [key for key in missing if not key.endswith(("masked_spec_embed", "num_batches_tracked"))]
    if missing or unexpected:
        raise InputError(
            f"{name}: {len(missing)} weights of WavLM-ECAPA are missing and {len(unexpected)} do not belong to it, "
            f"e.g. {min([*missing, *unexpected])}: use another checkpoint"
        )
    return model.float().eval()


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under the names of `WavLMEcapa`, without the classifier of the training."""
    is_original = any(key.startswith(_ORIGINAL_WAVLM) for key in weights)
    state = {}
    for key, weight in weights.items():
        if key.startswith(_CLASSIFIER):
            continue
        state[_renamed(key) if is_original else _with_new_parts(key)] = weight
    return state


def is_wavlm_ecapa(names: object) -> bool:
    """Whether these are the names of the weights of a WavLM-ECAPA model, in either form."""
    names = set(names)
    return "feature_weight" in names and bool({"ecapa.linear.weight", "pooling.linear1.weight"} & names)


def _renamed(key: str) -> str:
    if key == "feature_weight":
        return key
    if not key.startswith(_ORIGINAL_WAVLM):
        return f"ecapa.{key}"
    key = key.removeprefix(_ORIGINAL_WAVLM)
    for pattern, replacement in _WAVLM_NAMES:
        key = re.sub(pattern, replacement, key)
    return f"wavlm.{key}"


def _with_new_parts(key: str) -> str:
    for old, new in _OLD_PARTS.items():
        key = key.replace(f"pos_conv_embed.{old}", f"pos_conv_embed.{new}")
    return key
