"""Rendering of a page: a template of a package, the shared layout, and values → HTML.

values ─▶ PACKAGE/NAME.html.jinja ─ extends ─▶ base.html.jinja (style, search); imports parts.html.jinja (tables, …)

A page needs no other file and no network. Every text is escaped and without control characters, and the page's content
security policy allows no script but the page's own, so that a text of the data cannot run anything even where
it is not escaped.
"""

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from corpus.terminal import printable


def render(package: str, template: str, *, script: str | None = None, **values: Any) -> str:
    """Return a page.

    Parameters
    ----------
    package
        The package that has the template.
    template
        File name of the template in that package, which extends `base.html.jinja`.
    script
        File name of the page's script in that package; None: that of this one, which searches tables.
    values
        Values for the template; plain texts, which are escaped.
    """
    content = _script(__package__, "search.js") if script is None else _script(package, script)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return _environment(package).get_template(template).render(script=content, script_hash=digest, **values)


def render_card(package: str, template: str, **values: Any) -> str:
    """Return a text in Markdown, which may contain HTML, from a template; values are escaped as in `render`."""
    return _environment(package).get_template(template).render(**values)


@cache
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ""), PackageLoader(__package__, "")]),
        autoescape=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"count": _count, "share": share, "words": _words}
    return environment


@cache
def _script(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _count(value: int) -> str:
    return f"{value:,}"


def share(part: float, whole: float) -> str:
    """Return a share in percent, as "12.3 %"; "–" of nothing."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f} %"


def _words(name: str) -> str:
    return name.replace("_", " ")
