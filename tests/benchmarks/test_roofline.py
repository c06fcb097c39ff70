"""The counted work against torch's own count of what was multiplied, and the bytes of a frame against the weights."""

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
    """Operations of a step on transformers' own forward: those that torch saw, and those that we say are needed."""
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
    # torch does not count the attention of a CPU.
    work = StepWork(text=len(sample["input_ids"]) - 1, audio=49, text_labels=3, audio_labels=48, pairs=0)
    return counter.get_total_flops(), training_flops(unwrap_model(model), work).main


def test_the_counted_work_of_training_all_is_what_torch_counts(tmp_path):
    seen, counted = one_step(tmp_path, method="full")
    assert seen == counted


def test_the_counted_work_under_an_adapter_is_what_torch_counts(tmp_path):
    seen, counted = one_step(tmp_path, lora_targets=["audio_mlp"], lora_r=8)
    # Below the first adapter nothing needs a gradient: attention of the first layer, and the text's network.
    assert 0.8 * counted < seen < counted
    seen, counted = one_step(tmp_path, lora_targets=["attention"], lora_r=8)
    assert 0.97 * counted < seen < counted


def test_attention_is_counted_as_four_products_of_the_pairs_and_half_as_many_in_the_forward_pass():
    model, _ = load_tiny()
    without, with_pairs = (
        training_flops(model, StepWork(text=2, audio=3, text_labels=1, audio_labels=1, pairs=pairs))
        for pairs in (0, 15)
    )
    heads_times_size, layers = 4 * 16, 2
    assert with_pairs.main - without.main == 15 * heads_times_size * 2 * (2 + 4) * layers


def test_training_one_part_of_the_model_is_less_work_than_training_all_and_more_than_none(tmp_path):
    _, all_of_it = one_step(tmp_path, method="full")
    _, audio = one_step(tmp_path, method="full", train_modules=["audio_expert", "audio_head"])
    _, norm = one_step(tmp_path, method="full", train_modules=["final_norm"])
    assert norm < audio < all_of_it and 2 * all_of_it == 3 * norm


def test_a_frame_reads_the_audio_weights_once_and_the_cache_of_each_stream():
    model, _ = load_tiny()
    of_text = ("embed", ".mlp.", ".input_layernorm", ".post_attention_layernorm", "text_lm_head", "model.norm")
    weights = [
        weight.numel() for name, weight in model.named_parameters() if not any(part in name for part in of_text)
    ]
    assert frame_bytes(model, streams=0, context=100) == 4 * sum(weights)
    # Two layers, a key and a value of 2 heads of 16 numbers of 4 bytes.
    per_position = 2 * 2 * 2 * 16 * 4
    assert frame_bytes(model, streams=3, context=100) - 4 * sum(weights) == 3 * 100 * per_position


def test_what_is_multiplied_in_float8_is_the_same_work_counted_apart():
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


def test_rates_are_those_of_a_computer():
    device = torch.device("cpu")
    assert 1e6 < float8_rate(device) < 1e15
    assert 1e8 < matmul_rate(device, torch.float32) < 1e14
    assert 1e8 < copy_rate(device) < 1e13
