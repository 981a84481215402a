"""Finding: one thing that a person should know about their data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """What is the matter, how bad it is, where, and what cures it.

    `error` means that training on the table as it is would fail or mislead; `warning`, that a person should look;
    `note`, that something was decided for them. `kind` is a stable word for programs, `rows` are image ids or label
    names.
    """

    severity: Severity
    kind: str
    message: str
    rows: tuple[str, ...] = ()
    fix: str = ""

    def to_dict(self) -> Mapping[str, object]:
        """Return the finding as INTERFACE's JSON."""
        return {
            "severity": self.severity,
            "kind": self.kind,
            "message": self.message,
            "rows": list(self.rows),
            "fix": self.fix,
        }
