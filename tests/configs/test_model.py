import pytest

from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.configs.inference import EvaluateConfig, GenerateConfig, MergeConfig
from higgs_recipes.configs.model import CodecConfig, HubConfig, ModelConfig
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.errors import InputError
from tests.helpers.configs import make


@pytest.mark.parametrize("config_class", [ModelConfig, SFTConfig, GenerateConfig, EvaluateConfig, MergeConfig])
def test_only_the_default_base_model_is_pinned(config_class):
    assert make(config_class).model_revision == "d80c511612b3040ff2877ce3d408747df1739f11"
    assert make(config_class, model_revision="main").model_revision == "main"
    assert make(config_class, model_name_or_path="me/other").model_revision is None


@pytest.mark.parametrize("config_class", [CodecConfig, EncodeConfig, SFTConfig, GenerateConfig, EvaluateConfig])
def test_only_the_default_codec_is_pinned(config_class):
    assert make(config_class).codec_revision == "403fbacf2f60caaa102f893fdfabb694619b2417"
    assert make(config_class, codec_revision="main").codec_revision == "main"
    assert make(config_class, codec_name_or_path="outputs/codec").codec_revision is None


def test_nothing_is_pushed_by_default_and_repositories_are_private():
    assert not HubConfig().push_to_hub and HubConfig().hub_private_repo
    assert make(SFTConfig).hub_private_repo and not make(SFTConfig).push_to_hub


def test_load_in_4bit_needs_bitsandbytes(monkeypatch):
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda name: None)
    message = "load_in_4bit needs a package that is not installed: pip install bitsandbytes"
    for config_class in (ModelConfig, SFTConfig):
        with pytest.raises(InputError, match=message):
            make(config_class, load_in_4bit=True)
