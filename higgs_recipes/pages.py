"""The HTML pages of the project: one Jinja environment over `templates/`, with autoescape on."""

from collections.abc import Callable
from typing import Any

import jinja2


def render_page(template: str, *, finalize: Callable[[Any], Any] | None = None, **values: Any) -> str:
    """A page from `templates/<template>.html.jinja`. Texts and names come from anywhere: all are escaped.

    Args:
        finalize: applied to every value before it is escaped.

    Raises:
        jinja2.UndefinedError: a value that the template names is not given.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("higgs_recipes"),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
    )
    return environment.get_template(f"{template}.html.jinja").render(values)
