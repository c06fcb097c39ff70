"""README describes what is there: its commands parse, its files and targets exist, its tree is whole."""

import dataclasses
import re
import subprocess

import pytest

from tests.helpers.paths import ROOT
from tests.recipes.test_recipes import CONFIGS, at_the_root, parse_command  # noqa: F401  (the fixture is used by its name)
from tests.test_rooms import ROOMS


README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for _, block in BLOCKS for line in block.splitlines() if re.search(r"\bscripts/\w+\.py ", line)]
COMMANDS = [line for line in COMMANDS if line.startswith(("accelerate launch", "python "))]


def test_readme_starts_with_the_five_commands_of_the_road():
    scripts = [re.search(r"scripts/(\w+)\.py", command).group(1) for command in COMMANDS]
    assert scripts[:5] == ["encode", "sft", "generate", "evaluate", "merge"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: re.search(r"scripts/(\w+)", command).group(1))
def test_a_command_of_readme_parses(command, monkeypatch):
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    assert parse_command(command) is not None


def test_make_knows_the_targets_that_readme_names():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake (\w+)\b", "".join(block for _, block in BLOCKS))) | set(
        re.findall(r"`make (\w+)`", README)
    )
    assert {"demo", "test"} <= named <= targets


def test_files_that_readme_names_are_there():
    paths = set(re.findall(r"(?:recipes|scripts|accelerate_configs|higgs_recipes|tests)/[\w./-]+\.\w+", README))
    assert len(paths) > 10
    assert not {path for path in paths if not (ROOT / path).exists()}


def test_the_tree_names_every_room_and_script():
    (rooms,) = [block for _, block in BLOCKS if "modeling/  " in block]
    named = [line.split()[0] for line in rooms.splitlines()]
    assert named == [*(f"{room}/" for room in ROOMS), "root"]
    for script in (ROOT / "scripts").glob("*.py"):
        assert f"scripts/{script.name} " in README


def test_python_of_readme_imports_what_it_names():
    (example,) = [block for language, block in BLOCKS if language == "python"]
    imports = "\n".join(line for line in example.splitlines() if line.startswith("from "))
    names: dict = {}
    exec(compile(imports, "README.md", "exec"), names)
    assert {"ModelConfig", "load_model"} <= names.keys()
    compile(example, "README.md", "exec")


def test_flags_for_people_from_train_higgs_audio_are_flags_here():
    table = README.partition("### From train-higgs-audio")[2].partition("| field of metadata.json")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("|")]
    named = {flag for row in rows for flag in re.findall(r"--(\w+)", row[-1])}
    fields = {field.name for config in CONFIGS.values() for field in dataclasses.fields(config)}
    assert len(rows) > 25 and len(named) > 20
    assert named - fields == {"config"}


def test_ci_runs_what_readme_says():
    steps = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("make ")]
    assert steps == ["make quality", "make test", "make demo"]
    assert subprocess.run(["bash", "-n", ROOT / ".ci/run"]).returncode == 0
