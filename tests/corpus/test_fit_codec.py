import json

import pytest
import torch

from higgs_recipes.audio.codec import load_codec
from higgs_recipes.audio.mel_rvq import MelRVQModel, quantize
from higgs_recipes.audio.mel_rvq_config import MelRVQConfig
from higgs_recipes.configs.codec import FitCodecConfig
from higgs_recipes.corpus.fit_codec import fit_codec, fit_model, k_means, sample_rows
from higgs_recipes.errors import InputError
from tests.helpers.tiny_codec import CORPUS


def recipe(folder, codec=(), **fields):
    config = {"model_type": "mel_rvq", "num_components": 16, "codebook_size": 32, **dict(codec)}
    folder.mkdir(exist_ok=True)
    (folder / "codec.json").write_text(json.dumps(config))
    fields = {"sources": [str(CORPUS)], "seconds_per_speaker": 20.0, "iterations": 3} | fields
    return FitCodecConfig(codec_config=str(folder / "codec.json"), output_dir=str(folder / "codec"), **fields)


def test_the_same_recipe_gives_the_same_codec(tmp_path):
    records = [fit_codec(recipe(tmp_path / name, speeds=[0.9, 1.1])) for name in ("a", "b")]
    other = fit_codec(recipe(tmp_path / "c", speeds=[0.9, 1.1], seed=1))
    assert records[0]["codec"] == records[1]["codec"] != other["codec"]
    codec = load_codec(tmp_path / "a" / "codec", revision=None, device="cpu")
    assert codec.revision == records[0]["codec"]
    assert codec.encode([torch.randn(960 * 5)])[0].shape == (5, 8)
    record = json.loads((tmp_path / "a" / "codec" / "fit.json").read_text())
    assert record["speakers"].keys() == {"heart", "rms"}
    assert all(20 <= speaker["seconds"] < 24 for speaker in record["speakers"].values())
    by_components, by_all = record["left_over"]
    assert 0 < by_components < by_all < 0.4


def test_each_speaker_has_the_same_amount_of_audio():
    rows = [{"id": index, "speaker": "ab"[index > 2], "seconds": 3.0} for index in range(20)]
    sampled = sample_rows(rows, seconds=9.0, seed=0)
    assert [row["speaker"] for row in sampled] == ["a"] * 3 + ["b"] * 3
    assert sampled == sample_rows(rows, seconds=9.0, seed=0) != sample_rows(rows, seconds=9.0, seed=1)
    # The sample of a speaker does not depend on other speakers.
    assert sample_rows(rows[3:], seconds=9.0, seed=0) == sampled[3:]


def test_refinements_reduce_the_residual():
    torch.manual_seed(0)
    features = torch.randn(400, 20)
    model = MelRVQModel(MelRVQConfig(num_mels=5, num_components=20, codebook_size=16, num_quantizers=3))
    residuals = [fit_model(model, features, iterations=5, refinements=rounds, seed=0)[1] for rounds in (0, 1, 3)]
    assert residuals[0] > residuals[1] > residuals[2]


def test_neighbors_reduce_the_residual_of_slow_features():
    torch.manual_seed(0)
    slow = torch.randn(600, 20).cumsum(dim=0) / 10  # each step is near its neighbors
    model = MelRVQModel(MelRVQConfig(num_mels=5, num_components=20, codebook_size=8, num_quantizers=1, beam=1))
    _, residual_share = fit_model(model, slow, iterations=5, refinements=0, seed=0)
    vectors = (slow - model.mean) @ model.components.T
    _, residual = quantize(vectors, model.codebooks, beam=1)
    assert residual_share < 0.97 * (residual.square().sum() / vectors.square().sum())


def test_more_iterations_of_k_means_reduce_the_error():
    vectors = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    errors = []
    for iterations in (1, 3, 20):
        centers = k_means(vectors, 8, iterations=iterations, generator=torch.Generator().manual_seed(0))
        errors.append(torch.cdist(vectors, centers).min(dim=1).values.square().mean())
    assert errors[0] > errors[1] > errors[2]


def test_an_unused_center_moves_to_a_distant_vector():
    vectors = torch.cat([torch.zeros(300, 2), torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])])
    centers = k_means(vectors, 4, iterations=5, generator=torch.Generator().manual_seed(0))
    assert torch.cdist(vectors, centers).min(dim=1).values.max() < 1e-6


def test_components_equal_those_of_a_singular_value_decomposition():
    torch.manual_seed(0)
    model = MelRVQModel(MelRVQConfig(num_mels=5, num_components=4, codebook_size=16))
    features = torch.randn(500, 20) * torch.linspace(3, 0.1, 20) + 7
    fit_model(model, features, iterations=2, refinements=1, seed=0)
    _, _, axes = torch.linalg.svd(features - features.mean(dim=0), full_matrices=False)
    overlaps = (model.components @ axes[:4].T).abs()
    torch.testing.assert_close(overlaps, torch.eye(4), atol=0.02, rtol=0)
    torch.testing.assert_close(model.mean, features.mean(dim=0), atol=0.01, rtol=0)


def test_too_little_audio_is_refused(tmp_path):
    config = recipe(tmp_path, codec={"codebook_size": 4096})
    with pytest.raises(InputError, match=r"steps of audio, need at least 4096, better 50 times as many: add sources"):
        fit_codec(config)


def test_an_invalid_codec_config_is_refused(tmp_path):
    with pytest.raises(InputError, match="16000 Hz in hops of 960, need 24000 and 960"):
        fit_codec(recipe(tmp_path, codec={"sample_rate": 16_000}))
    with pytest.raises(InputError, match='must contain "model_type": "mel_rvq"'):
        fit_codec(recipe(tmp_path, codec={"model_type": "dac"}))
    with pytest.raises(
        InputError, match=r"codec.json: hop_length \(960\) must be a multiple of frames_per_step \(7\)"
    ):
        fit_codec(recipe(tmp_path, codec={"frames_per_step": 7}))
