"""The long recordings of a recipe."""

import pytest

from higgs_recipes.errors import InputError
from higgs_recipes.ingest.segment_corpus import segment_recordings
from tests.helpers.corpus_folder import write_tone
from tests.helpers.raw_folder import segment_config


def test_folders_that_cannot_be_read_are_errors(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="no recordings in .*: 0 files, none ends with .aac, "):
        segment_recordings(segment_config(tmp_path / "in", output_dir=tmp_path / "out"))
    with pytest.raises(InputError, match="sources: no such folder"):
        segment_recordings(segment_config(tmp_path / "nowhere", output_dir=tmp_path / "out"))
    write_tone(tmp_path / "in/a.wav")
    with pytest.raises(InputError, match="output_dir .* is inside the source"):
        segment_recordings(segment_config(tmp_path / "in", output_dir=tmp_path / "in/out"))
