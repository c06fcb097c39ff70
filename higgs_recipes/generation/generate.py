"""Generate codes for conversations, with one seed per clip."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import HiggsAudioV2Config, PreTrainedTokenizerBase

from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.errors import InputError
from higgs_recipes.generation.engine import Engine, open_engine
from higgs_recipes.generation.prefill import Prompt, build_prompt
from higgs_recipes.samples import tokenize_prompts
from higgs_recipes.unwrap import unwrap_model


@dataclass(frozen=True)
class Request:
    """One clip to generate.

    Attributes:
        conversation: the turns of `chatml.conversation`; the last turn, of the assistant, is generated.
        ref_codes: codes (T, C) of the reference clips, in the order of the turns.
        seed: of all random numbers of this clip.
    """

    conversation: list[dict]
    ref_codes: Sequence[Tensor]
    seed: int


@dataclass(frozen=True)
class Generation:
    """The result of a request.

    Attributes:
        codes: codes (T, C) int16 on CPU.
        stopped: whether the model ended the clip before `max_seconds`.
        seed: of the request.
    """

    codes: Tensor
    stopped: bool
    seed: int


def generate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    *,
    sampling: SamplingConfig,
    on_clip: Callable[[int, Generation], None] | None = None,
    engine: Engine | None = None,
) -> list[Generation]:
    """Generate a clip for each request, at most `sampling.batch_size` at a time.

    Each clip has its own random generator, so its codes do not depend on the rest of the batch, apart from rounding:
    batch size can change the last digits of the logits, which in float32 rarely changes a sampled code.

    Args:
        model: the model, or the model with an adapter, which is folded into the weights meanwhile, unless it is
            disabled.
        on_clip: called as `on_clip(index, generation)` when a clip ends, in the order in which they end.
        engine: an open engine of the model with this sampling, for several calls; None: one of this call.

    Returns:
        The clips in the order of the requests.

    Raises:
        InputError: the number of reference clips of a request differs from the number in its conversation, or not even
            one clip fits into memory.
    """
    if not requests:
        return []
    bare = unwrap_model(model)
    prompts = build_prompts(requests, tokenizer, bare.config)
    generations: dict[int, Generation] = {}
    with open_engine(bare, sampling=sampling) if engine is None else nullcontext(engine) as engine:
        for index, clip in engine.stream(prompts):
            generations[index] = Generation(clip.codes, clip.stopped, requests[index].seed)
            if on_clip is not None:
                on_clip(index, generations[index])
    return [generations[index] for index in range(len(requests))]


def build_prompts(
    requests: Sequence[Request], tokenizer: PreTrainedTokenizerBase, config: HiggsAudioV2Config
) -> list[Prompt]:
    """What the model reads for each request.

    Raises:
        InputError: the number of reference clips of a request differs from the number in its conversation.
    """
    conversations = [request.conversation[:-1] for request in requests]
    prompts = []
    for ids, request in zip(
        tokenize_prompts(conversations, tokenizer, add_generation_prompt=True), requests, strict=True
    ):
        num_placeholders = ids.count(config.audio_token_id)
        if num_placeholders != len(request.ref_codes):
            raise InputError(
                f"the conversation has {num_placeholders} reference turns, but there are {len(request.ref_codes)} "
                "reference clips"
            )
        prompts.append(build_prompt(torch.tensor(ids), request.ref_codes, seed=request.seed, config=config))
    return prompts
