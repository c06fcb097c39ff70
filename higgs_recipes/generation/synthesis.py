"""Build the texts of a recipe with their voices, and write the generated clips as wav files with a record."""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from higgs_recipes.audio.codec import Codec
from higgs_recipes.audio.io import write_wav
from higgs_recipes.audio.wav_file import write_wav_parts
from higgs_recipes.configs.inference import GenerateConfig, SamplingConfig
from higgs_recipes.constants import FRAMES_PER_SECOND, SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.generation.chunk_joins import joined_chunks
from higgs_recipes.generation.generate import Generation, Request, generate
from higgs_recipes.generation.long_text import SpokenText
from higgs_recipes.generation.text_chunks import split_text
from higgs_recipes.generation.text_normalizers import text_normalizer
from higgs_recipes.generation.texts import read_texts
from higgs_recipes.generation.voices import in_system_turn, read_voices, voice_conversation
from higgs_recipes.hub.download import Snapshot
from higgs_recipes.hub.run_record import read_run
from higgs_recipes.output_folder import staged_output


logger = logging.getLogger(__name__)

RECORD = "generations.jsonl"


def build_texts(config: GenerateConfig, codec: Codec) -> list[SpokenText]:
    """Read, normalize and split the texts of a recipe, and encode its reference clips; text i has seed + i.

    Everything that can be wrong with texts and clips is found here, before a model is loaded.

    Raises:
        InputError: a text or a reference clip is invalid; names it.
    """
    normalize = text_normalizer(config)
    voices, scene, in_system = read_voices(config), config.scene, in_system_turn(config)
    texts = []
    for index, given in enumerate(read_texts(config)):
        text, place = normalize(given.text, place=given.place), given.place
        chunks = split_text(text, config, max_seconds=config.max_seconds, place=place)
        whole = chunks[0].text if len(chunks) == 1 else "\n".join(chunk.text for chunk in chunks)
        turns = voice_conversation(whole, voices, scene=scene, ref_in_system=in_system, place=place)
        texts.append(SpokenText(given.text, place, chunks, turns, [], seed=config.seed + index))
        if len(chunks) > 1:
            logger.info("%s: %d chunks", place, len(chunks))
    clips = [voice.waveform for voice in voices if voice.waveform is not None]
    ref_codes = codec.encode(clips)
    return [replace(spoken, ref_codes=ref_codes) for spoken in texts]


def check_codec(codec: Codec, *trained: Snapshot | None) -> None:
    """Check that the codec is the one that an adapter and a model were trained with, as their run.json says.

    Raises:
        InputError: it is another one.
    """
    for files in trained:
        run = None if files is None else read_run(files.folder)
        if run is not None and "codec" in run and run["codec"] != codec.revision:
            raise InputError(
                f"{files.name}: trained on codes of the codec {run['codec']}, but codec_name_or_path is "
                f"{codec.revision}: set codec_name_or_path and codec_revision to the codec of the training"
            )


def write_speech(
    config: GenerateConfig, codec: Codec, texts: Sequence[SpokenText], clips: Sequence[Sequence[Generation]]
) -> list[str]:
    """Write 000.wav, 001.wav, ... and `generations.jsonl` (wav, text, seed, stopped, seconds, codes).

    The record of a text of several chunks has the codes of all of them in turn, and `chunks`: text, seed, stopped and
    seconds of each. The chunks are decoded and appended to the wav file in turn, so memory does not grow with them.

    Args:
        clips: the clips of each text, one for each chunk.

    Returns:
        One line per text to print.

    Raises:
        InputError: the output folder is not empty, or the disk is full.
    """
    lines = []
    waveforms = codec.decode_in_turn([clip.codes for chunk_clips in clips for clip in chunk_clips])
    with (
        staged_output(config, kind="generate") as staging,
        (staging / RECORD).open("w", encoding="utf-8", newline="\n") as record_file,
    ):
        for index, (spoken, chunk_clips) in enumerate(zip(texts, clips, strict=True)):
            wav = f"{index:03d}.wav"
            if len(chunk_clips) == 1:
                write_wav(staging / wav, next(waveforms))
                seconds = len(chunk_clips[0].codes) / FRAMES_PER_SECOND
            else:
                parts = joined_chunks(islice(waveforms, len(chunk_clips)), [chunk.pause for chunk in spoken.chunks])
                seconds = write_wav_parts(staging / wav, parts) / SAMPLE_RATE
            record_file.write(json.dumps(_record(wav, spoken, chunk_clips, seconds=seconds)) + "\n")
            lines.append(f"{Path(config.output_dir) / wav}: {_summary(spoken, chunk_clips, seconds, config)}")
    return lines


def _record(wav: str, spoken: SpokenText, clips: Sequence[Generation], *, seconds: float) -> dict[str, Any]:
    """A line of `RECORD`."""
    record = {
        "wav": wav,
        "text": spoken.text,
        "seed": spoken.seed,
        "stopped": all(clip.stopped for clip in clips),
        "seconds": seconds,
        "codes": [codes for clip in clips for codes in clip.codes.tolist()],
    }
    if len(clips) > 1:
        record["chunks"] = [
            {
                "text": chunk.text,
                "seed": clip.seed,
                "stopped": clip.stopped,
                "seconds": len(clip.codes) / FRAMES_PER_SECOND,
            }
            for chunk, clip in zip(spoken.chunks, clips, strict=True)
        ]
    return record


def _summary(spoken: SpokenText, clips: Sequence[Generation], seconds: float, config: GenerateConfig) -> str:
    cut = [number for number, clip in enumerate(clips, 1) if not clip.stopped]
    end = f"hit the cap of {config.max_seconds} s" if cut else "stopped by itself"
    if len(clips) > 1:
        end += f" in chunk {', '.join(map(str, cut))} of {len(clips)}" if cut else f" in all {len(clips)} chunks"
    return f"{seconds:.2f} s, {end}, seed {spoken.seed}"


def speak_greedily(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, turns: list[dict], *, max_seconds: float
) -> Tensor:
    """Generate the codes (T, C) of one conversation without reference clips, at temperature 0."""
    sampling = SamplingConfig(temperature=0, max_seconds=max_seconds)
    (generation,) = generate(model, tokenizer, [Request(turns, [], seed=0)], sampling=sampling)
    return generation.codes
