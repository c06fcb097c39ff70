"""What a column of recordings may contain: the bytes of files, paths, or samples; each becomes a `Cell`."""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from higgs_recipes.corpus.rows import Cell
from higgs_recipes.rejects import RejectCode, RejectedRow


MAX_RATE = 1_000_000
MAX_CHANNELS = 64
EXPECTED = "expected a file name, the bytes of a file, or samples"


def as_cell(value: Any, *, field: str, rate: Any = None) -> Cell | None:
    """A stored recording as a cell; None if it is null or empty.

    Args:
        value: a path; the bytes of a file; a mapping with "bytes" (and "path"), with "path", or with "array" and
            "sampling_rate"; or samples: numbers (N,) in [-1, 1], or 16-bit integers, of one or of several channels.
        rate: sample rate in Hz, for samples without one of their own.

    Raises:
        RejectedRow: it is none of these.
    """
    if is_null(value) or (isinstance(value, str) and not value):
        return None
    if isinstance(value, str):
        return {"path": value, "bytes": None}
    if isinstance(value, bytes):
        return {"path": None, "bytes": value}
    if isinstance(value, (list, tuple, np.ndarray)):
        if rate is None:
            detail = "samples without a sample rate; map a column to sampling_rate"
            raise RejectedRow(RejectCode.NOT_A_RECORDING, field, detail)
        return {"path": None, "bytes": _wav(value, rate, field)}
    if not isinstance(value, Mapping) or not {"path", "bytes", "array"} & value.keys():
        raise _not_a_recording(field, f"found {type(value).__name__}, {EXPECTED}")
    path, content, samples = (value.get(key) for key in ("path", "bytes", "array"))
    if not isinstance(path, str | None):
        raise _not_a_recording(field, f"its path is {type(path).__name__}, expected text")
    if not isinstance(content, bytes | None):
        # Text would be taken for a path, of any file on this machine.
        raise _not_a_recording(field, f"its bytes are {type(content).__name__}, expected the bytes of a file")
    if content is None and samples is not None:
        content = _wav(samples, value.get("sampling_rate") if rate is None else rate, field)
    return {"path": path, "bytes": content} if content is not None or path else None


def is_null(value: Any) -> bool:
    """Whether a value is missing: None, or the NaN that tables have for it.

    >>> is_null(None), is_null(float("nan")), is_null("nan"), is_null(0)
    (True, True, False, False)
    """
    return value is None or (isinstance(value, float) and value != value)


def _not_a_recording(field: str, detail: str) -> RejectedRow:
    return RejectedRow(RejectCode.NOT_A_RECORDING, field, detail)


def _wav(samples: Any, rate: Any, field: str) -> bytes:
    """Samples as a wav file of 32-bit floats, which has all of a float32 array."""
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate <= MAX_RATE or rate != int(rate):
        detail = f"its sampling_rate is missing, or not a whole number of Hz up to {MAX_RATE:,}"
        raise _not_a_recording(field, detail)
    try:
        array = np.asarray(samples)
        scale = 32768.0 if array.dtype.kind in "iu" else 1.0
        frames = (array / scale).astype("<f4")
    except (ValueError, TypeError, OverflowError) as error:  # texts, nulls, lists of several lengths
        raise _not_a_recording(field, f"an array that is not of numbers: {type(error).__name__}") from error
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2):
        detail = f"an array of {array.dtype} in {array.ndim} dimensions; expected numbers (N,)"
        raise _not_a_recording(field, detail)
    if frames.ndim == 2 and frames.shape[0] < frames.shape[1]:  # (channels, N)
        frames = frames.T
    channels = 1 if frames.ndim == 1 else frames.shape[1]
    if channels > MAX_CHANNELS or not frames.size:
        raise _not_a_recording(field, f"an array of shape {array.shape}; expected samples")
    content, frame_bytes = frames.tobytes(), 4 * channels
    head = struct.pack("<HHIIHH", 3, channels, int(rate), int(rate) * frame_bytes, frame_bytes, 32)
    chunks = b"fmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
