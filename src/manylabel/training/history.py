"""History: one flat JSON object per epoch and line, readable while a run goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manylabel.errors import RunError, build_message
from manylabel.files import write_text_atomically


def save_history(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write all epochs; a number that is not finite becomes null, since JSON has no word for it."""
    lines = [json.dumps({key: _jsonable(value) for key, value in row.items()}) for row in rows]
    write_text_atomically(path, "".join(f"{line}\n" for line in lines))


def load_history(path: Path) -> list[dict[str, Any]]:
    """Read the epochs of a run, oldest first; [] where none has ended yet."""
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise RunError(
            build_message(path, f"a line is not JSON ({error})", do="Restore the file or start a new run")
        ) from error


def _jsonable(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
