"""The road by the command lines that a person types: each script started by `accelerate launch`, imports and all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.forked_scripts import Done
from tests.helpers.hub_server import HubServer
from tests.helpers.paths import ROOT
from tests.test_end_to_end import Road, recordings


class LaunchedScripts:
    """As `forked_scripts.Scripts`, but started as README has it."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def start(self, script: str, *args: object) -> subprocess.Popen:
        launcher = [Path(sys.executable).with_name("accelerate"), "launch", "--config_file"]
        command = [*launcher, "accelerate_configs/cpu.yaml", f"scripts/{script}.py", *map(str, args)]
        said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=self.env, cwd=ROOT, **said)

    def run(self, script: str, *args: object) -> Done:
        launched = self.start(script, *args)
        said, _ = launched.communicate()
        return Done(launched.returncode, said)


@pytest.mark.slow
def test_every_script_runs_by_accelerate_launch(tmp_path):
    with HubServer(tmp_path / "clients") as hub:
        hub.add_repo("tester/recordings", recordings(), kind="datasets", private=True)
        road = Road(hub, LaunchedScripts(hub.env()), tmp_path)
        road.run("encode", *road.encode_flags("corpus"), "--push_to_hub", "--hub_dataset_id", "tester/corpus")
        push = ["--push_to_hub", "--hub_model_id", "tester/voice"]
        road.run("sft", *road.sft_flags("voice"), "--max_steps", 3, *push)
        road.run("generate", *road.generate_flags("local", adapter=tmp_path / "voice"))
        road.run("generate", *road.generate_flags("pulled", adapter="tester/voice"))
        assert road.codes("local") == road.codes("pulled")
        # The judges of tests/data/random_tiny, and scripts/evaluate.py beside the library of its name.
        judges = ["--asr", "package:faster-whisper-tiny.en", "--speaker", "package:resemblyzer"]
        road.run("evaluate", *road.evaluate_flags("report"), *judges)
        real = json.loads(road.repo("models", "voice").files["evaluation/metrics.json"])["rows"]["real"]
        assert real["wer"]["value"] < 0.5 and real["similarity"]["value"] > 0.7
        assert "are equal in 100.00%" in road.run("merge", *road.merge_flags("merged"), "--check").said

        # accelerate makes 1 of every exit code and adds a traceback of its own; the line is there all the same.
        refused = road.scripts.run("sft", *road.sft_flags("voice"))
        assert refused.code == 1 and f"{tmp_path}/voice: holds a finished run; choose another" in refused.said


@pytest.mark.slow
def test_a_sigterm_to_the_launcher_saves_a_checkpoint(tmp_path):
    with HubServer(tmp_path / "clients") as hub:
        hub.add_repo("tester/recordings", recordings(), kind="datasets", private=True)
        road = Road(hub, LaunchedScripts(hub.env()), tmp_path)
        road.run("encode", *road.encode_flags("corpus"))
        flags = [*road.sft_flags("voice"), "--datasets", tmp_path / "corpus", "--max_steps", 3000]
        launcher = road.scripts.start("sft", *flags, "--logging_steps", 1)
        for line in launcher.stdout:
            if "'loss'" in line:
                break
        launcher.terminate()
        said = launcher.stdout.read()  # ends when the orphan has ended
        assert "continue with --resume_from_checkpoint true" in said
        assert list((tmp_path / "voice").glob("checkpoint-*/trainer_state.json"))
