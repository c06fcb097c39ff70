"""The real scripts, each in its own process; a forking Python process imports their libraries once.

    with Scripts(hub.env(), folder) as scripts:
        done = scripts.run("generate", "--config", "tests/data/random_tiny/generate.yaml")
        assert done.code == 0, done.said

A fork is a complete process with the script's arguments and its own state, exit code and signals.
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


# Together these import nearly everything that the scripts need.
PRELOADED = (
    *("corpus.encode", "evaluation.evaluate", "evaluation.report", "hub.push", "configs.parser", "modeling.merge"),
    *("modeling.random_model", "generation.synthesis", "training.trainer"),
)


@dataclass(frozen=True)
class Done:
    """A finished script: its exit code, and its output to stdout and stderr."""

    code: int
    said: str


class Scripts:
    """Run scripts, one at a time, in forks of one Python process with the environment `env`."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        # As in accelerate_configs/cpu.yaml; merge.py is not launched by accelerate.
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
        """Start scripts/`script`.py and return its process id; `env` sets environment variables, None removes one."""
        self.count += 1
        self.output = self.folder / f"{self.count:02d}_{script}.log"
        job = {"script": script, "args": list(map(str, args)), "env": env, "output": str(self.output)}
        self.python.stdin.write(json.dumps(job) + "\n")
        self.python.stdin.flush()
        return int(self.python.stdout.readline())

    def wait_for(self, words: str) -> None:
        """Wait until the running script has printed these words."""
        deadline = time.monotonic() + TIMEOUT
        while words not in self.said():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace") if self.output.exists() else ""

    def finish(self) -> Done:
        """Wait for the running script to end."""
        code = int(self.python.stdout.readline())
        return Done(code, self.said())

    def run(self, script: str, *args: object, **env: str | None) -> Done:
        self.start(script, *args, **env)
        return self.finish()


def run_script(script: str, args: list[str], env: dict[str, str | None], output: str) -> int:
    """Run `python scripts/<script>.py <args>` in this process, output to a file; returns the exit code."""
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
    gc.freeze()  # garbage collection in a fork would copy all these pages
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = run_script(**json.loads(line))
            sys.stdout.flush()
            os._exit(code)  # skips the interpreter's cleanup, which would copy memory
        sys.stdout.write(f"{child}\n")
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")


if __name__ == "__main__":
    main()
