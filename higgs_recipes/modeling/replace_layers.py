"""Replace linear modules of the decoder layers by modules that compute with other weights."""

from collections.abc import Callable

from torch import nn
from transformers import HiggsAudioV2ForConditionalGeneration


def replace_in_layers(
    model: HiggsAudioV2ForConditionalGeneration,
    *,
    is_replaced: Callable[[nn.Module], bool],
    build: Callable[[nn.Module], nn.Module],
) -> None:
    """Replace each module of the decoder layers for which `is_replaced` is true by `build` of it.

    One after the other, so that no more than one module is in memory twice.
    """
    found = [
        (parent, name)
        for parent in model.model.layers.modules()
        for name, child in parent.named_children()
        if is_replaced(child)
    ]
    for parent, name in found:
        setattr(parent, name, build(parent.get_submodule(name)))
