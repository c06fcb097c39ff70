"""Checks of a checkpoint's files before transformers loads them: they must not run code or name files elsewhere."""

from pathlib import Path

from higgs_recipes.errors import InputError
from higgs_recipes.records import read_record


WEIGHTS_INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"


def check_checkpoint(folder: Path, *, name: str) -> None:
    """Check that transformers would load only safetensors files of the folder as weights.

    It loads each file that an index of sharded weights names, and unpickles those of other formats. With an
    adapter_config.json it loads an adapter too.

    Args:
        folder: folder of the checkpoint.
        name: name of the checkpoint in messages.

    Raises:
        InputError: there is an adapter_config.json, or the index is not JSON, lacks a field, or names another file or
            a missing one.
    """
    if (folder / ADAPTER_CONFIG).exists():
        raise InputError(
            f"{name}: {ADAPTER_CONFIG} makes transformers load an adapter into the model: use a checkpoint without it"
        )
    if not (folder / WEIGHTS_INDEX).is_file():
        return
    index = read_record(folder / WEIGHTS_INDEX)
    weight_map = index["weight_map"]
    if not isinstance(weight_map, dict) or not isinstance(index["metadata"], dict):
        raise InputError(f"{name}: {WEIGHTS_INDEX}: weight_map and metadata must be mappings; download the file again")
    for file in weight_map.values():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise InputError(
                f"{name}: {WEIGHTS_INDEX} names {file!r}, but only safetensors files of the same folder are loaded, "
                "as others may run code: use a checkpoint in safetensors"
            )
    missing = [file for file in sorted(set(weight_map.values())) if not (folder / file).is_file()]
    if missing:
        raise InputError(
            f"{name}: {WEIGHTS_INDEX} names {missing[0]}, which is missing: download the checkpoint again"
        )


def check_processor(folder: Path, *, name: str) -> None:
    """Check that the processor's config names no audio tokenizer, which transformers would load from elsewhere.

    Raises:
        InputError: it does, or it is not JSON.
    """
    path = folder / "processor_config.json"
    names_tokenizer = path.is_file() and "audio_tokenizer" in read_record(path)
    if names_tokenizer or (folder / "audio_tokenizer_config.json").exists():
        raise InputError(
            f"{name}: its processor names an audio tokenizer, which transformers would load from another repository: "
            "use a checkpoint without it"
        )
