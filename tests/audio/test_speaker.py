import pytest
import torch

from higgs_recipes.audio.pretrained import resample_for_metrics
from higgs_recipes.audio.speaker import (
    PICKLE_SHA256,
    SEED_TTS_SCORE,
    load_published_pickle,
    load_speaker_model,
)
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.files import sha256_file
from tests.helpers.golden_wavlm import figures, golden_weights, metadata, save_golden_pickle, save_golden_port
from tests.helpers.two_voices import corpus_rows, recording
from tests.helpers.wavlm import save_random_wavlm
from tests.helpers.whisper import save_random_whisper


CPU = torch.device("cpu")


def load(folder):
    return load_speaker_model(str(folder), revision=None, device=CPU)


def test_resemblyzer_separates_two_voices(resemblyzer):
    speakers = [row["speaker"] for row in corpus_rows()[:8]]
    voices = torch.stack(resemblyzer.embed([recording(index) for index in range(8)]))  # (8, 256)
    torch.testing.assert_close(voices.norm(dim=1), torch.ones(8))
    cosines = voices @ voices.T
    is_same = torch.tensor([[one == other for other in speakers] for one in speakers])
    is_pair = ~torch.eye(8, dtype=torch.bool)
    assert cosines[is_same & is_pair].min() > cosines[~is_same].max()
    assert resemblyzer.score_name == "ge2e_cosine"


def test_a_clip_without_voice_has_no_embedding(resemblyzer, tmp_path):
    clips = [torch.empty(0), torch.zeros(SAMPLE_RATE), recording(0)[: SAMPLE_RATE // 4]]
    assert resemblyzer.embed(clips) == [None] * 3
    assert load(save_random_wavlm(tmp_path)).embed(clips) == [None] * 3


def test_an_xvector_checkpoint_embeds_each_clip_by_itself(tmp_path):
    speaker_model = load(save_random_wavlm(tmp_path / "wavlm-tiny-sv"))
    clips = [recording(0), recording(1)]
    first, second = speaker_model.embed(clips)
    assert first.shape == (8,) and not torch.equal(first, second)
    torch.testing.assert_close(first.norm(), torch.tensor(1.0))
    torch.testing.assert_close(speaker_model.embed(clips[1:])[0], second)
    assert speaker_model.score_name == "sim_wavlm_tiny_sv"


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    folder = save_random_whisper(tmp_path / "whisper", is_multilingual=True)
    with pytest.raises(InputError, match="speaker .*whisper: AutoModelForAudioXVector cannot load it"):
        load(folder)


@pytest.mark.parametrize("renamed", [True, False])
def test_a_port_of_the_seed_tts_speaker_model_gives_the_golden_cosines(tmp_path, renamed):
    speaker_model = load_speaker_model(
        str(save_golden_port(tmp_path / "port", renamed=renamed)), revision=None, device=CPU
    )
    clips = [figures()[f"waveform.{index}"] for index in range(3)]  # at 16 kHz
    voices = torch.stack(speaker_model.embed_resampled(clips))  # (3, E)
    torch.testing.assert_close(voices @ voices.T, figures()["cosines"], atol=1e-5, rtol=0)
    assert speaker_model.revision.startswith("local@")
    assert speaker_model.score_name == "sim_port"  # the benchmark's name is for the published weights only


def test_the_seed_tts_speaker_model_embeds_silence_and_refuses_only_what_is_too_short(tmp_path):
    speaker_model = load(save_golden_port(tmp_path))
    silence, short, empty = speaker_model.embed([torch.zeros(SAMPLE_RATE), torch.zeros(1000), torch.empty(0)])
    assert silence.isfinite().all() and short is None and empty is None
    (embedding,) = speaker_model.embed([figures()["resample.24000.input"]])
    expected = figures()["resample.24000.embedding"]
    torch.testing.assert_close(embedding, expected / expected.norm(), atol=1e-4, rtol=0)


def test_every_speaker_model_embeds_resampled_clips_alike(resemblyzer, tmp_path):
    clip = recording(0)
    for speaker_model in (resemblyzer, load(save_random_wavlm(tmp_path))):
        (one,), (other,) = speaker_model.embed([clip]), speaker_model.embed_resampled([resample_for_metrics(clip)])
        assert torch.equal(one, other)


def test_the_original_pickle_is_opened_only_if_its_content_is_the_published_one(tmp_path):
    path = save_golden_pickle(tmp_path / "wavlm_large_finetune.pth")
    with pytest.raises(InputError, match=f"finetune.pth: its SHA-256 is .*, expected {PICKLE_SHA256}"):
        load(path)
    with pytest.raises(InputError, match="none.pth: no such file"):
        load(tmp_path / "none.pth")
    weights = load_published_pickle(str(path), sha256=sha256_file(path))
    assert weights.keys() == golden_weights().keys()


def test_a_pickle_that_runs_code_is_refused_even_with_the_expected_hash(tmp_path):
    path = tmp_path / "code.pth"
    torch.save({"model": print}, path)
    with pytest.raises(InputError, match="code.pth: not a checkpoint of tensors"):
        load_published_pickle(str(path), sha256=sha256_file(path))
    torch.save([1], path)
    with pytest.raises(InputError, match="code.pth: not a checkpoint of tensors"):
        load_published_pickle(str(path), sha256=sha256_file(path))


def test_only_the_published_weights_have_the_name_of_the_benchmark(tmp_path, monkeypatch):
    file = save_golden_port(tmp_path / "port") / "model.safetensors"
    monkeypatch.setattr("higgs_recipes.audio.speaker.PORT_SHA256", sha256_file(file))
    assert load(tmp_path / "port").score_name == SEED_TTS_SCORE
    pickle = save_golden_pickle(tmp_path / "wavlm.pth")
    monkeypatch.setattr(load_published_pickle, "__kwdefaults__", {"sha256": sha256_file(pickle)})
    monkeypatch.setattr("higgs_recipes.audio.wavlm_ecapa.WAVLM_LARGE", metadata()["transformers_config"])
    assert load(pickle).score_name == SEED_TTS_SCORE
