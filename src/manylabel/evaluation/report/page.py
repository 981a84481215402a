"""What the pages for people share: their frame, style and script, and the rules that let nothing else run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

SHARED_SCRIPTS = ("scripts/tables.js",)
SHARED_STYLES = ("page.css",)


def render_page(template: str, *, styles: Sequence[str] = (), scripts: Sequence[str] = (), **facts: object) -> str:
    """Return the HTML page of a template that extends `base.html`; every fact is shown as the text it is.

    The page loads nothing, and its own rules forbid any script but the one that is put together here.

    Args:
        template: the page; it may include any file below `evaluation/report`.
        styles: style sheets of the page's own, after the shared one.
        scripts: scripts of the page's own, after the shared ones; all become one.
    """
    return (
        _build_environment()
        .from_string(template)
        .render(facts, styles=(*SHARED_STYLES, *styles), scripts=(*SHARED_SCRIPTS, *scripts))
    )


@cache
def _build_environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(load_part),
    )
    environment.filters["csp_hash"] = _hash_script
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
    return environment


def load_part(name: str) -> str:
    """Return a file of this folder: a template, a style sheet or a script."""
    return resources.files("manylabel.evaluation.report").joinpath(name).read_text(encoding="utf-8")


def _hash_script(script: str) -> str:
    """Return the digest by which the page allows this one script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(str(script).encode()).digest()).decode("ascii")
