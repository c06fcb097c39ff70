import json

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.hub.run_record import read_run
from tests.helpers.records import RUN


def test_the_record_of_a_run_is_read(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    assert read_run(tmp_path) == RUN


def test_a_folder_without_a_run_has_no_record(tmp_path):
    assert read_run(tmp_path) is None


def test_a_broken_record_is_an_error(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match="run.json is not JSON"):
        read_run(tmp_path)
