"""The READMEs describe what exists: commands parse, files and links exist, tables agree with the code."""

import configparser
import dataclasses
import re
import shlex
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from higgs_recipes.chatml import TASKS
from higgs_recipes.configs.corpus import Format
from higgs_recipes.configs.finetuning import TRAIN_MODULES
from higgs_recipes.metrics_schema import METRICS
from tests.helpers.paths import ROOT
from tests.recipes.test_recipes import CONFIGS, at_the_root, parse_command  # noqa: F401  (the fixture is used by its name)
from tests.test_rooms import ROOMS


FRONT_PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
FOLDERS = ("higgs_recipes", "recipes", "scripts", "tests")
READMES = FRONT_PAGES + sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("README.md"))
MAX_LINES, MAX_CHARACTERS = 170, 120
INLINE_COMMAND = r"`((?:accelerate launch|make|pip install|python|torchrun) [^`]+)`"


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read(path: str | Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language, in lists too."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, flags=re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """The commands in bash blocks, continued lines joined, and those in the text."""
    lines = "".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    in_blocks = [line.strip() for line in lines if not re.match(r"for \w+ in |done$", line)]
    return in_blocks + re.findall(INLINE_COMMAND, text)


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table, its head first."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    rows = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()] for table in found]
    return [[[cell.strip() for cell in row] for row in table if set(row[0].strip()) != {"-"}] for table in rows]


def find_table(text: str, first_cell: str) -> list[list[str]]:
    (table,) = [table for table in tables(text) if table[0][0] == first_cell]
    return table


def check_flags(program: Path, words: list[str]) -> None:
    """Assert that a program without a config class has the flags of a command."""
    source = program.read_text(encoding="utf-8")
    for flag in [word for word in words if word.startswith("--")]:
        assert f'"{flag}"' in source, f"{name(program)} has no {flag}"


def check_command(command: str) -> None:
    """Assert that the targets, files, extras and flags of a command exist."""
    words = shlex.split(command.replace("$shard", "1").partition(" | ")[0])  # ffplay may not be installed
    while "=" in words[0]:  # environment variables
        words.pop(0)
    if any(word.startswith("scripts/") for word in words):
        assert parse_command(shlex.join(words)) is not None
    elif words[0] == "make":
        assert words[1] in re.findall(r"^(\w+):", read("Makefile"), flags=re.MULTILINE)
    elif words[0] == "pip":
        config = configparser.ConfigParser()
        config.read(ROOT / "setup.cfg")
        extras = {extra for word in words for extra in re.findall(r"\w+", word) if word.startswith(".[")}
        assert extras <= set(config["options.extras_require"])
    elif words[:2] == ["accelerate", "launch"]:
        assert (ROOT / words[words.index("--config_file") + 1]).is_file()
    elif words[:3] == ["python", "-m", "pytest"]:
        paths = [word for word in words if word.endswith(".py")]
        assert paths and all((ROOT / path).is_file() for path in paths)
    elif words[:2] == ["python", "-m"]:
        check_flags(ROOT / f"{words[2].replace('.', '/')}.py", words[3:])
    elif words[0] == "python":
        check_flags(ROOT / words[1], words[2:])
    else:
        assert words[0] == "torchrun", command


@pytest.mark.parametrize("path", READMES, ids=name)
def test_commands_of_a_readme_parse(path, monkeypatch):
    # As on a machine with the hardware and packages that the recipes need.
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    monkeypatch.setattr("higgs_recipes.configs.fields.find_spec", lambda package: package)
    for command in commands(read(path)):
        check_command(command)


@pytest.mark.parametrize("path", READMES, ids=name)
def test_files_and_links_of_a_readme_exist(path):
    text = read(path)
    for file in re.findall(r"\b(?:recipes|scripts|accelerate_configs|higgs_recipes|tests)/[\w./-]+\.\w+", text):
        assert (ROOT / file).exists(), file
    for file in re.findall(r"`(\w+\.yaml)`", text):
        assert (path.parent / file).exists() or (ROOT / "accelerate_configs" / file).exists(), file
    for link, heading in re.findall(r"\]\(([^):#]*)#?([^):]*)\)", text):
        target = (path.parent / link).resolve() if link else path
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.+)$", read(target), flags=re.MULTILINE)
            assert heading in {re.sub(r"[^\w-]", "", each.lower().replace(" ", "-")) for each in headings}, heading


@pytest.mark.parametrize("path", READMES, ids=name)
def test_python_of_a_readme_imports_what_it_names(path):
    for example in blocks(read(path), "python"):
        compile(example, name(path), "exec")
        imports = [line for line in example.splitlines() if line.startswith(("from ", "import "))]
        assert imports
        exec(compile("\n".join(imports), name(path), "exec"), {})


@pytest.mark.parametrize("path", READMES, ids=name)
def test_lines_of_a_readme_fit_the_screen(path):
    lines = read(path).splitlines()
    is_front_page = path in FRONT_PAGES
    long = [line for line in lines if len(line) > MAX_CHARACTERS and (is_front_page or not line.startswith("|"))]
    assert not long
    assert not is_front_page or len(lines) <= MAX_LINES


def test_every_readme_is_reached_from_the_front_page():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        reached.add(path)
        links = [(path.parent / link).resolve() for link in re.findall(r"\]\(([^):#]+\.md)", read(path))]
        waiting += [link for link in links if link not in reached]
    assert reached == set(READMES)


def test_the_front_page_has_the_five_commands_of_the_pipeline():
    scripts = re.findall(r"scripts/(\w+)\.py", "".join(blocks(read("README.md"), "bash")))
    assert scripts == ["encode", "sft", "generate", "evaluate", "merge"]


def test_the_chinese_front_page_has_the_code_and_the_numbers_of_the_english_one():
    english, chinese = map(read, FRONT_PAGES)
    for language in ("bash", "python"):
        assert blocks(chinese, language) == blocks(english, language) != []

    def first_words(text: str) -> list[str]:
        return [line.split()[0] for block in blocks(text, "text") for line in block.splitlines()]

    def numbers(text: str) -> list[list[str]]:
        return [re.findall(r"\d[\d.,]*", " ".join(map(" ".join, table[1:]))) for table in tables(text)]

    def links(text: str) -> list[str]:
        return [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("README")]

    assert first_words(chinese) == first_words(english) != []
    assert numbers(chinese) == numbers(english) != []
    assert links(chinese) == links(english) != []
    assert "README.zh-CN.md" in english and "(README.md)" in chinese


def test_speeds_of_the_front_page_are_those_of_the_benchmark_table():
    text = read("recipes/higgs-3b/README.md")
    (measured,) = re.findall(
        r"<!-- benchmark_train: begin -->\n(.*?)<!-- benchmark_train: end -->", text, flags=re.DOTALL
    )
    (table,) = tables(measured)
    benchmark = {row[0]: dict(zip(table[0], row, strict=True)) for row in table[1:]}
    head, *rows = find_table(read("README.md"), "variant")
    columns = [column for column in head if column in table[0]]
    assert len(rows) == 6 and columns == ["positions/s", "audio s/s", "peak GiB"]
    for row in rows:
        assert {column: benchmark[row[0]][column] for column in columns} == {
            column: row[head.index(column)] for column in columns
        }
    (hardware,) = re.findall(r"^- hardware: 1 x (.+)$", measured, flags=re.MULTILINE)
    assert hardware in read("README.md") and hardware in read("README.zh-CN.md")


def test_trees_name_every_room():
    rooms = [*ROOMS, "root"]
    (tree,) = blocks(read("README.md"), "text")
    named = [line.split()[0].rstrip("/") for line in tree.splitlines()]
    assert named == ["accelerate_configs", "recipes", "scripts", "tests", "higgs_recipes", *rooms]
    tree = blocks(read("higgs_recipes/README.md"), "text")[1]
    assert [line.split()[0] for line in tree.splitlines()] == rooms


def test_every_script_is_in_the_table_of_scripts():
    table = find_table(read("scripts/README.md"), "script")
    assert {row[0].strip("`") for row in table[1:]} == {name(path) for path in (ROOT / "scripts").glob("*.py")}


@pytest.mark.parametrize("folder", ["benchmarks", "higgs-3b", "hub", "tiny"])
def test_a_folder_of_recipes_has_a_readme_that_names_all_of_them(folder):
    text = read(f"recipes/{folder}/README.md")
    assert not [path.name for path in (ROOT / "recipes" / folder).glob("*.yaml") if path.name not in text]


def test_tables_name_all_tasks_formats_metrics_and_parts_of_the_model():
    recipes, imports, evaluation = map(
        read, ("recipes/README.md", "recipes/import/README.md", "higgs_recipes/evaluation/README.md")
    )
    assert [row[0].strip("`") for row in find_table(recipes, "task")[1:]] == list(TASKS)
    formats = {name for row in find_table(imports, "`format`")[1:] for name in re.findall(r"`(\w+)`", row[0])}
    assert formats == set(get_args(Format))
    fields = [field for row in find_table(evaluation, "metric")[1:] for field in re.findall(r"`(\w+)`", row[1])]
    assert fields == list(METRICS)
    methods = find_table(read("recipes/higgs-3b/README.md"), "recipe fields")
    (parts,) = [row[1] for row in methods if "`train_modules`" in row[0]]
    assert set(re.findall(r"`(\w+)`", parts)) - {"trained_dtype"} == set(TRAIN_MODULES)


def test_options_for_users_of_train_higgs_audio_exist():
    rows = find_table(read("recipes/import/README.md"), "train-higgs-audio")[1:]
    named = {flag for row in rows for flag in re.findall(r"--(\w+)", row[-1])}
    fields = {field.name for config in CONFIGS.values() for field in dataclasses.fields(config)}
    assert len(rows) > 25 and len(named) > 20
    assert named - fields == {"config"}


def test_ci_runs_the_targets_of_the_makefile():
    steps = [line for line in read(".ci/run").splitlines() if line.startswith("make ")]
    assert steps == ["make quality", "make test", "make demo"]
    assert subprocess.run(["bash", "-n", ROOT / ".ci/run"]).returncode == 0
