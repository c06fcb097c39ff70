"""Rows of a source under our column names; invalid cells are typed rejects."""

from pathlib import Path

import pytest

from higgs_recipes.corpus.sources.metadata import MetadataTable
from higgs_recipes.corpus.sources.paths import SourceFolder
from higgs_recipes.corpus.sources.source import Source
from higgs_recipes.rejects import RejectCode, RejectedRow
from tests.helpers.corpus_folder import write_tone


def source(row: dict, *, folder: Path | None = Path("/corpus"), **constants: str) -> Source:
    columns = {name: (name,) for name in row}
    files = None if folder is None else SourceFolder(folder, shows_paths=False)
    return Source("corpus:train", MetadataTable([row], folder=folder), columns, constants, None, files, {})


def test_paths_are_relative_to_the_folder_and_constants_override_columns(tmp_path):
    write_tone(tmp_path / "clips/a.wav")
    write_tone(tmp_path / "b.wav")
    row = {"text": "One.", "audio": "clips/a.wav", "turns": [{"audio": f"{tmp_path}/b.wav"}], "ref_audio": ""}
    assert source(row, folder=tmp_path, language="en").row(0) == {
        "text": "One.",
        "audio": {"path": f"{tmp_path}/clips/a.wav", "bytes": None},
        "turns": [{"audio": {"path": f"{tmp_path}/b.wav", "bytes": None}}],
        "ref_audio": None,
        "ref_speakers": [],
        "language": "en",
    }


@pytest.mark.parametrize(
    "row, folder, code, field, reason",
    [
        (
            {"audio": "../a.wav"},
            Path("/c"),
            RejectCode.OUTSIDE_FOLDER,
            "audio",
            "recording leaves its folder: a.wav",
        ),
        (
            {"ref_speakers": [{"ref_audio": None}, {"ref_audio": "/etc/a.wav"}]},
            Path("/c"),
            RejectCode.OUTSIDE_FOLDER,
            "ref_speakers.1",
            "reference clip 1 leaves its folder: a.wav",
        ),
        ({"audio": 5}, None, RejectCode.NOT_A_RECORDING, "audio", "audio is not a recording: found int, expected"),
        ({"audio": "a.wav"}, None, RejectCode.NO_BYTES, "audio", "audio has a path but no bytes: store"),
        ({"turns": "Hi."}, None, RejectCode.INVALID_FIELD, "turns", "turns is 'Hi.', expected a list of mappings"),
    ],
)
def test_a_cell_without_a_recording_rejects_its_row(row, folder, code, field, reason):
    with pytest.raises(RejectedRow) as error:
        source(row, folder=folder).row(0)
    assert (error.value.reject.code, error.value.reject.field) == (code, field)
    assert error.value.reject.reason.startswith(reason)
