"""The template of corpus_report.html: sections of plots, tables and facts; rendered by `corpus_page`."""

from higgs_recipes.report_page import HEAD


CORPUS_PAGE = (
    HEAD
    + r"""td { min-width: 0; overflow-wrap: break-word; }
td.number, th.number { text-align: right; white-space: nowrap; }
table.small { width: auto; min-width: 22rem; max-width: 100%; margin: .75rem 0; }
table.small th, table.small td { padding: .35rem 1.5rem .35rem 0; font-weight: 400; }
table.small thead th { font-weight: 600; }
ul { padding-left: 1.2rem; margin: .75rem 0; max-width: 60rem; } li { margin: .25rem 0; }
.found { background: var(--card); border: 1px solid var(--line); border-left: .3rem solid var(--base);
  border-radius: .25rem; padding: .25rem 1.25rem; margin: 1.25rem 0; }
.found.none { border-left-color: var(--real); }
h3 { margin: 1.75rem 0 .25rem; }
.tables { display: flex; flex-wrap: wrap; gap: 0 4rem; } .tables > div { max-width: 100%; }
figure { max-width: 36rem; }
svg .axis { stroke: var(--line); } svg .bar { fill: var(--c0); } svg text { fill: currentColor; font-size: 11px; }
svg .title { font-size: 13px; }
</style>
</head>
{%- macro align(index, numbers) %}{% if index in numbers %} class="number"{% endif %}{% endmacro %}
{%- macro table(head, rows, numbers, label) %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ label }}">
<table class="small"><thead><tr>
{% for name in head %}<th scope="col"{{ align(loop.index0, numbers) }}>{{ name }}</th>{% endfor %}
</tr></thead><tbody>
{% for row in rows %}<tr>
{% for cell in row %}<td{{ align(loop.index0, numbers) }}><bdi>{{ cell }}</bdi></td>{% endfor %}
</tr>
{% endfor %}
</tbody></table></div>
{%- endmacro %}

<body>
<main>
<header>
<h1><bdi>{{ title }}</bdi></h1>
<p class="lead">{{ lead }}</p>
<nav aria-label="sections">
{% for section in sections %}<a href="#{{ section.key }}">{{ section.title }}</a>
{% endfor %}</nav>
</header>
<div class="found{{ '' if findings else ' none' }}" role="note">
{% if findings %}<p><strong>To look at before codes are made</strong></p>
<ul>{% for finding in findings %}<li>{{ finding }}</li>{% endfor %}</ul>
{% else %}<p>Nothing stands out.</p>{% endif %}
</div>
{% for section in sections %}
<section aria-labelledby="{{ section.key }}">
<h2 id="{{ section.key }}">{{ section.title }}</h2>
{% if section.note %}<p class="faint">{{ section.note }}</p>{% endif %}
{% if section.plots %}<div class="plots">
{% for plot in section.plots %}<figure>
<svg viewBox="0 0 560 300" role="img" aria-label="{{ plot.title }}: {{ plot.caption }}">
<text class="title" x="300" y="18" text-anchor="middle">{{ plot.title }}</text>
{% for line in plot.lines %}<line class="axis" x1="50" x2="550" y1="{{ line.y }}" y2="{{ line.y }}"/>
<text x="44" y="{{ line.y + 4 }}" text-anchor="end">{{ line.label }}</text>
{% endfor %}
{% for bar in plot.bars %}<rect class="bar" x="{{ bar.x }}" y="{{ bar.y }}" width="{{ bar.width }}" {# -#}
height="{{ bar.height }}"><title>{{ bar.label }}</title></rect>
{% endfor %}
{% for tick in plot.ticks %}<text x="{{ tick.x }}" y="276" text-anchor="middle">{{ tick.label }}</text>
{% endfor %}
<text x="300" y="295" text-anchor="middle">{{ plot.unit }}</text>
</svg><figcaption>{{ plot.caption }}</figcaption></figure>
{% endfor %}</div>{% endif %}
<div class="tables">
{% for part in section.tables %}<div>
<h3>{{ part.title }}</h3>
{% if part.note %}<p class="faint">{{ part.note }}</p>{% endif %}
{% if part.rows %}{{ table(part.head, part.rows, part.numbers, part.title) }}{% endif %}

</div>
{% endfor %}</div>
{% if section.facts %}<dl>
{% for name, value in section.facts %}<dt>{{ name }}</dt><dd><bdi>{{ value }}</bdi></dd>{% endfor %}</dl>{% endif %}

</section>
{% endfor %}
</main>
</body>
</html>
"""
)
