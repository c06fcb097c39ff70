"""Render HTML pages from the Jinja templates in `templates/`."""

from collections.abc import Callable
from typing import Any

import jinja2


def render_page(template: str, *, finalize: Callable[[Any], Any] | None = None, **values: Any) -> str:
    """Render `templates/<template>.html.jinja`; all values are escaped.

    Args:
        template: name of the template.
        finalize: function applied to every value before it is escaped.
        values: the variables of the template.

    Raises:
        jinja2.UndefinedError: a variable of the template is missing.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("higgs_recipes"),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
    )
    return environment.get_template(f"{template}.html.jinja").render(values)
