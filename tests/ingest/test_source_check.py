"""A run does not replace its own source."""

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.ingest.source_check import check_source


@pytest.mark.parametrize("output_dir", [".", "in", "in/../in", "link"])
def test_an_output_folder_that_contains_the_source_is_an_error(tmp_path, monkeypatch, output_dir):
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("in")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="output_dir .* contains the source .*in: choose another one"):
        check_source(tmp_path / "in", output_dir)
    check_source(tmp_path / "in", "in/out")
    check_source("link", tmp_path / "out")
