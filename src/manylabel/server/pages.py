"""The files of the pages, and the page that describes the interface; nothing is loaded from elsewhere."""

from __future__ import annotations

import json
from html import escape
from importlib import resources
from typing import Any

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def load_static() -> dict[str, tuple[bytes, str]]:
    """Return every file of the pages by name, with its content type: there is no path to take out of the folder."""
    folder = resources.files("manylabel.server") / "static"
    files = {}
    for file in folder.iterdir():
        suffix = "." + file.name.rpartition(".")[2]
        if suffix in _TYPES:
            files[file.name] = (file.read_bytes(), _TYPES[suffix])
    return files


def write_docs_page(document: dict[str, Any]) -> str:
    """Return the page `/docs`: every operation of the OpenAPI document as plain HTML."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(document['info']['title'])}: interface</title>",
        '<link rel="icon" href="/static/icon.svg" type="image/svg+xml">',
        '<link rel="stylesheet" href="/static/page.css"></head><body class="docs"><main>',
        f"<h1>{escape(document['info']['title'])}</h1><p>{escape(document['info']['description'])}</p>",
        '<p><a href="/">The page to try it</a> · <a href="/openapi.json">OpenAPI document</a></p>',
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts += _write_operation(method, path, operation)
    return "\n".join([*parts, "</main></body></html>", ""])


def _write_operation(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    lines = [
        f"<section><h2><code>{escape(method.upper())} {escape(path)}</code></h2>",
        f"<p>{escape(operation.get('description', operation.get('summary', '')))}</p>",
    ]
    rows = [(parameter["name"], parameter.get("description", "")) for parameter in operation.get("parameters", ())]
    body = operation.get("requestBody")
    if body is not None:
        rows.append(("body", f"{body['description']} Content-Type: {', '.join(body['content'])}."))
    if rows:
        lines += ["<h3>Takes</h3>", *_write_table(("what", "meaning"), rows)]
    lines += _write_examples(body if body is not None else {})
    answers = [(status, answer.get("description", "")) for status, answer in sorted(operation["responses"].items())]
    lines += ["<h3>Answers</h3>", *_write_table(("status", "meaning"), answers)]
    return [*lines, *_write_examples(operation["responses"].get("200", {})), "</section>"]


def _write_examples(told: dict[str, Any]) -> list[str]:
    """Return the examples of a body or an answer as it would be sent."""
    examples = [content["example"] for content in told.get("content", {}).values() if "example" in content]
    return [
        f"<pre><code>{escape(json.dumps(example, ensure_ascii=False, indent=2))}</code></pre>" for example in examples
    ]


def _write_table(header: tuple[str, str], rows: list[tuple[str, str]]) -> list[str]:
    cells = [f"<tr><td><code>{escape(first)}</code></td><td>{escape(second)}</td></tr>" for first, second in rows]
    return [f"<table><tr><th>{header[0]}</th><th>{header[1]}</th></tr>", *cells, "</table>"]
