"""Texts of any length: each chunk is generated after the chunks before it, whose audio is part of its prompt.

The prompt of chunk j is the conversation of the whole text up to its user turn, that is system turn, scene and
references; then the last `chunk_buffer_size` chunks, each as a user turn with its text and an assistant turn with the
codes that were generated for it; then chunk j. `chunk_request` is this definition.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from higgs_recipes.configs.inference import GenerateConfig
from higgs_recipes.constants import FRAMES_PER_SECOND, NUM_CODEBOOKS
from higgs_recipes.generation.engine import open_engine
from higgs_recipes.generation.finished_clips import FinishedClips, generate_rest
from higgs_recipes.generation.generate import Generation, Request
from higgs_recipes.generation.text_chunks import TextChunk
from higgs_recipes.samples import tokenize_prompts
from higgs_recipes.unwrap import unwrap_model


logger = logging.getLogger(__name__)

SEED_STEP = 1_000_003  # between the seeds of the chunks of a text


@dataclass(frozen=True)
class SpokenText:
    """A text to speak, in one chunk or several.

    Attributes:
        text: as it was given.
        place: where it is from, for messages.
        chunks: the normalized text in parts; one, unless the text is long.
        conversation: the turns of `chatml.conversation` for the whole text.
        ref_codes: codes (T, C) of the reference clips, in the order of the turns.
        seed: of the first chunk.
    """

    text: str
    place: str
    chunks: Sequence[TextChunk]
    conversation: list[dict]
    ref_codes: Sequence[Tensor]
    seed: int


def chunk_seed(seed: int, index: int) -> int:
    """The seed of a chunk of a text with this seed; that of the first chunk is the text's own.

    >>> chunk_seed(7, 0), chunk_seed(7, 2)
    (7, 2000013)
    """
    return seed + SEED_STEP * index


def chunk_request(spoken: SpokenText, index: int, codes: Sequence[Tensor], *, buffer_size: int | None) -> Request:
    """The request of one chunk; see the head of this module. That of a text of one chunk is its conversation.

    Args:
        codes: codes (T, C) that were generated for the chunks before it, in their order.
        buffer_size: number of preceding chunks in the prompt; None: all.
    """
    if len(spoken.chunks) == 1:
        return Request(spoken.conversation, spoken.ref_codes, seed=spoken.seed)
    start = 0 if buffer_size is None else max(0, index - buffer_size)
    turns = spoken.conversation[:-2]
    for chunk in spoken.chunks[start:index]:
        turns = [*turns, _user_turn(chunk), spoken.conversation[-1]]
    turns = [*turns, _user_turn(spoken.chunks[index]), spoken.conversation[-1]]
    return Request(turns, [*spoken.ref_codes, *codes[start:index]], seed=chunk_seed(spoken.seed, index))


def speak_texts(
    texts: Sequence[SpokenText],
    generate: Callable[[list[Request]], Sequence[Generation]],
    *,
    buffer_size: int | None,
) -> list[list[Generation]]:
    """Generate the chunks of all texts: first the first chunk of each text, then the second ones, and so on.

    The chunks of one text follow each other, since each is context of the next; the texts of a round are generated
    together. Without context (`buffer_size` 0) there is one round.

    Args:
        generate: as `generation.generate.generate`: requests -> their clips, in the same order.

    Returns:
        The clips of each text, in the order of its chunks.
    """
    clips: list[list[Generation]] = [[] for _ in texts]
    num_rounds = max((len(spoken.chunks) for spoken in texts), default=0)
    rounds = [[index] for index in range(num_rounds)]
    if buffer_size == 0:
        rounds = [list(range(num_rounds))]
    for number, chunk_indexes in enumerate(rounds, 1):
        places = [
            (spoken, done, index)
            for spoken, done in zip(texts, clips, strict=True)
            for index in chunk_indexes
            if index < len(spoken.chunks)
        ]
        if len(rounds) > 1:
            logger.info("chunk %d of up to %d: %d texts", number, len(rounds), len(places))
        requests = [
            chunk_request(spoken, index, [clip.codes for clip in done], buffer_size=buffer_size)
            for spoken, done, index in places
        ]
        for (_, done, _), clip in zip(places, generate(requests), strict=True):
            done.append(clip)
    return clips


def generate_texts(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[SpokenText],
    *,
    config: GenerateConfig,
    finished: FinishedClips,
) -> list[list[Generation]]:
    """`speak_texts` by one engine for all rounds; clips that an earlier run finished are not generated again.

    Raises:
        InputError: as `generate_rest`.
    """
    with open_engine(unwrap_model(model), sampling=config) as engine:

        def generate(requests: list[Request]) -> list[Generation]:
            return generate_rest(model, tokenizer, requests, sampling=config, finished=finished, engine=engine)

        if any(len(spoken.chunks) > 1 for spoken in texts):
            positions = max_prompt_positions(
                texts, tokenizer, buffer_size=config.chunk_buffer_size, max_seconds=config.max_seconds
            )
            num_together = sum(len(spoken.chunks) for spoken in texts) if config.chunk_buffer_size == 0 else len(texts)
            engine.reserve(num_together, positions)
        return speak_texts(texts, generate, buffer_size=config.chunk_buffer_size)


def max_prompt_positions(
    texts: Sequence[SpokenText],
    tokenizer: PreTrainedTokenizerBase,
    *,
    buffer_size: int | None,
    max_seconds: float,
) -> int:
    """Positions of the longest prompt of any chunk, if all chunks before it last `max_seconds`."""
    longest = torch.zeros(round(max_seconds * FRAMES_PER_SECOND), NUM_CODEBOOKS, dtype=torch.int16)
    requests = [
        chunk_request(spoken, index, [longest] * index, buffer_size=buffer_size)
        for spoken in texts
        for index in range(len(spoken.chunks))
    ]
    turns = [request.conversation[:-1] for request in requests]
    # sum(codes.shape) is T + C: the placeholder of a clip of T + C + 1 frames is counted in the ids.
    return max(
        len(ids) + sum(sum(codes.shape) for codes in request.ref_codes)
        for ids, request in zip(tokenize_prompts(turns, tokenizer, add_generation_prompt=True), requests, strict=True)
    )


def _user_turn(chunk: TextChunk) -> dict:
    return {"role": "user", "content": [{"type": "text", "text": chunk.text}]}
