"""Remove the wrappers that training puts around a model."""

from torch import nn
from transformers import HiggsAudioV2ForConditionalGeneration


def unwrap_model(model: nn.Module) -> HiggsAudioV2ForConditionalGeneration:
    """The module with the heads, inside DDP or DeepSpeed (`.module`) and PEFT (`get_base_model`).

    The LoRA layers of an adapter stay in place.
    """
    while True:
        children = dict(model.named_children())
        if "module" in children:
            model = children["module"]
        elif "audio_lm_head" not in children and "base_model" in children:
            model = model.get_base_model()
        else:
            return model
