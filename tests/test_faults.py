"""Every command that is killed, or finds the disk full, at any change of a file is finished by the same command."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from higgs_recipes.configs.corpus import ExportConfig, ImportConfig
from higgs_recipes.configs.inference import GenerateConfig, InitConfig, MergeConfig
from higgs_recipes.configs.segment import SegmentConfig
from higgs_recipes.corpus.encode import encode_corpus
from higgs_recipes.errors import DiskError, InputError
from higgs_recipes.evaluation.report import write_report
from higgs_recipes.generation.generate import Generation
from higgs_recipes.generation.synthesis import write_speech
from higgs_recipes.hub.push import write_merged_card
from higgs_recipes.ingest import segment_corpus
from higgs_recipes.ingest.curation import exclude_rows
from higgs_recipes.ingest.export_corpus import export_corpus
from higgs_recipes.ingest.import_corpus import import_corpus
from higgs_recipes.ingest.listening_page import MEASURED
from higgs_recipes.ingest.segment_corpus import segment_recordings
from higgs_recipes.modeling import merge as merging
from higgs_recipes.modeling.random_model import init_checkpoint
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.corpus_folder import encode_config, make_corpus, write_tone
from tests.helpers.evaluation_record import metrics, waveforms
from tests.helpers.faults import Killed, faults
from tests.helpers.paths import ROOT
from tests.helpers.records import MERGE
from tests.helpers.tiny_codec import tiny_codec, tiny_codec_folder


Command = Callable[[Path, bool], None]  # (folder of sources and results, overwrite)


class Segmenter:
    """Cuts every recording into one segment, without models."""

    revisions = {"asr": "none", "asr_revision": "1"}

    def __init__(self, config: SegmentConfig, asr_model: None) -> None:
        pass

    def segments(self, file):
        row = {"id": file.name, "file_name": f"audio/{file.name}.wav", "text": "Words.", "text_slowed": "Words."}
        yield file.columns | row | {"start": 0.0, "end": 1.0} | dict.fromkeys(MEASURED, 1.0), torch.full((100,), 0.5)


def import_(root: Path, overwrite: bool) -> None:
    sources = [str(root / "clips")]
    import_corpus(_with(ImportConfig(format="audiofolder", sources=sources, copy_audio=True), root, overwrite))


def export(root: Path, overwrite: bool) -> None:
    export_corpus(_with(ExportConfig(source=str(root / "clips")), root, overwrite))


def segment(root: Path, overwrite: bool) -> None:
    segment_recordings(_with(SegmentConfig(sources=[str(root / "clips")], asr="none"), root, overwrite))


def generate(root: Path, overwrite: bool) -> None:
    config = _with(GenerateConfig(text=["One.", "Two."]), root, overwrite)
    write_speech(config, tiny_codec(), [Generation(torch.ones(2, 8, dtype=torch.int16), True, 0)] * 2)


def evaluate(root: Path, overwrite: bool) -> None:
    write_report(metrics(), waveforms(2), run=None, output_dir=root / "out", overwrite=overwrite)


def merge(root: Path, overwrite: bool) -> None:
    finish = {"finish": lambda folder: write_merged_card(folder, name="voice")}
    merging.merge(_with(MergeConfig(adapter="me/voice"), root, overwrite), speak=None, **finish)


def init(root: Path, overwrite: bool) -> None:
    config = InitConfig(model_config=str(tiny_folder() / "model.json"))
    config.codec_config = str(ROOT / "tests/data/random_tiny/codec.json")
    init_checkpoint(_with(config, root, overwrite))


def encode(root: Path, overwrite: bool) -> None:
    fields = {"codec_name_or_path": str(tiny_codec_folder()), "cache_dir": str(root / "codes"), "test_size": 1}
    encode_corpus(_with(encode_config(root / "clips", **fields), root, overwrite))


def _with(config, root: Path, overwrite: bool):
    config.output_dir, config.overwrite_output_dir = str(root / "out"), overwrite
    return config


COMMANDS = (import_, export, segment, generate, evaluate, merge)
# The fast suite tries some changes of the fast commands.
CASES = [(command, False) for command in COMMANDS]
CASES += [pytest.param((command, True), marks=pytest.mark.slow) for command in (*COMMANDS, init, encode)]


def name_of(case: tuple[Command, bool]) -> str:
    return case[0].__name__ + "-thorough" * case[1]


@dataclass
class Case:
    """A command in new folders, each with the same sources."""

    command: Command
    is_thorough: bool
    parent: Path
    count: int = 0

    def root(self, *, old: bool = False) -> Path:
        self.count += 1
        root = self.parent / str(self.count)
        shutil.copytree(self.parent / "sources", root / "clips")
        if old:
            self.command(root, False)
        return root

    def result(self, root: Path) -> dict[str, bytes]:
        """All files but the cache, without dates, commits and the folder; hidden siblings of the result as well."""
        files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
        shown = {name: path for name, path in files.items() if not name.startswith(("clips/", "codes/"))}
        unrelated = re.compile(rf'{root}\b|"overwrite_output_dir": \w+'.encode())
        return {name: unrelated.sub(b"", path.read_bytes()) for name, path in shown.items()}

    def numbers(self, count: int) -> list[int]:
        """The changes to disturb, of `count`."""
        if not self.is_thorough:
            return sorted({count // 3, 2 * count // 3, count})
        step = 1 if self.command in COMMANDS else max(1, count // 8)  # the others take long
        return sorted({*range(1, count + 1, step), count})

    def repeat(self, root: Path, overwrite: bool) -> None:
        try:
            self.command(root, overwrite)
        except InputError as error:
            if not re.search("exists and is not empty", str(error)) or overwrite:
                raise


@pytest.fixture
def case(request, tmp_path, monkeypatch) -> Case:
    def merge_into(staging, config, *, speak):
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            (staging / name).write_text("{}")
        (staging / "merge.json").write_text(json.dumps(MERGE))
        return MERGE

    monkeypatch.setattr(merging, "_merge_into", merge_into)
    monkeypatch.setattr(segment_corpus, "Segmenter", Segmenter)
    monkeypatch.setattr(segment_corpus, "load_asr_model", lambda *args, **options: None)
    for module in ("ingest.segment_corpus", "ingest.import_corpus", "modeling.random_model", "corpus.encode"):
        monkeypatch.setattr(f"higgs_recipes.{module}.git_commit", lambda: "commit")
        monkeypatch.setattr(f"higgs_recipes.{module}.library_versions", dict)
    command, is_thorough = request.param
    make_corpus(tmp_path / "sources", 3 if command is encode else 2)
    return Case(command, is_thorough, tmp_path)


def number_of_changes(case: Case, root: Path, overwrite: bool, kind: str) -> int:
    with faults(root, kind=kind) as fault:
        case.command(root, overwrite)
    assert fault.count > 3
    return fault.count


@pytest.mark.parametrize("case", CASES, indirect=True, ids=name_of)
def test_a_killed_command_is_finished_by_the_same_one(case):
    undisturbed = case.root()
    num_changes = number_of_changes(case, undisturbed, False, "kill")
    for number in case.numbers(num_changes):
        root = case.root()
        with pytest.raises(Killed) as killed, faults(root, at=number):
            case.command(root, False)
        case.repeat(root, False)
        assert case.result(root) == case.result(undisturbed), killed.value


@pytest.mark.parametrize("case", CASES, indirect=True, ids=name_of)
def test_a_replaced_result_is_there_at_any_time_and_replaced_by_the_next_run(case):
    undisturbed = case.root(old=True)
    old = case.result(undisturbed)
    num_changes = number_of_changes(case, undisturbed, True, "kill")
    assert case.result(undisturbed) == old  # made again
    for number in case.numbers(num_changes):
        root = case.root(old=True)
        with pytest.raises(Killed) as killed, faults(root, at=number):
            case.command(root, True)
        shown = [name for name in case.result(root) if name.startswith("out/") and "/finished/" not in name]
        assert {name: case.result(root)[name] for name in shown} == old, killed.value
        case.repeat(root, True)
        assert case.result(root) == old, killed.value


@pytest.mark.parametrize("case", CASES, indirect=True, ids=name_of)
def test_a_full_disk_is_one_message_and_the_same_command_ends_as_undisturbed(case):
    undisturbed = case.root()
    num_changes = number_of_changes(case, undisturbed, False, "full")
    for number in case.numbers(num_changes):
        root = case.root()
        with pytest.raises(DiskError, match="disk full at .* MB free; make room or choose another folder"):
            with faults(root, at=number, kind="full"):
                case.command(root, False)
        assert not (root / "out").exists()
        case.command(root, False)
        assert case.result(root) == case.result(undisturbed)


@pytest.fixture
def segmented(tmp_path) -> Path:
    """The function `corpus` of a segmented corpus with three rows."""
    folder = tmp_path / "corpus"
    rows = [
        {"id": name, "file_name": f"audio/{name}.wav", "text": "Hello.", "text_slowed": "Hello.", "file": "a.wav"}
        | {"start": 0.0, "end": 1.0, "speaker": None}
        | dict.fromkeys(MEASURED, 1.0)
        for name in "abc"
    ]
    for row in rows:
        write_tone(folder / row["file_name"])
    record = {"rows": 3, "recordings": 1, "recorded_seconds": 3.0, "asr": "asr", "asr_revision": "main", "rejects": {}}
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "rejects.jsonl").touch()
    (folder / "segment.json").write_text(json.dumps(record))
    (tmp_path / "strike.txt").write_text("a b")
    return folder


@pytest.mark.parametrize("kind, error", [("kill", Killed), ("full", DiskError)])
def test_an_exclusion_of_rows_is_finished_by_the_same_command(segmented, tmp_path, kind, error):
    def exclude(folder: Path) -> None:
        config = {"sources": ["in"], "asr": "none", "strike": str(tmp_path / "strike.txt")}
        exclude_rows(SegmentConfig(**config, output_dir=str(folder)))

    def contents(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    shutil.copytree(segmented, tmp_path / "undisturbed")
    with faults(tmp_path, kind=kind) as fault:
        exclude(tmp_path / "undisturbed")
    expected = contents(tmp_path / "undisturbed")
    assert set(expected) == {"audio/c.wav", "listen.html", "metadata.jsonl", "rejects.jsonl", "segment.json"}
    for number in range(1, fault.count + 1):
        folder = tmp_path / f"corpus{number}"
        shutil.copytree(segmented, folder)
        with pytest.raises(error), faults(tmp_path, at=number, kind=kind):
            exclude(folder)
        exclude(folder)
        assert contents(folder) == expected
    assert not list(tmp_path.glob(".*"))
