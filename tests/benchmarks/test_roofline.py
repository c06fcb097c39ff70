"""Roofline limits: FLOPs against torch's own count, bytes of a frame against the weights, rates of the device."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from higgs_recipes.benchmarks.roofline import (
    StepWork,
    copy_rate,
    float8_rate,
    frame_bytes,
    matmul_rate,
    training_flops,
)
from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.loss import dual_ffn_losses
from higgs_recipes.modeling.fp8 import use_fp8
from higgs_recipes.samples import SampleDataset
from higgs_recipes.unwrap import unwrap_model
from tests.helpers.checkpoints import build, load_tiny, random_rows, tiny_folder


def one_step(tmp_path, **fields) -> tuple[int, int]:
    """FLOPs of a step of transformers' own forward: counted by torch, and by `training_flops`."""
    config = SFTConfig(
        output_dir=str(tmp_path),
        datasets=["none"],
        model_name_or_path=str(tiny_folder() / "model"),
        dtype="float32",
        report_to="none",
        use_cpu=True,
        **fields,
    )
    model, tokenizer = build(config)
    row = random_rows(1, num_steps=40)[0]
    sample = SampleDataset([row], tokenizer)[0]
    with FlopCounterMode(display=False) as counter:
        losses = dual_ffn_losses(model.train(), HiggsCollator(unwrap_model(model).config)([sample]))
        (losses.text_sum + losses.codebook_sums.sum()).backward()
    # torch does not count attention on a CPU.
    work = StepWork(text=len(sample["input_ids"]) - 1, audio=49, text_labels=3, audio_labels=48, pairs=0)
    return counter.get_total_flops(), training_flops(unwrap_model(model), work).main


def test_flops_of_full_fine_tuning_equal_the_count_of_torch(tmp_path):
    expected, counted = one_step(tmp_path, method="full")
    assert counted == expected


def test_flops_of_an_adapter_are_close_to_the_count_of_torch(tmp_path):
    expected, counted = one_step(tmp_path, lora_targets=["audio_mlp"], lora_r=8)
    # No gradient is needed before the first adapter: in attention of the first layer, and the text's network.
    assert 0.8 * counted < expected < counted
    expected, counted = one_step(tmp_path, lora_targets=["attention"], lora_r=8)
    assert 0.97 * counted < expected < counted


def test_attention_has_two_products_in_the_forward_and_four_in_the_backward_pass():
    model, _ = load_tiny()
    without, with_pairs = (
        training_flops(model, StepWork(text=2, audio=3, text_labels=1, audio_labels=1, pairs=pairs))
        for pairs in (0, 15)
    )
    heads_times_size, layers = 4 * 16, 2
    assert with_pairs.main - without.main == 15 * heads_times_size * 2 * (2 + 4) * layers


def test_flops_of_training_parts_are_between_those_of_none_and_all(tmp_path):
    _, full = one_step(tmp_path, method="full")
    _, audio = one_step(tmp_path, method="full", train_modules=["audio_expert", "audio_head"])
    _, norm = one_step(tmp_path, method="full", train_modules=["final_norm"])
    assert norm < audio < full and 2 * full == 3 * norm


def test_a_frame_reads_the_audio_weights_once_and_the_cache_of_each_stream():
    model, _ = load_tiny()
    text_only = ("embed", ".mlp.", ".input_layernorm", ".post_attention_layernorm", "text_lm_head", "model.norm")
    weights = [
        weight.numel() for name, weight in model.named_parameters() if not any(part in name for part in text_only)
    ]
    assert frame_bytes(model, streams=0, context=100) == 4 * sum(weights)
    # Two layers, a key and a value, 2 heads of 16 numbers, 4 bytes each.
    per_position = 2 * 2 * 2 * 16 * 4
    assert frame_bytes(model, streams=3, context=100) - 4 * sum(weights) == 3 * 100 * per_position


def test_float8_flops_are_counted_separately():
    model, _ = load_tiny()
    model.requires_grad_(False)
    work = StepWork(text=2, audio=3, text_labels=1, audio_labels=2, pairs=15)
    before = training_flops(model, work)
    use_fp8(model, torch.device("cpu"))
    after = training_flops(model, work)
    assert before.float8 == 0 and after.main + after.float8 == before.main
    assert after.float8 == 2 * 2 * sum(
        weight.numel() * (5 if "attn" in name else 3 if "audio" in name else 2)
        for name, weight in load_tiny()[0].named_parameters()
        if "_proj" in name
    )


def test_measured_rates_are_plausible():
    device = torch.device("cpu")
    assert 1e6 < float8_rate(device) < 1e15
    assert 1e8 < matmul_rate(device, torch.float32) < 1e14
    assert 1e8 < copy_rate(device) < 1e13
