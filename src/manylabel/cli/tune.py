"""`manylabel tune`: other decisions for a model, and what they bring."""

from __future__ import annotations

import json as json_format
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from manylabel.bundle.bundle import load_bundle
from manylabel.cli.console import build_results_console, show_progress
from manylabel.cli.outputs import check_output, check_spares_images
from manylabel.cli.tables import Reading
from manylabel.data.annotations import Annotations
from manylabel.decisions.conformal import parse_abstention
from manylabel.decisions.gain import NEITHER_IS_BETTER, Figure
from manylabel.decisions.mining import write_rules
from manylabel.decisions.rule_files import load_rules
from manylabel.errors import ConfigError, DataError, build_message, join_names, suggest_name
from manylabel.files import write_text_atomically
from manylabel.labels.predictions import Predictions, load_predictions
from manylabel.runs.tune import Tuned, describe_tuning, tune

_SHOWN = (
    "f1_macro", "f1_micro", "f1_samples", "precision_macro", "recall_macro", "precision_micro", "recall_micro",
    "subset_accuracy", "labels_per_image",
)  # fmt: skip
_MOST_LABELS = 20
_MOST_RULES = 10
NO_RULES = "none"


def run_tune(
    model: str,
    data: str,
    reading: Reading,
    goal: str | None,
    calibrate: str | None,
    rules: str | None,
    abstain: str | None,
    mine: Path | None,
    part: str | None,
    unknown_labels: str,
    out: Path | None,
    json: bool,
    quiet: bool,
) -> int:
    """Choose, print what it brings, and write the new bundle if asked to."""
    bundle = load_bundle(model)
    if out is not None and out.resolve() in (bundle.folder.resolve(), Path(model).resolve()):
        raise ConfigError(build_message(out, "the model itself lies there", do="Give the new one another place"))
    if mine is not None:
        check_output(mine, (data, rules), "--mine-rules")
    space = bundle.manifest.label_space
    chosen_rules = None if rules is None else () if rules == NO_RULES else load_rules(rules, space)
    images = _load(data, reading, part, mine)
    with show_progress(quiet or json) as tell:
        tuned = tune(
            model,
            images,
            goal=goal,
            calibrate=calibrate,
            rules=chosen_rules,
            abstain=None if abstain is None else parse_abstention(abstain),
            mine=mine is not None,
            unknown_labels=unknown_labels,
            out=out,
            on_event=tell,
        )
    if mine is not None:
        write_text_atomically(mine, write_rules(tuned.mined))
    if json:
        print(json_format.dumps(_describe(tuned), indent=2, ensure_ascii=False))
    else:
        _print(tuned, build_results_console(), out, mine)
    return 0


def _load(data: str, reading: Reading, part: str | None, mine: Path | None) -> Annotations | Predictions:
    """Return answers from a file of predictions, else the part of a table: `val` where there are parts."""
    if Path(data).suffix.lower() == ".parquet" and _holds_predictions(data):
        return load_predictions(data)
    annotations = reading.load(data)
    if mine is not None:
        check_spares_images(mine, annotations)
    parts = annotations.parts()
    name = part if part is not None else "val"
    if name in parts:
        return parts[name]
    if part == "all" or (not parts and part is None):
        return annotations
    problem = f"there is no part {name!r}{suggest_name(name, parts)}"
    raise DataError(build_message(data, problem, expected=join_names([*parts, "all"]), do="Name the part with --part"))


def _holds_predictions(path: str) -> bool:
    try:
        load_predictions(path)
    except DataError:
        return False
    return True


def _describe(tuned: Tuned) -> dict[str, Any]:
    tuning = tuned.tuning
    return {
        "model": tuned.model.digest,
        "num_images": len(tuned.predictions),
        "policy": tuning.policy.to_dict(),
        "figures": _show_figures(tuning.figures),
        "rule_figures": _show_figures(tuning.rule_figures),
        "calibration_log_loss": _show_figures(tuning.losses),
        "mined_rules": [
            {**one.rule.to_dict(), "support": one.support, "confidence": one.confidence, "lift": one.lift}
            for one in tuned.mined
        ],
    }


def _show_figures(figures: Mapping[str, Figure]) -> dict[str, dict[str, float | None]]:
    return {
        name: {key: None if math.isnan(value) else value for key, value in asdict(figure).items()}
        for name, figure in figures.items()
    }


def _print(tuned: Tuned, console: Console, out: Path | None, mine: Path | None) -> None:
    tuning = tuned.tuning
    console.print(describe_tuning(tuning), markup=False)
    if tuning.figures:
        console.print("\nEach image is decided by what was chosen without it:\n", markup=False)
        metric = tuning.policy.gain.get("metric", "f1_macro")
        _print_figures(console, tuning.figures, "at 0.5", "tuned", metric)
    if tuning.rule_figures:
        console.print("\nWhat the rules change:\n", markup=False)
        _print_figures(console, tuning.rule_figures, "without", "with", "f1_macro")
    console.print()
    _print_thresholds(console, tuned)
    _print_doubt(console, tuned)
    if mine is not None:
        _print_mined(console, tuned, mine)
    text = f"\nModel: {out}" if out is not None else "\nNothing was written: --out BUNDLE keeps these decisions."
    console.print(text, markup=False, soft_wrap=True)


def _print_figures(console: Console, figures: Mapping[str, Figure], before: str, after: str, metric: str) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("figure", no_wrap=True)
    for column in (before, after, "gain", "95 % interval of the gain"):
        table.add_column(column, justify="right", no_wrap=True)
    for name in dict.fromkeys((metric, *_SHOWN)):
        figure = figures[name]
        has_side = name not in NEITHER_IS_BETTER
        interval = f"{figure.low:+.3f} to {figure.high:+.3f}" if has_side else ""
        gain = f"{figure.gain:+.3f}" if has_side else ""
        table.add_row(name, f"{figure.before:.3f}", f"{figure.after:.3f}", gain, interval)
    console.print(table)


def _print_thresholds(console: Console, tuned: Tuned) -> None:
    policy, targets = tuned.tuning.policy, tuned.predictions.targets
    assert targets is not None
    num_present_L = targets.num_present_L
    table = Table(box=None, pad_edge=False)
    table.add_column("label", no_wrap=True, max_width=30)
    for title in ("present", "given from", "threshold of"):
        table.add_column(title, justify="right", no_wrap=True)
    columns = sorted(range(len(policy.thresholds)), key=lambda column: -int(num_present_L[column]))
    meaning = {"label": "its own", "global": "all labels", "never": "no image", "always": "every image"}
    for column in columns[:_MOST_LABELS]:
        source = policy.sources[column] if policy.sources else ""
        cells = (str(num_present_L[column]), f"{policy.thresholds[column]:.3f}", meaning.get(source, source))
        table.add_row(console.render_str(policy.label_space.names[column], markup=False), *cells)
    console.print(table)
    if len(columns) > _MOST_LABELS:
        console.print(f"... and {len(columns) - _MOST_LABELS} rarer labels.", markup=False)


def _print_doubt(console: Console, tuned: Tuned) -> None:
    policy = tuned.tuning.policy
    if policy.abstention is None:
        return
    doubtful_N = policy.is_doubtful(tuned.predictions.probs_NL)
    share = float(doubtful_N.mean()) if len(doubtful_N) else 0.0
    limit = policy.abstention.limit
    if policy.abstention.by == "margin":
        why = f"a label is within {-limit:.3g} of its threshold"
    else:
        why = f"they are given more than {limit:.0f} labels"
    text = f"\nSent to a person: {share:.1%} of the images, where {why}."
    console.print(text, markup=False)


def _print_mined(console: Console, tuned: Tuned, path: Path) -> None:
    console.print(f"\nProposed rules, not applied: {len(tuned.mined)}. File: {path}", markup=False, soft_wrap=True)
    for one in tuned.mined[:_MOST_RULES]:
        console.print(f"  {one.rule} (support {one.support}, lift {one.lift:.2f})", markup=False)
    if tuned.mined_tuning is not None and tuned.mined_tuning.rule_figures:
        console.print("\nWhat all of them together would change:\n", markup=False)
        _print_figures(console, tuned.mined_tuning.rule_figures, "without", "with", "f1_macro")
