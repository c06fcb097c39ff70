"""Seed-TTS-eval: its formulas to the digit, and the whole protocol with the tiny model."""

import json
import shutil
import string
import sys
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch
import torchaudio
import zhconv

from higgs_recipes.audio.asr import load_asr_model
from higgs_recipes.audio.io import read_first_channel
from higgs_recipes.audio.speaker import SEED_TTS_SCORE, load_speaker_model
from higgs_recipes.audio.word_errors import ErrorCounts, utterance_errors
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.clip_judgments import Transcription
from higgs_recipes.evaluation.protocols.run import run_protocol
from higgs_recipes.evaluation.protocols.seed_tts import ANCHORS, ASR
from higgs_recipes.evaluation.protocols.text_scores import ScoredText, counted_errors, word_scores
from higgs_recipes.evaluation.report import write_report
from higgs_recipes.evaluation.scoring import SpokenClip
from higgs_recipes.normalizers import _HANZI_PUNCTUATION, choose_normalizer, simplified_converter
from tests.helpers.benchmark_run import RecordingsASRModel, benchmark_config, save_adapter
from tests.helpers.fake_funasr import fake_funasr, save_checkpoint
from tests.helpers.golden_wavlm import save_golden_port
from tests.helpers.recordings import corpus_rows
from tests.helpers.tiny_codec import CORPUS


def official_wer(truth: str, hypothesis: str, language: str) -> float:
    """The benchmark's own steps, one by one."""
    if language == "zh":
        hypothesis = zhconv.convert(hypothesis, "zh-cn")
    for mark in _HANZI_PUNCTUATION + string.punctuation:
        if mark != "'":
            truth, hypothesis = truth.replace(mark, ""), hypothesis.replace(mark, "")
    truth, hypothesis = truth.replace("  ", " "), hypothesis.replace("  ", " ")
    if language == "zh":
        truth, hypothesis = " ".join(truth), " ".join(hypothesis)
    else:
        truth, hypothesis = truth.lower(), hypothesis.lower()
    return jiwer.process_words(truth, hypothesis).wer


TRANSCRIPTS = {
    "en": [
        ("The birch canoe slid on the smooth planks.", "the birch canoe slid on smooth planks"),
        ("It's 7:30 - isn't it?", "Its 730 isn't it"),
        ("Glue the sheet to the dark-blue background!", "glue the sheet to the dark blue background"),
        ("Hello,   world", "hello world again and again"),
        ("Rice is often served in round bowls.", ""),
        ("“Quoted” text…", "quoted text"),
    ],
    "zh": [
        ("今天天气很好，我们去公园玩吧。", "今天天氣很好我們去公園玩吧"),
        ("他说：“你好！”", "他说你好啊"),
        ("价格是１２３元", "价格是一百二十三元"),
        ("A B C 三个字母", "abc三个字母"),
        ("八百标兵奔北坡，北坡炮兵并排跑。", "八百标兵奔北坡炮兵并排跑"),
    ],
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_mean_of_wer_is_that_of_the_official_formulas_to_the_digit(language):
    pairs = TRANSCRIPTS[language]
    expected = [official_wer(truth, hypothesis, language) for truth, hypothesis in pairs]
    convert = simplified_converter() if language == "zh" else str
    texts, transcripts = [truth for truth, _ in pairs], [convert(hypothesis) for _, hypothesis in pairs]
    rule = choose_normalizer(f"seed_tts_{language}", language)
    words = utterance_errors(texts, transcripts, rules=[rule] * len(pairs))
    scores = word_scores(words, num_missing=0)
    assert [count.rate for count in words] == expected
    assert scores["wer_macro"]["value"] == sum(expected) / len(expected)
    assert round(100 * scores["wer_macro"]["value"], 3) == round(100 * np.mean(expected), 3)
    assert scores["wer_above_50"]["value"] == sum(rate > 0.5 for rate in expected) / len(expected)


def test_a_missing_clip_counts_as_100_percent_and_is_counted():
    clips = [SpokenClip(torch.ones(1)), None, None]
    errors = [ErrorCounts(0, 10), ErrorCounts(30, 30), ErrorCounts(0, 0, skipped=1)]
    texts = [
        ScoredText(clip, Transcription("", "", ErrorCounts(0, count.length, count.skipped), count, []), None, None)
        for clip, count in zip(clips, errors, strict=True)
    ]
    assert [counted_errors(text) for text in texts] == errors
    scores = word_scores(errors, num_missing=2)
    assert scores["wer_macro"] | {"note": ""} == {
        **{"value": 0.5, "low": None, "high": None, "note": "", "n": 2, "skipped": 1, "missing": 2}
    }
    assert scores["wer"]["value"] == 0.75 and scores["wer_above_50"]["value"] == 0.5


NUM_SENTENCES = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The benchmark's list with recordings, one of which is missing; an adapter; and a speaker model."""
    folder = tmp_path_factory.mktemp("seed_tts")
    rows = corpus_rows("heart")[: NUM_SENTENCES + 1]
    for row in rows:
        shutil.copy(CORPUS / row["file_name"], folder)
    lines = [
        f"{row['file_name'][:-5]}|{rows[0]['text']}|{rows[0]['file_name']}|{row['text']}|{row['file_name']}"
        for row in rows[1:]
    ]
    lines[2] = lines[2].rsplit("|", 1)[0] + "|missing.wav"
    (folder / "meta.lst").write_text("\n".join(lines), encoding="utf-8")
    save_adapter(folder / "adapter", scale=0.5)
    save_golden_port(folder / "speaker")
    return folder


def config(folder: Path, **changes):
    fields = {"protocol": "seed_tts_eval", "dataset": str(folder), "speaker": str(folder / "speaker")}
    return benchmark_config(folder, **fields | {"adapter": str(folder / "adapter"), "split": "en"} | changes)


@pytest.fixture(autouse=True)
def fast_asr_model(monkeypatch):
    def load(name, **options):
        return load_asr_model(name, **options) if name.startswith("funasr:") else RecordingsASRModel()

    monkeypatch.setattr("higgs_recipes.evaluation.models.load_asr_model", load)


@pytest.fixture(scope="module")
def evaluation(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("higgs_recipes.evaluation.models.load_asr_model", lambda name, **options: RecordingsASRModel())
        return run_protocol(config(folder))


def test_recordings_codec_base_and_finetuned_are_scored_on_the_same_texts(evaluation):
    metrics = json.loads(json.dumps(evaluation.metrics, allow_nan=False))
    assert list(metrics["rows"]) == ["real", "codec", "base", "finetuned"]
    real, base = metrics["rows"]["real"], metrics["rows"]["base"]
    assert real["wer_macro"]["n"] == NUM_SENTENCES and real["wer_macro"]["missing"] == 1
    assert real["wer_macro"]["value"] == pytest.approx(1 / 3)  # two recordings that are understood, and a missing one
    assert base["wer_macro"]["missing"] == 0 and base["stop_rate"]["n"] == NUM_SENTENCES
    assert real["prompt_similarity"]["n"] == NUM_SENTENCES - 1 and base["prompt_similarity"]["n"] == NUM_SENTENCES
    assert metrics["languages"] == {"en": {"normalizer": "seed_tts_en", "unit": "word", "n": NUM_SENTENCES}}
    assert [clip["seed"] for clip in metrics["clips"]] == [11, 12, 13]
    assert metrics["codes"]["changed"] > 0.1 and "wer_macro" in metrics["comparison"]
    assert metrics["dataset_revision"] is None and metrics["split"] is None  # a list has no splits
    assert "prompt_similarity" in metrics["comparison"]


def test_similarity_is_the_cosine_to_the_prompt_at_the_rates_of_the_files(folder, evaluation):
    model = load_speaker_model(str(folder / "speaker"), revision=None, device=torch.device("cpu"))
    names = [corpus_rows("heart")[index]["file_name"] for index in (0, 1)]
    prompt, real = model.embed_resampled([read_first_channel(folder / n, name=n, rate=16_000) for n in names])
    generated = torchaudio.functional.resample(evaluation.waveforms["base"][0], 24_000, 16_000)
    (voice,) = model.embed_resampled([generated])
    first = evaluation.metrics["clips"][0]
    assert first["real"]["similarity"] == pytest.approx(float(real @ prompt), abs=1e-5)
    assert first["base"]["similarity"] == pytest.approx(float(voice @ prompt), abs=1e-5)


def test_scores_of_other_models_do_not_have_the_name_of_the_benchmark(evaluation):
    benchmark = evaluation.metrics["benchmark"]
    assert benchmark["name"] == "Zero-shot voice cloning, en" and not benchmark["is_official"]
    assert benchmark["anchors"] == [] and evaluation.metrics["speaker_score"] == "sim_speaker"
    (warning,) = benchmark["warnings"]
    assert warning.startswith(
        "These are not scores of Seed-TTS-eval: ASR model package:faster-whisper-tiny.en in place"
    )
    assert "similarity sim_speaker in place of sim_wavlm_large_ecapa_tdnn" in warning


def test_the_report_shows_missing_clips_and_every_section(evaluation, tmp_path):
    write_report(evaluation.metrics, evaluation.waveforms, run=None, output_dir=tmp_path / "report")
    markdown = (tmp_path / "report/report.md").read_text(encoding="utf-8")
    assert "- real recordings, missing: empty transcript" in markdown and "Fine-tuned against base" in markdown
    assert "missing clips as 100 %" in markdown and "similarity to the prompt, × 100" in markdown
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert page.count("<p>missing</p>") == 2  # of the recording and its resynthesis
    assert not (tmp_path / "report/samples/0002_real.wav").exists()
    assert (tmp_path / "report/samples/0002_base.wav").exists()


def test_with_the_models_of_the_benchmark_its_name_and_published_scores_are_shown(folder, monkeypatch, tmp_path):
    monkeypatch.setitem(ASR, "en", "package:faster-whisper-tiny.en")
    monkeypatch.setattr("higgs_recipes.audio.speaker.score_name", lambda name: SEED_TTS_SCORE)
    evaluation = run_protocol(config(folder, adapter=None, num_samples=1))
    benchmark = evaluation.metrics["benchmark"]
    assert benchmark["name"] == "Seed-TTS-eval en" and benchmark["anchors"] == ANCHORS["en"]
    assert benchmark["warnings"] == ["A quick look at 1 texts of the test set: the intervals are wide."]
    write_report(evaluation.metrics, evaluation.waveforms, run=None, output_dir=tmp_path / "report")
    markdown = (tmp_path / "report/report.md").read_text(encoding="utf-8")
    assert "| Higgs Audio v2 | 2.44 % | 67.70 | claimed in the README of boson-ai/higgs-audio |" in markdown
    assert "| human recordings of the test set | 2.14 % | 73.40 | published with Seed-TTS-eval |" in markdown
    assert "WER, mean over texts on 1 texts: real recordings" in markdown


def test_chinese_is_transcribed_by_paraformer_and_simplified_before_scoring(folder, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "funasr", fake_funasr())
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda package: package)
    prompt = corpus_rows("heart")[0]["file_name"]
    for name in ("meta.lst", "hardcase.lst"):
        (tmp_path / name).write_text(f"u1|你好|{prompt}|今天天气很好。", encoding="utf-8")
    shutil.copy(folder / prompt, tmp_path)
    asr = f"funasr:{save_checkpoint(tmp_path / 'zh')}"
    monkeypatch.setitem(ASR, "zh", asr)
    changes = {"asr": asr, "asr_language": "zh", "adapter": None, "max_seconds": 0.2}
    metrics = run_protocol(config(folder, dataset=str(tmp_path), **changes)).metrics
    assert metrics["clips"][0]["base"]["transcript"] == "今 天 天 气 很 好"
    assert metrics["rows"]["base"]["wer_macro"]["value"] == 0.0
    assert metrics["languages"] == {"zh": {"normalizer": "seed_tts_zh", "unit": "character", "n": 1}}
    assert "to simplified characters" in metrics["protocol"] and "counts characters" in metrics["benchmark"]["note"]
    hard = run_protocol(config(folder, dataset=str(tmp_path / "hardcase.lst"), **changes)).metrics
    assert hard["benchmark"]["name"].endswith("zh-hard") and hard["benchmark"]["anchors"] == []


def test_the_normalizer_of_whisper_has_the_spellings_of_the_asr_model(folder, monkeypatch):
    class Stopped(Exception):
        pass

    def stop(*args, rules, **options):
        raise Stopped(*rules)

    monkeypatch.setattr(RecordingsASRModel, "spelling", {"colour": "color"})
    monkeypatch.setattr("higgs_recipes.evaluation.protocols.seed_tts.speak", lambda *args: {})
    monkeypatch.setattr("higgs_recipes.evaluation.protocols.seed_tts.score_texts", stop)
    with pytest.raises(Stopped) as stopped:
        run_protocol(config(folder, adapter=None, num_samples=1, normalizer="whisper_en"))
    (rule,) = stopped.value.args
    assert (rule.name, rule.normalize("A colour.")) == ("whisper_en", "a color")


def test_other_languages_and_missing_packages_are_refused_before_models_load(folder, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("higgs_recipes.evaluation.protocols.seed_tts.load_models", fail)
    with pytest.raises(InputError, match="asr_language is 'de': protocol seed_tts_eval has en and zh"):
        run_protocol(config(folder, asr_language="de"))
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda package: None)
    with pytest.raises(InputError, match="asr: funasr:paraformer-zh needs a package that is not installed: pip"):
        config(folder, asr="funasr:paraformer-zh")
    monkeypatch.setitem(sys.modules, "zhconv", None)
    with pytest.raises(InputError, match="Seed-TTS-eval in Chinese needs the module zhconv, which is not installed"):
        run_protocol(config(folder, asr_language="zh"))
