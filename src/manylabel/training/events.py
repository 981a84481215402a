"""What a run tells while it goes on; nothing that hears it can change anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

OnEvent = Callable[[str, Mapping[str, Any]], None]
"""Told an event and its facts: `note` (message), `stage` (name, total), `progress`, and the loop's `step`,
`validation_step` and `epoch`."""


def tell_nobody(event: str, facts: Mapping[str, Any]) -> None:
    """Do nothing: an `on_event` for those who do not want to know."""
