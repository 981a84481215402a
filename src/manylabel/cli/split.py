"""`manylabel split`: a table with a part column, and what every label wanted and got."""

from __future__ import annotations

import functools
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from manylabel.cli.console import build_results_console
from manylabel.data.annotations import Annotations
from manylabel.data.formats.delimited import label_names_path, save_delimited
from manylabel.data.formats.detect import load_annotations
from manylabel.data.splits import describe_split, split, split_folds
from manylabel.errors import ConfigError, build_message

_SHOWN_LABELS = 40


def run_split(
    data: str,
    out: Path,
    images: str | None,
    parts: str,
    group: str | None,
    folds: int | None,
    seed: int,
    layout: str | None,
    image_column: str | None,
    label_column: str | None,
    quiet: bool,
) -> int:
    """Write the canonical table with its parts."""
    _check_out(out, data)
    annotations = load_annotations(data, images, layout=layout, image_column=image_column, label_column=label_column)
    if folds is not None:
        tables = split_folds(annotations, folds, seed=seed, group=group)
        shares = dict.fromkeys(tables, 1 / folds)
    else:
        shares = parse_parts(parts)
        tables = split(annotations, shares, seed=seed, group=group)
    save_delimited(functools.reduce(Annotations.merge, tables.values()), out)
    if not quiet:
        _print(tables, shares, out)
    return 0


def parse_parts(text: str) -> dict[str, float]:
    """Read `train=0.7,val=0.15,test=0.15`.

    Raises:
        ConfigError: a piece that is not NAME=SHARE, or a name that stands twice.

    Example:
        >>> parse_parts("train=0.8,val=0.2")
        {'train': 0.8, 'val': 0.2}
    """
    shares: dict[str, float] = {}
    for piece in text.split(","):
        name, _, share = (part.strip() for part in piece.partition("="))
        try:
            value = float(share)
        except ValueError as error:
            raise ConfigError(
                build_message("--parts", "not a share", got=piece, expected="NAME=SHARE, such as train=0.7")
            ) from error
        if not name or name in shares:
            raise ConfigError(build_message("--parts", "a part without a name of its own", got=piece))
        shares[name] = value
    return shares


def _check_out(out: Path, data: str) -> None:
    """Refuse to write over anything: the table that is read, or one that was written before, or its label names."""
    for path in (out, label_names_path(out)):
        if path.exists():
            what = "the table that is read" if path.resolve() == Path(data).resolve() else "there already"
            raise ConfigError(
                build_message("OUT", f"{path} is {what}", do="Choose another OUT, or remove the file first")
            )


def _print(tables: dict[str, Annotations], shares: dict[str, float], out: Path) -> None:
    console = build_results_console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("label", overflow="ellipsis", max_width=28)
    for name, part in tables.items():
        table.add_column(f"{name}\n{len(part):,} images", justify="right")
    rows: dict[str, list[str]] = {}
    for share in describe_split(tables, shares):
        rows.setdefault(share.label, []).append(f"{share.got:,} of {share.wanted:.1f}")
    for label, cells in list(rows.items())[:_SHOWN_LABELS]:
        table.add_row(escape(label), *cells)
    console.print(table)
    if len(rows) > _SHOWN_LABELS:
        console.print(f"... and {len(rows) - _SHOWN_LABELS} more labels.")
    console.print(f"\nWritten: {out} (each cell: images with the label, got of wanted)", markup=False, soft_wrap=True)
