"""Work that two processes share: results in order, one message for an error, no process that waits for ever."""

import os

import pytest
from accelerate import PartialState

from higgs_recipes.errors import InputError, exit_on_input_error
from higgs_recipes.shared_work import (
    BLOCK,
    gather_pairs,
    main_process_decides,
    map_shared,
    own_share,
    progress_bar,
    shared_device,
    shared_errors,
)
from tests.helpers.two_processes import run_on_two


def test_one_process_calls_what_it_is_given():
    calls = []
    assert map_shared(lambda items: calls.append(items) or [-item for item in items], [3, 1, 2]) == [-3, -1, -2]
    assert calls == [[3, 1, 2]]  # at once: nothing is cut into blocks
    assert main_process_decides(lambda: "yes") == "yes" and gather_pairs([(1, "b"), (0, "a")]) == {0: "a", 1: "b"}
    assert own_share([1.0, 5.0, 2.0]) == [1, 2, 0]
    assert shared_device() == PartialState().device
    with pytest.raises(InputError, match="no such file"), shared_errors():
        raise InputError("no such file")


def test_two_processes_share_items_and_give_all_results(tmp_path):
    def work():
        shared_device()
        blocks = []
        results = map_shared(lambda items: blocks.append(items) or [item * 2 for item in items], range(3 * BLOCK + 1))
        decided = main_process_decides(lambda: os.environ["RANK"])
        rank = PartialState().process_index
        return (
            results,
            [len(block) for block in blocks],
            decided,
            own_share([1.0, 3.0, 2.0]),
            gather_pairs([(rank, rank)]),
        )

    first, second = run_on_two(work, tmp_path)
    assert first.code == second.code == 0, first.output + second.output
    assert first.result[0] == second.result[0] == [item * 2 for item in range(3 * BLOCK + 1)]
    assert (first.result[1], second.result[1]) == ([BLOCK, BLOCK], [BLOCK, 1])
    assert first.result[2] == second.result[2] == "0"
    assert (first.result[3], second.result[3]) == ([1, 0], [2])
    assert first.result[4] == second.result[4] == {0: 0, 1: 1}


@pytest.mark.parametrize("failing", [{"0"}, {"1"}, {"0", "1"}])
def test_an_input_error_ends_both_processes_with_one_message(tmp_path, failing):
    def work():
        shared_device()

        def fail(items):
            if os.environ["RANK"] in failing:
                raise InputError(f"row 3 is broken (rank {os.environ['RANK']})")
            return items

        with exit_on_input_error():
            map_shared(fail, range(2 * BLOCK))

    first, second = run_on_two(work, tmp_path)
    assert (first.code, second.code) == (2, 2)
    assert first.output.count(f"row 3 is broken (rank {min(failing)})") == 1 and "broken" not in second.output


def test_only_the_main_process_shows_progress(tmp_path):
    def work():
        shared_device()
        with progress_bar(2, "Generating", unit="clips") as progress:
            progress.update(2)

    first, second = run_on_two(work, tmp_path)
    assert "Generating: 100%" in first.output and "2/2" in first.output
    assert "Generating" not in second.output
