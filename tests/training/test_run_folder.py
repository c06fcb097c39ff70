import json
from pathlib import Path

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.hub.result_state import ResultState
from higgs_recipes.run_lock import lock_output
from higgs_recipes.training.run_folder import check_run_folder, is_trained


def run(folder: Path, *, repo_id: str | None = None, seed: int = 0) -> ResultState:
    return ResultState(folder, script="sft", recipe={"seed": seed}, repo_id=repo_id)


def test_a_folder_with_files_of_others_is_refused(tmp_path):
    check_run_folder(run(tmp_path))
    check_run_folder(run(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    for name in (".env", "checkpoint-5.zip", "run.jsonl", "my checkpoint-5"):
        (tmp_path / name).write_text("")
        with pytest.raises(InputError, match=f"contains files that are not of a run: {name}; choose another"):
            check_run_folder(run(tmp_path))
        (tmp_path / name).unlink()
    for index in range(4):
        (tmp_path / f"{index}.txt").write_text("")
    with pytest.raises(InputError, match="not of a run: 0.txt, 1.txt, 2.txt ...; choose"):
        check_run_folder(run(tmp_path))
    with pytest.raises(InputError, match="0.txt is a file, expected a folder"):
        check_run_folder(run(tmp_path / "0.txt"))
    with pytest.raises(InputError, match="0.txt is a file, expected a folder"):
        check_run_folder(run(tmp_path / "0.txt" / "below"))


def test_a_folder_of_a_run_is_accepted(tmp_path):
    for name in ("checkpoint-5", "runs", ".checkpoint.partial"):
        (tmp_path / name).mkdir()
    check_run_folder(run(tmp_path))  # of a version without state.json
    (tmp_path / "adapter_model.safetensors").write_text("")  # killed while it saved
    (tmp_path / "log.txt").write_text("")
    with pytest.raises(InputError, match="files that are not of a run: adapter_model.safetensors, log.txt"):
        check_run_folder(run(tmp_path))
    run(tmp_path).write()  # state.json makes the folder its own
    check_run_folder(run(tmp_path, seed=1))


def test_what_the_lock_of_the_first_process_writes_is_of_the_run(tmp_path, monkeypatch):
    touched = []

    def check_after(path: Path, **options) -> None:
        touch(path, **options)
        touched.append(path.parent)
        if path.parent == tmp_path:
            check_run_folder(run(tmp_path))  # as another process may do at this moment

    touch = Path.touch
    monkeypatch.setattr(Path, "touch", check_after)
    with lock_output(tmp_path, in_place=True):
        check_run_folder(run(tmp_path))
    assert tmp_path in touched


def test_a_run_is_trained_when_only_its_card_or_its_push_is_missing(tmp_path):
    run(tmp_path, repo_id="tester/voice").write()
    assert not is_trained(run(tmp_path, repo_id="tester/voice"))
    (tmp_path / "run.json").write_text(json.dumps({}))
    assert is_trained(run(tmp_path, repo_id="tester/voice")) and is_trained(run(tmp_path))
    assert not is_trained(run(tmp_path, seed=1))
    (tmp_path / "README.md").write_text("")
    assert is_trained(run(tmp_path, repo_id="tester/voice")) and not is_trained(run(tmp_path))
