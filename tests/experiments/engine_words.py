"""The words of the engine against those of transformers' own generate: the same texts, seeds and sampling.

python -m tests.experiments.engine_words generate outputs/float32.safetensors --dtype float32
python -m tests.experiments.engine_words generate outputs/bfloat16.safetensors --dtype bfloat16
python -m tests.experiments.engine_words score outputs/words.json outputs/float32.safetensors \
    outputs/bfloat16.safetensors

The small model speaks Harvard sentences of lists 23 on, on which nothing was trained, chosen or scored. `generate`
needs neither datasets nor jiwer and may run on a GPU, where the engine runs with and without CUDA graphs; `score`
transcribes the clips with Whisper tiny.en on the CPU. Equal clips are transcribed once.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig, HiggsAudioV2ForConditionalGeneration, LogitsProcessorList

from higgs_recipes.chatml import conversation
from higgs_recipes.configs.inference import SamplingConfig
from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.constants import FRAMES_PER_SECOND
from higgs_recipes.generation.engine import Clip, clip_of, open_engine
from higgs_recipes.generation.prefill import Prompt, build_prompt
from higgs_recipes.modeling.model import load_model
from higgs_recipes.provenance import run_environment
from higgs_recipes.samples import tokenize_prompts
from tests.helpers.paths import ROOT
from tests.helpers.reference_generate import SeededSampler


REFERENCE = "transformers"
REFERENCE_BATCH = 20
FIRST_SENTENCE = 220  # of list 23
MAX_TEXTS = 500
BASE, CODEC = "recipes/tiny/base", "recipes/tiny/mel_rvq"
SCENE = "A bright young American woman reads, close to the microphone."  # heart, as in base_init.yaml
SAMPLING = {"temperature": 0.3, "ras_win_len": 0, "max_seconds": 8.0}  # as in evaluate.yaml


def read_texts(count: int) -> list[str]:
    """The first texts, at most `MAX_TEXTS`."""
    sentences = (ROOT / "recipes/tiny/spoken/harvard.txt").read_text(encoding="utf-8").splitlines()
    return sentences[FIRST_SENTENCE:][: min(count, MAX_TEXTS)]


def build_prompts(texts: Sequence[str], tokenizer, config) -> list[Prompt]:
    """The prompt of each text in heart's voice; text i has seed i."""
    conversations = [
        conversation({"text": text, "scene": SCENE}, task="single_speaker_smart_voice")[:-1] for text in texts
    ]
    ids = tokenize_prompts(conversations, tokenizer, add_generation_prompt=True)
    return [build_prompt(torch.tensor(own), [], seed=seed, config=config) for seed, own in enumerate(ids)]


@torch.inference_mode()
def reference_clips(model: HiggsAudioV2ForConditionalGeneration, prompts: Sequence[Prompt], **fields) -> list[Clip]:
    """The clips of transformers' generate, in batches that are padded on the left; each clip samples by its seed."""
    config, sampling = model.config, SamplingConfig(**fields)
    bos, eos = config.audio_stream_bos_id, config.audio_stream_eos_id
    generation_config = GenerationConfig(
        do_sample=False,
        top_p=1.0,
        ras_win_len=1,
        ras_win_max_num_repeat=2,
        max_new_tokens=round(sampling.max_seconds * FRAMES_PER_SECOND) + config.num_codebooks + 1,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    clips = []
    for start in range(0, len(prompts), REFERENCE_BATCH):
        batch = prompts[start : start + REFERENCE_BATCH]
        length = max(len(prompt.ids) for prompt in batch)
        ids = torch.full((len(batch), length), config.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(batch):
            ids[row, length - len(prompt.ids) :] = torch.from_numpy(prompt.ids)
            mask[row, length - len(prompt.ids) :] = 1
        sampler = SeededSampler(
            sampling, seeds=[prompt.seed for prompt in batch], num_codebooks=config.num_codebooks, bos=bos, eos=eos
        )
        frames = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            logits_processor=LogitsProcessorList([sampler]),
            generation_config=generation_config,
        )  # (B, F, C)
        for clip in frames.to("cpu", torch.int16):
            ends = (clip == eos).all(dim=1).nonzero()
            clips.append(clip_of(clip[: int(ends[0]) + 1] if len(ends) else clip, eos=eos))
    return clips


def generate_all(
    *, texts: int, dtype: str, streams: Sequence[int], device: torch.device
) -> tuple[dict[str, list[Clip]], dict[str, float]]:
    """The clips of each variant, and the seconds that each took."""
    model, tokenizer = load_model(ModelConfig(str(ROOT / BASE), dtype=dtype), device=device)
    prompts = build_prompts(read_texts(texts), tokenizer, model.config)
    clips, seconds = {}, {}
    variants = [(REFERENCE, None, None)]
    for is_captured in (True, False) if device.type == "cuda" else (False,):
        variants += [(f"{'graph' if is_captured else 'eager'} {count}", count, is_captured) for count in streams]
    for name, count, is_captured in variants:
        began = time.perf_counter()
        if count is None:
            clips[name] = reference_clips(model, prompts, **SAMPLING)
        else:
            sampling = SamplingConfig(batch_size=count, **SAMPLING)
            with open_engine(model, sampling=sampling, capture=is_captured) as engine:
                clips[name] = engine.generate(prompts)
        seconds[name] = time.perf_counter() - began
        sys.stdout.write(f"{dtype}, {name}: {len(clips[name])} clips in {seconds[name]:.1f} s\n")
        sys.stdout.flush()
    return clips, seconds


def save_clips(path: Path, clips: Mapping[str, Sequence[Clip]], facts: Mapping[str, Any]) -> None:
    """Write the clips of all variants to one safetensors file."""
    tensors: dict[str, Tensor] = {}
    for name, own in clips.items():
        tensors[f"{name}/codes"] = torch.cat([clip.codes for clip in own])  # (T of all clips, C)
        tensors[f"{name}/lengths"] = torch.tensor([len(clip.codes) for clip in own])
        tensors[f"{name}/stopped"] = torch.tensor([clip.stopped for clip in own])
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"facts": json.dumps(facts)})


def load_clips(path: Path) -> tuple[dict[str, list[Clip]], dict[str, Any]]:
    """The variants of a file and its facts."""
    with safe_open(path, framework="pt") as stored:
        facts = json.loads(stored.metadata()["facts"])
        clips = {}
        for name in facts["variants"]:
            codes = stored.get_tensor(f"{name}/codes").split(stored.get_tensor(f"{name}/lengths").tolist())
            stopped = stored.get_tensor(f"{name}/stopped").tolist()
            clips[name] = [Clip(*pair) for pair in zip(codes, stopped, strict=True)]
    return clips, facts


def score(clips: Mapping[str, Sequence[Clip]], texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """WER with its interval of each variant, clips above 100 %, and how many clips equal those of transformers."""
    # Imported here: the machine that generates has neither datasets nor jiwer.
    asr, codecs, word_errors, normalizers, intervals = (
        import_module(f"higgs_recipes.{name}")
        for name in ("audio.asr", "audio.codec", "audio.word_errors", "normalizers", "evaluation.intervals")
    )
    codec = codecs.load_codec(ROOT / CODEC, revision=None, device="cpu")
    asr_model = asr.load_asr_model(asr.PACKAGE_ASR_MODEL, revision=None, device=torch.device("cpu"))
    rule = normalizers.choose_normalizer("auto", "en", spelling=asr_model.spelling)

    transcripts: dict[bytes, str] = {}
    for own in clips.values():
        for clip in own:
            key = clip.codes.numpy().tobytes()
            if key not in transcripts and len(clip.codes):
                (transcripts[key],) = asr_model.transcribe(codec.decode([clip.codes]), language="en")

    scores = {}
    for name, own in clips.items():
        own_transcripts = [transcripts.get(clip.codes.numpy().tobytes(), "") for clip in own]
        errors = word_errors.utterance_errors(texts, own_transcripts, rules=[rule] * len(texts))
        interval = intervals.rate_interval([(error.edits, error.length) for error in errors], seed=0)
        scores[name] = {
            "wer": sum(error.edits for error in errors) / sum(error.length for error in errors),
            "low": interval.low,
            "high": interval.high,
            "over_100": [index for index, error in enumerate(errors) if error.edits > error.length],
            "stopped": sum(clip.stopped for clip in own),
            "equal": sum(
                torch.equal(clip.codes, other.codes) for clip, other in zip(own, clips[REFERENCE], strict=True)
            ),
        }
    return scores


def describe(reports: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table with a line for each dtype and variant."""
    lines = ["| | WER | clips above 100 % | stopped | same codes as transformers |", "| --- | --- | --- | --- | --- |"]
    for report in reports:
        for name, row in report["scores"].items():
            interval = "" if row["low"] is None else f" ({row['low']:.1%} to {row['high']:.1%})"
            lines.append(
                f"| {report['dtype']}, {name} | {row['wer']:.1%}{interval} | {len(row['over_100'])} | "
                f"{row['stopped']} of {report['texts']} | {row['equal']} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    generating = verbs.add_parser("generate")
    generating.add_argument("output", type=Path, help="safetensors file of the clips")
    generating.add_argument("--dtype", default="float32", help="data type of the weights")
    generating.add_argument("--texts", type=int, default=200, help="number of texts")
    generating.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64], help="numbers of streams")
    scoring = verbs.add_parser("score")
    scoring.add_argument("output", type=Path, help="JSON file of the report")
    scoring.add_argument("clips", type=Path, nargs="+", help="files of `generate`")
    args = parser.parse_args()
    if args.verb == "generate":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        clips, seconds = generate_all(texts=args.texts, dtype=args.dtype, streams=args.streams, device=device)
        facts = run_environment() | {"dtype": args.dtype, "texts": args.texts, "seconds": seconds}
        save_clips(args.output, clips, facts | {"variants": list(clips)})
        return
    reports = []
    for path in args.clips:
        clips, facts = load_clips(path)
        reports.append(facts | {"scores": score(clips, read_texts(facts["texts"]))})
        args.output.write_text(json.dumps(reports, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(describe(reports))


if __name__ == "__main__":
    main()
