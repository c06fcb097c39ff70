"""The pre-flight check: a pretrained model must predict the recipe's labels better than chance."""

import math
from collections.abc import Mapping

from accelerate.logging import get_logger
from transformers import HiggsAudioV2Config

from higgs_recipes.errors import InputError


logger = get_logger(__name__)  # logs in the main process only


def check_preflight(losses: Mapping[str, float], config: HiggsAudioV2Config, *, allow_untrained: bool) -> None:
    """Check that the loss of every codebook is below chance, ln(V) nats.

    Otherwise the codes come from another codec, or the delay or the prompts differ from those of the model's training.

    Args:
        losses: the `loss_codebook_k` of some rows, before the first step.
        config: config of the model.
        allow_untrained: warn instead of raising.

    Raises:
        InputError: a codebook's loss is not below chance, or is NaN, and `allow_untrained` is off.
    """
    chance = math.log(config.codebook_size)
    codebook_losses = [losses[f"loss_codebook_{k}"] for k in range(config.num_codebooks)]
    described = ", ".join(f"{loss:.2f}" for loss in codebook_losses)
    if all(loss < chance for loss in codebook_losses):  # false for NaN
        logger.info("pre-flight: loss by codebook %s (chance %.2f)", described, chance)
        return
    message = (
        f"pre-flight: the base model's loss by codebook is {described} nats; a pretrained model is below chance, "
        f"{chance:.2f}, on every one. Is the corpus encoded with the model's codec?"
    )
    if not allow_untrained:
        raise InputError(f"{message} For a model with random weights set allow_untrained: true")
    logger.warning("%s Continuing, because allow_untrained is set", message)
