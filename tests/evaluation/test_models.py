import json

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.models import load_models
from higgs_recipes.hub.download import Snapshot
from tests.helpers.benchmark_run import RecordingsASRModel, benchmark_config


def test_a_record_that_the_report_cannot_use_is_refused_before_models_load(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("a model was loaded")

    (tmp_path / "run.json").write_text(json.dumps({"method": "lora"}))
    monkeypatch.setattr("higgs_recipes.evaluation.models.fetch_base", lambda config: Snapshot("model", None, tmp_path))
    monkeypatch.setattr("higgs_recipes.evaluation.models.load_asr_model", fail)
    with pytest.raises(InputError, match=r"run.json: field 'steps' is missing"):
        load_models(benchmark_config(tmp_path, dataset="user/texts"))


def test_without_a_speaker_model_none_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("higgs_recipes.evaluation.models.load_asr_model", lambda name, **options: RecordingsASRModel())
    models = load_models(benchmark_config(tmp_path, dataset="user/texts", speaker="no/such"), with_speaker=False)
    assert models.speaker is None and models.run is None
