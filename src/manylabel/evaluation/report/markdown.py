"""A report as Markdown: the sentences, the key figures beside their baselines, and a line per label."""

from __future__ import annotations

import os
from collections.abc import Sequence

from manylabel.errors import ConfigError, build_message, make_printable
from manylabel.evaluation.evaluate import Report
from manylabel.evaluation.report.definitions import DEFINITIONS, HEADLINES
from manylabel.evaluation.report.metrics import check_names_differ
from manylabel.evaluation.report.sentences import (
    describe_baselines,
    describe_calibration,
    describe_policy,
    describe_sizes,
    describe_strengths,
    describe_tuning,
    format_range,
    format_share,
    format_value,
    order_by_prevalence,
    summarise_in_words,
    warn,
)
from manylabel.files import write_bytes_atomically

_MARKUP = "\\`*_[]<>|#&~"
_RATES = ("average_precision", "roc_auc", "precision", "recall", "f1")


def save_markdown(reports: Sequence[Report], path: str | os.PathLike[str], *, title: str) -> None:
    """Write reports as one Markdown file, for a repository or a message: no curves, all numbers per label.

    Raises:
        ConfigError: no report, or two of one name.
        RunError: the file cannot be written.
    """
    write_bytes_atomically(path, render_markdown(reports, title=title).encode("utf-8", "backslashreplace"))


def render_markdown(reports: Sequence[Report], *, title: str) -> str:
    """Return what `save_markdown` writes."""
    if not reports:
        raise ConfigError(build_message("Markdown", "there is no report to show", expected="one or more"))
    check_names_differ(reports)
    blocks = [f"# {escape_markdown(title)}", *(_render_report(report) for report in reports)]
    return "\n\n".join(blocks) + "\n"


def render_results(report: Report) -> str:
    """Return what a model card says of a report: the sentences, the warnings and the key figures."""
    return "\n\n".join(
        [*_render_summary(report), render_key_figures(report), escape_markdown(describe_baselines(report))]
    )


def render_key_figures(report: Report) -> str:
    """Return the headline metrics as a Markdown table, each with its interval and beside the baselines."""
    lines = [
        f"| metric | value | {format_share(report.confidence)} interval | at 0.5 | no label | by frequency |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for name in HEADLINES:
        interval = report.metrics[name]
        lower = " (lower is better)" if DEFINITIONS[name].is_lower_better else ""
        cells = (
            f"{DEFINITIONS[name].title}{lower}",
            format_value(interval.value),
            format_range(interval),
            format_value(report.at_half[name]) if name in report.at_half else "same",
            format_value(report.baselines["all_negative"][name]),
            format_value(report.baselines["prior"][name]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def escape_markdown(text: str) -> str:
    r"""Return text that Markdown shows as it is: on one line, without markup, HTML or the end of a table's cell.

    Example:
        >>> print(escape_markdown("a|b <i> *c*"))
        a\|b \<i\> \*c\*
    """
    return "".join(f"\\{sign}" if sign in _MARKUP else sign for sign in make_printable(text))


def _render_summary(report: Report) -> list[str]:
    strengths = describe_strengths(report)
    return [
        f"## Results on {escape_markdown(report.name)}",
        escape_markdown(" ".join(summarise_in_words(report))),
        *([escape_markdown(strengths)] if strengths else []),
        *(f"> {escape_markdown(warning)}" for warning in warn(report)),
    ]


def _render_report(report: Report) -> str:
    blocks = [
        *_render_summary(report),
        "### Metrics beside their baselines",
        render_key_figures(report),
        escape_markdown(describe_baselines(report)),
        "### Decisions and probabilities",
        escape_markdown(describe_tuning(report)),
        *(escape_markdown(sentence) for sentence in describe_policy(report)),
        *(escape_markdown(say(report)) for say in (describe_sizes, describe_calibration)),
        "### Label by label",
        _render_labels(report),
    ]
    if report.skipped:
        rows = (f"| {escape_markdown(image)} | {escape_markdown(reason)} |" for image, reason in report.skipped.items())
        blocks += ["### Skipped images", "\n".join(["| image | why |", "|---|---|", *rows])]
    return "\n\n".join(blocks)


def _render_labels(report: Report) -> str:
    lines = [
        "| label | known | shown | threshold | AP | ROC AUC | precision | recall | F1 | wrongly given | missed |",
        "|---|" + "---:|" * 10,
    ]
    for place in order_by_prevalence(report):
        row = report.labels[place]
        rates: list[float] = [row[name] for name in _RATES]  # type: ignore[literal-required]
        numbers = (
            f"{row['num_known']}",
            f"{row['num_positive']}",
            *(format_value(value) for value in (row["threshold"], *rates)),
            f"{row['false_positives']}",
            f"{row['false_negatives']}",
        )
        lines.append(f"| {escape_markdown(row['label'])} | {' | '.join(numbers)} |")
    return "\n".join(lines)
