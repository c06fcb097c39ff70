"""The page of a segmented corpus: every row with its player, to be heard and struck before training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from higgs_recipes.files import atomic_write
from higgs_recipes.pages import render_page


# What was measured on each row: column to its head on the page and its digits.
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
    """Write the page of rows as metadata.jsonl has them; their recordings lie beside it, under audio/."""
    lead = (
        f"{record['rows']} segments, {record['seconds'] / 60:.1f} minutes, of {record['recordings']} recordings, "
        f"{record['recorded_seconds'] / 60:.1f} minutes; transcripts by {record['asr']} ({record['asr_revision']})."
    )
    doubtful_first = sorted(rows, key=lambda row: (-row["asr_disagreement"], row["id"]))
    html = render_page(
        "listening",
        title="Listen and strike",
        lead=lead,
        rows=doubtful_first,
        columns=MEASURED,
        measured=record["measured"],
        rejects=record["rejects"],
    )
    atomic_write(path, html)
