"""Full fine-tuning of `train_modules`: they change, the rest stays bit-equal, and checkpoints are complete models."""

import gc
import re
import weakref

import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin
from safetensors.torch import load_file
from torch.distributed import HashStore, destroy_process_group, init_process_group
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from higgs_recipes.collator import HiggsCollator
from higgs_recipes.configs.finetuning import TRAIN_MODULES
from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.loss import attach_losses, dual_ffn_losses
from higgs_recipes.modeling.model import load_model
from higgs_recipes.modeling.varlen_forward import attach_varlen_forward
from higgs_recipes.samples import SampleDataset
from higgs_recipes.training.fsdp import keep_float32_outputs
from higgs_recipes.training.trainer import HiggsTrainer
from tests.helpers.checkpoints import build, load_tiny, random_rows, tiny_folder
from tests.helpers.train_once import make_trainer


AUDIO_SIDE = ["audio_expert", "audio_embedding", "audio_head"]


def trainer_of(folder, **fields) -> HiggsTrainer:
    fields = {"per_device_train_batch_size": 4, "pack_to": 400} | fields
    return make_trainer(folder, model_folder=tiny_folder() / "model", **fields)


def base_weights() -> dict[str, torch.Tensor]:
    return load_file(tiny_folder() / "model" / "model.safetensors")


def test_each_weight_belongs_to_exactly_one_part():
    for name, _ in load_tiny()[0].named_parameters():
        assert len([part for part, pattern in TRAIN_MODULES.items() if re.search(pattern, name)]) == 1, name


@pytest.mark.parametrize("parts", [*([part] for part in TRAIN_MODULES), AUDIO_SIDE], ids="+".join)
@pytest.mark.parametrize("fast_path", [True, False], ids=["varlen", "original"])
def test_named_parts_change_and_the_others_stay_bit_equal(parts, fast_path, tmp_path):
    trainer = trainer_of(tmp_path, train_modules=parts, fast_path=fast_path)
    trainer.train()
    before = base_weights()
    changed = {name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, before[name])}
    assert changed == {name for name in before if any(re.search(TRAIN_MODULES[part], name) for part in parts)}


def test_all_forwards_give_the_same_update(tmp_path):
    weights = []
    for name, fields in {
        "original": {"fast_path": False},
        "varlen": {},
        "varlen_checkpointed": {"gradient_checkpointing": True},
        "original_checkpointed": {"fast_path": False, "gradient_checkpointing": True},
    }.items():
        trainer = trainer_of(tmp_path / name, train_modules=["audio_expert"], **fields)
        trainer.train()
        weights.append(dict(trainer.model.named_parameters()))
    for other in weights[1:]:
        for name, weight in weights[0].items():
            torch.testing.assert_close(other[name], weight, atol=1e-5, rtol=1e-5, msg=name)


def test_trained_parts_are_float32_with_a_frozen_bfloat16_rest_and_are_saved_so(tmp_path):
    fields = {"train_modules": AUDIO_SIDE, "dtype": "bfloat16", "bf16": True, "optim": "adamw_torch"}
    fields |= {"max_steps": 4, "learning_rate": 1e-3, "save_strategy": "steps", "save_steps": 2}
    uninterrupted = trainer_of(tmp_path / "uninterrupted", **fields)
    trained = {name for name, weight in uninterrupted.model.named_parameters() if weight.requires_grad}
    for name, weight in uninterrupted.model.named_parameters():
        assert weight.dtype == (torch.float32 if name in trained else torch.bfloat16), name
    uninterrupted.train()
    uninterrupted.save_model()
    assert all(entry["loss"] < 20 for entry in uninterrupted.state.log_history if "loss" in entry)

    resumed = trainer_of(tmp_path / "resumed", **fields)
    resumed.train(resume_from_checkpoint=str(tmp_path / "uninterrupted/checkpoint-2"))
    saved, before = load_file(tmp_path / "uninterrupted/model.safetensors"), base_weights()
    for name, weight in resumed.model.named_parameters():
        assert torch.equal(weight, saved[name]), name
        assert torch.equal(weight, before[name].bfloat16()) is (name not in trained), name

    loaded, _ = load_model(ModelConfig(str(tmp_path / "uninterrupted"), dtype="bfloat16"))
    for name, weight in loaded.named_parameters():
        assert torch.equal(weight, saved[name].bfloat16()), name


@pytest.mark.parametrize("flat", [True, False], ids=["varlen", "original"])
def test_fsdp_gathers_float32_weights_in_bfloat16_and_frees_the_unsharded_copy(flat):
    fields = {"method": "full", "dtype": "bfloat16", "bf16": True, "datasets": ["none"], "report_to": "none"}
    config = SFTConfig(model_name_or_path=str(tiny_folder() / "model"), output_dir="unused", use_cpu=True, **fields)
    model, tokenizer = build(config)
    if flat:
        attach_varlen_forward(model, compile_layers=False)
    attach_losses(model, compiled=False)
    unsharded = weakref.ref(model.model.embed_tokens.weight)
    rows = SampleDataset(random_rows(4), tokenizer)
    batch = HiggsCollator(model.config, flat=flat)([rows[index] for index in range(4)])

    def losses() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = dual_ffn_losses(model, batch)
        (found.text_sum + found.codebook_sums.sum()).backward()
        return found.codebook_sums.detach() / found.codebook_counts

    expected = losses()
    model.zero_grad()
    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        mesh, plugin = init_device_mesh("cpu", (1,)), FullyShardedDataParallelPlugin(fsdp_version=2)
        plugin.set_mixed_precision("bf16")  # as accelerate does
        keep_float32_outputs(plugin)
        # The text embedding is a unit of its own, so that its weight is resharded before audio is embedded.
        tail = [module for module in (model.model.norm, model.get_output_embeddings()) if module is not None]
        for part in (*model.model.layers, model.get_input_embeddings(), tail, model):
            fully_shard(part, mesh=mesh, mp_policy=plugin.mixed_precision_policy)
        found = losses()
        gc.collect()
        assert unsharded() is None
    finally:
        destroy_process_group()
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0)  # both are float32 sums
