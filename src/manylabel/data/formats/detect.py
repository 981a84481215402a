"""Which layout a file or folder has, found by its content, with the evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from manylabel.data.annotations import Annotations
from manylabel.data.formats.columns import RECORD_COLUMN_NAMES, ImageRoot, find_image_column
from manylabel.data.formats.delimited import LabelColumn, find_label_column, load_delimited
from manylabel.data.formats.folders import load_folders
from manylabel.data.formats.one_hot import find_label_columns, load_one_hot
from manylabel.data.formats.table import TABLE_EXTENSIONS, Table, load_table
from manylabel.errors import ConfigError, DataError, build_message, join_names, suggest_name

TABLE_FORMATS: Mapping[str, Callable[..., Annotations]] = {
    "one-hot": load_one_hot,
    "delimited": load_delimited,
}
"""The layouts of a text table, each with the function that reads it."""

LAYOUTS = (*TABLE_FORMATS, "folders")
"""Every layout that `--layout` accepts."""


@dataclass(frozen=True)
class Layout:
    """What was found: the layout's name, and the sentences that say why."""

    name: str
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class LoadedData:
    """Annotations together with the layout they were read in."""

    annotations: Annotations
    layout: Layout


def load_data(
    data: str | Path,
    images: str | Path | None = None,
    *,
    layout: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> LoadedData:
    """Read a table or a folder of labels, and say what layout it had.

    Args:
        data: a CSV or TSV table, a folder of label folders, or a folder that holds exactly one table.
        images: the folder that relative paths start from; by default the folder of the table.
        layout: overrules what the content says: `one-hot`, `delimited` or `folders`.
        image_column, label_column: overrule which column names the image and which lists the labels.

    Raises:
        DataError: nothing readable is there; the message says what was looked for.
        ConfigError: no such layout, or an option for tables where DATA is a folder of label folders.
    """
    path = Path(data)
    if layout is not None and layout not in LAYOUTS:
        raise ConfigError(
            build_message(
                "--layout", f"unknown layout {layout!r}{suggest_name(layout, LAYOUTS)}", expected=join_names(LAYOUTS)
            )
        )
    if images is not None and not Path(images).is_dir():
        raise DataError(build_message(images, "there is no such folder of images", do="Check --images"))
    tables = _find_tables(path) if path.is_dir() else [path]
    if layout == "folders" or (layout is None and not tables):
        _check_folders(path, {"--images": images, "--image-column": image_column, "--label-column": label_column})
        evidence = ("labels: the names of the folders that hold the images",)
        return LoadedData(load_folders(path), Layout("folders", evidence))
    if len(tables) != 1:
        found = f"the folder holds {len(tables)} tables" + (
            f": {join_names([table.name for table in tables])}" if tables else ""
        )
        raise DataError(build_message(path, found, expected="one", do="Name the table"))
    table = load_table(tables[0])
    found_layout = detect_layout(table, image_column, label_column, layout)
    root = ImageRoot(Path(images) if images is not None else tables[0].parent)
    annotations = TABLE_FORMATS[found_layout.name](table, root, image_column, label_column)
    return LoadedData(annotations, found_layout)


def _find_tables(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in TABLE_EXTENSIONS and file.is_file())


def _check_folders(path: Path, options: Mapping[str, object]) -> None:
    if not path.is_dir():
        raise DataError(build_message(path, "not a folder", expected="a folder of label folders"))
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ConfigError(
            build_message(
                path,
                f"{join_names(given)} is for tables, and this is read as label folders",
                do="Leave it out, or name the table",
            )
        )


def load_annotations(
    data: str | Path,
    images: str | Path | None = None,
    *,
    layout: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Annotations:
    """Read a table or a folder of labels into Annotations; `load_data` also says what layout it had.

    Args and Raises: as `load_data`.
    """
    return load_data(data, images, layout=layout, image_column=image_column, label_column=label_column).annotations


def detect_layout(
    table: Table, image_column: str | None = None, label_column: str | None = None, layout: str | None = None
) -> Layout:
    """Return the layout of a table and the evidence for it.

    A column called `labels` lists them, whatever 0/1 columns stand beside it, unless it is one of several 0/1 columns
    itself; without such a column 0/1 columns win. A label column that was asked for is the only label if it holds 0
    and 1.
    """
    image = find_image_column(table, image_column)
    head = (
        f"{table.num_rows} rows, {len(table.names)} columns, {table.encoding}, cells parted by {table.delimiter!r}",
        image.evidence,
    )
    state_columns = find_label_columns(table, image.name)
    listing = find_label_column(table, image.name, label_column)
    if layout is None:
        layout = "one-hot" if _is_one_hot(state_columns, listing, label_column) else "delimited"
    if layout == "delimited":
        return Layout("delimited", (*head, listing.evidence if listing is not None else "labels: no column found"))
    if label_column is not None:
        return Layout("one-hot", (*head, f"labels: column {label_column!r} of 0, 1 and unknown, as asked"))
    evidence = [f"labels: columns that hold only 0, 1 and unknown: {len(state_columns)}"]
    extras = [name for name in table.names if name not in (*state_columns, image.name, *RECORD_COLUMN_NAMES)]
    evidence += [f"kept as extra columns: {join_names(extras)}"] if extras else []
    return Layout("one-hot", (*head, *evidence))


def _is_one_hot(state_columns: list[str], listing: LabelColumn | None, label_column: str | None) -> bool:
    if listing is not None and listing.name.casefold() == "labels":
        return len(state_columns) > 1 and listing.name in state_columns
    return bool(state_columns) and (label_column is None or label_column in state_columns)
