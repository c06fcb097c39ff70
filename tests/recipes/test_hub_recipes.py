"""Each recipe of recipes/hub reads a tiny dataset of its own layout: names, splits, columns, types are the Hub's."""

import io
import json
import tarfile

import pytest
import soundfile
import yaml
from datasets import Audio, ClassLabel, Dataset, Features, Value

from tests.helpers.hub_server import HubServer, run_python
from tests.helpers.paths import ROOT
from tests.helpers.tiny_codec import tone


RECIPES = {path.stem: path for path in (ROOT / "recipes/hub").glob("*.yaml")}
NOT_PARQUET = b"This file is not asked for."
TEXT, INT = Value("string"), Value("int32")
AUDIO = {"bytes": Value("binary"), "path": TEXT}


def recording(index: int, *, suffix: str = "wav") -> bytes:
    content = io.BytesIO()
    waveform = tone(3.2, hertz=200.0 + 40 * index)
    soundfile.write(content, waveform.numpy(), 24_000, format=suffix.upper())
    return content.getvalue()


def parquet(rows: list[dict], **features) -> bytes:
    """Rows with a recording each, the audio column as the Hub has it."""
    rows = [row | {"audio": {"bytes": recording(index), "path": f"{index}.wav"}} for index, row in enumerate(rows)]
    table = Dataset.from_list(rows, features=Features({**features, "audio": AUDIO})).cast_column("audio", Audio())
    content = io.BytesIO()
    table.to_parquet(content)
    return content.getvalue()


def card(*configs: tuple[str, dict[str, str]]) -> bytes:
    """The head of a README: (name, split to pattern) each."""
    named = [
        {"config_name": name, "data_files": [{"split": s, "path": path} for s, path in splits.items()]}
        for name, splits in configs
    ]
    return f"---\n{yaml.safe_dump({'configs': named})}---\n".encode()


def ljspeech(hub: HubServer) -> None:
    rows = [
        {"id": f"LJ001-{i}", "file": f"LJ001-{i}.wav", "text": f"{i}.", "normalized_text": f"No. {i}."} for i in (1, 2)
    ]
    content = parquet(rows, id=TEXT, file=TEXT, text=TEXT, normalized_text=TEXT)
    files = {"main/train/0000.parquet": content}
    hub.add_converted("keithito/lj_speech", files, main={"lj_speech.py": b"raise SystemExit"})


def libritts_r(hub: HubServer) -> None:
    splits = ("dev.clean", "test.clean", "train.clean.100", "train.clean.360")
    names = dict.fromkeys(("text_normalized", "text_original", "speaker_id", "path", "chapter_id", "id"), TEXT)
    files = {"README.md": card(("clean", {split: f"data/{split}/{split}*.parquet" for split in splits}))}
    for split in splits:
        row = {name: f"{split} {name}" for name in names} | {"id": f"id_{split}", "speaker_id": split[-3:]}
        content = parquet([row], **names) if split.startswith("train") else NOT_PARQUET
        files[f"data/{split}/{split}-00000-of-00001.parquet"] = content
    hub.add_repo("mythicinfinity/libritts_r", files, kind="datasets")


def vctk(hub: HubServer) -> None:
    names = dict.fromkeys("speaker_id file text text_id age gender accent region comment".split(), TEXT)
    rows = [
        dict.fromkeys(names, "")
        | {"speaker_id": who, "text": f"Said by {who}.", "file": f"/x/{who}_001_mic{mic}.flac"}
        for who in ("p225", "p280")
        for mic in (1, 2)
    ]
    files = {"README.md": card(("default", {"train": "data/train-*"}))}
    files["data/train-00000-of-00027-ff24600f70f7ff75.parquet"] = parquet(rows, **names)
    hub.add_repo("sanchit-gandhi/vctk", files, kind="datasets")


def common_voice(hub: HubServer) -> None:
    names = dict.fromkeys("client_id path sentence age gender accent locale segment variant".split(), TEXT)
    rows = [
        dict.fromkeys(names, "") | {"client_id": f"c{i}", "path": f"it_{i}.mp3", "sentence": f"Frase {i}."}
        for i in (1, 2)
    ]
    rows = [row | {"up_votes": 2, "down_votes": 0} for row in rows]
    configs = [(name, {s: f"{name}/{s}-*" for s in ("train", "validation", "test")}) for name in ("en", "it")]
    files = {f"{n}/{s}-00000-of-00001.parquet": NOT_PARQUET for n, splits in configs for s in splits}
    files["it/train-00000-of-00001.parquet"] = parquet(
        rows, **names, up_votes=Value("int64"), down_votes=Value("int64")
    )
    hub.add_repo("fixie-ai/common_voice_17_0", files | {"README.md": card(*configs)}, kind="datasets")


def fleurs(hub: HubServer) -> None:
    names = {"id": INT, "num_samples": INT, "path": TEXT, "transcription": TEXT, "raw_transcription": TEXT}
    names |= {"gender": ClassLabel(names=["male", "female", "other"]), "lang_id": ClassLabel(names=["en_us", "vi_vn"])}
    names |= {"language": TEXT, "lang_group_id": ClassLabel(names=["western_european_we", "south_east_asian_sea"])}
    rows = [
        {"id": 7, "num_samples": 9, "path": f"train/{i}.wav", "transcription": "xin", "raw_transcription": f"Xin {i}."}
        for i in (1, 2)
    ]
    rows = [row | {"gender": 1, "lang_id": 1, "language": "Vietnamese", "lang_group_id": 1} for row in rows]
    files = {f"{n}/{s}/0000.parquet": NOT_PARQUET for n in ("en_us", "vi_vn") for s in ("train", "validation", "test")}
    files["vi_vn/train/0000.parquet"] = parquet(rows, **names)
    hub.add_converted("google/fleurs", files, main={"fleurs.py": b"raise SystemExit"})


def tar(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def emilia_tar() -> bytes:
    files = {}
    for index in (0, 1):
        key = f"EN_B00000_S0000{index}_W000000"
        fields = {"id": key, "wav": f"{key}.mp3", "text": f" Well {index}.", "duration": 3.2, "speaker": key[:16]}
        files[f"{key}.json"] = json.dumps(fields | {"language": "en", "dnsmos": 3.3}).encode()
        files[f"{key}.mp3"] = recording(index, suffix="mp3")
    return tar(files)


def emilia(hub: HubServer) -> None:
    names = ("Emilia/EN/EN-B000109.tar", "Emilia/DE/DE-B000000.tar", "Emilia-YODAS/EN/EN-B000000.tar")
    files = dict.fromkeys(names, NOT_PARQUET) | {"Emilia/EN/EN-B000000.tar": emilia_tar()}
    hub.add_repo("amphion/Emilia-Dataset", files, kind="datasets")


def phoaudiobook(hub: HubServer) -> None:
    rows = [{"text": f"Câu {i}.", "speaker": f"người_{i}"} for i in (1, 2)]
    files = {"data/train-00000-of-00002.parquet": parquet(rows, text=TEXT, speaker=TEXT)}
    files |= {"data/test-00000-of-00001.parquet": NOT_PARQUET}
    files["README.md"] = card(("default", {"train": "data/train-*", "test": "data/test-*"}))
    hub.add_repo("thivux/phoaudiobook", files, kind="datasets")


LAYOUTS = [ljspeech, libritts_r, vctk, common_voice, fleurs, emilia, phoaudiobook]
ROWS = {  # recipe to (id, text, speaker, language) of its rows
    "ljspeech": [["LJ001-1", "No. 1.", "lj", "en"], ["LJ001-2", "No. 2.", "lj", "en"]],
    "libritts_r": [
        ["id_train.clean.100", "train.clean.100 text_normalized.", "100", "en"],
        ["id_train.clean.360", "train.clean.360 text_normalized.", "360", "en"],
    ],
    "vctk": [["000000", "Said by p225.", "p225", "en"], ["000001", "Said by p280.", "p280", "en"]],
    "common_voice": [["it_1.mp3", "Frase 1.", "c1", "it"], ["it_2.mp3", "Frase 2.", "c2", "it"]],
    "fleurs": [["train_1.wav", "Xin 1.", None, "vi"], ["train_2.wav", "Xin 2.", None, "vi"]],
    "emilia": [
        ["EN_B00000_S00000_W000000", "Well 0.", "EN_B00000_S00000", "en"],
        ["EN_B00000_S00001_W000000", "Well 1.", "EN_B00000_S00001", "en"],
    ],
    "phoaudiobook": [["000000", "Câu 1.", "người_1", "vi"], ["000001", "Câu 2.", "người_2", "vi"]],
}
# Rows of a recipe, or what is said to one whose source is changed. A Python of its own reads the Hub's address.
LOAD = """
import json, sys, tempfile
from higgs_recipes.corpus.code_cache import CodeCache
from higgs_recipes.configs.corpus import EncodeConfig
from higgs_recipes.errors import InputError
from higgs_recipes.configs.parser import parse_recipe
from higgs_recipes.corpus.streaming import load_corpus

def load(recipe, **changes):
    config = parse_recipe(EncodeConfig, ["--config", recipe])
    config.sources = [source | changes for source in config.sources]
    config.output_dir = config.cache_dir = tempfile.mkdtemp(dir=sys.argv[2])
    try:
        rows = load_corpus(config, codec=None, cache=CodeCache(config.cache_dir, codec="no codec")).rows
        return [[row[name] for name in ("id", "text", "speaker", "language")] for row in rows]
    except InputError as error:
        return str(error)

print(json.dumps([load(recipe, **changes) for recipe, changes in json.loads(sys.argv[1])]))
"""
CHANGED = {  # what else is asked for: (recipe, changes of its source)
    "class labels": (
        "fleurs",
        {
            "columns": {"id": "path", "text": "raw_transcription", "language": "lang_id", "scene": "gender"},
            "language": None,
        },
    ),
    "no converted split": ("fleurs", {"split": "dev"}),
    "files of a split": ("phoaudiobook", {"files": "data/*"}),
    "no split": ("libritts_r", {"split": "train.clean.100+dev"}),
    "no file": ("emilia", {"files": "Emilia/XX/*.tar"}),
    "no tar": ("emilia", {"files": "Emilia/DE/*.tar"}),
    "no tar, all at once": ("emilia", {"files": "Emilia/DE/*.tar", "streaming": False}),
    "by files": ("phoaudiobook", {"files": "data/train-0000[0-4]*.parquet", "split": None}),
    "other files": ("phoaudiobook", {"files": "README.md", "split": None}),
    "other files, all at once": ("phoaudiobook", {"files": "README.md", "split": None, "streaming": False}),
    "where of no column": ("vctk", {"where": {"mic": "1"}}),
    "where of no row": ("vctk", {"where": {"file": "*_mic3*"}}),
    "where in tar files": ("emilia", {"where": {"json.id": "*S00001*"}}),
    "gated": ("phoaudiobook", {"path": "thivux/gated"}),
    "gated files": ("emilia", {"path": "thivux/gated"}),
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """What each recipe and each change gives, and the paths that were fetched."""
    asked = [(str(RECIPES[name]), {}) for name in ROWS]
    asked += [(str(RECIPES[name]), changes) for name, changes in CHANGED.values()]
    with HubServer(tmp_path_factory.mktemp("hub")) as hub:
        for layout in LAYOUTS:
            layout(hub)
        gated = hub.repos["datasets", "thivux/phoaudiobook"].files
        gated = gated | {"Emilia/EN/EN-B000000.tar": b"never sent"}
        hub.add_repo("thivux/gated", gated, kind="datasets", gated=True)
        said = run_python(LOAD, hub.env(), json.dumps(asked), str(tmp_path_factory.mktemp("caches")))
    fetched = [request for request in hub.requests if "/resolve/" in request]
    return dict(zip([*ROWS, *CHANGED], json.loads(said.splitlines()[-1]), strict=True)), fetched


def test_every_recipe_has_a_layout():
    assert RECIPES.keys() == ROWS.keys() == {layout.__name__ for layout in LAYOUTS}


@pytest.mark.parametrize("recipe", ROWS)
def test_a_recipe_reads_its_dataset(loaded, recipe):
    assert loaded[0][recipe] == ROWS[recipe]


def test_only_the_asked_files_are_fetched(loaded):
    _, fetched = loaded
    unasked = (
        "dev.clean",
        "test.clean",
        "/en/",
        "it/test",
        "it/validation",
        "en_us",
        "vi_vn/test",
        "EN-B000109",
        "YODAS",
    )
    assert any("train.clean.360" in request for request in fetched)
    assert not [request for request in fetched if any(name in request for name in (*unasked, "data/test-"))]


def test_numbers_of_classes_become_their_names(loaded):
    assert [row[3] for row in loaded[0]["class labels"]] == ["vi_vn", "vi_vn"]


def test_a_part_of_a_dataset_is_asked_for_by_its_files(loaded):
    assert loaded[0]["by files"] == ROWS["phoaudiobook"]
    assert loaded[0]["where in tar files"] == ROWS["emilia"][1:]


@pytest.mark.parametrize(
    "change, message",
    [
        ("no converted split", "google/fleurs at revision refs/convert/parquet: no file matches vi_vn/dev/*.parquet"),
        (
            "files of a split",
            "files of thivux/phoaudiobook cannot be combined with name or split; leave them out",
        ),
        ("no split", 'Unknown split "dev"'),
        ("no file", "amphion/Emilia-Dataset: no file matches Emilia/XX/*.tar"),
        ("no tar", "DE-B000000.tar is not a complete tar file"),
        ("no tar, all at once", "DE-B000000.tar is not a complete tar file"),
        ("other files", "streaming requires .parquet or .tar files, found .md"),
        ("other files, all at once", "files must match .parquet or .tar files, found .md"),
        ("where of no column", "where: no column 'mic'; the columns are speaker_id, file"),
        ("where of no row", "none of 4 rows matches where {'file': '*_mic3*'}"),
        ("gated", "hf auth login"),
        ("gated files", "is gated: accept its terms at "),
    ],
)
def test_what_cannot_be_read_is_named(loaded, change, message):
    assert message in loaded[0][change]
