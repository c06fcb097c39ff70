"""The HTML page of a segmented corpus: a player for each row, to exclude rows before training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from higgs_recipes.files import atomic_write
from higgs_recipes.pages import render_page


# The measurements of a row: column -> its heading on the page and its digits.
MEASURED = {
    "duration": ("seconds", 1),
    "asr_disagreement": ("disagreement", 2),
    "chars_per_second": ("characters/s", 1),
    "dnsmos_ovrl": ("DNSMOS", 2),
    "dnsmos_sig": ("speech", 2),
    "dnsmos_bak": ("background", 2),
    "dnsmos_p808": ("P.808", 2),
    "snr_db": ("SNR dB", 0),
    "silence_share": ("silence", 2),
    "clipped_share": ("clipped", 4),
    "loudness_lufs": ("LUFS", 1),
    "speech_probability": ("is speech", 2),
}


def write_page(path: Path, rows: Sequence[Mapping[str, Any]], *, record: Mapping[str, Any]) -> None:
    """Write the page next to audio/, which contains the recordings.

    Args:
        rows: the lines of metadata.jsonl.
        record: segment.json.
    """
    lead = (
        f"{record['rows']} segments ({record['seconds'] / 60:.1f} minutes) from {record['recordings']} recordings "
        f"({record['recorded_seconds'] / 60:.1f} minutes); transcripts by {record['asr']} ({record['asr_revision']})."
    )
    html = render_page(
        "listening",
        title="Listen and exclude",
        lead=lead,
        rows=sorted(rows, key=lambda row: (-row["asr_disagreement"], row["id"])),
        columns=MEASURED,
        measured=record["measured"],
        rejects=record["rejects"],
    )
    atomic_write(path, html)
