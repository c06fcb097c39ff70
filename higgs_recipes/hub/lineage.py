"""What a model derives from: it decides the license notice and the statement about random weights in its card."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from higgs_recipes.errors import InputError
from higgs_recipes.hub.download import Snapshot
from higgs_recipes.hub.result_files import CARD
from higgs_recipes.hub.run_record import MERGE_INFO, RUN_INFO, read_run
from higgs_recipes.records import read_record
from higgs_recipes.safe_yaml import load_yaml


INIT_INFO = "init.json"  # record of a model with random weights
HIGGS_OWNER = "bosonai/"  # of the published weights on the Hub
HIGGS_LICENSE = "boson-higgs-audio-2-community-license"


@dataclass(frozen=True)
class Lineage:
    """The origin of a base model.

    Attributes:
        higgs_license: whether its weights are subject to the license of Higgs Audio v2; true unless it is known that
            they are not derived from them.
        untrained: whether its weights are random; None: there is no record, the pre-flight check measures it.
    """

    higgs_license: bool
    untrained: bool | None


def base_lineage(base: Snapshot) -> Lineage:
    """Read the origin of a base model from its Hub id, its own records and the metadata of its card.

    Raises:
        InputError: a record is not JSON.
    """
    is_published = base.commit is not None and base.name.startswith(HIGGS_OWNER)
    run, merge, init = (
        read_record(base.folder / name) if (base.folder / name).is_file() else None
        for name in (RUN_INFO, MERGE_INFO, INIT_INFO)
    )
    card = _card_metadata(base)
    is_trained = is_published or run is not None or merge is not None
    untrained = False if is_trained else True if init is not None else None
    return Lineage(_has_higgs_license(is_published, card, [run, merge], is_random=untrained is True), untrained)


def base_origin(base: Snapshot, *, checkpoint: str | None) -> dict[str, bool | None]:
    """The entries of run.json on the origin of the base.

    Args:
        base: files of the base model.
        checkpoint: checkpoint from which the run resumes: what the pre-flight check measured is in its run.json.
    """
    lineage = base_lineage(base)
    untrained = lineage.untrained
    if untrained is None and checkpoint is not None:
        run = read_run(Path(checkpoint))
        untrained = None if run is None else run.get("untrained_base")
    return {"higgs_license": lineage.higgs_license, "untrained_base": untrained}


def _has_higgs_license(is_published: bool, card: dict, records: list[dict | None], *, is_random: bool) -> bool:
    named = [*_texts(card.get("base_model")), *_texts(card.get("license_name"))]
    if is_published or any(name.startswith((HIGGS_OWNER, HIGGS_LICENSE)) for name in named):
        return True
    recorded = [record["higgs_license"] for record in records if record and "higgs_license" in record]
    if recorded:
        return any(value is not False for value in recorded)
    # Its card has another license; "other" says nothing.
    is_other = any(name not in ("other", "unknown") for name in _texts(card.get("license")))
    return not (is_random or is_other)


def _card_metadata(base: Snapshot) -> dict[str, Any]:
    path = base.folder / CARD
    if not path.is_file():
        return {}
    head = re.match(r"\s*---\r?\n(.*?)\r?\n---", path.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        metadata = load_yaml(head[1]) if head else None
    except InputError:  # not the metadata of a card: it says nothing about the license
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _texts(value: Any) -> list[str]:
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
