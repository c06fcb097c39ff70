"""The loss equals the reference to 1e-5, for every layout of the batch and every wrapper of the model."""

import inspect
from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch.distributed import HashStore, destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel
from transformers import HiggsAudioV2ForConditionalGeneration

from higgs_recipes.collator import HiggsCollator
from higgs_recipes.constants import EOS_CODE, IGNORE_INDEX
from higgs_recipes.loss import DualFFNLosses, dual_ffn_losses, label_counts
from tests.helpers.tiny import golden_config, golden_model, golden_samples, golden_tensors


CONFIG = golden_config()
LAYOUTS = [None, 127, 256]  # pack_to


@pytest.fixture(scope="module")
def model():
    return golden_model()


@pytest.fixture(scope="module")
def single_losses(model) -> list[DualFFNLosses]:
    """The losses of each sample, in a batch of one."""
    with torch.no_grad():
        return [dual_ffn_losses(model, HiggsCollator(CONFIG)([sample])) for sample in golden_samples()]


def golden(index: int, name: str) -> torch.Tensor:
    return golden_tensors()[f"sample{index}.{name}"]


def assert_equal(losses: DualFFNLosses, expected: DualFFNLosses, *, atol: float = 1e-4) -> None:
    """Compare sums; each has about 100 targets, so 1e-4 is 1e-6 per target."""
    for field in fields(DualFFNLosses):
        torch.testing.assert_close(
            getattr(losses, field.name), getattr(expected, field.name), atol=atol, rtol=1e-6, msg=field.name
        )


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("pack_to", LAYOUTS)
def test_losses_equal_the_reference(index, pack_to, model):
    with torch.no_grad():
        losses = dual_ffn_losses(model, HiggsCollator(CONFIG, pack_to=pack_to)(golden_samples()[index : index + 1]))
    text_loss, codebook_losses = golden(index, "text_loss"), golden(index, "codebook_losses")
    torch.testing.assert_close(losses.text_sum / losses.text_count, text_loss[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(losses.codebook_sums / losses.codebook_counts, codebook_losses, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pack_to", LAYOUTS)
def test_losses_of_a_sample_do_not_depend_on_the_rest_of_the_batch(pack_to, model, single_losses):
    with torch.no_grad():
        together = dual_ffn_losses(model, HiggsCollator(CONFIG, pack_to=pack_to)(golden_samples()))
    assert_equal(together, single_losses[0] + single_losses[1] + single_losses[2] + single_losses[3])


def test_sums_counts_and_hits_equal_a_slow_computation(model, single_losses):
    tensors, batch = golden_tensors(), HiggsCollator(CONFIG)([golden_samples()[1]])
    logits, targets = tensors["sample1.audio_logits"], batch["audio_labels"][0]  # (F, C, V), (F, C)
    sums, counts, hits = torch.zeros(8), torch.zeros(8, dtype=torch.long), torch.zeros(8, dtype=torch.long)
    eos_sum, eos_count, eos_hits = torch.tensor(0.0), 0, 0
    for frame in range(len(targets) - 1):
        for k in range(8):
            target = targets[frame + 1, k]
            if target == IGNORE_INDEX:
                continue
            loss, hit = F.cross_entropy(logits[frame, k], target), int(logits[frame, k].argmax() == target)
            sums[k], counts[k], hits[k] = sums[k] + loss, counts[k] + 1, hits[k] + hit
            if target == EOS_CODE:
                eos_sum, eos_count, eos_hits = eos_sum + loss, eos_count + 1, eos_hits + hit
    labels = batch["labels"][0, 1:]
    text_losses = F.cross_entropy(tensors["sample1.text_logits"][:-1], labels, reduction="none")
    expected = DualFFNLosses(
        text_sum=text_losses.sum(),
        text_count=(labels != IGNORE_INDEX).sum(),
        codebook_sums=sums,
        codebook_counts=counts,
        codebook_hits=hits,
        eos_sum=eos_sum,
        eos_count=torch.tensor(eos_count),
        eos_hits=torch.tensor(eos_hits),
    )
    assert_equal(single_losses[1], expected, atol=1e-3)


def test_each_codebook_counts_its_steps_and_one_eos(single_losses):
    for losses, sample in zip(single_losses, golden_samples(), strict=True):
        supervised = len(sample["codes"][-1])  # the reference clip before it has no targets
        assert losses.codebook_counts.tolist() == [supervised + 1] * 8
        assert int(losses.eos_count) == 8
        assert int(losses.text_count) == 3


@pytest.mark.parametrize("pack_to", LAYOUTS)
def test_label_counts_equal_the_counts_of_the_losses(pack_to, model):
    batch = HiggsCollator(CONFIG, pack_to=pack_to)(golden_samples())
    text_count, codebook_counts = label_counts(batch)
    with torch.no_grad():
        losses = dual_ffn_losses(model, batch)
    assert torch.equal(losses.text_count, text_count)
    assert torch.equal(losses.codebook_counts, codebook_counts)


def test_reference_clip_has_no_loss_but_is_input(model, single_losses):
    sample = golden_samples()[1]
    sample["codes"][0] = (sample["codes"][0] + 1) % 1024
    with torch.no_grad():
        losses = dual_ffn_losses(model, HiggsCollator(CONFIG)([sample]))
    assert torch.equal(losses.codebook_counts, single_losses[1].codebook_counts)
    assert not torch.allclose(losses.codebook_sums, single_losses[1].codebook_sums)


def test_batch_without_targets_has_zero_loss_and_gradients():
    model, sample = golden_model(), golden_samples()[0]
    sample |= {"supervise": [False], "labels": torch.full_like(sample["labels"], IGNORE_INDEX)}
    losses = dual_ffn_losses(model, HiggsCollator(CONFIG)([sample]))
    assert int(losses.text_count) == 0 and losses.codebook_counts.tolist() == [0] * 8
    (losses.text_sum + losses.codebook_sums.sum()).backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_unpack_inverts_pack(single_losses):
    vector = single_losses[0].pack()
    assert vector.dtype == torch.float64 and vector.shape == (5 + 3 * 8,)
    assert_equal(
        single_losses[1].unpack(vector + single_losses[1].pack()), _doubled(single_losses[0] + single_losses[1])
    )


def _doubled(losses: DualFFNLosses) -> DualFFNLosses:
    return DualFFNLosses(**{field.name: getattr(losses, field.name).double() for field in fields(losses)})


def test_ddp_gives_the_same_losses_and_gradients():
    batch = HiggsCollator(CONFIG)(golden_samples())
    bare, wrapped = golden_model(), golden_model()
    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        ddp = DistributedDataParallel(wrapped)
        losses, expected = dual_ffn_losses(ddp, batch), dual_ffn_losses(bare, batch)
        assert_equal(losses.detach(), expected.detach(), atol=0)
        (losses.text_sum + losses.codebook_sums.sum()).backward()
        (expected.text_sum + expected.codebook_sums.sum()).backward()
    finally:
        destroy_process_group()
    for (name, parameter), other in zip(wrapped.named_parameters(), bare.parameters(), strict=True):
        assert torch.equal(parameter.grad, other.grad), name


def test_untrained_adapter_gives_the_same_losses(single_losses):
    adapted = get_peft_model(golden_model(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    batch = HiggsCollator(CONFIG)([golden_samples()[1]])
    losses = dual_ffn_losses(adapted, batch)
    assert_equal(losses.detach(), single_losses[1], atol=1e-5)
    (losses.text_sum + losses.codebook_sums.sum()).backward()
    grads = {name: p.grad for name, p in adapted.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in grads) and any(grad.any() for grad in grads.values())


def test_half_precision_is_summed_in_float32():
    losses = dual_ffn_losses(golden_model().bfloat16(), HiggsCollator(CONFIG)(golden_samples()))
    assert losses.codebook_sums.dtype == losses.text_sum.dtype == torch.float32


def test_forward_of_the_model_is_unchanged(model, single_losses):
    batch = HiggsCollator(CONFIG)([golden_samples()[1]])
    inputs = {name: batch[name] for name in batch if name not in ("labels", "audio_labels", "row_index")}
    with torch.no_grad():
        logits = model(**inputs).logits
        assert torch.equal(logits, golden_model()(**inputs).logits)
    assert "output_losses" in inspect.signature(model.forward).parameters  # `single_losses` has attached them


def test_model_without_a_text_head_is_refused():
    headless = HiggsAudioV2ForConditionalGeneration(CONFIG)
    with pytest.raises(ValueError, match="no text head: build it with use_text_head=True"):
        dual_ffn_losses(headless, HiggsCollator(CONFIG)(golden_samples()))
