"""The real scripts, each in a process of its own, while their imports are paid for once: a Python that forks.

    with Scripts(hub.env(), folder) as scripts:
        done = scripts.run("generate", "--config", "tests/data/random_tiny/generate.yaml")
        assert done.code == 0, done.said

A fork is a whole process: it has the script's arguments, its own state, exit code and signals.
"""

import gc
import importlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.forked_python import TIMEOUT, Python, be_python
from tests.helpers.paths import ROOT


# Together they import nearly all that the scripts need.
PRELOADED = (
    *("corpus.encode", "evaluation.evaluate", "evaluation.report", "hub.push", "configs.parser", "modeling.merge"),
    *("modeling.random_model", "generation.synthesis", "training.trainer"),
)


@dataclass(frozen=True)
class Done:
    """A script that has ended: its exit code, and all that it wrote to stdout and stderr."""

    code: int
    said: str


class Scripts:
    """Starts scripts, one at a time, in forks of one Python that has the environment `env`."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        # As accelerate_configs/cpu.yaml has it; merge.py is no child of accelerate.
        self.env = env | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        self.folder = folder
        self.count = 0

    def __enter__(self) -> "Scripts":
        pipe = subprocess.PIPE
        self.python = Python("-m", "tests.helpers.forked_scripts", env=self.env, stdin=pipe, stdout=pipe)
        return self

    def __exit__(self, *exception) -> None:
        self.python.stdin.close()
        self.python.wait(TIMEOUT)
        self.python.stdout.close()

    def start(self, script: str, *args: object, **env: str | None) -> int:
        """Start scripts/`script`.py and return its process id; `env` changes the environment, None takes out."""
        self.count += 1
        self.output = self.folder / f"{self.count:02d}_{script}.log"
        job = {"script": script, "args": list(map(str, args)), "env": env, "output": str(self.output)}
        self.python.stdin.write(json.dumps(job) + "\n")
        self.python.stdin.flush()
        return int(self.python.stdout.readline())

    def wait_for(self, words: str) -> None:
        """Wait until the script that was started has said these words."""
        deadline = time.monotonic() + TIMEOUT
        while words not in self.said():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace") if self.output.exists() else ""

    def finish(self) -> Done:
        """Wait for the script that was started."""
        code = int(self.python.stdout.readline())
        return Done(code, self.said())

    def run(self, script: str, *args: object, **env: str | None) -> Done:
        self.start(script, *args, **env)
        return self.finish()


def run_script(script: str, args: list[str], env: dict[str, str | None], output: str) -> int:
    """Be `python scripts/<script>.py <args>`, with its output in a file; returns the exit code."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
    for name, value in env.items():
        os.environ.pop(name, None)
        os.environ |= {name: value} if value is not None else {}
    return be_python([str(ROOT / "scripts" / f"{script}.py"), *args])


def main() -> None:
    for module in PRELOADED:
        importlib.import_module(f"higgs_recipes.{module}")
    gc.freeze()  # a fork that looks through all this for garbage would copy it
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = run_script(**json.loads(line))
            sys.stdout.flush()
            os._exit(code)  # to take down all that was imported would copy it first
        sys.stdout.write(f"{child}\n")
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")


if __name__ == "__main__":
    main()
