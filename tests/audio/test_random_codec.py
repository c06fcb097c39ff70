import json

import pytest
import torch

from higgs_recipes.audio.codec import load_codec
from higgs_recipes.audio.random_codec import init_codec, synthetic_audio
from higgs_recipes.constants import HOP
from higgs_recipes.errors import InputError
from tests.helpers.paths import DATA


@pytest.fixture
def small_config(tmp_path):
    config = json.loads((DATA / "random_tiny/codec.json").read_text()) | {"codebook_size": 16}
    (tmp_path / "codec.json").write_text(json.dumps(config))
    return tmp_path / "codec.json"


def test_equal_seeds_give_equal_codecs_and_other_seeds_do_not(tmp_path, small_config):
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        init_codec(small_config, seed=seed, output_dir=tmp_path / name)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_a_random_codec_uses_all_codebooks_and_decodes_at_a_fixed_level(tmp_path, small_config):
    init_codec(small_config, seed=0, output_dir=tmp_path / "codec")
    codec = load_codec(tmp_path / "codec", revision=None, device="cpu")
    (waveform,) = synthetic_audio(1, num_steps=100)
    (codes,) = codec.encode([waveform])
    assert all(len(codes[:, codebook].unique()) > 4 for codebook in range(codec.num_codebooks))
    (decoded,) = codec.decode([codes])
    assert 0.01 < decoded.square().mean().sqrt() < 0.25


def test_synthetic_clips_differ_and_are_within_full_scale_most_of_the_time():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clips = synthetic_audio(3, num_steps=30)
    assert clips.shape == (3, 30 * HOP) and not torch.equal(clips[0], clips[1])
    assert 0.01 < clips.square().mean().sqrt() < 0.5


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "codec.json: no such"),
        ("[", "codec.json is not JSON"),
        ("[]", "codec.json .* a list, not a "),
        ("{}", 'codec.json: .* "model_type": "higgs_audio_v2_tokenizer"'),
    ],
)
def test_a_wrong_codec_config_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "codec.json").write_text(content)
    with pytest.raises(InputError, match=message):
        init_codec(tmp_path / "codec.json", seed=0, output_dir=tmp_path / "codec")
