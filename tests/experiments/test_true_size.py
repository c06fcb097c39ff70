"""The pipeline at the published size fits one GPU, and its checkpoints are consistent."""

import pytest

from tests.experiments.true_size import run


@pytest.mark.gpu
def test_pipeline_at_the_published_size(tmp_path):
    report = {}
    run(tmp_path, report)
    assert report["load"]["parameters"] == 5_771_283_456
    assert report["train_voice_lora_recipe"]["peak_gib"] < 16
    assert report["adapter"]["weights_equal_after_reload"]
    assert report["adapter"]["codes_equal_to_base"] < 1.0
    assert report["merge_float32"]["max_logit_difference"] < 1e-3
    assert report["merge_bfloat16"]["missing_keys"] == []
