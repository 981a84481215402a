"""`manylabel search`: which settings are best on validation, and how much of that is luck."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from manylabel.cli.console import build_results_console, show_progress
from manylabel.cli.tables import Reading, load_parts
from manylabel.cli.train import build_config
from manylabel.runs.search import Search, search
from manylabel.runs.study import Trial
from manylabel.runs.trials import show_value
from manylabel.training.config import load_config

_SHOWN = 3
"""Trials beside the first: more do not fit into 80 columns."""


def run_search(
    data: str,
    out: Path,
    space: str | None,
    trials: int | None,
    budget: str,
    repeats: int,
    reading: Reading,
    val: str | None,
    config_file: Path | None,
    quiet: bool,
    settings: Mapping[str, Any],
) -> int:
    """Search and print the best trials; return the exit code, 128 and the signal's number if a signal stopped it."""
    config = replace(build_config(config_file, settings), budget="")
    fixed = {*settings, *(load_config(config_file) if config_file is not None else {})}
    tables, sentence = load_parts(reading, data, val, None, config.seed)
    with show_progress(quiet) as tell:
        if sentence:
            tell("note", {"message": sentence})
        found = search(
            tables["train"], tables.get("val"), config, out=out, space=space, num_trials=trials, budget=budget,
            num_repeats=repeats, fixed=fixed, on_event=tell,
        )  # fmt: skip
    print_search(found)
    return found.exit_code


def print_search(found: Search) -> None:
    """Print the best trials beside the settings as given, how much of the best is luck, and where everything is."""
    console = build_results_console()
    if found.best is not None:
        console.print(_build_trials_table(found))
        _print_luck(found, console)
    states = [trial.state for trial in found.trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("finished", "pruned", "failed"))
    console.print(f"\n{len(states)} trials: {counts}.", markup=False)
    if found.exit_code:
        console.print("Stopped before its end; the same command goes on.", markup=False)
    console.print(f"Trials: {found.folder / 'trials.csv'}", markup=False, soft_wrap=True)
    if found.best is not None:
        best = found.folder / "best.toml"
        console.print(f"Use it: manylabel train DATA --out RUN --config {best}", markup=False, soft_wrap=True)


def _build_trials_table(found: Search) -> Table:
    """Build a column per trial, since there are more settings than trials to show."""
    best = _choose_best(found)
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("importance", justify="right")
    shown = (found.trials[0], *best)
    for trial in shown:
        table.add_column(f"trial {trial.number}", justify="right", overflow="fold", max_width=13)
    table.add_row(found.monitor, "", *("-" if trial.value is None else f"{trial.value:.4f}" for trial in shown))
    table.add_row("best epoch", "", *(str(trial.best_epoch) for trial in shown))
    order = sorted(found.trials[0].settings, key=lambda name: -found.importance.get(name, 0.0))
    for name in order:
        share = f"{found.importance[name]:.2f}" if name in found.importance else "-"
        table.add_row(name, share, *(show_value(trial.settings[name]) for trial in shown))
    return table


def _choose_best(found: Search) -> Sequence[Trial]:
    sign = 1 if found.is_lower_better else -1
    finished = [trial for trial in found.trials[1:] if trial.state == "finished" and trial.value is not None]
    return sorted(finished, key=lambda trial: sign * (trial.value or 0.0))[:_SHOWN]


def _print_luck(found: Search, console: Console) -> None:
    assert found.best is not None
    assert found.best.value is not None
    console.print("\nTrial 1 has the settings as given. Importance is the share of the differences", markup=False)
    console.print("between trials that a setting explains; - is too few trials to say.\n", markup=False)
    console.print(f"{found.monitor} on validation", markup=False)
    num_tried = len(found.trials)
    console.print(f"  best when chosen             {found.best.value:.4f}  the best of {num_tried}, so flattered")
    rows = (("best, other seeds", found.repeats), ("as given, same seeds", found.first_repeats))
    for name, values in rows:
        if values:
            spread = f"{min(values):.4f} to {max(values):.4f}"
            console.print(f"  {name:<29}{statistics.mean(values):.4f}  {spread}, {len(values)} seeds", markup=False)
    console.print(found.describe_luck(), markup=False)
    console.print(
        f"All of it was judged on the same {found.num_val:,} validation images, which chose the best: expect a "
        "little less elsewhere. No test image was looked at.",
        markup=False,
    )
