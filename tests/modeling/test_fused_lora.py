"""Fused projections equal those of peft, and modules that cannot be fused run their own forward."""

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from torch import nn

from higgs_recipes.modeling.fused_lora import project_together


WIDTHS = {"q": 24, "k": 8, "v": 16}


class Projections(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for name, width in WIDTHS.items():
            setattr(self, name, nn.Linear(32, width, bias=False))


def adapted(dtype: torch.dtype, targets: list[str], **fields) -> list[nn.Module]:
    torch.manual_seed(0)
    config = LoraConfig(r=4, init_lora_weights=False, target_modules=targets, rank_pattern={"k": 2}, **fields)
    model = get_peft_model(Projections(), config).to(dtype).train()
    return [getattr(model.base_model.model, name) for name in WIDTHS]


def outputs_and_gradients(project, linears: list[nn.Module], dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(50, 32, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    projected = project(linears, states)
    sum((states.double() ** 3).sum() for states in projected).backward()
    weights = [weight for linear in linears for weight in linear.parameters() if weight.requires_grad]
    return [*(states.detach() for states in projected), states.grad, *(weight.grad for weight in weights)]


def project_separately(linears: list[nn.Module], states: torch.Tensor) -> list[torch.Tensor]:
    return [linear(states) for linear in linears]


def num_products(linears: list[nn.Module], states: torch.Tensor) -> int:
    with torch.profiler.profile() as profile:
        project_together(linears, states)
    return sum(event.count for event in profile.key_averages() if event.key in ("aten::mm", "aten::addmm"))


def test_fused_products_equal_those_of_peft():
    linears = [adapted(torch.float64, list(WIDTHS)) for _ in range(2)]
    found, expected = (
        outputs_and_gradients(project, modules, torch.float64)
        for project, modules in zip((project_together, project_separately), linears, strict=True)
    )
    assert len(found) == 3 + 1 + 6
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-9)
    # Three of the base, one with all A, three with B.
    assert num_products(linears[0], torch.randn(5, 32, dtype=torch.float64)) == 7


def test_float32_adapters_under_autocast_are_as_accurate_as_those_of_peft():
    linears = [adapted(torch.float32, list(WIDTHS)) for _ in range(3)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = outputs_and_gradients(project_together, linears[0], torch.bfloat16)
        rounded = outputs_and_gradients(project_separately, linears[1], torch.bfloat16)
        assert num_products(linears[0], torch.randn(5, 32)) == 7
    exact = outputs_and_gradients(project_separately, [linear.double() for linear in linears[2]], torch.float64)
    for one, other, true in zip(found, rounded, exact, strict=True):
        assert one.dtype == other.dtype
        assert (one - true).norm() < 1.2 * (other - true).norm() + 1e-3 * true.norm()


@pytest.mark.parametrize(
    "dtype, targets, fields, products",
    [
        (torch.float32, list(WIDTHS), {}, 9),  # sums keep peft's order
        (torch.float64, ["q", "k"], {}, 7),
        (torch.float64, list(WIDTHS), {"use_dora": True}, None),
        (torch.float64, list(WIDTHS), {"lora_dropout": 0.5}, 9),
    ],
)
def test_other_modules_run_their_own_forward(dtype, targets, fields, products):
    linears, states = adapted(dtype, targets, **fields), torch.randn(50, 32, dtype=dtype)
    torch.manual_seed(2)
    found = project_together(linears, states)
    torch.manual_seed(2)
    for one, other in zip(found, project_separately(linears, states), strict=True):
        assert torch.equal(one, other)
    assert products is None or num_products(linears, states) == products


def test_weights_sharded_by_zero_3_are_not_fused():
    linears = adapted(torch.float64, list(WIDTHS))
    linears[0].lora_A["default"].weight.ds_id = 0  # DeepSpeed sets it on sharded weights
    assert num_products(linears, torch.randn(5, 32, dtype=torch.float64)) == 9


def test_adalora_runs_its_own_forward():
    config = AdaLoraConfig(init_r=4, total_step=10, init_lora_weights=False, target_modules=list(WIDTHS))
    model = get_peft_model(Projections(), config).double()
    linears, states = [getattr(model.base_model.model, name) for name in WIDTHS], torch.randn(50, 32).double()
    for one, other in zip(project_together(linears, states), project_separately(linears, states), strict=True):
        assert torch.equal(one, other)


def test_disabled_and_merged_adapters_add_no_products():
    linears, states = adapted(torch.float64, list(WIDTHS)), torch.randn(50, 32, dtype=torch.float64)
    for linear in linears:
        linear.enable_adapters(False)
    assert num_products(linears, states) == 3
    for linear in linears:
        linear.enable_adapters(True)
        linear.merge()
    assert num_products(linears, states) == 3
