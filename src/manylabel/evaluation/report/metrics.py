"""metrics.json: the numbers of several reports by the name of their part, for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manylabel.errors import ConfigError, RunError, build_message, join_names
from manylabel.evaluation.evaluate import Report
from manylabel.files import write_bytes_atomically


def build_metrics(reports: Sequence[Report]) -> dict[str, dict[str, Any]]:
    """Return what metrics.json holds: `Report.to_dict` by the name of the report.

    Raises:
        ConfigError: two reports have one name.
    """
    check_names_differ(reports)
    return {report.name: report.to_dict() for report in reports}


def save_metrics(reports: Sequence[Report], path: str | os.PathLike[str]) -> None:
    """Write metrics.json; an undefined number is null, so that every JSON reader takes the file.

    Raises:
        ConfigError: two reports have one name.
        RunError: the file cannot be written.
    """
    text = json.dumps(build_metrics(reports), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A file name that is not text holds lone surrogates; with a backslash they are what JSON writes for them.
    write_bytes_atomically(path, text.encode("utf-8", "backslashreplace"))


def load_metrics(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Read metrics.json; an undefined number is None.

    Raises:
        RunError: the file is missing or is not a metrics.json.
    """
    try:
        parts = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(
            build_message(path, "cannot be read", do="Give the metrics.json of a run, or evaluate the run first")
        ) from error
    except ValueError as error:
        raise RunError(build_message(path, "is not JSON", do="Evaluate the run again")) from error
    if not isinstance(parts, dict) or not all(isinstance(part, dict) and "metrics" in part for part in parts.values()):
        raise RunError(
            build_message(path, "is not a metrics.json", expected='{"test": {"metrics": ...}}', do="Evaluate the run")
        )
    return parts


def check_names_differ(reports: Sequence[Report]) -> None:
    """Raise unless every report has a name of its own.

    Raises:
        ConfigError: two have the same.
    """
    names = [report.name for report in reports]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(
            build_message("reports", f"two parts have one name: {join_names(repeated)}", do="Give each its own `name`")
        )
