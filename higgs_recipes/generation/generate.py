"""Conversations -> codes, each clip with a seed of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.errors import InputError
from higgs_recipes.generation.engine import open_engine
from higgs_recipes.generation.prefill import build_prompt
from higgs_recipes.samples import tokenize_prompts
from higgs_recipes.unwrap import unwrap_model


@dataclass(frozen=True)
class Request:
    """One clip to generate.

    Attributes:
        conversation: the turns of `chatml.conversation`; the last one, the assistant's, is what is generated.
        ref_codes: codes (T, C) of the reference clips, in the order of the turns.
        seed: of all random numbers of this clip.
    """

    conversation: list[dict]
    ref_codes: Sequence[Tensor]
    seed: int


@dataclass(frozen=True)
class Generation:
    """The result of a request: codes (T, C) int16 on CPU, and whether the model ended the clip before the cap."""

    codes: Tensor
    stopped: bool
    seed: int


def generate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    *,
    sampling: SamplingConfig,
) -> list[Generation]:
    """Generate a clip for each request, at most `sampling.batch_size` at a time.

    A seed gives the same codes whatever the other requests are, as long as the arithmetic rounds alike (batches of
    different size may differ where a random number lies on the very edge of a code; in float32 practically never).

    Args:
        model: a model or one with an adapter, which is folded into the weights meanwhile, unless it is disabled.

    Raises:
        InputError: a request has more or fewer reference clips than its conversation, or not even one clip fits into
            memory.
    """
    if not requests:
        return []
    bare = unwrap_model(model)
    conversations = [request.conversation[:-1] for request in requests]
    prompts = []
    for ids, request in zip(
        tokenize_prompts(conversations, tokenizer, add_generation_prompt=True), requests, strict=True
    ):
        num_placeholders = ids.count(bare.config.audio_token_id)
        if num_placeholders != len(request.ref_codes):
            raise InputError(f"{num_placeholders} reference turns for {len(request.ref_codes)} reference clips")
        prompts.append(build_prompt(torch.tensor(ids), request.ref_codes, seed=request.seed, config=bare.config))
    with open_engine(bare, sampling=sampling) as engine:
        clips = engine.generate(prompts)
    return [
        Generation(clip.codes, clip.stopped, seed=request.seed) for clip, request in zip(clips, requests, strict=True)
    ]
