"""state.json: the same command finishes a push that was killed, another command does not."""

import json
from pathlib import Path

import pytest

from higgs_recipes.hub.result_state import ResultState, read_state, record_push


def state(folder: Path, *, script: str = "sft", repo_id: str | None = "tester/voice", **recipe) -> ResultState:
    fields = {"learning_rate": 1e-4, "datasets": ["corpus"], "output_dir": Path("outputs/voice")}
    return ResultState(folder, script=script, recipe=fields | recipe, repo_id=repo_id)


def test_a_push_is_pending_from_the_result_until_it_is_recorded(tmp_path):
    assert read_state(tmp_path) is None and not state(tmp_path).is_push_pending()
    state(tmp_path).write()
    assert state(tmp_path).is_push_pending()
    record_push(tmp_path, repo_id="tester/other", url="https://hub/commit/1")
    assert not state(tmp_path).is_push_pending() and state(tmp_path).is_same_run()
    assert json.loads((tmp_path / "state.json").read_text())["push_to"] == "tester/other"


def test_only_the_same_command_finishes_a_push(tmp_path):
    state(tmp_path).write()
    for other in ({"script": "merge"}, {"learning_rate": 2e-4}, {"repo_id": None}, {"seed": 1}):
        assert not state(tmp_path, **other).is_push_pending()
    # These do not change the result: a wrong repository can be corrected.
    unrelated = {"hub_model_id": "tester/right", "push_to_hub": True, "hub_private_repo": False}
    unrelated |= {"overwrite_output_dir": True, "resume_from_checkpoint": "true"}
    assert state(tmp_path, repo_id="tester/right", **unrelated).is_push_pending()


def test_a_result_that_was_not_to_be_pushed_has_no_pending_push(tmp_path):
    state(tmp_path, repo_id=None).write()
    assert state(tmp_path).is_same_run() and not state(tmp_path).is_push_pending()


@pytest.mark.parametrize("rank, pending", [("0", False), ("1", True)])
def test_a_slow_process_agrees_with_the_main_one_that_has_pushed(tmp_path, monkeypatch, rank, pending):
    monkeypatch.setenv("RANK", rank)
    state(tmp_path).write()
    record_push(tmp_path, repo_id="tester/voice", url="https://hub/commit/1")
    assert state(tmp_path).is_push_pending() == pending


def test_the_state_is_written_before_the_folder_has_its_name(tmp_path):
    (tmp_path / "staging").mkdir()
    state(tmp_path / "final").write(tmp_path / "staging")
    (tmp_path / "staging").rename(tmp_path / "final")
    assert state(tmp_path / "final").is_push_pending()


def test_a_push_of_a_folder_without_a_state_is_not_recorded(tmp_path):
    record_push(tmp_path, repo_id="tester/voice", url="https://hub/commit/1")
    assert list(tmp_path.iterdir()) == []
