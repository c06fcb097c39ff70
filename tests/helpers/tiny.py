"""The tiny model, samples and results of the reference implementation (tests/data/golden)."""

from functools import cache

import torch
from safetensors.torch import load_file
from transformers import HiggsAudioV2Config, HiggsAudioV2ForConditionalGeneration

from tests.helpers.paths import DATA


GOLDEN = DATA / "golden"


def golden_config() -> HiggsAudioV2Config:
    """The config of the reference's tiny model."""
    return HiggsAudioV2Config(
        vocab_size=256,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        pad_token_id=200,
        bos_token_id=1,
        eos_token_id=209,
        num_codebooks=8,
        codebook_size=1026,
        audio_token_id=216,
        audio_bos_token_id=213,
        audio_delay_token_id=214,
    )


@cache
def golden_tensors() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "reference_model.safetensors")


def golden_model() -> HiggsAudioV2ForConditionalGeneration:
    """A new model with the weights of the reference, in evaluation mode."""
    model = HiggsAudioV2ForConditionalGeneration(golden_config(), use_text_head=True)
    weights = {k.removeprefix("weights."): v for k, v in golden_tensors().items() if k.startswith("weights.")}
    model.load_state_dict(weights, strict=True)
    return model.eval()


def golden_samples() -> list[dict]:
    """The four samples of the reference, in the format of the collator; 1 and 3 start with a reference clip."""
    tensors = golden_tensors()
    samples = []
    for index in range(4):
        lengths = tensors[f"sample{index}.turn_lengths"].tolist()
        expanded = tensors[f"sample{index}.input_ids"]
        input_ids = tensors[f"sample{index}.prompt_input_ids"]
        labels = tensors[f"sample{index}.labels"]
        is_repeat = (expanded == 216) & (expanded.roll(1) == 216)  # all but the first of consecutive placeholders
        samples.append(
            {
                "input_ids": input_ids,
                "labels": labels[~is_repeat],
                "codes": list(tensors[f"sample{index}.codes_in"].split(lengths)),
                "supervise": [clip == len(lengths) - 1 for clip in range(len(lengths))],
                "row_index": index,
            }
        )
    return samples
