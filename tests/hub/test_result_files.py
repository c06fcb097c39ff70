"""Which files are a result, by its records."""

import json
import logging
from pathlib import Path

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.hub.result_files import (
    corpus_files,
    is_corpus_shard,
    is_model_file,
    is_report_file,
    log_skipped,
    model_files,
    report_files,
)
from tests.helpers.records import CORPUS, MERGE, METRICS, RUN


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def test_a_whole_model_has_its_weights_and_the_files_of_its_base(tmp_path):
    names = ["README.md", "config.json", "generation_config.json", "LICENSE", "model.safetensors", "tokenizer.json"]
    make(tmp_path, *names, "optimizer.json", "notes.txt", "model-00001-of-00002.safetensors", "merge.json.old")
    (tmp_path / "run.json").write_text(json.dumps(RUN | {"method": "full"}))
    assert model_files(tmp_path) == sorted([*names, "run.json"])
    (tmp_path / "run.json").rename(tmp_path / "other.json")
    (tmp_path / "merge.json").write_text(json.dumps(MERGE))
    assert model_files(tmp_path) == sorted([*names, "merge.json"])


def test_sharded_weights_are_those_of_the_index(tmp_path):
    shards = [f"model-0000{index}-of-00002.safetensors" for index in (1, 2)]
    make(tmp_path, "README.md", "config.json", *shards, "model-00001-of-00009.safetensors")
    (tmp_path / "merge.json").write_text(json.dumps(MERGE))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shards[0], "b": shards[1], "c": shards[0]}}))
    assert model_files(tmp_path) == sorted(["README.md", "config.json", "merge.json", index.name, *shards])
    for file in (".env", "../secret.safetensors", 1):
        index.write_text(json.dumps({"weight_map": {"a": file}}))
        with pytest.raises(InputError, match="which is not a file of weights"):
            model_files(tmp_path)


def test_a_result_without_its_record_or_a_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="run.json is missing"):
        model_files(make(tmp_path, "adapter_model.safetensors"))
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    with pytest.raises(InputError, match="a file to push is 'README.md': no such file in"):
        model_files(tmp_path)
    with pytest.raises(InputError, match="metrics.json is missing"):
        report_files(tmp_path)
    with pytest.raises(InputError, match="corpus.json is missing"):
        corpus_files(tmp_path)


def test_a_report_has_its_pages_and_the_clips_that_it_names(tmp_path):
    make(tmp_path, "report.md", "report.html", "samples/a.wav", "samples/b.wav", "index.html")
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    assert report_files(tmp_path) == ["metrics.json", "report.html", "report.md", "samples/a.wav"]
    for wav, message in {".env": "it must be a wav file", "b.wav": "no such file", "../a.wav": "it leaves"}.items():
        make(tmp_path, ".env")
        clip = METRICS["clips"][0] | {"real": {"wav": wav}}
        (tmp_path / "metrics.json").write_text(json.dumps(METRICS | {"clips": [clip]}))
        with pytest.raises(InputError, match=message):
            report_files(tmp_path)
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS | {"clips": [{"real": {}}]}))
    with pytest.raises(InputError, match=r"clips\[0\].real: field 'wav' is missing"):
        report_files(tmp_path)


def test_a_corpus_has_the_parquet_files_of_its_splits(tmp_path):
    names = ["README.md", "data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet", "rejects.jsonl"]
    make(tmp_path, *names, "data/dev-00000-of-00001.parquet", "data/train.parquet", "train-00000-of-00001.parquet")
    (tmp_path / "corpus.json").write_text(json.dumps(CORPUS))
    assert corpus_files(tmp_path) == sorted([*names, "corpus.json"])


def test_a_later_push_deletes_only_files_with_the_names_of_results():
    for name in ("README.md", "run.json", "model-00001-of-00002.safetensors", "evaluation/samples/1_base.wav"):
        assert is_model_file(name)
    for name in ("LICENSE", "notes.txt", "model.bin", "a/run.json", "samples/a.wav", "evaluation/notes.txt"):
        assert not is_model_file(name)
    assert is_report_file("evaluation/metrics.json") and not is_report_file("metrics.json")
    assert is_corpus_shard("data/train-00000-of-00001.parquet") and not is_corpus_shard("data/train.parquet")


def test_skipped_files_are_named_and_many_are_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    make(tmp_path, "run.json", "state.json", "evaluation/metrics.json")
    log_skipped(tmp_path, ["run.json", "evaluation/metrics.json"])
    assert not caplog.records
    make(tmp_path, ".env", "checkpoint-1/a.json", "evaluation/b.json", "evaluation/samples/c.wav")
    log_skipped(tmp_path, ["run.json", "evaluation/metrics.json"])
    assert caplog.messages == [
        "not pushed, as not part of the result: .env, checkpoint-1/, evaluation/b.json, evaluation/samples/"
    ]
    make(tmp_path, *(f"file{index}" for index in range(30)))
    log_skipped(tmp_path, ["run.json", "evaluation/metrics.json"])
    assert caplog.messages[1].endswith(" and 14 more")


def test_the_files_of_a_report_are_those_of_its_folder():
    voice, english = "evaluation/samples/a.wav", "evaluation/seed_tts_eval_en/samples/a.wav"
    assert [is_report_file(name) and is_model_file(name) for name in (voice, english)] == [True, True]
    assert is_report_file(voice, "evaluation") and not is_report_file(english, "evaluation")
    assert is_report_file(english, "evaluation/seed_tts_eval_en") and not is_report_file(voice, "evaluation/x")
    assert not is_report_file("evaluation/../metrics.json") and not is_report_file("evaluation/a/b/metrics.json")


def test_a_missing_clip_of_a_report_has_no_file(tmp_path):
    clip = {"base": {"wav": None, "missing": True}}
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS | {"clips": [clip]}))
    assert report_files(tmp_path) == ["metrics.json"]
