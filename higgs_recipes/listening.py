"""The page of a segmented corpus: every row with its player, to be heard and struck before training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from higgs_recipes.files import atomic_write
from higgs_recipes.report_page import HEAD


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

LISTENING_PAGE = (
    HEAD
    + r"""td { min-width: 0; } td.number { text-align: right; white-space: nowrap; }
td.said { min-width: 18rem; overflow-wrap: anywhere; } td.heard { min-width: 15rem; }
tr.struck .said { text-decoration: line-through; opacity: .55; }
.bar { position: sticky; top: 0; z-index: 1; background: var(--paper); padding: .6rem 0; display: flex;
  flex-wrap: wrap; gap: .6rem 1rem; align-items: center; border-bottom: 1px solid var(--line); }
button { font: inherit; padding: .35rem .8rem; border: 1px solid var(--line); border-radius: .3rem;
  background: var(--card); color: var(--ink); cursor: pointer; }
input[type="checkbox"] { width: 1.3rem; height: 1.3rem; }
textarea { width: 100%; min-height: 6rem; }
</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
<p class="lead">{{ lead }}</p>
<p>Those on which the recogniser disagrees with itself come first. Tick what must not be trained on, save strike.txt,
then run <code>scripts/segment.py</code> with the same recipe and <code>--strike strike.txt</code> (its path): ticked
rows leave the corpus, nothing else changes.</p>
<div class="bar"><strong id="count" aria-live="polite">0 ticked</strong>
<button type="button" id="download">Download strike.txt</button>
<button type="button" id="copy">Copy the list</button></div>
<textarea id="list" hidden readonly aria-label="ids of the ticked rows"></textarea>
<div class="scroll" tabindex="0" role="region" aria-label="segments">
<table>
<thead><tr><th scope="col">strike</th><th scope="col">sound</th><th scope="col">transcript</th>
<th scope="col">speaker</th>
{% for head, _ in columns.values() %}<th scope="col">{{ head }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for row in rows %}
<tr><td><input type="checkbox" value="{{ row.id }}" aria-label="strike {{ row.id }}"></td>
<td class="heard"><audio controls preload="none" src="{{ row.file_name | urlencode }}"></audio>
<span class="faint">{{ row.file }}, {{ "%.2f" | format(row.start) }}&ndash;{{ "%.2f" | format(row.end) }} s</span></td>
<td class="said"><bdi>{{ row.text }}</bdi>{% if row.asr_disagreement %}
<br><span class="faint">slowed: <bdi>{{ row.text_slowed }}</bdi></span>{% endif %}</td>
<td>{{ row.speaker or "" }}</td>
{% for key, (_, digits) in columns.items() %}
<td class="number">{{ "%.*f" | format(digits, row[key]) }}</td>{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
<h2>Measured</h2>
<div class="scroll" tabindex="0" role="region" aria-label="measured">
<table>
<thead><tr><th scope="col">of the rows</th><th scope="col">5 % are below</th><th scope="col">half are below</th>
<th scope="col">95 % are below</th></tr></thead>
<tbody>
{% for key, (_, digits) in columns.items() %}
<tr><th scope="row">{{ key }}</th>{% for name in ("p5", "median", "p95") %}
<td class="number">{{ "%.*f" | format(digits, measured[key][name]) }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
{% if rejects %}<h2>Rejected already</h2>
<dl>{% for reason, count in rejects.items() %}<dt>{{ reason }}</dt><dd>{{ count }}</dd>{% endfor %}</dl>
<p class="faint">rejects.jsonl has each with its file, its seconds and what was measured.</p>{% endif %}
</main>
<script>
const boxes = [...document.querySelectorAll("tbody input")];
const list = document.getElementById("list");
const ticked = () => boxes.filter((box) => box.checked).map((box) => box.value + "\n").join("");
function show() {
  let count = 0;
  for (const box of boxes) {
    box.closest("tr").classList.toggle("struck", box.checked);
    count += box.checked;
  }
  document.getElementById("count").textContent = count + " ticked";
  list.value = ticked();
}
document.addEventListener("change", show);
document.addEventListener("play", (event) => {  // one at a time
  for (const audio of document.querySelectorAll("audio")) if (audio !== event.target) audio.pause();
}, true);
document.getElementById("download").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([ticked()], {type: "text/plain"}));
  link.download = "strike.txt";
  link.click();
  URL.revokeObjectURL(link.href);
});
document.getElementById("copy").addEventListener("click", () => {  // a page of file: may have no clipboard
  list.hidden = false;
  list.select();
  document.execCommand("copy");
});
show();  // a browser keeps ticks over a reload
</script>
</body>
</html>
"""
)


def write_page(path: Path, rows: Sequence[Mapping[str, Any]], *, record: Mapping[str, Any]) -> None:
    """Write the page of rows as metadata.jsonl has them; their recordings lie beside it, under audio/."""
    page = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined).from_string(
        LISTENING_PAGE
    )
    lead = (
        f"{record['rows']} segments, {record['seconds'] / 60:.1f} minutes, of {record['recordings']} recordings, "
        f"{record['recorded_seconds'] / 60:.1f} minutes; transcripts by {record['asr']} ({record['asr_revision']})."
    )
    doubtful_first = sorted(rows, key=lambda row: (-row["asr_disagreement"], row["id"]))
    html = page.render(
        title="Listen and strike",
        lead=lead,
        rows=doubtful_first,
        columns=MEASURED,
        measured=record["measured"],
        rejects=record["rejects"],
    )
    atomic_write(path, html)
