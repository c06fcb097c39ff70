"""Build generation requests from a recipe's texts, and write the generated clips as wav files with a record."""

import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from higgs_recipes.audio.codec import Codec
from higgs_recipes.audio.io import read_audio, write_wav
from higgs_recipes.chatml import canonical_speaker_tags, conversation, is_dialogue
from higgs_recipes.configs.inference import GenerateConfig, SamplingConfig
from higgs_recipes.constants import FRAMES_PER_SECOND
from higgs_recipes.errors import InputError
from higgs_recipes.files import atomic_write
from higgs_recipes.generation.generate import Generation, Request, generate
from higgs_recipes.output_folder import staged_output
from higgs_recipes.text import normalize_transcript


RECORD = "generations.jsonl"


def read_texts(config: GenerateConfig) -> list[str]:
    """Read the texts of the recipe and the non-blank lines of its text file.

    Raises:
        InputError: the file does not exist or is not UTF-8, or there is no text at all.
    """
    texts = list(config.text)
    if config.text_file is not None:
        path = Path(config.text_file)
        if not path.is_file():
            raise InputError(f"text_file: no such file: {path}")
        try:
            texts += [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise InputError(f"text_file: {path} is not UTF-8 ({error}); save it as UTF-8") from error
    if not texts:
        raise InputError(f"text_file: {config.text_file} has no text")
    return texts


def build_requests(config: GenerateConfig, codec: Codec) -> list[Request]:
    """Build one request per text; text i has seed + i. If the recipe has `ref_audio`, their voices are cloned.

    A text with speaker tags is a dialogue: reference clip i gives the voice of [SPEAKERi]. Any other text takes at
    most one reference clip.

    Raises:
        InputError: a text or a reference clip is invalid; names it.
    """
    ref_codes = codec.encode([read_audio(path, name=f"ref_audio {path}") for path in config.ref_audio])
    ref_texts = [_normalized(text) for text in config.ref_text or []] or [None] * len(config.ref_audio)
    references = [
        {"speaker_tag": f"SPEAKER{index}", "ref_audio": path, "ref_text": text}
        for index, (path, text) in enumerate(zip(config.ref_audio, ref_texts, strict=True))
    ]
    requests = []
    for index, text in enumerate(read_texts(config)):
        row = {"id": f"text {index}", "text": _normalized(text), "scene": config.scene}
        if is_dialogue(row["text"]):
            task = "multi_speaker_voice_cloning" if references else "multi_speaker_smart_voice"
            row["ref_speakers"] = references
        elif len(references) > 1:
            raise InputError(
                f"text {index} has no speaker tags, but there are {len(references)} ref_audio clips: give one clip"
            )
        else:
            task = "zero_shot_voice_cloning" if references else "single_speaker_smart_voice"
            row |= references[0] if references else {}
        turns = conversation(row, task=task, ref_in_system=config.ref_in_system)
        requests.append(Request(turns, ref_codes, seed=config.seed + index))
    return requests


def _normalized(text: str) -> str:
    return canonical_speaker_tags(normalize_transcript(text))


def write_speech(config: GenerateConfig, codec: Codec, generations: Sequence[Generation]) -> list[str]:
    """Write 000.wav, 001.wav, ... and `generations.jsonl` (wav, text, seed, stopped, seconds, codes).

    Returns:
        One line per clip to print.

    Raises:
        InputError: the output folder is not empty, or the disk is full.
    """
    texts = read_texts(config)
    waveforms = codec.decode([generation.codes for generation in generations])
    lines, records = [], []
    with staged_output(config, kind="generate") as staging:
        for index, (text, waveform, generation) in enumerate(zip(texts, waveforms, generations, strict=True)):
            seconds, wav = len(generation.codes) / FRAMES_PER_SECOND, f"{index:03d}.wav"
            write_wav(staging / wav, waveform)
            end = "stopped by itself" if generation.stopped else f"hit the cap of {config.max_seconds} s"
            lines.append(f"{Path(config.output_dir) / wav}: {seconds:.2f} s, {end}, seed {generation.seed}")
            records.append(
                {
                    "wav": wav,
                    "text": text,
                    "seed": generation.seed,
                    "stopped": generation.stopped,
                    "seconds": seconds,
                    "codes": generation.codes.tolist(),
                }
            )
        atomic_write(staging / RECORD, "".join(json.dumps(record) + "\n" for record in records))
    return lines


def speak_greedily(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, turns: list[dict], *, max_seconds: float
) -> Tensor:
    """Generate the codes (T, C) of one conversation without reference clips, at temperature 0."""
    sampling = SamplingConfig(temperature=0, max_seconds=max_seconds)
    (generation,) = generate(model, tokenizer, [Request(turns, [], seed=0)], sampling=sampling)
    return generation.codes
