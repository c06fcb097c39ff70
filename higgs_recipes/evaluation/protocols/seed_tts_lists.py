"""The texts of Seed-TTS-eval: its own lists, or the dataset on the Hub that has them as rows."""

from dataclasses import dataclass
from pathlib import Path

from higgs_recipes.audio.decoding import AudioSource
from higgs_recipes.configs.inference import EvaluateConfig
from higgs_recipes.corpus.sources.lines import parse_lines
from higgs_recipes.errors import InputError
from higgs_recipes.evaluation.protocols.dataset import Origin, open_benchmark
from higgs_recipes.evaluation.setup import sample_indexes
from higgs_recipes.files import file_inside
from higgs_recipes.rejects import Reject


LIST, LIST_FORMAT = "meta.lst", "utt|prompt_text|prompt_wav|infer_text[|gt_wav]"
COLUMNS = {"id": "sample_id", "text": "target_text", "ref_text": "ref_text", "ref_audio": "ref_audio"}


@dataclass(frozen=True)
class Sentence:
    """One line of the benchmark; `real` is the recording of the text, which not every line has."""

    id: str
    text: str
    ref_text: str
    ref_audio: AudioSource
    real: AudioSource | None = None
    has_real: bool = False  # the line names a recording, which may be missing


def read_sentences(config: EvaluateConfig) -> tuple[list[Sentence], Origin]:
    """Read the lines of a .lst file, of the meta.lst in a folder, or the rows of a dataset: `num_samples` at most, and
    their origin.

    Raises:
        InputError: the dataset cannot be read, or a line has the wrong number of fields; names the line.
    """
    path = Path(config.dataset).expanduser()
    path = path / LIST if (path / LIST).is_file() else path
    if path.is_file():
        sentences = read_list(path)
        return [sentences[index] for index in sample_indexes(len(sentences), config)], Origin()
    data = open_benchmark(config, COLUMNS)
    data.require(list(COLUMNS))
    sentences = []
    for index in sample_indexes(len(data), config):
        prompt = data.recording(index, data.value(index, "ref_audio"), name="ref_audio")
        if prompt is None:
            raise InputError(f"{data.where}, row {index}: no recording in column {data.columns['ref_audio']}")
        sentences.append(Sentence(data.id(index), data.text(index, "text"), data.text(index, "ref_text"), prompt))
    return sentences, data.origin


def read_list(path: Path) -> list[Sentence]:
    """Read a list of the original benchmark, whose recordings are relative to its folder.

    Raises:
        InputError: no lines, a line that is not `LIST_FORMAT`, a prompt that is missing or outside the folder.
    """
    sentences = []
    for line in parse_lines(path, lambda text: {"text": text.strip()}):
        if isinstance(line, Reject):
            raise InputError(f"{path.name}, line {line.columns['line']}: {line.reason}")
        fields, where = line["text"].split("|"), f"{path.name}, line {line['line']}"
        if len(fields) not in (4, 5) or not all(fields[:4]):
            raise InputError(f"{where}: {len(fields)} fields, expected {LIST_FORMAT}")
        utterance, prompt_text, prompt, text, *real = fields
        sentences.append(
            Sentence(
                id=utterance,
                text=text,
                ref_text=prompt_text,
                ref_audio=file_inside(path.parent, prompt, field=f"{where}: prompt_wav"),
                real=_existing(path.parent, real[0], where) if real else None,
                has_real=bool(real),
            )
        )
    if not sentences:
        raise InputError(f"{path}: no lines; expected {LIST_FORMAT}")
    return sentences


def _existing(folder: Path, name: str, where: str) -> Path | None:
    """The recording of a text; None if the file is missing, which counts as an error rate of 100 %."""
    return file_inside(folder, name, field=f"{where}: gt_wav") if (folder / name).exists() else None
