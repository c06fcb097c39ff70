"""Calls of the package against a `HubServer`, each in a process with the environment of one of its users."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.hub_server import run_python
from tests.helpers.paths import ROOT


CALLS = """
import json, sys
from higgs_recipes.errors import InputError
from higgs_recipes.hub.download import fetch
from higgs_recipes.hub.push import push_folder, push_report, resolve_repo_id, resolve_target
for name, arguments in json.loads(sys.argv[1]):
    try:
        outcome = fetch(**arguments).folder if name == "fetch" else globals()[name](**arguments)
    except InputError as error:
        outcome = f"{type(error).__name__}: {error}"
    print(json.dumps(str(outcome)))
"""


def attempt(env: dict[str, str], *calls: tuple[str, dict]) -> list[str]:
    """The result or the error of each call (name of a function, arguments), all in one process."""
    return [json.loads(line) for line in run_python(CALLS, env, json.dumps(calls)).splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of all files in a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_retry(message: str, env: dict[str, str]) -> None:
    """Run the command at the end of a PushError in a shell."""
    command = message.splitlines()[-1].strip()
    env = env | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"}
    done = subprocess.run(command, shell=True, env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
