"""Explain: which parts of an image speak for a label, found by hiding them; nothing but the bundle is needed.

Parts are blurred one after the other, in a coarse and a fine grid, and what a label's log-odds lose is laid where the
part was. What all labels lose alike is taken off: the map is of what speaks for this label and not for the others.

Source: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", of hiding parts; Petsiuk, Das
    and Saenko 2018, "RISE", of masks with soft edges. Taking the other labels off is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from manylabel.data.images import image_size_px, load_image
from manylabel.data.preprocess import Preprocess
from manylabel.data.regions import Region
from manylabel.errors import ConfigError, DataError, build_message, join_names, suggest_name
from manylabel.inference.prediction import Prediction
from manylabel.inference.predictor import ImageSource, Predictor

Float32Array = npt.NDArray[np.float32]

GRIDS = (4, 8)
"""How many parts a side of the image has, in each round."""

MOST_LABELS = 6
"""How many labels are explained where nobody names them."""

_SMALLEST = 1e-6
_LITTLE = 0.25
"""Hiding a part that costs less log-odds than this says nothing; 0.25 is 0.56 instead of 0.5."""
_ALIKE = 0.9
"""Maps that correlate more than this show the same places."""


@dataclass(frozen=True)
class Explanation:
    """The evidence for some labels of an image.

    `maps_KHW` holds for each of `labels` the log-odds that it loses, beside the other labels, where a place is hidden;
    below 0, hiding it helps. `notes` say what is doubtful about the maps.

    Shapes: K labels, height and width in pixels of what the network sees.
    """

    prediction: Prediction
    labels: tuple[str, ...]
    shown: Image.Image
    maps_KHW: Float32Array
    notes: tuple[str, ...]

    def find_peak(self, label: str) -> tuple[float, float]:
        """Return where the evidence for a label is strongest, as shares of width and height from the upper left."""
        map_HW = self.maps_KHW[self.labels.index(label)]
        row, column = np.unravel_index(int(map_HW.argmax()), map_HW.shape)
        return (float(column) + 0.5) / map_HW.shape[1], (float(row) + 0.5) / map_HW.shape[0]

    def shrink_map(self, label: str, side: int) -> npt.NDArray[np.float64]:
        """Return the map of a label with fewer values, [side, side]: it is no finer than the parts that are hidden."""
        small = Image.fromarray(self.maps_KHW[self.labels.index(label)])
        return np.asarray(small.resize((side, side), Image.Resampling.BILINEAR), np.float64)


def explain(
    predictor: Predictor,
    image: ImageSource,
    labels: Sequence[str] | None = None,
    *,
    name: str | None = None,
    regions: Sequence[Region] = (),
    on_part: Callable[[], None] | None = None,
) -> Explanation:
    """Return what in an image speaks for some labels.

    Args:
        predictor: the model.
        image: a path, the bytes of a file, an array or a Pillow image.
        labels: which ones; None takes those that the image is given, or the most probable one where it is given none.
        name: what the answer calls the image; by default its path.
        regions: where labels are, in pixels of the image: a map that misses them all is noted.
        on_part: called after each part that was hidden; there are `count_parts()`.

    Raises:
        ConfigError: a label that the model does not have.
        DataError: the image cannot be used.
    """
    prediction = predictor.predict(image, name)
    if prediction.labels is None:
        message = "unknown error" if prediction.error is None else prediction.error["message"]
        raise DataError(f"{message}")
    chosen = _choose_labels(predictor.label_space.names, prediction, labels)
    size_px = predictor.preprocess.width_px, predictor.preprocess.height_px
    shown = predictor.preprocess.resize_image(load_image(image, name=prediction.image, min_size_px=size_px))
    losses_KHW = map_evidence(
        predictor.answer_pixels,
        predictor.preprocess,
        shown,
        [predictor.label_space.index(label) for label in chosen],
        on_part,
    )
    notes = (
        *_note_little(chosen, losses_KHW),
        *_note_alike(chosen, losses_KHW),
        *_note_missed(chosen, losses_KHW, regions, image_size_px(image), predictor.preprocess),
    )
    return Explanation(prediction, chosen, shown, losses_KHW, notes)


def count_parts() -> int:
    """Return how many parts are hidden, and how many answers an explanation takes beside one."""
    return sum(grid * grid for grid in GRIDS)


def map_evidence(
    answer: Callable[[Float32Array], Float32Array],
    preprocess: Preprocess,
    shown: Image.Image,
    columns: Sequence[int],
    on_part: Callable[[], None] | None = None,
) -> Float32Array:
    """Return the log-odds that labels lose, beside the others, where a place is hidden.

    Shapes: `answer` takes [3, H, W] and gives probabilities [L]; the result is [K, H, W] for K columns.

    Args:
        answer: the network.
        preprocess: how pixels become its input.
        shown: the image, in the network's size.
        columns: the labels to explain.
        on_part: called after each part.
    """
    blurred = shown.filter(ImageFilter.GaussianBlur(max(shown.size) / 4))
    pixels_CHW, hidden_CHW = (preprocess.normalise(np.asarray(each)) for each in (shown, blurred))
    whole_L = _to_log_odds(answer(pixels_CHW))
    maps_KHW = np.zeros((len(columns), shown.height, shown.width), np.float32)
    for grid in GRIDS:
        sums_KHW, weights_HW = np.zeros_like(maps_KHW), np.full(maps_KHW.shape[1:], 1e-9, np.float32)
        for row in range(grid):
            for column in range(grid):
                mask_HW = _build_mask(shown.height, shown.width, grid, row, column)
                mixed_CHW = pixels_CHW + mask_HW * (hidden_CHW - pixels_CHW)
                lost_L = whole_L - _to_log_odds(answer(mixed_CHW))
                sums_KHW += _beside_others(lost_L, columns)[:, np.newaxis, np.newaxis] * mask_HW
                weights_HW += mask_HW
                if on_part is not None:
                    on_part()
        maps_KHW += sums_KHW / weights_HW / len(GRIDS)
    return maps_KHW


def _to_log_odds(probs_L: Float32Array) -> npt.NDArray[np.float64]:
    clipped_L = np.clip(probs_L.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(clipped_L / (1 - clipped_L)), np.float64)


def _beside_others(lost_L: npt.NDArray[np.float64], columns: Sequence[int]) -> Float32Array:
    """Return what labels lose more than the mean of all others; of a single label, what it loses."""
    own_K = lost_L[list(columns)]
    others_K = (lost_L.sum() - own_K) / max(1, len(lost_L) - 1)
    return np.asarray(own_K - others_K, np.float32)


def _build_mask(height_px: int, width_px: int, grid: int, row: int, column: int) -> Float32Array:
    """Return how much of each place is hidden: all of it in the middle of a part, half of it at its edge."""

    def hide(length_px: int, place: int) -> Float32Array:
        distance = (np.arange(length_px) + 0.5) * grid / length_px - (place + 0.5)
        return np.asarray(0.5 ** (4 * distance * distance), np.float32)

    return np.outer(hide(height_px, row), hide(width_px, column))


def _choose_labels(names: Sequence[str], prediction: Prediction, labels: Sequence[str] | None) -> tuple[str, ...]:
    if labels is None:
        given = prediction.labels or ()
        best = max(prediction.probabilities, key=lambda label: prediction.probabilities[label])
        return given[:MOST_LABELS] if given else (best,)
    unknown = [label for label in labels if label not in names]
    if unknown:
        problem = f"the model has no label {unknown[0]!r}{suggest_name(unknown[0], names)}"
        raise ConfigError(build_message("--labels", problem, expected=f"some of {join_names(names)}"))
    if not labels:
        raise ConfigError(build_message("--labels", "no label is named", expected=f"some of {join_names(names)}"))
    return tuple(dict.fromkeys(labels))


# ---------------------------------------------------------------------------------------------------------------------
# What is doubtful about maps.
# ---------------------------------------------------------------------------------------------------------------------


def _note_little(labels: Sequence[str], maps_KHW: Float32Array) -> list[str]:
    little = [label for label, map_HW in zip(labels, maps_KHW, strict=True) if map_HW.max() < _LITTLE]
    if not little:
        return []
    return [
        f"Hiding any part costs {join_names([repr(label) for label in little])} little beside the other labels: what "
        "speaks for it is spread over the image, or is no part of it."
    ]


def _note_alike(labels: Sequence[str], maps_KHW: Float32Array) -> list[str]:
    notes = []
    for (first, one_HW), (second, other_HW) in combinations(zip(labels, maps_KHW, strict=True), 2):
        if one_HW.std() > 0 and other_HW.std() > 0 and np.corrcoef(one_HW.ravel(), other_HW.ravel())[0, 1] > _ALIKE:
            notes.append(
                f"The maps of {first!r} and {second!r} are nearly the same: the model may see both in one place, or "
                "know the one by the other."
            )
    return notes


def _note_missed(
    labels: Sequence[str],
    maps_KHW: Float32Array,
    regions: Sequence[Region],
    size_px: tuple[int, int],
    preprocess: Preprocess,
) -> list[str]:
    """Note where the strongest evidence lies outside all regions of a label, widened by half a fine part."""
    if not regions or preprocess.resize != "squash":
        return []
    notes = []
    for label, map_HW in zip(labels, maps_KHW, strict=True):
        boxes = [box for region in regions if region.label == label and (box := _find_box(region)) is not None]
        row, column = np.unravel_index(int(map_HW.argmax()), map_HW.shape)
        x, y = (column + 0.5) / map_HW.shape[1] * size_px[0], (row + 0.5) / map_HW.shape[0] * size_px[1]
        margin_x, margin_y = size_px[0] / max(GRIDS) / 2, size_px[1] / max(GRIDS) / 2
        if boxes and not any(
            left - margin_x <= x <= left + width + margin_x and top - margin_y <= y <= top + height + margin_y
            for left, top, width, height in boxes
        ):
            notes.append(
                f"The strongest evidence for {label!r} lies outside the regions that are marked as {label!r}: the "
                "model may know it by what stands beside it."
            )
    return notes


def _find_box(region: Region) -> tuple[float, float, float, float] | None:
    return region.box_px if region.box_px is not None else region.find_bounds()
