"""The license notice stays unless a base is known not to derive from Higgs Audio v2, whatever a recipe says."""

import json
from pathlib import Path

import pytest

from higgs_recipes.hub.download import Snapshot
from higgs_recipes.hub.lineage import Lineage, base_lineage, base_origin
from tests.helpers.checkpoints import tiny_folder
from tests.helpers.paths import ROOT
from tests.helpers.records import MERGE, RUN


COMMIT = "0" * 40
HIGGS = "---\nlicense: other\nlicense_name: boson-higgs-audio-2-community-license\n---\n# A model\n"


def base(folder: Path, *, name: str | None = None, card: str | None = None, **records: dict) -> Snapshot:
    if card is not None:
        (folder / "README.md").write_text(card)
    for file, record in records.items():
        (folder / f"{file}.json").write_text(json.dumps(record))
    return Snapshot(name or str(folder), COMMIT if name else None, folder)


def test_the_published_model_is_trained_and_has_its_license(tmp_path):
    apache = "---\nlicense: apache-2.0\n---\n"
    assert base_lineage(base(tmp_path, name="bosonai/higgs-tts-2-3b-base", card=apache)) == Lineage(True, False)


def test_the_license_notice_stays_when_nothing_is_known(tmp_path):
    assert base_lineage(base(tmp_path)) == Lineage(True, None)
    for card in (
        "# A model",
        "---\n- a list\n---\n",
        "---\nlicense: [\n---\n",
        "---\nlicense: other\n---\n",
        "",
        "---",
    ):
        assert base_lineage(base(tmp_path, card=card)).higgs_license, card
    assert base_lineage(base(tmp_path, run=RUN)) == Lineage(True, False)
    assert base_lineage(base(tmp_path, merge=MERGE)) == Lineage(True, False)


@pytest.mark.parametrize(
    "card, expected",
    [
        ("---\nlicense: apache-2.0\n---\n", False),
        ("---\r\nlicense: mit\r\n---\r\n# A model", False),
        (HIGGS, True),
        ("---\nlicense: mit\nbase_model: bosonai/higgs-tts-2-3b-base\n---\n", True),
        ("---\nlicense: mit\nbase_model:\n- bosonai/higgs-audio-v2-generation-3B-base\n---\n", True),
        ("---\nlicense: unknown\n---\n", True),
        ("---\nlicense: 3\n---\n", True),
    ],
)
def test_the_card_of_a_base_names_its_license(tmp_path, card, expected):
    assert base_lineage(base(tmp_path, card=card)).higgs_license == expected


def test_the_record_of_a_fine_tuned_base_passes_its_license_on(tmp_path):
    assert not base_lineage(base(tmp_path, run=RUN | {"higgs_license": False})).higgs_license
    assert base_lineage(base(tmp_path, run=RUN | {"higgs_license": True})).higgs_license
    assert base_lineage(base(tmp_path, merge=MERGE | {"higgs_license": True})).higgs_license
    (tmp_path / "merge.json").write_text(json.dumps(MERGE | {"higgs_license": False}))
    (tmp_path / "run.json").unlink()
    assert not base_lineage(base(tmp_path)).higgs_license
    assert base_lineage(base(tmp_path, card=HIGGS)).higgs_license  # its card says more


def test_random_weights_are_known_by_their_record(tmp_path):
    assert base_lineage(Snapshot("model", None, tiny_folder() / "model")) == Lineage(False, True)
    assert base_lineage(base(tmp_path, init={}, run=RUN)) == Lineage(True, False)  # trained since


def test_the_base_of_the_demo_is_trained_and_of_its_own_license():
    folder = ROOT / "recipes/tiny/base"
    assert base_lineage(Snapshot("recipes/tiny/base", None, folder)) == Lineage(False, False)


def test_a_resumed_run_knows_what_the_first_one_measured(tmp_path):
    unknown = base(tmp_path)
    assert base_origin(unknown, checkpoint=None) == {"higgs_license": True, "untrained_base": None}
    checkpoint = tmp_path / "checkpoint-5"
    checkpoint.mkdir()
    assert base_origin(unknown, checkpoint=str(checkpoint))["untrained_base"] is None
    (checkpoint / "run.json").write_text(json.dumps(RUN | {"untrained_base": True}))
    assert base_origin(unknown, checkpoint=str(checkpoint))["untrained_base"] is True
    assert base_origin(base(tmp_path, merge=MERGE), checkpoint=str(checkpoint))["untrained_base"] is False
