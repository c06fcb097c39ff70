"""Write speech as raw PCM to a file or a pipe while it is generated."""

import logging
import os
from collections.abc import Iterator, Sequence
from queue import Full, Queue
from threading import Thread
from typing import BinaryIO

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from higgs_recipes.audio.codec import Codec
from higgs_recipes.audio.wav_file import pcm16
from higgs_recipes.configs.inference import GenerateConfig, PCMFormat
from higgs_recipes.constants import FRAMES_PER_SECOND
from higgs_recipes.generation.engine import open_engine
from higgs_recipes.generation.long_text import SpokenText, max_prompt_positions
from higgs_recipes.generation.stream import stream_text
from higgs_recipes.unwrap import unwrap_model


logger = logging.getLogger(__name__)

PIECES_AHEAD = 8  # pieces that wait for the reader; a player reads as slowly as it plays
_WAIT_SECONDS = 0.1


def reserve_stdout() -> BinaryIO:
    """The stdout of the process for binary data. From here on, what else is printed goes to stderr."""
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return stdout


def stream_speech(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    codec: Codec,
    texts: Sequence[SpokenText],
    *,
    config: GenerateConfig,
) -> Iterator[Tensor]:
    """The pieces (N_i,) of all texts, one text after the other; the log has a line for each text."""
    with open_engine(unwrap_model(model), sampling=config) as engine:
        # For all chunks: a cache that grows in the middle of a text would pause it.
        limits = {"buffer_size": config.chunk_buffer_size, "max_seconds": config.max_seconds}
        engine.reserve(1, max_prompt_positions(texts, tokenizer, **limits))
        for index, spoken in enumerate(texts):
            for piece in stream_text(engine, tokenizer, codec, spoken, buffer_size=config.chunk_buffer_size):
                yield piece.waveform
            seconds = len(piece.clip.codes) / FRAMES_PER_SECOND
            end = "stopped by itself" if piece.clip.stopped else f"hit the cap of {config.max_seconds} s"
            logger.info("text %d: %.2f s, %s, seed %d", index, seconds, end, spoken.seed)


def write_pcm(pieces: Iterator[Tensor], file: BinaryIO, *, pcm_format: PCMFormat) -> bool:
    """Write waveforms (N_i,) as they come; a thread waits for the reader of a pipe, so that generation goes on.

    Returns:
        Whether all was written; False: the reader closed the pipe.

    Raises:
        OSError: the file cannot be written.
    """
    waiting: Queue[bytes | None] = Queue(maxsize=PIECES_AHEAD)
    errors: list[OSError] = []

    def write() -> None:
        try:
            while (content := waiting.get()) is not None:
                file.write(content)
                file.flush()
        except OSError as error:
            errors.append(error)

    def put(content: bytes | None) -> None:
        while not errors:
            try:
                return waiting.put(content, timeout=_WAIT_SECONDS)
            except Full:
                continue

    writer = Thread(target=write, name="pcm writer", daemon=True)
    writer.start()
    try:
        for piece in pieces:
            put(pcm_bytes(piece, pcm_format))
            if errors:
                break
    finally:  # what was generated is written, also if generation fails
        put(None)
        writer.join()
    if errors and not isinstance(errors[0], BrokenPipeError):
        raise errors[0]
    return not errors


def pcm_bytes(waveform: Tensor, pcm_format: PCMFormat) -> bytes:
    """A waveform (N,) as little-endian samples; integers are those of a wav file, clipped to [-1, 1].

    >>> import torch
    >>> pcm_bytes(torch.tensor([0.5, -1.0]), "s16le").hex(" ", 2)
    '0040 0080'
    """
    if pcm_format == "f32le":
        return waveform.numpy().astype("<f4").tobytes()
    return pcm16(waveform).numpy().astype("<i2").tobytes()
