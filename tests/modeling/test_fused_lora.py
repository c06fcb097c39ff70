"""Adapters that read the same states: peft's numbers by one product, and peft's own way where it cannot be one."""

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


def each_alone(linears: list[nn.Module], states: torch.Tensor) -> list[torch.Tensor]:
    return [linear(states) for linear in linears]


def num_products(linears: list[nn.Module], states: torch.Tensor) -> int:
    with torch.profiler.profile() as profile:
        project_together(linears, states)
    return sum(event.count for event in profile.key_averages() if event.key in ("aten::mm", "aten::addmm"))


def test_one_product_gives_what_peft_gives():
    linears = [adapted(torch.float64, list(WIDTHS)) for _ in range(2)]
    found, expected = (
        outputs_and_gradients(project, those, torch.float64)
        for project, those in zip((project_together, each_alone), linears, strict=True)
    )
    assert len(found) == 3 + 1 + 6
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-9)
    # The base's three, the adapters' one A and three B.
    assert num_products(linears[0], torch.randn(5, 32, dtype=torch.float64)) == 7


def test_under_autocast_float32_adapters_are_as_near_as_peft_s_own():
    linears = [adapted(torch.float32, list(WIDTHS)) for _ in range(3)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = outputs_and_gradients(project_together, linears[0], torch.bfloat16)
        rounded = outputs_and_gradients(each_alone, linears[1], torch.bfloat16)
        assert num_products(linears[0], torch.randn(5, 32)) == 7
    exact = outputs_and_gradients(each_alone, [linear.double() for linear in linears[2]], torch.float64)
    for one, other, true in zip(found, rounded, exact, strict=True):
        assert one.dtype == other.dtype
        assert (one - true).norm() < 1.2 * (other - true).norm() + 1e-3 * true.norm()


@pytest.mark.parametrize(
    "dtype, targets, fields, products",
    [
        (torch.float32, list(WIDTHS), {}, 9),  # where sums stay in peft's order
        (torch.float64, ["q", "k"], {}, 7),
        (torch.float64, list(WIDTHS), {"use_dora": True}, None),
        (torch.float64, list(WIDTHS), {"lora_dropout": 0.5}, 9),
    ],
)
def test_other_modules_go_their_own_way(dtype, targets, fields, products):
    linears, states = adapted(dtype, targets, **fields), torch.randn(50, 32, dtype=dtype)
    torch.manual_seed(2)
    found = project_together(linears, states)
    torch.manual_seed(2)
    for one, other in zip(found, each_alone(linears, states), strict=True):
        assert torch.equal(one, other)
    assert products is None or num_products(linears, states) == products


def test_weights_that_zero_3_gathers_are_left_to_the_modules_that_it_watches():
    linears = adapted(torch.float64, list(WIDTHS))
    linears[0].lora_A["default"].weight.ds_id = 0  # as DeepSpeed marks what it shares out
    assert num_products(linears, torch.randn(5, 32, dtype=torch.float64)) == 9


def test_adalora_goes_its_own_way():
    config = AdaLoraConfig(init_r=4, total_step=10, init_lora_weights=False, target_modules=list(WIDTHS))
    model = get_peft_model(Projections(), config).double()
    linears, states = [getattr(model.base_model.model, name) for name in WIDTHS], torch.randn(50, 32).double()
    for one, other in zip(project_together(linears, states), each_alone(linears, states), strict=True):
        assert torch.equal(one, other)


def test_adapters_that_are_off_or_merged_add_nothing():
    linears, states = adapted(torch.float64, list(WIDTHS)), torch.randn(50, 32, dtype=torch.float64)
    for linear in linears:
        linear.enable_adapters(False)
    assert num_products(linears, states) == 3
    for linear in linears:
        linear.enable_adapters(True)
        linear.merge()
    assert num_products(linears, states) == 3
