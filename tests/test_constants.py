"""The constants are those of the published model and codec."""

import json
import math

from higgs_recipes import constants
from tests.helpers.paths import ROOT


def test_constants_equal_the_configs_of_the_published_model_and_codec():
    model = json.loads((ROOT / "recipes/higgs-3b/model.json").read_text(encoding="utf-8"))
    codec = json.loads((ROOT / "recipes/higgs-3b/codec.json").read_text(encoding="utf-8"))
    assert model["num_codebooks"] == constants.NUM_CODEBOOKS
    assert model["codebook_size"] == constants.EOS_CODE + 1 == constants.BOS_CODE + 2
    assert codec["sample_rate"] == constants.SAMPLE_RATE
    assert math.prod(codec["acoustic_model_config"]["downsampling_ratios"]) == constants.HOP
    assert constants.FRAMES_PER_SECOND * constants.HOP == constants.SAMPLE_RATE
