"""`manylabel find-lr`: a learning rate to begin with, and the picture that speaks for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manylabel.cli.console import build_results_console, show_progress
from manylabel.cli.tables import Reading, load_parts
from manylabel.cli.train import build_config
from manylabel.runs.find_lr import find_lr


def run_find_lr(
    data: str, out: Path | None, reading: Reading, config_file: Path | None, quiet: bool, settings: Mapping[str, Any]
) -> int:
    """Try learning rates on the training part and print the suggestion."""
    config = build_config(config_file, settings)
    tables, _ = load_parts(reading, data, None, None, config.seed)
    with show_progress(quiet) as tell:
        found = find_lr(tables["train"], config, out=out, on_event=tell)
    console = build_results_console()
    console.print(f"Suggested: --lr {found.suggestion:g}", markup=False)
    console.print(
        f"A tenth of {found.limit:.1g}, beyond which the loss rises ({len(found.losses)} steps were tried).",
        markup=False,
    )
    if out is not None:
        console.print(f"Picture: {out}", markup=False, soft_wrap=True)
    return 0
