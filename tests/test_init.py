import pytest

from higgs_recipes.configs import InitConfig
from higgs_recipes.errors import InputError
from higgs_recipes.init import init_checkpoint


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "model.json: no such config; name a JSON file of a HiggsAudioV2Config"),
        ("[", "model.json is not JSON"),
        ('{"model_type": "llama"}', 'model.json: no HiggsAudioV2Config; it must hold "model_type": "higgs_audio_v2"'),
        ('{"model_type": "higgs_audio_v2", "vocab_size": 100}', "model config: the marks .* need ids of their own in"),
    ],
)
def test_a_wrong_model_config_is_refused_and_leaves_no_folder(tmp_path, content, message):
    if content is not None:
        (tmp_path / "model.json").write_text(content)
    with pytest.raises(InputError, match=message):
        init_checkpoint(InitConfig(model_config=str(tmp_path / "model.json"), output_dir=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
