"""Values of a column of recordings: bytes, paths and samples become cells, everything else is a reject."""

import io

import numpy as np
import pytest
import soundfile

from higgs_recipes.corpus.sources.cells import as_cell
from higgs_recipes.rejects import RejectCode, RejectedRow


@pytest.mark.parametrize(
    "value, cell",
    [
        (None, None),
        ("", None),
        (float("nan"), None),
        ("a.wav", {"path": "a.wav", "bytes": None}),
        (b"RIFF", {"path": None, "bytes": b"RIFF"}),
        ({"bytes": b"RIFF"}, {"path": None, "bytes": b"RIFF"}),
        ({"bytes": b"", "path": "a.wav"}, {"path": "a.wav", "bytes": b""}),
        ({"path": "a.wav"}, {"path": "a.wav", "bytes": None}),
        ({"path": None, "bytes": None}, None),
        ({"path": "a.wav", "bytes": None, "array": None}, {"path": "a.wav", "bytes": None}),
    ],
)
def test_bytes_and_paths_are_cells(value, cell):
    assert as_cell(value, field="audio") == cell


@pytest.mark.parametrize("value", ["/etc/passwd", "UklGRg==", 5, ["a"], {"path": "x"}, True])
def test_bytes_that_are_not_bytes_are_refused_and_never_taken_for_a_path(value):
    with pytest.raises(
        RejectedRow, match=f"its bytes are {type(value).__name__}, expected the bytes of a file"
    ) as error:
        as_cell({"bytes": value, "path": "a.wav"}, field="audio")
    assert error.value.reject.code is RejectCode.NOT_A_RECORDING


def samples_of(value, **options) -> tuple[np.ndarray, int]:
    return soundfile.read(io.BytesIO(as_cell(value, field="audio", **options)["bytes"]), dtype="float32")


@pytest.mark.parametrize(
    "value, rate, expected",
    [
        ([0.0, 0.5, -1.0], 16_000, [0.0, 0.5, -1.0]),
        ({"array": [0.0, 0.5], "sampling_rate": 24_000, "path": "a.wav"}, None, [0.0, 0.5]),
        ({"array": np.array([0.25], np.float64), "sampling_rate": 8_000.0}, None, [0.25]),
        ([0, 16384, -32768], 8_000, [0.0, 0.5, -1.0]),
        ([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], 8_000, [[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]]),
    ],
    ids=["list", "mapping", "array", "16-bit integers", "channels"],
)
def test_samples_are_a_wav_file_with_exactly_these(value, rate, expected):
    samples, found = samples_of(value, rate=rate)
    assert found == (rate or value["sampling_rate"])
    np.testing.assert_array_equal(samples, np.array(expected, np.float32))


@pytest.mark.parametrize(
    "value, rate, reason",
    [
        ([0.1, 0.2], None, "samples without a sample rate; map a column to sampling_rate"),
        ({"array": [0.1]}, None, "its sampling_rate is missing, or not a whole number of Hz"),
        ([0.1], 0, "its sampling_rate"),
        ([0.1], 10**9, "its sampling_rate"),
        ([0.1], 24_000.5, "its sampling_rate"),
        ([0.1], "24000", "its sampling_rate"),
        ([0.1], True, "its sampling_rate"),
        ([], 24_000, "an array of shape"),
        (["a"], 24_000, "an array that is not of numbers"),
        ([[0.1], [0.1, 0.2]], 24_000, "an array that is not of numbers"),
        ([10**400], 24_000, "an array"),
        ([None, 0.1], 24_000, "an array"),
        ([[[0.1]]], 24_000, "an array of float64 in 3 dimensions"),
        (5, None, "found int, expected a file name, the bytes of a file, or samples"),
        (True, 24_000, "found bool, expected"),
        ({}, None, "found dict, expected"),
        ({"url": "a.wav"}, None, "found dict, expected"),
        ({"path": 5}, None, "its path is int, expected text"),
    ],
)
def test_everything_else_is_rejected(value, rate, reason):
    with pytest.raises(RejectedRow) as error:
        as_cell(value, field="audio", rate=rate)
    assert error.value.reject.code is RejectCode.NOT_A_RECORDING
    assert error.value.reject.reason.startswith(f"audio is not a recording: {reason}")
