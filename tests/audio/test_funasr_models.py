import sys

import pytest
import torch

from higgs_recipes.audio.asr import load_asr_model
from higgs_recipes.audio.funasr_models import EmotionModel, Paraformer
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from tests.helpers.fake_funasr import fake_funasr, save_checkpoint
from tests.helpers.hub_server import HubServer, run_python


CPU = torch.device("cpu")
CLIP = 0.1 * torch.sin(torch.arange(SAMPLE_RATE) / 20)


@pytest.fixture
def funasr(monkeypatch):
    module = fake_funasr()
    monkeypatch.setitem(sys.modules, "funasr", module)
    return module


def test_paraformer_transcribes_chinese_clips(funasr, tmp_path):
    model = load_asr_model(f"funasr:{save_checkpoint(tmp_path / 'zh')}", revision=None, device=CPU)
    assert isinstance(model, Paraformer)
    assert model.transcribe([CLIP, torch.empty(0)], language="zh") == ["今 天 天 氣 很 好", ""]
    assert model.revision.startswith("local@") and model.spelling is None
    (options,) = funasr.AutoModel.made
    assert options["model"] == str(tmp_path / "zh") and options["device"] == "cpu"
    assert options["trust_remote_code"] is False and options["disable_update"] is True
    with pytest.raises(InputError, match="supports Chinese only: 'en'"):
        model.check_language("en")
    with pytest.raises(InputError, match="has no word times"):
        model.timed_words([CLIP], language="zh")


def test_an_emotion_embedding_is_a_unit_vector(funasr, tmp_path):
    model = EmotionModel(f"funasr:{save_checkpoint(tmp_path / 'emotion-large')}", revision=None, device=CPU)
    embedding, short = model.embed([CLIP, CLIP[:100]])
    torch.testing.assert_close(embedding.norm(), torch.tensor(1.0))
    assert short is None and model.score_name == "sim_emotion_large"


def test_a_missing_funasr_is_named_before_anything_is_fetched(monkeypatch):
    monkeypatch.setitem(sys.modules, "funasr", None)
    with pytest.raises(InputError, match="asr funasr:paraformer-zh needs the module funasr, .*: pip install 'funasr"):
        load_asr_model("funasr:paraformer-zh", revision=None, device=CPU)


def test_weights_that_run_code_are_not_opened(funasr, tmp_path):
    folder = save_checkpoint(tmp_path / "zh")
    torch.save({"weight": print}, folder / "model.pt")
    with pytest.raises(InputError, match="model.pt is not a checkpoint of tensors, and is not opened"):
        load_asr_model(f"funasr:{folder}", revision=None, device=CPU)
    (folder / "model.pt").unlink()
    with pytest.raises(InputError, match="no model.pt in"):
        load_asr_model(f"funasr:{folder}", revision=None, device=CPU)
    assert funasr.AutoModel.made == []


def test_a_model_of_the_hub_is_fetched_by_its_short_name(tmp_path):
    folder = save_checkpoint(tmp_path / "files")
    files = {path.name: path.read_bytes() for path in folder.iterdir()} | {"model.py": b"raise SystemExit"}
    script = """
import sys, torch
from tests.helpers.fake_funasr import fake_funasr

sys.modules["funasr"] = fake_funasr()
from higgs_recipes.audio.asr import load_asr_model

model = load_asr_model("funasr:paraformer-zh", revision=None, device=torch.device("cpu"))
folder = sys.modules["funasr"].AutoModel.made[0]["model"]
import os
print(model.revision, *sorted(os.listdir(folder)))
"""
    with HubServer(tmp_path / "hub") as hub:
        head = hub.add_repo("funasr/paraformer-zh", files).head
        printed = run_python(script, hub.env())
    assert printed.split() == [head, "config.yaml", "model.pt"]
