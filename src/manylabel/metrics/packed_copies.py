"""Running sums of many resamples at once: the copies of several resamples share one 64-bit word.

Every metric of order asks, for a list of images from low to high score, how many copies stand before a place. One
resample needs as many bits as the largest sum has, so that a word holds three resamples of 100,000 images, or six of
1,000, and one addition serves them all. No sum ever carries into its neighbour, so the results are exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.metrics.inputs import CountArray

_WORD_BITS = 64
_MOST_LANES = 8
_CELLS_AT_ONCE = 2**17
"""How many words a step adds up: a megabyte, which stays near the processor."""

IntArray = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class PackedCopies:
    """Copies of R resamples in W words per image; built by `pack_copies`.

    Shapes: W words, N images.
    """

    words_WN: npt.NDArray[np.uint64]
    num_resamples: int
    num_lanes: int
    lane_bits: int

    def sums_before(
        self, image_K: IntArray, places: Sequence[IntArray]
    ) -> Iterator[tuple[slice, list[npt.NDArray[np.int64]]]]:
        """Yield blocks of resamples, and for each list of places how many copies stand before each of them.

        Shapes: K images in their order, P places per list -> R of the block, P.

        Args:
            image_K: row of the image at each place; an image may stand several times.
            places: ascending numbers from 0 to K.
        """
        stretches = _Stretches(len(image_K), places)
        words_at_once = max(1, _CELLS_AT_ONCE // max(1, len(image_K)))
        for first in range(0, len(self.words_WN), words_at_once):
            words_BN = self.words_WN[first : first + words_at_once]
            start = first * self.num_lanes
            stop = min(start + len(words_BN) * self.num_lanes, self.num_resamples)
            sums = [self._unpack(sums_BP)[: stop - start] for sums_BP in stretches.add_up(words_BN, image_K)]
            yield slice(start, stop), sums

    def copies_of(self, image_P: IntArray, resamples: slice) -> npt.NDArray[np.int64]:
        """Return how many times some images stand in the resamples of one block of `sums_before`.

        Shapes: P images -> R of the block, P.
        """
        first = resamples.start // self.num_lanes
        last = -(-resamples.stop // self.num_lanes)
        unpacked = self._unpack(np.take(self.words_WN[first:last], image_P, axis=1))
        return unpacked[: resamples.stop - resamples.start]

    def _unpack(self, words_BP: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        if self.num_lanes == 1:
            return words_BP.view(np.int64)
        mask = np.uint64((1 << self.lane_bits) - 1)
        unpacked = np.empty((len(words_BP), self.num_lanes, words_BP.shape[1]), np.uint64)
        for lane in range(self.num_lanes):
            np.right_shift(words_BP, np.uint64(lane * self.lane_bits), out=unpacked[:, lane])
        unpacked &= mask
        return unpacked.reshape(-1, words_BP.shape[1]).view(np.int64)


def pack_copies(copies_RN: CountArray, num_cells_each: int = 1) -> PackedCopies:
    """Return the copies with as many resamples in a word as can be added up over all images.

    Shapes: R resamples, N images.

    Args:
        copies_RN: whole numbers from 0 up.
        num_cells_each: how many times an image may stand in a list that is added up.

    Example:
        >>> packed = pack_copies(np.array([[1, 1, 1], [0, 3, 0]]))
        >>> [sums.tolist() for _, (sums,) in packed.sums_before(np.array([2, 1, 0]), [np.array([1, 3])])]
        [[[1, 3], [0, 3]]]
    """
    num_resamples, num_images = copies_RN.shape
    largest = int(copies_RN.sum(axis=1, dtype=np.int64).max(initial=1)) * max(1, num_cells_each)
    lane_bits = largest.bit_length()
    num_lanes = max(1, min(_MOST_LANES, _WORD_BITS // lane_bits, num_resamples))
    words_WN = np.zeros((-(-num_resamples // num_lanes), num_images), np.uint64)
    for lane in range(num_lanes):
        copies_WN = copies_RN[lane::num_lanes]
        words_WN[: len(copies_WN)] |= copies_WN.astype(np.uint64) << np.uint64(lane * lane_bits)
    return PackedCopies(words_WN, num_resamples, num_lanes, lane_bits)


class _Stretches:
    """A list cut at the places whose running sums are wanted: each stretch is summed alone, which is fastest."""

    def __init__(self, num_cells: int, places: Sequence[IntArray]) -> None:
        blocks = np.arange(0, max(1, num_cells), _CELLS_AT_ONCE)
        self.begins_S = np.unique(np.concatenate([blocks, *places]))
        self.begins_S = self.begins_S[self.begins_S < max(1, num_cells)]
        self.bounds = [*np.searchsorted(self.begins_S, blocks), len(self.begins_S)]
        self.indices = [np.searchsorted(self.begins_S, place_P) for place_P in places]

    def add_up(self, words_BN: npt.NDArray[np.uint64], image_K: IntArray) -> list[npt.NDArray[np.uint64]]:
        """Return the running sums of each list of places."""
        before_BS = np.zeros((len(words_BN), len(self.begins_S) + 1), np.uint64)
        if len(image_K):
            for low, high in pairwise(self.bounds):
                start = self.begins_S[low]
                cells = image_K[start : start + _CELLS_AT_ONCE]
                taken = np.take(words_BN, cells, axis=1)
                np.add.reduceat(taken, self.begins_S[low:high] - start, axis=1, out=before_BS[:, low + 1 : high + 1])
        np.cumsum(before_BS, axis=1, out=before_BS)
        return [np.take(before_BS, index_P, axis=1) for index_P in self.indices]
