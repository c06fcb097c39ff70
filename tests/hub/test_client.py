"""Requests to the Hub are sent from one place; what they do is tested with the pushes that need them."""

import pytest

from tests.helpers.hub_client import attempt
from tests.helpers.hub_server import run_python
from tests.test_rooms import MODULES, imported


# Names of huggingface_hub that send no request: classes, constants, checks.
NO_REQUESTS = {"CommitOperationAdd", "CommitOperationDelete", "DatasetCardData", "EvalResult", "ModelCardData"}
NO_REQUESTS |= {"RepoCard", "constants"}


@pytest.mark.parametrize("module", MODULES)
def test_only_the_hub_room_sends_requests(module):
    names = {name for source, name in imported(MODULES[module]) if source == "huggingface_hub"} - NO_REQUESTS
    # streamed reads the ends of remote parquet files, inside `explain_datasets`.
    allowed = {"corpus.sources.streamed": {"HfFileSystem"}}
    if module not in ("hub.client", "hub.download"):
        assert names <= allowed.get(module, set()), f"{module} imports {names}: send requests from hub.client"


def test_the_files_of_a_dataset_are_listed_at_one_commit(hub):
    repo = hub.add_repo("tester/data", {"a/b.parquet": b"rows", "README.md": b"# Rows"}, kind="datasets")
    code = 'from higgs_recipes.hub.client import dataset_files; print(dataset_files("tester/data", revision=None))'
    hashes = {name: repo.commits[repo.head][name].git_oid for name in repo.files}
    assert run_python(code, hub.env()).strip() == str((repo.head, dict(sorted(hashes.items()))))


def test_an_organization_is_a_namespace_of_its_members(hub):
    calls = [
        ("resolve_target", {"name": f"{owner}/voice", "output_dir": "x", "push": True})
        for owner in ("tester", "testers-lab", "strangers-lab")
    ]
    own, lab, other = attempt(hub.env(), *calls)
    assert "repo_id='tester/voice'" in own and "repo_id='testers-lab/voice'" in lab
    assert "tester cannot see or create the model strangers-lab/voice" in other and "tester, testers-lab" in other
