"""Benchmark of training: optimizer steps of this project's trainer and of unmodified transformers."""

import gc
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback

from higgs_recipes.benchmarks.roofline import StepWork, float8_rate, matmul_rate, training_flops
from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs.benchmark import LOG_EVERY, BenchmarkTrainConfig
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.constants import FRAMES_PER_SECOND, IGNORE_INDEX
from higgs_recipes.delay import delayed_length
from higgs_recipes.devices import peak_memory_gib, reset_peak_memory, synchronize
from higgs_recipes.errors import InputError
from higgs_recipes.hub.download import Snapshot
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.model import build_model, load_tokenizer
from higgs_recipes.modeling.random_model import MODEL_FOLDER, random_checkpoint
from higgs_recipes.samples import LAST_TOKENS, SampleDataset, label_sample
from higgs_recipes.training.trainer import HiggsTrainer
from higgs_recipes.unwrap import unwrap_model


class RandomClips(SampleDataset):
    """Samples of equal length: random text and a clip of random codes."""

    def __init__(self, config: BenchmarkTrainConfig, tokenizer: PreTrainedTokenizerBase, *, num_clips: int) -> None:
        generator = torch.Generator().manual_seed(config.seed)
        self.last = tokenizer.convert_tokens_to_ids(list(LAST_TOKENS))
        num_steps = round(config.clip_seconds * FRAMES_PER_SECOND)
        num_tokens = config.text_positions - 3  # without the special tokens at the end
        # The first 256 ids of the tokenizers are not special tokens.
        texts = torch.randint(0, 256, (num_clips, num_tokens), generator=generator).tolist()
        codes = torch.randint(0, 1024, (num_clips, num_steps, 8), generator=generator, dtype=torch.int16)
        rows = [
            {"id": f"clip {index}", "text": text, "codes": clip}
            for index, (text, clip) in enumerate(zip(texts, codes, strict=True))
        ]
        super().__init__(rows, tokenizer)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        return label_sample(row, row["text"] + self.last, last=self.last) | {"row_index": index}


class PlainCollator(HiggsCollator):
    """Padded batches of one clip per row, with the placeholders and labels of transformers' processor."""

    def __call__(self, samples: list[dict]) -> dict[str, Tensor]:
        batch = super().__call__(samples)
        del batch["row_index"]
        config = self.config
        is_audio = batch["input_ids"] == config.audio_token_id
        is_tail = is_audio & (is_audio.flip(1).cumsum(1).flip(1) < config.num_codebooks)  # (B, S) the delayed ends
        ids = batch["input_ids"].masked_fill(is_tail, config.audio_delay_token_id)
        masked = torch.tensor([config.audio_token_id, config.pad_token_id, config.audio_bos_token_id])
        frames = batch["audio_input_ids"]
        return batch | {
            "input_ids": ids,
            "labels": ids.masked_fill(torch.isin(ids, masked), IGNORE_INDEX),
            "audio_labels": frames.masked_fill(frames >= config.audio_stream_bos_id, IGNORE_INDEX),
        }


class Stopwatch(TrainerCallback):
    """Measure the time between the ends of two optimizer steps; synchronizes the device only there."""

    def __init__(self, *, begin: int, end: int) -> None:
        self.begin, self.end = begin, end
        self.times: dict[int, float] = {}

    @property
    def seconds(self) -> float:
        return self.times[self.end] - self.times[self.begin]

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step in (self.begin, self.end):
            synchronize(args.device)
            self.times[state.global_step] = time.perf_counter()


def measure_training(config: BenchmarkTrainConfig) -> Iterator[dict[str, Any]]:
    """Yield a row of results for each variant.

    A row has `name`, `fields` and `outcome` ("measured", "out of memory", or "refused: " and the reason). If it was
    measured, it also has
    - `positions_per_second`, `audio_seconds_per_second`: of all processes;
    - `peak_gib`: peak allocated memory, with the loading of the model; `left_over_gib` of it belong to earlier
      variants, and should be 0;
    - `limit_positions_per_second`: `training_flops` at the measured rate of matrix products in the variant's type;
    - `share_of_limit`;
    - `data_wait_share`, `logged_positions_per_second`: the trainer's own logs; None for transformers' Trainer;
    - the numbers that these are computed from.

    Raises:
        InputError: SFTConfig refuses the values of a variant, or its steps would have different numbers of clips.
    """
    with tempfile.TemporaryDirectory() as folder:
        fields = config.variants | config.plain_variants
        recipes = {name: _recipe(name, config, output_dir=Path(folder) / "run") for name in config.selected(fields)}
        # Only now: the recipes set up the devices and processes.
        random_checkpoint(config.model_config, folder=Path(config.checkpoint_dir), seed=config.seed)
        dtypes = {name: torch.bfloat16 if recipe.bf16 else torch.float32 for name, recipe in recipes.items()}
        rates = {dtype: matmul_rate(PartialState().device, dtype) for dtype in {*dtypes.values()}}
        for name, recipe in recipes.items():
            row = {"name": name, "fields": fields[name], "outcome": "measured"}
            try:
                plain = name in config.plain_variants
                row |= _measure(config, recipe, plain=plain, matmul_rate=rates[dtypes[name]])
            except torch.OutOfMemoryError:
                if recipe.world_size > 1:  # the other processes wait for this one
                    raise
                row["outcome"] = "out of memory"
            except InputError as error:
                row["outcome"] = f"refused: {error}"
            yield row


def _recipe(name: str, config: BenchmarkTrainConfig, *, output_dir: Path) -> SFTConfig:
    fields = config.common | (config.variants | config.plain_variants)[name]
    fields |= {
        "model_name_or_path": str(Path(config.checkpoint_dir) / MODEL_FOLDER),
        "datasets": ["random"],
        "output_dir": str(output_dir),
        "max_steps": config.warm_steps + config.timed_steps,
        "logging_steps": LOG_EVERY,
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "allow_untrained": True,
        "seed": config.seed,
    }
    if name in config.plain_variants:
        # transformers' defaults for copying batches and for DDP.
        fields = {"accelerator_config": {}, "ddp_find_unused_parameters": None} | fields
    try:
        recipe = SFTConfig(**fields)
    except (ValueError, TypeError) as error:
        raise InputError(f"variant {name!r}: {error}") from error
    if name in config.plain_variants and recipe.pack_to is not None:
        raise InputError(f"variant {name!r}: unmodified transformers does not pack, pack_to must be null")
    if recipe.pack_to is not None and not recipe.fill_rows:
        raise InputError(f"variant {name!r}: pack_to needs fill_rows: true here, so that all steps have equal work")
    return recipe


def _measure(config: BenchmarkTrainConfig, recipe: SFTConfig, *, plain: bool, matmul_rate: float) -> dict[str, Any]:
    device, num_processes = recipe.device, recipe.world_size
    # Variants compile the same functions for different modules: each starts without compiled code, like a run alone.
    torch._dynamo.reset()
    gc.collect()  # a trainer and its callbacks reference each other
    torch.cuda.empty_cache()
    left_over = torch.cuda.memory_allocated() if device.type == "cuda" else 0
    reset_peak_memory(device)
    torch.manual_seed(config.seed)
    base = fetch_base(recipe)
    model, tokenizer = build_model(recipe, base), load_tokenizer(base)
    loading_peak_gib = peak_memory_gib()
    work, num_clips = _step_work(config, recipe, num_codebooks=unwrap_model(model).config.num_codebooks)
    num_positions = work.text + work.audio
    flops = training_flops(unwrap_model(model), work)  # before FSDP or DeepSpeed shards the model
    min_seconds = flops.main / matmul_rate + (flops.float8 / float8_rate(device) if flops.float8 else 0)
    samples = RandomClips(config, tokenizer, num_clips=num_clips * num_processes * recipe.max_steps)
    trainer = _trainer(model, recipe, samples, base=base, plain=plain)
    stopwatch = Stopwatch(begin=config.warm_steps, end=recipe.max_steps)
    trainer.add_callback(stopwatch)
    trainer.remove_callback(PrinterCallback)
    trainer.train()

    logs = [entry for entry in trainer.state.log_history if "loss" in entry and entry["step"] > config.warm_steps]
    speed = num_processes * num_positions * config.timed_steps / stopwatch.seconds
    limit = num_processes * num_positions / min_seconds
    return {
        "positions_per_second": speed,
        "audio_seconds_per_second": speed * num_clips * config.clip_seconds / num_positions,
        "peak_gib": peak_memory_gib(),
        "reserved_gib": torch.cuda.max_memory_reserved(device) / 2**30 if device.type == "cuda" else None,
        "limit_positions_per_second": limit,
        "share_of_limit": speed / limit,
        "data_wait_share": None if plain else max(entry["data_wait_share"] for entry in logs),
        "logged_positions_per_second": None if plain else logs[-1]["positions_per_second"],
        "left_over_gib": left_over / 2**30,
        "loading_peak_gib": loading_peak_gib,
        "loss": logs[-1]["loss"],
        "steps": config.timed_steps,
        "seconds": stopwatch.seconds,
        "processes": num_processes,
        "clips_per_step": num_clips * num_processes,
        "positions_per_step": num_positions * num_processes,
        "flops_per_position": sum(flops) / num_positions,
        "float8_share_of_flops": flops.float8 / sum(flops),
        "matmul_flops_per_second": matmul_rate,
    }


def _step_work(config: BenchmarkTrainConfig, recipe: SFTConfig, *, num_codebooks: int) -> tuple[StepWork, int]:
    """The work of one process in an optimizer step, and its number of clips."""
    frames = delayed_length(round(config.clip_seconds * FRAMES_PER_SECOND), num_codebooks)
    length = config.text_positions + frames
    per_batch = recipe.per_device_train_batch_size if recipe.pack_to is None else recipe.pack_to // length
    if not per_batch:
        raise InputError(f"pack_to {recipe.pack_to} is shorter than a clip of {length} positions")
    clips = per_batch * recipe.gradient_accumulation_steps
    work = StepWork(
        text=clips * config.text_positions,
        audio=clips * frames,
        text_labels=clips * 3,
        audio_labels=clips * (frames - 1),
        pairs=clips * length * (length + 1) // 2,
    )
    return work, clips


def _trainer(model: nn.Module, recipe: SFTConfig, samples: RandomClips, *, base: Snapshot, plain: bool) -> Trainer:
    if plain:
        collator = PlainCollator(unwrap_model(model).config)
        return Trainer(model=model, args=recipe, train_dataset=samples, data_collator=collator)
    return HiggsTrainer(model, recipe, base=base, train_dataset=samples, run_info={})
