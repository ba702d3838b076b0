"""The Jinja environment of all pages."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def template_environment(package: str, folder: str = ".") -> Environment:
    """Return an environment for the templates of a package: HTML-escaped, no undefined names."""
    return Environment(
        loader=PackageLoader(package, folder),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
