from higgs_recipes.evaluation.setup import sample_indexes
from tests.helpers.benchmark_run import benchmark_config


def test_a_quick_look_samples_rows_by_the_seed_in_their_order(tmp_path):
    def sampled(**changes) -> list[int]:
        return sample_indexes(100, benchmark_config(tmp_path, dataset="x", **changes))

    assert sampled() == sampled(num_samples=100) == sampled(num_samples=500) == list(range(100))
    few = sampled(num_samples=10)
    assert few == sorted(set(few)) and len(few) == 10 and few != list(range(10))
    assert few == sampled(num_samples=10) != sampled(num_samples=10, seed=12)
