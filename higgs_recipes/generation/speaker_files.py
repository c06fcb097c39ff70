"""Find what a `Speaker` is made of: the base of an adapter and the codec, from the records next to the weights."""

from pathlib import Path
from typing import NamedTuple

from higgs_recipes.audio.codec import local_revision
from higgs_recipes.configs.model import CodecConfig, ModelConfig
from higgs_recipes.errors import InputError
from higgs_recipes.hub.download import Snapshot, fetch
from higgs_recipes.hub.public import is_hub_id
from higgs_recipes.hub.run_record import RUN_INFO, read_run
from higgs_recipes.modeling.base_files import fetch_base
from higgs_recipes.modeling.lora import ADAPTER_CONFIG, fetch_adapter, read_lora
from higgs_recipes.records import Fields


class SpeakerFiles(NamedTuple):
    """The files of a model, and the record of the run that trained it, if it has one."""

    config: ModelConfig
    base: Snapshot
    adapter: Snapshot | None
    run: Fields | None


def find_model(name: str, *, revision: str | None, base: str | None, dtype: str) -> SpeakerFiles:
    """Fetch a checkpoint, or an adapter and its base.

    Args:
        base: of an adapter; None: the one that its run.json or its adapter_config.json names.

    Raises:
        InputError: nothing there, or the base of an adapter is not known or was a folder that is not here.
    """
    records = fetch(name, revision=revision, allow_patterns=[ADAPTER_CONFIG, RUN_INFO, "config.json"])
    run, revision = read_run(records.folder), records.commit or revision
    if not (records.folder / ADAPTER_CONFIG).is_file():
        if base is not None:
            raise InputError(f"{name} is not an adapter, so it has no base: remove base={base!r}")
        config = ModelConfig(name, revision, dtype=dtype)
        return SpeakerFiles(config, fetch_base(config), None, run)
    adapter = fetch_adapter(name, revision=revision)
    base_revision = None
    if base is None and run is not None:
        base, base_revision = run["base_model"], run["base_revision"]
    elif base is None:
        lora = read_lora(adapter)
        base, base_revision = lora.base_model_name_or_path, lora.revision
    if base is None or not (is_hub_id(base) or Path(base).expanduser().is_dir()):
        known = "its record names no base" if base is None else f"its base, {base}, is not a folder here"
        raise InputError(f"{name}: an adapter, and {known}: give base=, or merge it with scripts/merge.py")
    config = ModelConfig(base, base_revision, dtype=dtype)
    return SpeakerFiles(config, fetch_base(config), adapter, run)


def find_codec(codec: str | None, run: Fields | None, *, name: str) -> CodecConfig:
    """The codec of a model: the given one, or the one that it was trained with, or the published one without a record.

    Args:
        codec: folder or Hub id; None: look for it.
        run: run.json of the model.
        name: of the model in messages.

    Raises:
        InputError: the model was trained with a local codec that is not here.
    """
    if codec is not None:
        return CodecConfig(codec)
    if run is None:
        return CodecConfig()
    trained = run["codec"]  # see `Codec.revision`
    origin, _, commit = trained.partition("@")
    if origin != "local":
        return CodecConfig(origin, commit)
    folder = Path(run["recipe"].get("codec_name_or_path") or "")
    if folder.is_dir() and (folder / "config.json").is_file() and local_revision(folder) == trained:
        return CodecConfig(str(folder))
    raise InputError(f"{name}: trained with the codec {trained}, which is not at {str(folder)!r} here: give codec=")
