import json

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.hub.run_record import read_reported_run, read_run
from tests.helpers.records import RUN


def test_the_record_of_a_run_is_read(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    assert read_run(tmp_path) == RUN


def test_a_folder_without_a_run_has_no_record(tmp_path):
    assert read_run(tmp_path) is None


def test_a_broken_record_is_an_error(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match="run.json is not JSON"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"steps": "100"}, "field 'steps' is '100': it must be int"),
        ({"base_model": None}, "field 'base_model' is None: it must be str"),
        ({"recipe": []}, r"field 'recipe' is \[\]: it must be dict"),
        ({"datasets": {}}, "field 'datasets' is {}: it must be list"),
        ({"datasets": ["a"]}, r"datasets\[0\] is 'a': it must be a mapping"),
        ({"datasets": [{"seconds": "1"}]}, r"datasets\[0\]: field 'seconds' is '1': it must be int or float"),
        ({"log_history": [{"loss": 1.0}]}, r"log_history\[0\] is .*: it must be a mapping with a step"),
        ({"log_history": [{"step": 1}, {"step": 2, "loss": "low"}]}, r"log_history\[1\]: field 'loss' is 'low'"),
        ({"log_history": [{"step": float("inf")}]}, r"log_history\[0\]: field 'step' is inf: it must be int"),
        ({"log_history": [{"step": 10**400}]}, r"log_history\[0\]: field 'step' is 10*[.]{3}: it is too large"),
        (
            {"log_history": [{"step": 1, "loss": -1e308}]},
            r"log_history\[0\]: field 'loss' is -1e\+308: it is too large",
        ),
        ({"log_history": [None]}, r"log_history\[0\] is None"),
        (
            {"git_commit": "x" * 1000 + "y", "hardware": ["x" * 1000]},
            "field 'hardware' is .{80}[.]{3}: it must be str",
        ),
    ],
)
def test_a_field_of_another_type_is_named(tmp_path, fields, message):
    (tmp_path / "run.json").write_text(json.dumps(RUN | fields))
    with pytest.raises(InputError, match=f"run.json: {message}"):
        read_run(tmp_path)


@pytest.mark.parametrize("name", ["method", "steps", "hardware", "git_commit", "datasets", "log_history"])
def test_what_a_report_uses_is_checked_before_the_evaluation(tmp_path, name):
    (tmp_path / "run.json").write_text(json.dumps({key: value for key, value in RUN.items() if key != name}))
    assert read_run(tmp_path) is not None
    with pytest.raises(InputError, match=f"run.json: field '{name}' is missing"):
        read_reported_run(tmp_path)


def test_a_dataset_without_a_fingerprint_is_named(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(RUN | {"datasets": [{"path": "corpus"}]}))
    with pytest.raises(InputError, match=r"run.json: datasets\[0\]: field 'fingerprint' is missing"):
        read_reported_run(tmp_path)


def test_the_record_of_an_evaluated_run_is_read(tmp_path):
    assert read_reported_run(tmp_path) is None
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    assert read_reported_run(tmp_path) == RUN
