"""HTML pages and Markdown cards from templates: whatever data says becomes text, not markup."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from corpus.terminal import printable


def template(package: str, name: str) -> Template:
    """Return a template of a package; what it shows is escaped, and control characters are replaced.

    Parameters
    ----------
    package
        Name of the package whose folder has the template.
    name
        Its file.
    """
    templates = Environment(
        loader=PackageLoader(package, ""),
        autoescape=True,
        finalize=_without_controls,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return templates.get_template(name)


def _without_controls(value: Any) -> Any:
    if isinstance(value, Markup):
        return Markup(printable(value))
    return printable(value) if isinstance(value, str) else value
