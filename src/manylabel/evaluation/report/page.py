"""What the pages for people share: their frame, style and the one script, and the rules that let nothing else run."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

SHARED_FILES = ("base.html", "page.css", "page.js")


def render_page(template: str, **facts: object) -> str:
    """Return the HTML page of a template that extends `base.html`; every fact is shown as the text it is.

    The page loads nothing, and its own rules forbid any script but the one that sorts the tables.
    """
    from jinja2 import DictLoader, Environment, StrictUndefined

    folder = resources.files("manylabel.evaluation.report")
    shared = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in SHARED_FILES}
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=DictLoader(shared)
    )
    environment.filters["csp_hash"] = _hash_script
    return environment.from_string(template).render(facts)


def _hash_script(script: str) -> str:
    """Return the digest by which the page allows this one script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(str(script).encode()).digest()).decode("ascii")
