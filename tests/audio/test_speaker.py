import pytest
import torch

from higgs_recipes.audio.speaker import load_speaker_model
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from tests.helpers.two_voices import corpus_rows, recording
from tests.helpers.wavlm import save_random_wavlm
from tests.helpers.whisper import save_random_whisper


CPU = torch.device("cpu")


def load_xvector(folder):
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
    assert load_xvector(save_random_wavlm(tmp_path)).embed(clips) == [None] * 3


def test_an_xvector_checkpoint_embeds_each_clip_by_itself(tmp_path):
    speaker_model = load_xvector(save_random_wavlm(tmp_path / "wavlm-tiny-sv"))
    clips = [recording(0), recording(1)]
    first, second = speaker_model.embed(clips)
    assert first.shape == (8,) and not torch.equal(first, second)
    torch.testing.assert_close(first.norm(), torch.tensor(1.0))
    torch.testing.assert_close(speaker_model.embed(clips[1:])[0], second)
    assert speaker_model.score_name == "sim_wavlm_tiny_sv"


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    folder = save_random_whisper(tmp_path / "whisper", is_multilingual=True)
    with pytest.raises(InputError, match="speaker .*whisper: AutoModelForAudioXVector cannot load it"):
        load_xvector(folder)
