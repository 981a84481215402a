"""Predictions: a probability per image and label, in memory and on disk.

Everything to the right of this file (thresholds, metrics, reports, comparisons) needs neither the images nor the model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.errors import DataError, build_message, join_names
from manylabel.files import write_bytes_atomically
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

PROBABILITY_PREFIX = "probability:"
TRUTH_PREFIX = "truth:"
_METADATA_KEY = b"manylabel"


@dataclass(frozen=True, eq=False)
class Predictions:
    """Finite probabilities in [0, 1] for named images and labels, with the truth beside them where it is known.

    `model_digest` and `data_digest` say which model answered about which table; "" when that is not known.

    Shapes: N images, L labels.

    Raises:
        DataError: shapes that do not fit, an image that stands twice, a probability that is not in [0, 1].
    """

    images: tuple[str, ...]
    label_space: LabelSpace
    probs_NL: npt.NDArray[np.float32]
    targets: Targets | None = None
    model_digest: str = ""
    data_digest: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", tuple(self.images))
        object.__setattr__(self, "probs_NL", np.asarray(self.probs_NL, np.float32))
        expected = (len(self.images), len(self.label_space))
        if self.probs_NL.shape != expected:
            raise DataError(
                build_message("predictions", "wrong shape", got=self.probs_NL.shape, expected=str(expected))
            )
        if self.targets is not None and self.targets.shape != expected:
            raise DataError(
                build_message("predictions", "truth of another shape", got=self.targets.shape, expected=str(expected))
            )
        if len(set(self.images)) < len(self.images):
            raise DataError(build_message("predictions", "an image stands twice", do="Keep one row per image"))
        # Written so that NaN counts as outside.
        outside = ~((self.probs_NL >= 0) & (self.probs_NL <= 1))
        if outside.any():
            row, column = (int(axis[0]) for axis in np.nonzero(outside))
            raise DataError(
                build_message(
                    f"predictions of image {self.images[row]!r}, label {self.label_space.names[column]!r}",
                    "not a probability",
                    got=float(self.probs_NL[row, column]),
                    expected="a number from 0 to 1",
                    do="Apply the sigmoid if these are logits",
                )
            )

    def __len__(self) -> int:
        return len(self.images)

    def select(self, images: Sequence[str]) -> Predictions:
        """Return the rows of these images, in this order.

        Raises:
            DataError: an image has no prediction.
        """
        row_of = {image: row for row, image in enumerate(self.images)}
        missing = [image for image in images if image not in row_of]
        if missing:
            raise DataError(
                build_message(
                    "predictions", f"no row for {len(missing)} images: {join_names(missing)}", do="Predict them"
                )
            )
        rows = np.array([row_of[image] for image in images], np.int64)
        targets = None if self.targets is None else self.targets.select(rows)
        return Predictions(
            tuple(images), self.label_space, self.probs_NL[rows], targets, self.model_digest, self.data_digest
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a Parquet file: `image`, then `probability:NAME` (float32) and `truth:NAME` (bool, null = unknown)."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns: dict[str, Any] = {"image": pa.array(self.images, pa.string())}
        for column, name in enumerate(self.label_space):
            columns[PROBABILITY_PREFIX + name] = pa.array(np.ascontiguousarray(self.probs_NL[:, column]), pa.float32())
        if self.targets is not None:
            present_NL, known_NL = self.targets.present_NL(), self.targets.known_NL()
            for column, name in enumerate(self.label_space):
                columns[TRUTH_PREFIX + name] = pa.array(
                    present_NL[:, column], pa.bool_(), mask=np.ascontiguousarray(~known_NL[:, column])
                )
        metadata = {
            "label_space": self.label_space.digest,
            "model": self.model_digest,
            "data": self.data_digest,
        }
        table = pa.table(columns).replace_schema_metadata({_METADATA_KEY: json.dumps(metadata)})
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer)
        write_bytes_atomically(path, buffer.getvalue().to_pybytes())


def load_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Read a Parquet file of predictions, ours or any with the same columns.

    Raises:
        DataError: the file is missing, is not Parquet, lacks columns, or a column holds something else.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not Path(path).is_file():
        raise DataError(build_message(path, "there is no such file of predictions"))
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            build_message(path, "not a Parquet file", do="Give the predictions/*.parquet of a run")
        ) from error
    names = [
        column[len(PROBABILITY_PREFIX) :] for column in table.column_names if column.startswith(PROBABILITY_PREFIX)
    ]
    if "image" not in table.column_names or not names:
        raise DataError(
            build_message(path, "not a table of predictions", expected=f"columns image and {PROBABILITY_PREFIX}NAME")
        )
    space = LabelSpace(tuple(names))
    probs = [_read_column(path, table, PROBABILITY_PREFIX + name, "float32").to_numpy() for name in names]
    metadata = _read_metadata(table)
    return Predictions(
        tuple(_read_column(path, table, "image", "string").to_pylist()),
        space,
        np.stack(probs, axis=1),
        _read_truth(path, table, names),
        metadata.get("model", ""),
        metadata.get("data", ""),
    )


def _read_truth(path: str | os.PathLike[str], table: Any, names: list[str]) -> Targets | None:
    lacking = [TRUTH_PREFIX + name for name in names if TRUTH_PREFIX + name not in table.column_names]
    if len(lacking) == len(names):
        return None
    if lacking:
        raise DataError(
            build_message(
                path,
                f"{len(lacking)} of {len(names)} labels have no truth: {join_names(lacking)}",
                expected="a column of truth for each label, or none at all",
            )
        )
    columns = [_read_column(path, table, TRUTH_PREFIX + name, "bool") for name in names]
    known_NL = np.stack([column.is_valid().to_numpy() for column in columns], axis=1)
    present_NL = np.stack([column.fill_null(False).to_numpy() for column in columns], axis=1)
    return Targets.from_dense(present_NL, known_NL)


def _read_column(path: str | os.PathLike[str], table: Any, name: str, kind: str) -> Any:
    """Return a column as the kind it should be; another program may have written float64, or numbers for names."""
    import pyarrow as pa

    column = table.column(name)
    if kind != "bool" and column.null_count:
        raise DataError(build_message(path, f"column {name!r} has {column.null_count} empty cells"))
    try:
        return column.cast(kind)
    except pa.ArrowException as error:
        raise DataError(
            build_message(path, f"column {name!r} holds the wrong kind", got=str(column.type), expected=kind)
        ) from error


def _read_metadata(table: Any) -> dict[str, str]:
    """Return the digests that `save` wrote beside the columns; {} for a file of another program."""
    metadata = table.schema.metadata
    if metadata is None or _METADATA_KEY not in metadata:
        return {}
    values = json.loads(metadata[_METADATA_KEY])
    return {key: str(value) for key, value in values.items()}
