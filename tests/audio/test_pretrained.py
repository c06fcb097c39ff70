import builtins
from hashlib import sha256

import pytest
import torch
from transformers import AutoModelForAudioXVector, WavLMModel

from higgs_recipes.audio.asr import PACKAGE_ASR_MODEL, load_asr_model
from higgs_recipes.audio.pretrained import fetch_checkpoint, load_complete_model, resample_for_metrics
from higgs_recipes.audio.speaker import PACKAGE_SPEAKER_MODEL, load_speaker_model
from higgs_recipes.errors import InputError
from higgs_recipes.files import sha256_file
from tests.helpers.tiny_codec import tone
from tests.helpers.wavlm import save_random_wavlm


CPU = torch.device("cpu")


def test_the_revision_of_a_local_checkpoint_is_a_hash_of_its_weights(tmp_path):
    folder = save_random_wavlm(tmp_path / "a")
    digest = sha256(sha256_file(folder / "model.safetensors").encode()).hexdigest()
    assert fetch_checkpoint(str(folder), None, field="speaker") == (folder, f"local@{digest[:16]}")
    _, same = fetch_checkpoint(str(save_random_wavlm(tmp_path / "b")), None, field="speaker")
    assert same == f"local@{digest[:16]}"


def test_a_checkpoint_with_only_a_pickle_is_refused(tmp_path):
    folder = save_random_wavlm(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="no weights in safetensors.*set speaker_revision"):
        load_speaker_model(str(folder), revision=None, device=CPU)


def test_a_checkpoint_without_the_head_is_refused(tmp_path):
    folder = save_random_wavlm(tmp_path, model_class=WavLMModel)
    with pytest.raises(InputError, match="the checkpoint lacks .* weights of WavLMForXVector"):
        load_speaker_model(str(folder), revision=None, device=CPU)


def test_a_complete_model_is_in_float32_and_evaluation_mode(tmp_path):
    folder = save_random_wavlm(tmp_path)
    model = load_complete_model(AutoModelForAudioXVector, folder, name="tiny", field="speaker")
    assert not model.training and {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_resampling_for_metrics_keeps_the_pitch():
    resampled = resample_for_metrics(tone(1.0, hertz=1_000.0).double())
    assert resampled.shape == (16_000,) and resampled.dtype == torch.float32
    assert torch.fft.rfft(resampled).abs().argmax() == 1_000


@pytest.mark.parametrize(
    "module, load",
    [
        ("faster_whisper", lambda: load_asr_model(PACKAGE_ASR_MODEL, revision=None, device=CPU)),
        ("resemblyzer", lambda: load_speaker_model(PACKAGE_SPEAKER_MODEL, revision=None, device=CPU)),
    ],
)
def test_a_missing_package_is_named_with_its_pip_command(monkeypatch, module, load):
    monkeypatch.setattr("importlib.import_module", _without(module))
    with pytest.raises(InputError, match=f"needs the module {module}, which is not installed: pip install"):
        load()


def _without(missing: str):
    def import_module(name: str):
        if name == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return builtins.__import__(name)

    return import_module
