"""The pre-flight check passes only losses below chance in every codebook."""

import logging
import math

import pytest
from accelerate import PartialState

from higgs_recipes.errors import InputError
from higgs_recipes.training.preflight import check_preflight
from tests.helpers.tiny import golden_config


def losses(**changed) -> dict[str, float]:
    return {f"loss_codebook_{k}": 4.0 for k in range(8)} | {"loss_text": 9.0} | changed


@pytest.fixture(autouse=True)
def process_state():
    PartialState(cpu=True)  # the log is that of the main process


def test_losses_below_chance_pass(caplog):
    caplog.set_level(logging.INFO)
    check_preflight(losses(), golden_config(), allow_untrained=False)
    assert "loss by codebook 4.00, 4.00, " in caplog.text and "(chance 6.93)" in caplog.text


@pytest.mark.parametrize("loss", [math.log(1026), 7.5, math.nan])
def test_a_codebook_at_chance_or_nan_is_refused_unless_allowed(loss, caplog):
    message = rf"4.00, {loss:.2f}, 4.00, .* below chance, 6.93, .* set allow_untrained: true"
    with pytest.raises(InputError, match=message):
        check_preflight(losses(loss_codebook_1=loss), golden_config(), allow_untrained=False)
    check_preflight(losses(loss_codebook_1=loss), golden_config(), allow_untrained=True)
    assert "Continuing, because allow_untrained is set" in caplog.text
