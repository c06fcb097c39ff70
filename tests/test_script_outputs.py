"""Every script tries its output before the work: a place that cannot be written is one message and exit code 2."""

import os
import shutil
from pathlib import Path

import pytest

from higgs_recipes.run_lock import lock_output
from tests.helpers.corpus_folder import make_corpus
from tests.helpers.forked_scripts import Scripts
from tests.helpers.paths import ROOT


pytestmark = pytest.mark.slow  # each runs some scripts

MODEL = ("--model_name_or_path", "no/model")
CODEC = ("--codec_name_or_path", "no/codec")
# Script -> its flags but the output: inputs that do not exist, where they are looked for after the output.
FLAGS = {
    "encode": ("--sources", "none", *CODEC),
    "sft": (*MODEL, "--datasets", "none", "--bf16", "false", "--use_cpu", "true"),
    "generate": (*MODEL, *CODEC, "--text", "Hello."),
    "evaluate": (*MODEL, *CODEC, "--dataset", "none"),
    "merge": (*MODEL, "--adapter", "none"),
    "import_corpus": ("--format", "audiofolder", "--sources", "clips"),
    "segment": ("--sources", "none", "--asr", "no/asr"),
    "export_corpus": ("--source", "clips"),
    "fit_codec": ("--sources", "none", "--codec_config", "none.json"),
    "init_model": ("--model_config", "none.json"),
    "benchmark": ("encode", "--codec_config", "none.json"),
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    make_corpus(folder / "clips", 1)
    with Scripts(dict(os.environ) | {"HF_HUB_OFFLINE": "1"}, folder) as scripts:
        yield scripts


def error_of(scripts: Scripts, script: str, output: Path) -> str:
    clips = str(scripts.folder / "clips")
    flags = [clips if flag == "clips" else flag for flag in FLAGS[script]]
    done = scripts.run(script, *flags, "--output" if script == "benchmark" else "--output_dir", output)
    assert done.code == 2 and "Traceback" not in done.said, done.said
    (line,) = [line for line in done.said.splitlines() if line.startswith("ERROR")]
    return line


def test_all_scripts_are_tried():
    assert set(FLAGS) == {path.stem for path in (ROOT / "scripts").glob("*.py")}


@pytest.mark.parametrize("script", FLAGS)
def test_an_output_that_cannot_be_written_is_found_before_the_work(scripts, tmp_path, script):
    (tmp_path / "file").write_text("text")
    assert "/file is a file, expected a folder" in error_of(scripts, script, tmp_path / "file" / "out")
    with lock_output(tmp_path / ("out/model" if script == "init_model" else "out")):
        assert "is in use by another run (process " in error_of(scripts, script, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("script", FLAGS)
def test_a_file_and_a_read_only_disk_are_found_before_the_work(scripts, tmp_path, read_only_disk, script):
    (tmp_path / "out").write_text("text")
    if script == "benchmark":
        (tmp_path / "out").unlink()
        (tmp_path / "out").mkdir()
    assert "/out is a f" in error_of(scripts, script, tmp_path / "out")
    assert "Read-only file system: choose a folder on another disk" in error_of(
        scripts, script, read_only_disk / "out"
    )


@pytest.mark.parametrize("script", sorted(set(FLAGS) - {"sft", "benchmark", "init_model"}))
def test_files_of_the_user_are_never_deleted(scripts, tmp_path, script):
    shutil.copytree(scripts.folder / "clips", tmp_path / "out")
    (tmp_path / "out" / ".env").write_text("secret")
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    FLAGS[script] += ("--overwrite_output_dir", "true")
    assert "out cannot be replaced: it is not a complete result" in error_of(scripts, script, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before
