"""The pipeline at the published size on one GPU, with random weights: load, LoRA steps, save, generate, merge.

python -m tests.experiments.true_size OUTPUT.json [FOLDER]

Needs only the core package (torch, transformers, accelerate, peft), 40 GB of disk and a GPU with 80 GB.
scripts/benchmark.py measures the speed.
"""

import gc
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from transformers import HiggsAudioV2ForConditionalGeneration

from higgs_recipes.chatml import conversation
from higgs_recipes.configs.inference import InitConfig, MergeConfig, SamplingConfig
from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.generation.generate import Generation, Request, generate
from higgs_recipes.generation.synthesis import speak_greedily
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.lora import add_lora
from higgs_recipes.modeling.merge import merge
from higgs_recipes.modeling.model import load_model
from higgs_recipes.modeling.random_model import init_checkpoint
from higgs_recipes.provenance import run_environment
from higgs_recipes.samples import SampleDataset
from higgs_recipes.training.trainer import HiggsTrainer
from tests.helpers.checkpoints import base_fingerprint
from tests.helpers.paths import ROOT


CLIP_STEPS = 250  # 10 s
NUM_ROWS = 64
TEXTS = [f"Sentence number {index} is spoken by a model of the published size." for index in range(8)]


def read_yaml(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "recipes/higgs-3b" / name).read_text(encoding="utf-8"))


def rows(num_rows: int) -> list[dict]:
    """Clips of 10 s with random codes, each with about 80 tokens of text."""
    generator = torch.Generator().manual_seed(0)
    turns = json.dumps(conversation({"text": "A clip."}, task="single_speaker_smart_voice"))
    codes = torch.randint(0, 1024, (num_rows, CLIP_STEPS, 8), generator=generator, dtype=torch.int16)
    return [{"id": str(index), "messages": turns, "codes": clip} for index, clip in enumerate(codes)]


def free() -> None:
    gc.collect()  # a trainer and its callbacks reference each other
    torch.cuda.empty_cache()


def gib(num_bytes: int) -> float:
    return round(num_bytes / 2**30, 2)


def train(folder: Path, base: Path, *, steps: int) -> tuple[HiggsTrainer, dict[str, Any]]:
    """Train with voice_lora.yaml, but with other paths, few steps and a higher learning rate."""
    recipe = read_yaml("voice_lora.yaml") | {"model_name_or_path": str(base), "model_revision": None}
    recipe |= {"output_dir": str(folder), "max_steps": steps, "logging_steps": steps // 2, "eval_strategy": "no"}
    recipe |= {"save_strategy": "no", "allow_untrained": True, "disable_tqdm": True, "warmup_steps": 0}
    config = SFTConfig(**(recipe | {"hours_seen": None, "learning_rate": 2e-3}))
    torch.cuda.reset_peak_memory_stats()
    model, tokenizer = load_model(config, device="cuda")
    torch.manual_seed(0)
    model = add_lora(model, config)
    trainer = HiggsTrainer(
        model,
        config,
        base=fetch_base(config),
        train_dataset=SampleDataset(rows(NUM_ROWS), tokenizer),
        run_info={"base_model": str(base), "base_fingerprint": base_fingerprint(config), "method": "lora"},
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry][-1]
    names = ("loss", "loss_text", "loss_codebook_0")
    return trainer, {name: round(logged[name], 3) for name in names} | {
        "peak_gib": round(logged["peak_memory_gib"], 2),
        "batch": config.per_device_train_batch_size,
        "accumulation": config.gradient_accumulation_steps,
        "gradient_checkpointing": bool(config.gradient_checkpointing),
        "packed_to": config.pack_to,
    }


def speak(model: nn.Module, tokenizer: Any, *, batch_size: int, temperature: float = 1.0) -> list[Generation]:
    requests = [
        Request(conversation({"text": text}, task="single_speaker_smart_voice"), [], seed)
        for seed, text in enumerate(TEXTS)
    ]
    sampling = SamplingConfig(max_seconds=4.0, batch_size=batch_size, temperature=temperature)
    return generate(model, tokenizer, requests, sampling=sampling)


def share_of_equal_codes(first: list[Generation], second: list[Generation]) -> float:
    """The share of codes that are equal, step by step."""
    pairs = [(a.codes, b.codes[: len(a.codes)]) for a, b in zip(first, second, strict=True)]
    equal = sum(int((a[: len(b)] == b).sum()) for a, b in pairs)
    return round(equal / sum(a.numel() for a, _ in pairs), 4)


def run(folder: Path, report: dict[str, Any]) -> None:
    """Run all steps in `folder` and fill the report."""
    report |= run_environment()
    began = time.perf_counter()
    init = InitConfig(**(read_yaml("init.yaml") | {"output_dir": str(folder), "overwrite_output_dir": True}))
    init.model_config = str(ROOT / init.model_config)
    base, _ = init_checkpoint(init)
    free()
    report["init"] = {"seconds": round(time.perf_counter() - began, 1)}

    began = time.perf_counter()
    model, tokenizer = load_model(ModelConfig(str(base)), device="cuda")
    report["load"] = {
        "seconds": round(time.perf_counter() - began, 1),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "gib": gib(torch.cuda.memory_allocated()),
    }
    base_clips = speak(model, tokenizer, batch_size=8, temperature=0)
    del model

    free()
    trainer, report["train_voice_lora_recipe"] = train(folder / "lora", base, steps=24)
    trainer.save_model()
    trained = {name: weight.cpu() for name, weight in trainer.model.state_dict().items() if "lora" in name}
    del trainer
    free()

    adapted, _ = load_model(ModelConfig(str(base)), adapter=folder / "lora", device="cuda")
    reloaded = {name: weight.cpu() for name, weight in adapted.state_dict().items() if "lora" in name}
    adapted_clips = speak(adapted, tokenizer, batch_size=8, temperature=0)
    single = speak(adapted, tokenizer, batch_size=1)
    batched = speak(adapted, tokenizer, batch_size=8)
    report["adapter"] = {
        "weights_equal_after_reload": all(torch.equal(weight, reloaded[name]) for name, weight in trained.items()),
        "codes_equal_to_base": share_of_equal_codes(base_clips, adapted_clips),
        "codes_of_a_seed_equal_in_batches_of_1_and_8": share_of_equal_codes(single, batched),
    }
    del adapted
    free()
    exact, _ = load_model(ModelConfig(str(base), dtype="float32"), adapter=folder / "lora", device="cuda")
    single = speak(exact, tokenizer, batch_size=1)
    batched = speak(exact, tokenizer, batch_size=8)
    report["adapter"]["same_in_float32"] = share_of_equal_codes(single, batched)
    del exact
    free()

    for dtype in ("bfloat16", "float32"):
        torch.cuda.reset_peak_memory_stats()
        config = MergeConfig(
            model_name_or_path=str(base),
            adapter=str(folder / "lora"),
            dtype=dtype,
            output_dir=str(folder / f"merged_{dtype}"),
            check=True,
        )
        record = merge(config, speak=speak_greedily)
        names = ("max_logit_difference", "mean_logit_difference", "likeliest_codes_equal")
        report[f"merge_{dtype}"] = {name: record[name] for name in names}
        report[f"merge_{dtype}"]["peak_gib"] = gib(torch.cuda.max_memory_allocated())
        free()
        if dtype == "bfloat16":
            merged, loaded = HiggsAudioV2ForConditionalGeneration.from_pretrained(
                config.output_dir, dtype=torch.bfloat16, device_map={"": "cuda"}, output_loading_info=True
            )
            merged_clips = speak(merged, tokenizer, batch_size=8, temperature=0)
            report["merge_bfloat16"]["missing_keys"] = sorted(loaded["missing_keys"])
            report["merge_bfloat16"]["codes_equal_to_adapter"] = share_of_equal_codes(adapted_clips, merged_clips)
            del merged
        shutil.rmtree(config.output_dir)


def main() -> None:
    report: dict[str, Any] = {}
    try:
        with tempfile.TemporaryDirectory() as temporary:
            run(Path(sys.argv[2] if len(sys.argv) > 2 else temporary), report)
    finally:  # keep the results before a failure
        Path(sys.argv[1]).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
