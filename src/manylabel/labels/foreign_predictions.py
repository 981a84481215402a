"""Probabilities that another program wrote: a table with a column `image` and a column of numbers per label."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.errors import DataError, build_message, find_reason, join_names
from manylabel.labels.predictions import PROBABILITY_PREFIX, Predictions, load_predictions
from manylabel.labels.space import LabelSpace

IMAGE_COLUMNS = ("image", "path", "file", "filename", "id")
"""The names of the column of images, the first that is there."""


def load_foreign_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Read a table of probabilities from CSV or Parquet; our own files of predictions are read with their truth.

    Every column of numbers is a label, under its own name or with `probability:` before it; other columns are left out.

    Raises:
        DataError: the file is missing or cannot be read, there is no column of images or of numbers, an image stands
            twice, a cell is empty, or a number is no probability.
    """
    table = _load_table(Path(path))
    image_column = next((name for name in IMAGE_COLUMNS if name in table.column_names), None)
    labels = {
        name.removeprefix(PROBABILITY_PREFIX): name
        for name in table.column_names
        if name != image_column and _is_number(table.schema.field(name).type)
    }
    if image_column is None or not labels:
        raise DataError(
            build_message(
                path,
                "not a table of probabilities",
                got=join_names(table.column_names),
                expected="a column image and a column of numbers from 0 to 1 for each label",
            )
        )
    if PROBABILITY_PREFIX + next(iter(labels)) in table.column_names and str(path).lower().endswith(".parquet"):
        return load_predictions(path)
    images = [str(image) for image in table.column(image_column).to_pylist()]
    repeated = [image for image, number in Counter(images).items() if number > 1]
    if repeated:
        raise DataError(
            build_message(path, f"{len(repeated)} images stand twice: {join_names(repeated)}", do="Keep one row each")
        )
    empty = [name for name in labels.values() if table.column(name).null_count]
    if empty:
        raise DataError(
            build_message(
                path,
                f"empty cells or NaN in the columns {join_names(empty)}",
                expected="a probability for every image and label",
                do="Leave out images that were not predicted",
            )
        )
    probs_LN = [table.column(name).to_numpy().astype(np.float32) for name in labels.values()]
    try:
        return Predictions(tuple(images), LabelSpace(tuple(labels)), np.stack(probs_LN, axis=1))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _load_table(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    if not path.is_file():
        raise DataError(build_message(path, "there is no such table of probabilities"))
    try:
        is_parquet = path.suffix.lower() == ".parquet"
        table = pyarrow.parquet.ParquetFile(path).read() if is_parquet else pyarrow.csv.read_csv(path)
        str(table.column_names)  # names are only decoded where they are asked for
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = find_reason(error)
        raise DataError(
            build_message(path, f"cannot be read ({reason})", expected="CSV with commas, or Parquet")
        ) from error
    return table


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
