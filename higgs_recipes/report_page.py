"""The page of an evaluation: a Jinja template, rendered by `report` with autoescape on; no script, no outside file.

`HEAD` begins every report's page, up to the end of its style.
"""

HEAD = r"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}</title>
<style>
:root {
  --paper: #fbfbfa; --card: #ffffff; --ink: #1b1f24; --faint: #5b6470; --line: #dfe2e6; --wash: #f1f3f5;
  --mark: #ffe3a3; --alarm: #8f2d00; --alarm-wash: #fff1e6;
  --real: #1a7f5a; --codec: #6f7683; --base: #b45f06; --finetuned: #2459c9;
  --c0: #2459c9; --c1: #0f8a8a; --c2: #1a8a3c; --c3: #7d8a10; --c4: #c57a06; --c5: #cf3f2f; --c6: #bf3a8f;
  --c7: #7a48c4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --card: #1c2026; --ink: #e8eaed; --faint: #a2abb7; --line: #343a43; --wash: #242931;
    --mark: #6b4b00; --alarm: #ffb98a; --alarm-wash: #3a2415;
    --real: #4cc38a; --codec: #a2abb7; --base: #f0a35e; --finetuned: #7ea6ff;
    --c0: #7ea6ff; --c1: #4fc9c9; --c2: #5fce7d; --c3: #c6d257; --c4: #f0b04e; --c5: #ff8577; --c6: #f08acb;
    --c7: #b794f6;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0; }
p { margin: .5rem 0; max-width: 52rem; }
.lead { font-size: 1.1rem; }
.faint, figcaption { color: var(--faint); font-size: .875rem; }
.alarm { background: var(--alarm-wash); color: var(--alarm); border-left: .3rem solid var(--alarm);
  padding: .75rem 1rem; margin: 1.25rem 0; border-radius: .25rem; font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .6rem .9rem .6rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { font-size: .875rem; color: var(--faint); font-weight: 600; }
td { min-width: 8.5rem; }
tbody th { min-width: 10rem; font-weight: 600; }
.value { font-size: 1.15rem; font-weight: 600; }
.interval { display: block; font-size: .8rem; color: var(--faint); white-space: nowrap; }
.range { display: block; position: relative; height: .5rem; margin: .3rem 0 .1rem; max-width: 8rem;
  border-radius: .25rem; background: var(--wash); }
.range i, .range b { position: absolute; top: 0; bottom: 0; border-radius: .25rem; background: currentColor; }
.range i { opacity: .35; }
.range b { width: .5rem; margin-left: -.25rem; }
.compact { max-height: 36rem; overflow-y: auto; }
.compact th, .compact td { padding: .25rem .9rem .25rem 0; font-size: .875rem; min-width: 0; }
.real { --row: var(--real); } .codec { --row: var(--codec); } .base { --row: var(--base); }
.finetuned { --row: var(--finetuned); }
.name::before { content: ""; display: inline-block; width: .65rem; height: .65rem; margin-right: .45rem;
  border-radius: 50%; background: var(--row); }
.range { color: var(--row); }
.text { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem 1.1rem;
  margin: 1rem 0; }
.text > p { font-size: 1.1rem; margin: 0 0 .1rem; overflow-wrap: anywhere; white-space: pre-line; max-width: none; }
.clips { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(14rem, 100%), 1fr));
  gap: 1rem; margin-top: .8rem; }
.clip { border-top: .2rem solid var(--row); padding-top: .5rem; min-width: 0; }
.clip p { margin: .35rem 0; overflow-wrap: anywhere; }
audio { width: 100%; height: 2.5rem; display: block; margin-top: .4rem; }
mark { background: var(--mark); color: inherit; border-radius: .15rem; padding: 0 .1rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr));
  gap: 1.5rem; margin-top: 1rem; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; }
figure svg { width: 100%; height: auto; color: var(--ink); }
dl { display: grid; grid-template-columns: minmax(8rem, 13rem) 1fr; gap: .35rem 1rem; margin: 1rem 0; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin-top: 1rem; }
a { color: var(--finetuned); }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
@media print { .text, figure { break-inside: avoid; } }
"""

PAGE = (
    HEAD
    + r"""</style>
</head>
<body>
<main>
<header>
<h1>{{ title }}</h1>
<p class="lead">{{ verdict }}</p>
{% if untrained %}<p class="alarm" role="note">{{ untrained }}</p>{% endif %}

<nav aria-label="sections"><a href="#results">Results</a>
{% for table in grouped %}<a href="#{{ table.key }}">{{ table.title }}</a>
{% endfor %}<a href="#listen">Listen</a> <a href="#training">Training</a>
<a href="#method">How it was measured</a></nav>
</header>

<section aria-labelledby="results">
<h2 id="results">Results</h2>
<div class="scroll" tabindex="0" role="region" aria-labelledby="results">
<table aria-describedby="table-note">
<thead><tr><th scope="col">row</th>
{% for column in columns %}<th scope="col">{{ column }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for row in table %}
<tr class="{{ row.key }}"><th scope="row" class="name">{{ row.title }}</th>
{% for cell in row.cells %}
<td>{% if cell.text is none %}<span class="faint">{{ cell.missing }}</span>{% else %}
<span class="value">{{ cell.text }}</span>
<span class="range" aria-hidden="true"><i style="left: {{ cell.left }}%; width: {{ cell.width }}%"></i>
<b style="left: {{ cell.at }}%"></b></span>
<span class="interval">{{ cell.interval }}</span>{% endif %}</td>
{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
<p class="faint" id="table-note">{{ table_note }}</p>
</section>

{% for table in grouped %}
<section aria-labelledby="{{ table.key }}">
<h2 id="{{ table.key }}">{{ table.title }}</h2>
<div class="scroll compact" tabindex="0" role="region" aria-labelledby="{{ table.key }}">
<table>
<thead><tr><th scope="col">{{ table.head }}</th><th scope="col">row</th>
{% for column in table.columns %}<th scope="col">{{ column }}</th>{% endfor %}
</tr></thead>
{% for group in table.groups %}
<tbody>
{% for line in group.lines %}
<tr class="{{ line.key }}">
{% if loop.first %}<th scope="rowgroup" rowspan="{{ group.lines | length }}">{{ group.value }}</th>{% endif %}

<th scope="row" class="name">{{ line.title }}</th>
{% for cell in line.cells %}
<td>{% if cell.text is none %}<span class="faint">{{ cell.missing }}</span>{% else %}
{{ cell.text }} <span class="interval">{{ cell.interval }}</span>{% endif %}</td>
{% endfor %}</tr>
{% endfor %}
</tbody>
{% endfor %}
</table>
</div>
</section>
{% endfor %}

<section aria-labelledby="listen">
<h2 id="listen">Listen</h2>
<p class="faint">{{ listen_note }}</p>
{% for text in texts %}
<article class="text" aria-label="text {{ loop.index }}">
<p>{{ text.text }}</p>
<span class="faint">{{ text.note }}</span>
<div class="clips">
{% for clip in text.clips %}
<div class="clip {{ clip.key }}">
<h3 class="name">{{ clip.title }}</h3>
<audio controls preload="metadata" src="{{ clip.source }}" aria-label="{{ clip.title }}: {{ text.text }}"></audio>
<p>
{%- for word, differs in clip.words %}
{% if differs %}<mark>{{ word }}</mark>{% else %}{{ word }}{% endif %}

{% else %}
<span class="faint">nothing heard</span>
{%- endfor %}
</p>
<p class="faint">{{ clip.note }}</p>
</div>
{% endfor %}
</div>
</article>
{% endfor %}
</section>

<section aria-labelledby="training">
<h2 id="training">Training</h2>
{% if training_note %}<p>{{ training_note }}</p>{% endif %}
<div class="plots">
{% for plot in plots %}<figure>{{ plot.svg }}<figcaption>{{ plot.caption }}</figcaption></figure>
{% endfor %}</div>
</section>

<section aria-labelledby="method">
<h2 id="method">How it was measured</h2>
<dl>{% for name, value in facts %}<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}</dl>
</section>
</main>
</body>
</html>
"""
)
