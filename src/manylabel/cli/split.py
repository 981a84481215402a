"""`manylabel split`: a table with a part column, and what every label wanted and got."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from manylabel.cli.console import build_results_console, show_progress
from manylabel.cli.tables import Reading
from manylabel.data.annotations import Annotations
from manylabel.data.duplicates import find_relatives
from manylabel.data.formats.delimited import label_names_path, save_delimited
from manylabel.data.scan import find_cache_folder, scan_images
from manylabel.data.splits import (
    LabelShare,
    choose_fold,
    describe_absent_labels,
    describe_split,
    split,
    split_folds,
)
from manylabel.errors import ConfigError, build_message, join_names, suggest_name

NEAR_DUPLICATES = ("together", "ignore")

_SHOWN_LABELS = 40
_SHOWN_PARTS = 3
"""Most parts side by side: more do not fit into 80 columns."""


def run_split(
    data: str,
    out: Path,
    reading: Reading,
    parts: str,
    group: str | None,
    folds: int | None,
    fold: int | None,
    near_duplicates: str,
    fresh: bool,
    seed: int,
    quiet: bool,
) -> int:
    """Write the canonical table with its parts."""
    _check_out(out, data)
    if fold is not None and folds is None:
        raise ConfigError(build_message("--fold", "one fold of how many", got=fold, do="Give --folds too"))
    if near_duplicates not in NEAR_DUPLICATES:
        problem = f"unknown choice {near_duplicates!r}{suggest_name(near_duplicates, NEAR_DUPLICATES)}"
        raise ConfigError(build_message("--near-duplicates", problem, expected=join_names(NEAR_DUPLICATES)))
    annotations = reading.load(data)
    has_new = fresh or not all(record.part for record in annotations.records)  # else looking would change nothing
    relatives = find_related_images(annotations, quiet) if has_new and near_duplicates == "together" else []
    if folds is None:
        shares = parse_parts(parts)
        tables = split(annotations, shares, seed=seed, group=group, relatives=relatives, keep_parts=not fresh)
    else:
        tables = split_folds(annotations, folds, seed=seed, group=group, relatives=relatives, keep_parts=not fresh)
        shares = dict.fromkeys(tables, 1 / folds)
    if folds is not None and fold is not None:
        tables = choose_fold(tables, fold)
        shares = {"train": 1 - 1 / folds, "test": 1 / folds}
    save_delimited(functools.reduce(Annotations.merge, tables.values()), out)
    if not quiet:
        console = build_results_console()
        for table in build_share_tables(tables, shares):
            console.print(table)
            console.print()
        for sentence in [*_describe(annotations, relatives, fresh), *describe_absent_labels(tables)]:
            console.print(sentence, markup=False, soft_wrap=True)
        console.print(f"Written: {out} ({sum(map(len, tables.values())):,} images)", markup=False, soft_wrap=True)
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


def find_related_images(annotations: Annotations, quiet: bool) -> list[list[str]]:
    """Look at every image and return the ids of those that show the same picture, group by group."""
    with show_progress(quiet) as tell:
        tell("stage", {"name": "Looking for copies", "total": len(annotations)})
        facts = scan_images(
            annotations,
            cache=find_cache_folder(),
            on_image=lambda: tell("progress", {}),
            on_note=lambda message: tell("note", {"message": message}),
        )
    return [[annotations.records[row].id for row in group.rows] for group in find_relatives(facts)]


def _describe(annotations: Annotations, relatives: Sequence[Sequence[str]], fresh: bool) -> Iterator[str]:
    """Yield what a person should know of the table: images that are missing, and what was kept."""
    for finding in annotations.findings:
        if finding.kind == "missing-image":
            yield f"Missing: {finding.message} {finding.fix}."
    if relatives:
        yield (
            f"Copies of one picture stayed together: images {sum(map(len, relatives)):,}, pictures {len(relatives):,}."
        )
    num_kept = 0 if fresh else sum(record.part is not None for record in annotations.records)
    if num_kept == len(annotations):
        yield f"All {num_kept:,} images had a part already, and keep it. --fresh divides anew."
    elif num_kept:
        yield f"{num_kept:,} images had a part already, and keep it; {len(annotations) - num_kept:,} were placed."


def build_share_tables(tables: Mapping[str, Annotations], shares: Mapping[str, float]) -> Iterator[Table]:
    """Yield tables of what each label wanted and got: three parts side by side, or of many equal parts the extremes."""
    described: dict[str, list[LabelShare]] = {}
    for share in describe_split(tables, shares):
        described.setdefault(share.label, []).append(share)
    names = list(tables)
    if len(names) > _SHOWN_PARTS and len(set(shares.values())) == 1:
        yield _build_table(_describe_equal_parts(tables), described, _describe_extremes)
    else:
        for start in range(0, len(names), _SHOWN_PARTS):
            chosen = slice(start, start + _SHOWN_PARTS)
            headers = [f"{name}\n{len(tables[name]):,} images" for name in names[chosen]]
            yield _build_table(headers, described, functools.partial(_describe_each, chosen=chosen))


def _build_table(
    headers: list[str], described: Mapping[str, list[LabelShare]], describe: Callable[[list[LabelShare]], list[str]]
) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, caption_justify="left")
    table.add_column("label\n(got of wanted)", max_width=28)
    for header in headers:
        table.add_column(escape(header), justify="right", no_wrap=True)
    for label, label_shares in list(described.items())[:_SHOWN_LABELS]:
        table.add_row(escape(label), *describe(label_shares))
    if len(described) > _SHOWN_LABELS:
        table.caption = f"... and {len(described) - _SHOWN_LABELS} more labels."
    return table


def _describe_each(label_shares: list[LabelShare], chosen: slice) -> list[str]:
    return [f"{share.got:,} of {share.wanted:,.1f}" for share in label_shares[chosen]]


def _describe_equal_parts(tables: Mapping[str, Annotations]) -> list[str]:
    sizes = [len(part) for part in tables.values()]
    return [
        f"in all\n{sum(sizes):,} images",
        f"fewest of {len(sizes)}\n{min(sizes):,} images",
        f"most\n{max(sizes):,} images",
    ]


def _describe_extremes(label_shares: list[LabelShare]) -> list[str]:
    got, wanted = [share.got for share in label_shares], label_shares[0].wanted
    return [f"{sum(got):,}", f"{min(got):,} of {wanted:,.1f}", f"{max(got):,} of {wanted:,.1f}"]
