"""Targets: for every image and label one of three states, present, absent or unknown.

Two bits a cell, whatever the mix of states: one million images by a thousand labels take 250 MB, dense or sparse,
fully labelled or hardly at all (docs/decisions/0009-two-bits-per-cell.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.errors import DataError, build_message

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

_CHUNK_BYTES = 64 * 2**20
"""Most memory one step unpacks, so that to count or to build a large table stays small."""

_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True, eq=False)
class Targets:
    """The truth of N images and L labels; build it with `from_dense` or `from_columns`.

    A cell that is not known is never present: `present` without `known` cannot be built. The arrays are frozen.

    Shapes: N images, L labels; the bit arrays are [N, ceil(L / 8)].

    Example:
        >>> targets = Targets.from_columns([[0], [], [1]], num_labels=2, unknown_columns=[[], [1], []])
        >>> targets.present_NL().astype(int).tolist()
        [[1, 0], [0, 0], [0, 1]]
        >>> targets.num_unknown_L.tolist()
        [0, 1]
    """

    present_bits: npt.NDArray[np.uint8]
    known_bits: npt.NDArray[np.uint8]
    num_labels: int

    def __post_init__(self) -> None:
        width = (self.num_labels + 7) // 8
        for name in ("present_bits", "known_bits"):
            bits = getattr(self, name)
            assert bits.dtype == np.uint8, f"{name} holds {bits.dtype}"
            assert bits.shape == (len(self.present_bits), width), f"{name} has shape {bits.shape}"
            bits.flags.writeable = False
        for rows in self._chunks():
            assert not np.any(self.present_bits[rows] & ~self.known_bits[rows]), "a present cell is not known"

    @classmethod
    def from_dense(cls, truth_NL: npt.ArrayLike, known_NL: npt.ArrayLike | None = None) -> Targets:
        """Build from a table of present (true, 1) and absent (false, 0) cells and a mask of the known ones.

        NaN and negative numbers in a numeric `truth_NL` are unknown; what stands in a cell that `known_NL` leaves out
        does not matter.

        Raises:
            DataError: the table is not two-dimensional, the shapes differ, or a cell is neither 0 nor 1.
        """
        truth = np.asarray(truth_NL)
        if truth.ndim != 2:
            raise DataError(build_message("targets", "not a table", got=truth.shape, expected="images x labels"))
        known = None if known_NL is None else np.asarray(known_NL)
        if known is not None and known.shape != truth.shape:
            raise DataError(
                build_message("targets", "truth and known differ in shape", got=known.shape, expected=str(truth.shape))
            )
        num_rows, num_labels = truth.shape
        present_bits = np.zeros((num_rows, (num_labels + 7) // 8), np.uint8)
        known_bits = np.zeros_like(present_bits)
        for rows in _chunk_rows(num_rows, num_labels * np.dtype(np.float64).itemsize):
            present, is_known = _read_states(truth[rows], None if known is None else known[rows])
            present_bits[rows] = np.packbits(present, axis=1)
            known_bits[rows] = np.packbits(is_known, axis=1)
        return cls(present_bits, known_bits, num_labels)

    @classmethod
    def from_columns(
        cls,
        present_columns: Sequence[Sequence[int]],
        num_labels: int,
        unknown_columns: Sequence[Sequence[int]] | None = None,
    ) -> Targets:
        """Build from a list of present columns per image, and of unknown ones; all other cells are absent.

        A cell in both lists is unknown.

        Raises:
            DataError: a column is outside the table.
        """
        assert unknown_columns is None or len(unknown_columns) == len(present_columns), "rows differ in number"
        num_rows = len(present_columns)
        present_bits = np.zeros((num_rows, (num_labels + 7) // 8), np.uint8)
        for rows, bits in _read_columns(present_columns, num_labels):
            present_bits[rows] = bits
        known_bits = np.broadcast_to(np.packbits(np.ones(num_labels, bool)), present_bits.shape).copy()
        if unknown_columns is not None:
            for rows, bits in _read_columns(unknown_columns, num_labels):
                known_bits[rows] &= ~bits
            present_bits &= known_bits
        return cls(present_bits, known_bits, num_labels)

    def __len__(self) -> int:
        return len(self.present_bits)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Targets)
            and self.num_labels == other.num_labels
            and np.array_equal(self.present_bits, other.present_bits)
            and np.array_equal(self.known_bits, other.known_bits)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def shape(self) -> tuple[int, int]:
        """(number of images, number of labels)."""
        return len(self), self.num_labels

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that identify every cell."""
        digest = hashlib.sha256(repr(self.shape).encode())
        digest.update(self.present_bits.tobytes())
        digest.update(self.known_bits.tobytes())
        return digest.hexdigest()[:16]

    def present_NL(self, rows: slice | Sequence[int] | IntArray = slice(None)) -> BoolArray:
        """Return which cells of the rows are present, as a dense table."""
        return self._unpack(self.present_bits[rows])

    def known_NL(self, rows: slice | Sequence[int] | IntArray = slice(None)) -> BoolArray:
        """Return which cells of the rows are known, as a dense table."""
        return self._unpack(self.known_bits[rows])

    def present_columns(self, row: int) -> list[int]:
        """Return the columns of the labels that one image has."""
        return [int(column) for column in np.flatnonzero(self._unpack(self.present_bits[row]))]

    def present_rows(self, column: int) -> IntArray:
        """Return the rows of the images that have one label."""
        return np.flatnonzero(self.present_bits[:, column >> 3] & (128 >> (column & 7)))

    def unknown_columns(self, row: int) -> list[int]:
        """Return the columns of the labels that nobody knows of one image."""
        return [int(column) for column in np.flatnonzero(~self._unpack(self.known_bits[row]))]

    @property
    def num_present_L(self) -> IntArray:
        """How many images have each label."""
        return self._count(self.present_bits)

    @property
    def num_known_L(self) -> IntArray:
        """For how many images each label is known."""
        return self._count(self.known_bits)

    @property
    def num_absent_L(self) -> IntArray:
        """How many images are known to lack each label."""
        return self.num_known_L - self.num_present_L

    @property
    def num_unknown_L(self) -> IntArray:
        """For how many images nobody knows each label."""
        return len(self) - self.num_known_L

    @property
    def num_present_N(self) -> IntArray:
        """How many labels each image has."""
        return self._count_by_image(self.present_bits)

    @property
    def num_known_N(self) -> IntArray:
        """How many labels are known of each image."""
        return self._count_by_image(self.known_bits)

    def select(self, rows: Sequence[int] | IntArray) -> Targets:
        """Return the targets of these rows, in this order; a mask is not taken for row numbers."""
        index = np.asarray(rows)
        assert index.dtype != np.bool_, "rows are numbers, not a mask"
        index = index.astype(np.int64)  # an empty list is an array of floats
        return Targets(self.present_bits[index], self.known_bits[index], self.num_labels)

    def select_labels(self, columns: Sequence[int | None], missing_is_known: bool = False) -> Targets:
        """Return the targets of these columns, in this order; None stands for a label this table lacks.

        Args:
            missing_is_known: whether a label that the table lacks is absent (true) or unknown (false) in every image.
        """
        source = np.array([0 if column is None else column for column in columns], np.int64)
        lacking = np.array([column is None for column in columns], bool)
        present = np.zeros((len(self), (len(columns) + 7) // 8), np.uint8)
        known = np.zeros_like(present)
        for rows in self._chunks():
            present[rows] = np.packbits(self.present_NL(rows)[:, source] & ~lacking, axis=1)
            known_cells = self.known_NL(rows)[:, source]
            known_cells[:, lacking] = missing_is_known
            known[rows] = np.packbits(known_cells, axis=1)
        return Targets(present, known, len(columns))

    def concatenate(self, other: Targets) -> Targets:
        """Return these rows followed by those of `other`, which has the same labels."""
        assert self.num_labels == other.num_labels
        return Targets(
            np.concatenate([self.present_bits, other.present_bits]),
            np.concatenate([self.known_bits, other.known_bits]),
            self.num_labels,
        )

    def _unpack(self, bits: npt.NDArray[np.uint8]) -> BoolArray:
        return np.unpackbits(bits, axis=-1, count=self.num_labels).view(np.bool_)

    def _chunks(self) -> Iterator[slice]:
        return _chunk_rows(len(self), self.num_labels)

    def _count(self, bits: npt.NDArray[np.uint8]) -> IntArray:
        total = np.zeros(self.num_labels, np.int64)
        for rows in self._chunks():
            total += self._unpack(bits[rows]).sum(axis=0, dtype=np.int64)
        return total

    def _count_by_image(self, bits: npt.NDArray[np.uint8]) -> IntArray:
        total = np.zeros(len(self), np.int64)
        for rows in self._chunks():
            total[rows] = self._unpack(bits[rows]).sum(axis=1, dtype=np.int64)
        return total


def _chunk_rows(num_rows: int, bytes_per_row: int) -> Iterator[slice]:
    step = max(1, _CHUNK_BYTES // max(1, bytes_per_row))
    for start in range(0, num_rows, step):
        yield slice(start, start + step)


def _read_states(truth_NL: npt.NDArray[Any], known_NL: npt.NDArray[Any] | None) -> tuple[BoolArray, BoolArray]:
    """Return which cells are present, and which are known."""
    known = np.ones(truth_NL.shape, bool) if known_NL is None else known_NL.astype(bool)
    if truth_NL.dtype == np.bool_:
        return truth_NL & known, known
    numbers = _read_numbers(truth_NL)
    known = known & (numbers >= 0)  # False for NaN too
    strange = known & (numbers != 0) & (numbers != 1)
    if strange.any():
        value = numbers[strange][0].item()
        raise DataError(build_message("targets", "a cell is neither 0 nor 1", got=value, expected="0, 1 or NaN"))
    return known & (numbers == 1), known


def _read_numbers(truth: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    try:
        return truth.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            build_message("targets", f"the cells are not numbers ({error})", expected="0, 1 or NaN")
        ) from error


def _read_columns(columns: Sequence[Sequence[int]], num_labels: int) -> Iterator[tuple[slice, npt.NDArray[np.uint8]]]:
    """Yield rows and their bits, set for every column of each row; no dense table is ever held."""
    for start in range(0, len(columns), _ROWS_AT_ONCE):
        block = columns[start : start + _ROWS_AT_ONCE]
        bits = np.zeros((len(block), (num_labels + 7) // 8), np.uint8)
        lengths = np.fromiter((len(row) for row in block), np.int64, len(block))
        flat = np.fromiter((column for row in block for column in row), np.int64, int(lengths.sum()))
        outside = flat[(flat < 0) | (flat >= num_labels)]
        if outside.size:
            raise DataError(
                build_message(
                    "targets", "a column is outside the table", got=int(outside[0]), expected=f"0 to {num_labels - 1}"
                )
            )
        rows = np.repeat(np.arange(len(block)), lengths)
        np.bitwise_or.at(bits, (rows, flat >> 3), (128 >> (flat & 7)).astype(np.uint8))
        yield slice(start, start + len(block)), bits
