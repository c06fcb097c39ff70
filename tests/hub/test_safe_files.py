"""Nothing in a checkpoint runs, and no prompt of transformers is shown."""

import ast
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from higgs_recipes.audio.asr import load_asr_model
from higgs_recipes.audio.codec import load_codec
from higgs_recipes.audio.speaker import load_speaker_model
from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.errors import InputError
from higgs_recipes.hub.safe_files import check_checkpoint, check_processor
from higgs_recipes.modeling.model import load_model
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.hub_server import run_python
from tests.helpers.paths import ROOT
from tests.helpers.wavlm import save_random_wavlm
from tests.helpers.whisper import save_random_whisper


CPU = torch.device("cpu")
MARKER = "the code of a stranger ran"
CLASSES = (
    "AutoConfig",
    "AutoModel",
    "AutoTokenizer",
    "AutoProcessor",
    "AutoFeatureExtractor",
    "AutoModelForAudioXVector",
)
CLASSES += ("AutoModelForSpeechSeq2Seq", "AutoModelForTextToWaveform")
# Loads each folder while stdin answers y to all questions; prints the errors and how much of stdin was read.
LOAD = """
import io, json, sys
import torch
from higgs_recipes.audio.asr import load_asr_model
from higgs_recipes.audio.codec import load_codec
from higgs_recipes.audio.speaker import load_speaker_model
from higgs_recipes.configs.model import ModelConfig
from higgs_recipes.errors import InputError
from higgs_recipes.modeling.model import load_model
sys.stdin = io.StringIO("y\\n" * 100)
loaders = {
    "model": lambda folder: load_model(ModelConfig(folder, dtype="float32")),
    "codec": lambda folder: load_codec(folder, revision=None, device="cpu"),
    "asr": lambda folder: load_asr_model(folder, revision=None, device=torch.device("cpu")),
    "speaker": lambda folder: load_speaker_model(folder, revision=None, device=torch.device("cpu")),
}
for kind, folder in json.loads(sys.argv[1]):
    try:
        loaders[kind](folder)
        outcome = "loaded"
    except InputError as error:
        outcome = f"refused: {error}"
    print(json.dumps(outcome))
print(json.dumps(sys.stdin.tell()))
"""


def checkpoints(folder: Path) -> dict[str, Path]:
    shutil.copytree(tiny_folder() / "model", folder / "model")
    shutil.copytree(tiny_folder() / "codec", folder / "codec")
    save_random_whisper(folder / "asr", is_multilingual=False)
    save_random_wavlm(folder / "speaker")
    return {kind: folder / kind for kind in ("model", "codec", "asr", "speaker")}


def add_code(folder: Path, *, module: str, local_class: bool) -> None:
    """Let every config of a checkpoint name code; without `local_class` the names are unknown to transformers."""
    for path in folder.glob("*.json"):
        if path.name in ("tokenizer.json", "vocab.json", "generation_config.json", "model.safetensors.index.json"):
            continue
        config = json.loads(path.read_text())
        config["auto_map"] = {
            name: [f"{module}.Code", None] if "Token" in name else f"{module}.Code" for name in CLASSES
        }
        config["custom_pipelines"] = {"automatic-speech-recognition": {"impl": f"{module}.Code", "pt": ["AutoModel"]}}
        if not local_class:
            names = ("model_type", "architectures", "tokenizer_class", "processor_class", "feature_extractor_type")
            config |= {name: "unknown_code" for name in names if name in config}
        path.write_text(json.dumps(config))


@pytest.mark.parametrize("local_class", [True, False])
@pytest.mark.parametrize("module", ["code", pytest.param("tester/code--code", marks=pytest.mark.slow)])
def test_code_of_a_checkpoint_or_a_second_repository_never_runs(hub, tmp_path, module, local_class):
    marker = tmp_path / MARKER
    code = f"open({str(marker)!r}, 'w')\n\nclass Code:\n    pass\n"
    hub.add_repo("tester/code", {"code.py": code.encode()})
    folders = checkpoints(tmp_path / "checkpoints")
    for folder in folders.values():
        (folder / "code.py").write_text(code)
        add_code(folder, module=module, local_class=local_class)
    arguments = json.dumps([[kind, str(folder)] for kind, folder in folders.items()])
    *outcomes, num_read = map(json.loads, run_python(LOAD, hub.env(), arguments).splitlines())
    assert not marker.exists() and num_read == 0
    assert not [request for request in hub.requests if "tester/code" in request]
    assert len(outcomes) == 4
    for outcome in outcomes:  # the classes of transformers are used, or it is refused
        assert outcome == "loaded" if local_class else outcome.startswith("refused: "), outcome


def test_every_call_that_may_load_code_forbids_it():
    calls = 0
    for path in [*(ROOT / "higgs_recipes").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if not name.endswith((".from_pretrained", ".from_config")) and name != "pipeline":
                continue
            if name in ("PeftModel.from_pretrained", "PeftConfig.from_pretrained"):  # no such argument, no code
                continue
            arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert arguments.get("trust_remote_code") == "False", f"{path.name}:{node.lineno}: {name}"
            calls += 1
    assert calls >= 10


class Exploit:
    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


@pytest.mark.parametrize("file", ["pytorch_model.bin", "../pytorch_model.bin", "/pytorch_model.safetensors", 7, None])
def test_an_index_of_weights_names_only_safetensors_of_its_folder(tmp_path, file):
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Exploit(tmp_path / MARKER)))
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder() / "model", folder)
    shutil.copy(tmp_path / "pytorch_model.bin", folder)
    (folder / "model.safetensors").unlink()
    index = {"metadata": {"total_size": 1}, "weight_map": {"model.norm.weight": file}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="model.safetensors.index.json names .* only safetensors files of the same"):
        load_model(ModelConfig(str(folder), dtype="float32"))
    assert not (tmp_path / MARKER).exists()


def test_metric_models_and_codecs_are_checked_too(tmp_path):
    folders = checkpoints(tmp_path)
    index = json.dumps({"metadata": {}, "weight_map": {"weight": "pytorch_model.bin"}})
    for folder in folders.values():
        (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match="codec .* names 'pytorch_model.bin'"):
        load_codec(folders["codec"], revision=None, device=CPU)
    with pytest.raises(InputError, match="asr .* names 'pytorch_model.bin'"):
        load_asr_model(str(folders["asr"]), revision=None, device=CPU)
    with pytest.raises(InputError, match="speaker .* names 'pytorch_model.bin'"):
        load_speaker_model(str(folders["speaker"]), revision=None, device=CPU)


@pytest.mark.parametrize(
    "index, message",
    [
        ("{", "is not JSON"),
        ("{}", "field 'weight_map' is missing"),
        ('{"weight_map": {}}', "field 'metadata' is missing"),
        ('{"weight_map": [], "metadata": {}}', "weight_map and metadata must be mappings"),
        ('{"weight_map": {"a": "b.safetensors"}, "metadata": {}}', "names b.safetensors, which is missing"),
    ],
)
def test_a_broken_index_is_refused(tmp_path, index, message):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match=message):
        check_checkpoint(tmp_path, name="tester/model")


def test_a_checkpoint_that_makes_transformers_load_an_adapter_is_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "stranger/model"}')
    with pytest.raises(InputError, match="tester/model: adapter_config.json makes transformers load an adapter"):
        check_checkpoint(tmp_path, name="tester/model")


def test_a_processor_that_names_an_audio_tokenizer_is_refused(tmp_path):
    check_processor(tmp_path, name="asr tester/model")
    (tmp_path / "processor_config.json").write_text('{"processor_class": "WhisperProcessor"}')
    check_processor(tmp_path, name="asr tester/model")
    (tmp_path / "processor_config.json").write_text('{"audio_tokenizer": {"audio_tokenizer_name_or_path": "x/y"}}')
    with pytest.raises(InputError, match="its processor names an audio tokenizer"):
        check_processor(tmp_path, name="asr tester/model")
    (tmp_path / "processor_config.json").unlink()
    (tmp_path / "audio_tokenizer_config.json").write_text("{}")
    with pytest.raises(InputError, match="its processor names an audio tokenizer"):
        check_processor(tmp_path, name="asr tester/model")
