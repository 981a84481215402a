"""What schemathesis loads for `test_openapi.py`: images where the document says bytes, and labels that there are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies
from tests.inference.conftest import NAMES
from tests.server.conftest import encode

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

IMAGES = strategies.sampled_from(
    [encode((255, 0, 0)), encode((0, 255, 255), kind="JPEG"), encode((0, 0, 0), (300, 200), "WEBP")]
)

schemathesis.openapi.format("binary", IMAGES)
for kind in ("image/*", "application/octet-stream"):
    schemathesis.openapi.media_type(kind, IMAGES)


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:  # noqa: ARG001 - the signature of a hook
    """Name labels that the model has, where the request is meant to be right; its numbers stay as they were drawn."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    if case.path == "/explain":
        case.query = {**(case.query or {}), "label": "red"}
    if case.path == "/decide":
        drawn = case.body["probabilities"]
        named = [name_all(table) for table in drawn] if isinstance(drawn, list) else name_all(drawn)
        thresholds = dict(zip(NAMES, case.body.get("thresholds", {}).values(), strict=False))
        case.body = {"probabilities": named, "thresholds": thresholds}
    return case


def name_all(drawn: dict[str, float]) -> dict[str, float]:
    """Return a drawn number for each label."""
    numbers = [*drawn.values(), 0.5, 0.5, 0.5]
    return dict(zip(NAMES, numbers, strict=False))
