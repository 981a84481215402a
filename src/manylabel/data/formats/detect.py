"""Which layout a file or folder has, found by its content, with the evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from manylabel.data.annotations import Annotations
from manylabel.data.formats.columns import ImageRoot, find_image_column
from manylabel.data.formats.delimited import find_label_column, load_delimited
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
        ConfigError: no such layout.
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
    if path.is_dir():
        tables = sorted(
            file for file in path.iterdir() if file.suffix.lower() in TABLE_EXTENSIONS[:2] and file.is_file()
        )
        if layout == "folders" or (layout is None and not tables):
            evidence = ("labels: the names of the folders that hold the images",)
            return LoadedData(load_folders(path), Layout("folders", evidence))
        if len(tables) != 1:
            raise DataError(
                build_message(
                    path,
                    f"the folder holds {len(tables)} tables: {join_names([table.name for table in tables])}",
                    do="Name one of them",
                )
            )
        path = tables[0]
    if layout == "folders":
        raise DataError(build_message(path, "not a folder", expected="a folder of label folders"))
    table = load_table(path)
    found = detect_layout(table, image_column, label_column, layout)
    root = ImageRoot(Path(images) if images is not None else path.parent)
    annotations = TABLE_FORMATS[found.name](table, root, image_column, label_column)
    return LoadedData(annotations, found)


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

    A column called `labels` wins over a single 0/1 column; several 0/1 columns win over any other.
    """
    image = find_image_column(table, image_column)
    head = (
        f"{table.num_rows} rows, {len(table.names)} columns, {table.encoding}, cells parted by {table.delimiter!r}",
        image.evidence,
    )
    state_columns = find_label_columns(table, image.name)
    listing = find_label_column(table, image.name, label_column)
    if layout is None:
        is_listed = listing is not None and (label_column is not None or listing.name.casefold() == "labels")
        one_hot_wins = bool(state_columns) and not is_listed
        layout = "one-hot" if one_hot_wins else "delimited"
    if layout == "one-hot":
        extras = [name for name in table.names if name not in (*state_columns, image.name)]
        evidence = [f"labels: {len(state_columns)} columns hold only 0, 1 and unknown"]
        evidence += [f"kept as extra columns: {join_names(extras)}"] if extras else []
        return Layout("one-hot", (*head, *evidence))
    return Layout("delimited", (*head, listing.evidence if listing is not None else "labels: no column found"))
