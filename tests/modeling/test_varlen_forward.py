"""The variable-length forward equals transformers' to 1e-5, without host waits, masks or more than one graph."""

import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.distributed import HashStore, destroy_process_group, init_process_group
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import HiggsAudioV2ForConditionalGeneration
from transformers.models.higgs_audio_v2.modeling_higgs_audio_v2 import HiggsAudioV2DecoderLayer

from higgs_recipes.collator import HiggsCollator
from higgs_recipes.errors import InputError
from higgs_recipes.loss import DualFFNLosses, attach_losses, dual_ffn_losses
from higgs_recipes.modeling.nf4 import disable_cpu_repacking, nf4_config
from higgs_recipes.modeling.varlen_forward import attach_varlen_forward, varlen_hidden_states
from higgs_recipes.unwrap import unwrap_model
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.tiny import golden_config, golden_model, golden_samples
from tests.helpers.train_once import make_trainer, trained_weights


CONFIG = golden_config()
LAYOUTS = [None, 127, 256]  # pack_to
# Exists until the interpreter exits.
_FOLDER = tempfile.TemporaryDirectory(prefix="higgs_recipes_tests_")


def text_sample(num_tokens: int) -> dict:
    ids = torch.arange(num_tokens) % 100 + 2
    return {"input_ids": ids, "labels": ids, "codes": [], "supervise": [], "row_index": 9}


def clip_sample(num_steps: int) -> dict:
    """A clip without any text."""
    codes = torch.randint(0, 1024, (num_steps, 8), generator=torch.Generator().manual_seed(num_steps))
    ids = torch.tensor([CONFIG.audio_token_id])
    return {"input_ids": ids, "labels": torch.full((1,), -100), "codes": [codes], "supervise": [True], "row_index": 8}


BATCHES = {
    "clips": golden_samples(),
    "text_only": [text_sample(3), text_sample(20), text_sample(2)],
    "one_clip": [clip_sample(30)],
    "any_length": [clip_sample(1), text_sample(2), *golden_samples(), clip_sample(90), text_sample(40)],
}


def lora_model() -> nn.Module:
    torch.manual_seed(0)
    adapted = get_peft_model(golden_model(), LoraConfig(r=2, init_lora_weights=False, target_modules=r".*_proj"))
    return adapted.train()


@cache
def golden_folder() -> Path:
    golden_model().save_pretrained(_FOLDER.name)
    return Path(_FOLDER.name)


def qlora_model() -> nn.Module:
    model = HiggsAudioV2ForConditionalGeneration.from_pretrained(
        golden_folder(), use_text_head=True, quantization_config=nf4_config(torch.float32), device_map="cpu"
    )
    disable_cpu_repacking(model)
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=2, init_lora_weights=False, target_modules=r".*_proj"))
    return adapted.train()


MODELS = {
    "full": lambda: golden_model().train(),
    "lora": lora_model,
    "lora_float64": lambda: lora_model().double(),  # as in half precision, LoRA products are fused
    "qlora": qlora_model,
}
QLORA = pytest.param("qlora", marks=pytest.mark.slow)  # `make slow_test` installs bitsandbytes
KINDS = ["full", "lora", "lora_float64", QLORA]


def with_varlen(model: nn.Module, *, compiled: bool = False, recompute: bool = False) -> nn.Module:
    attach_varlen_forward(unwrap_model(model), compile_layers=compiled, recompute=recompute)
    attach_losses(unwrap_model(model), compiled=compiled)
    return model


def step(model: nn.Module, samples: list[dict], *, pack_to: int | None, flat: bool) -> DualFFNLosses:
    """Losses of a batch, after the backward pass of their sum."""
    losses = dual_ffn_losses(model, HiggsCollator(CONFIG, pack_to=pack_to, flat=flat)(samples))
    (losses.text_sum + losses.codebook_sums.sum()).backward()
    return losses.detach()


def assert_equal_steps(one: nn.Module, other: nn.Module) -> None:
    """Gradients are equal to 1e-5 of the largest of each tensor."""
    for (name, weight), expected in zip(one.named_parameters(), other.parameters(), strict=True):
        if expected.grad is None:
            assert weight.grad is None, name
        else:
            scale = expected.grad.abs().max().clamp(min=1e-3)
            torch.testing.assert_close(weight.grad / scale, expected.grad / scale, atol=1e-5, rtol=0, msg=name)


def assert_equal_losses(losses: DualFFNLosses, expected: DualFFNLosses) -> None:
    """Compare sums; each has some hundred targets, so 1e-6 of a sum is less than 1e-5 per target."""
    torch.testing.assert_close(losses.pack(), expected.pack(), atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pack_to", LAYOUTS)
@pytest.mark.parametrize("batch", BATCHES)
def test_losses_and_gradients_equal_transformers(batch, pack_to, kind):
    one, other = with_varlen(MODELS[kind]()), MODELS[kind]()
    losses = step(one, BATCHES[batch], pack_to=pack_to, flat=True)
    expected = step(other, BATCHES[batch], pack_to=pack_to, flat=False)
    assert_equal_losses(losses, expected)
    assert_equal_steps(one, other)
    # DDP does not search for unused weights.
    assert all(weight.grad is not None for weight in one.parameters() if weight.requires_grad)


@pytest.mark.parametrize("pack_to", LAYOUTS)
def test_logits_of_both_heads_equal_transformers(pack_to):
    batch = HiggsCollator(CONFIG, pack_to=pack_to, flat=True)(BATCHES["any_length"])
    flat, model = batch.pop("flat"), golden_model()
    inputs = {name: batch[name] for name in batch if name not in ("labels", "audio_labels", "row_index")}
    with torch.no_grad():
        expected = model.model(**inputs, use_cache=False).last_hidden_state  # (B, S, H)
        hidden = varlen_hidden_states(with_varlen(model).model, flat)  # (P, H)
        is_used = batch["input_ids"] != CONFIG.pad_token_id
        for head in (model.audio_lm_head, model.text_lm_head):
            torch.testing.assert_close(head(hidden), head(expected[is_used]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("pack_to", LAYOUTS)
def test_losses_of_a_sample_do_not_depend_on_the_rest_of_the_batch(pack_to):
    model, samples = with_varlen(golden_model()), BATCHES["any_length"]
    together = step(model, samples, pack_to=pack_to, flat=True)
    alone = [step(model, [sample], pack_to=pack_to, flat=True) for sample in samples]
    assert_equal_losses(together, sum(alone[1:], start=alone[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_gives_the_same_gradients_and_runs_layers_twice(kind):
    one, other, calls = with_varlen(MODELS[kind]()), MODELS[kind](), []
    one.gradient_checkpointing_enable({"use_reentrant": False})
    for layer in unwrap_model(one).model.layers:
        layer.mlp.down_proj.register_forward_hook(lambda *_: calls.append(1))
    losses = step(one, golden_samples(), pack_to=256, flat=True)
    assert len(calls) == 2 * CONFIG.num_hidden_layers
    assert_equal_losses(losses, step(other, golden_samples(), pack_to=256, flat=False))
    assert_equal_steps(one, other)


def test_ddp_gives_the_same_gradients():
    one, other = with_varlen(MODELS["full"]()), MODELS["full"]()
    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        losses = step(DistributedDataParallel(one), golden_samples(), pack_to=256, flat=True)
    finally:
        destroy_process_group()
    assert_equal_losses(losses, step(other, golden_samples(), pack_to=256, flat=False))
    assert_equal_steps(one, other)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_sharded_weights_give_the_same_gradients(compiled):
    one, other = with_varlen(MODELS["full"](), compiled=compiled), MODELS["full"]()
    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        for layer in one.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(one, mesh=mesh)
        losses = step(one, golden_samples(), pack_to=256, flat=True)
        gradients = {name: weight.grad.full_tensor() for name, weight in one.named_parameters()}
    finally:
        destroy_process_group()
    assert_equal_losses(losses, step(other, golden_samples(), pack_to=256, flat=False))
    for name, weight in other.named_parameters():
        torch.testing.assert_close(gradients[name], weight.grad, atol=1e-5, rtol=1e-5, msg=name)


def test_bfloat16_is_as_close_to_float32_as_transformers():
    exact = step(golden_model(), golden_samples(), pack_to=256, flat=False)
    distances = {}
    for flat in (True, False):
        losses = step(with_varlen(golden_model().bfloat16()), golden_samples(), pack_to=256, flat=flat)
        assert losses.codebook_sums.dtype == torch.float32
        distances[flat] = (losses.codebook_sums - exact.codebook_sums).abs().max() / exact.codebook_sums.max()
    assert distances[True] < 2 * distances[False] + 1e-4


def test_autocast_losses_equal_transformers():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = step(with_varlen(golden_model()), golden_samples(), pack_to=256, flat=True)
        expected = step(golden_model(), golden_samples(), pack_to=256, flat=False)
    torch.testing.assert_close(losses.codebook_sums, expected.codebook_sums, rtol=2e-3, atol=0)


class WaitRecorder(TorchDispatchMode):
    """Record the operations that make the host wait for the GPU, and the size of the largest boolean tensor."""

    WAITING = ("nonzero", "masked_select", "_local_scalar_dense", "item", "unique", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.largest_mask = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.name().removeprefix("aten::").partition(".")[0]
        by_mask = any(isinstance(arg, (list, tuple)) and _has_mask(arg) for arg in args)
        if name in self.WAITING or (name in ("index", "index_put", "index_put_", "_index_put_impl_") and by_mask):
            self.waits.append(name)
        if isinstance(result, torch.Tensor) and result.dtype == torch.bool:
            self.largest_mask = max(self.largest_mask, result.numel())
        return result


def _has_mask(indices) -> bool:
    return any(isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in indices)


@pytest.mark.parametrize("kind", ["lora", QLORA])
def test_step_has_no_host_waits_and_no_attention_mask(kind):
    recorders = {}
    for flat in (True, False):
        model, batch = (
            with_varlen(MODELS[kind]()),
            HiggsCollator(CONFIG, pack_to=256, flat=flat)(BATCHES["any_length"]),
        )
        with WaitRecorder() as recorders[flat]:
            losses = dual_ffn_losses(model, batch)
            (losses.text_sum + losses.codebook_sums.sum()).backward()
    assert recorders[True].waits == []
    assert recorders[True].largest_mask <= batch["audio_labels"].numel()
    assert recorders[False].waits and recorders[False].largest_mask >= 256 * 256  # the recorder works


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", ["lora", "qlora"])
def test_compiled_layer_has_one_graph_for_all_layers_and_shapes(kind, recompute, monkeypatch):
    counter, compile_function = CompileCounterWithBackend("aot_eager"), torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compile_function(function, backend=counter))
    torch._dynamo.reset()
    one, other = with_varlen(MODELS[kind](), compiled=True, recompute=recompute), MODELS[kind]()
    for names in ([0, 1, 2, 3], [1, 2], [0, 2, 3], [3, 1]):
        samples = [golden_samples()[index] for index in names]
        for model in (one, other):
            model.zero_grad()
        losses = step(one, samples, pack_to=256, flat=True)
        assert_equal_losses(losses, step(other, samples, pack_to=256, flat=False))
        assert_equal_steps(one, other)
        if names == [1, 2]:
            num_graphs = counter.frame_count
    assert counter.frame_count == num_graphs <= 3  # of a layer, of a layer with dynamic shapes, of the heads
    torch._dynamo.reset()


def test_forward_of_the_model_is_unchanged():
    batch = HiggsCollator(CONFIG)(golden_samples())
    inputs = {name: batch[name] for name in batch if name not in ("labels", "audio_labels", "row_index")}
    model = with_varlen(with_varlen(golden_model()))
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, golden_model()(**inputs).logits)
    # FSDP finds the layers by their name, transformers by their class.
    assert all(type(layer).__name__ == "HiggsAudioV2DecoderLayer" for layer in model.model.layers)
    assert all(isinstance(layer, HiggsAudioV2DecoderLayer) for layer in model.model.layers)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_run_ends_with_the_same_weights_in_the_same_files(method, tmp_path):
    weights, files = [], []
    for flag in (True, False):
        folder = tmp_path / str(flag)
        trainer = make_trainer(
            folder, model_folder=tiny_folder() / "model", method=method, max_steps=3, pack_to=400, fast_path=flag
        )
        assert trainer.data_collator.flat is flag
        trainer.train()
        trainer.save_model()
        weights.append(trained_weights(trainer))
        files.append({path.relative_to(folder) for path in Path(folder).rglob("*") if path.is_file()})
    assert files[0] == files[1] and weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], atol=1e-5, rtol=0, msg=name)


def test_model_with_another_attention_is_refused():
    model = golden_model()
    model.config.attention_dropout = 0.1
    with pytest.raises(
        InputError,
        match="attention_dropout 0.1, .* does not support; set fast_path: false",
    ):
        attach_varlen_forward(model)
    model = golden_model()
    model.set_attn_implementation("eager")
    with pytest.raises(InputError, match="attn_implementation sdpa, not eager; set fast_path: false"):
        attach_varlen_forward(model)
