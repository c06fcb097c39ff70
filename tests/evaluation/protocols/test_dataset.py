import pytest
from datasets import Dataset

from higgs_recipes.corpus.sources.hub_dataset import CONVERTED, DatasetTable
from higgs_recipes.evaluation.protocols.dataset import Origin, open_benchmark
from tests.helpers.benchmark_run import benchmark_config


COMMIT = "c" * 40


@pytest.mark.parametrize(
    "revision, opened", [(None, COMMIT), ("main", COMMIT), ("v1", COMMIT), (CONVERTED, CONVERTED)]
)
def test_the_commit_of_a_dataset_on_the_hub_is_resolved_and_read(tmp_path, monkeypatch, revision, opened):
    resolved, specs = [], []

    def dataset_commit(name, *, revision):
        resolved.append((name, revision))
        return COMMIT

    def open_hub(spec, split):
        specs.append(spec)
        return DatasetTable(Dataset.from_list([{"text": "Hi."}])), None

    monkeypatch.setattr("higgs_recipes.evaluation.protocols.dataset.dataset_commit", dataset_commit)
    monkeypatch.setattr("higgs_recipes.evaluation.protocols.dataset.open_hub", open_hub)
    data = open_benchmark(benchmark_config(tmp_path, dataset="user/texts", split="dev", dataset_revision=revision))
    assert data.origin == Origin(COMMIT, "dev")
    assert resolved == [("user/texts", revision)] and [spec["revision"] for spec in specs] == [opened]
