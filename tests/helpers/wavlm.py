"""WavLM x-vector checkpoints on disk: the real class made tiny, with random weights."""

from pathlib import Path

import torch
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector


def wavlm_config() -> WavLMConfig:
    return WavLMConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        tdnn_dim=(8, 8, 8, 8, 16),
        xvector_output_dim=8,
    )


def save_random_wavlm(folder: Path, *, model_class: type = WavLMForXVector) -> Path:
    torch.manual_seed(0)
    model_class(wavlm_config()).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder
