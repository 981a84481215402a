"""Explain: which parts of an image speak for a label, found by hiding them; nothing but the bundle is needed.

Parts are blurred one after the other, in a coarse and a fine grid, and what a label's log-odds lose is laid where the
part was. What all labels lose alike is taken off: the map is of what speaks for this label and not for the others.
Maps that are found otherwise can be given: `manylabel.runs.explain` has the table of ways.

Source: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", of hiding parts; Petsiuk, Das
    and Saenko 2018, "RISE", of masks with soft edges. Taking the other labels off is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
LITTLE = 0.25
"""A place that costs, or adds, less log-odds than this says nothing; 0.25 is 0.56 instead of 0.5."""
_LITTLE_IS_HIDDEN = (
    "Hiding any part costs {labels} little beside the other labels: what speaks for it is spread over the image, or is "
    "no part of it."
)
_ALIKE = 0.9
"""Maps that correlate more than this show the same places."""


@dataclass(frozen=True)
class FoundMaps:
    """Maps of the evidence for some labels, and what has to be known to read them.

    Shapes: K labels, height and width in pixels of what the network sees.

    Args:
        maps_KHW: above 0 where a place speaks for the label beside the others, below where it speaks against it.
        unit: what the numbers are, in at most two short lines: it stands at the scale of the picture.
        place: the height and width of the smallest place that the maps tell apart, as shares of the image.
        strong: the number that gets full colour at least: a map of next to nothing is not blown up.
        is_little_K: the labels for which nothing speaks much.
        little: the sentence on these, with `{labels}` where they are named.
        notes: what is doubtful about all of the maps.
    """

    maps_KHW: Float32Array
    unit: str
    place: tuple[float, float]
    strong: float
    is_little_K: Sequence[bool]
    little: str
    notes: tuple[str, ...] = ()


OnPart = Callable[[], None]

FindMaps = Callable[[Image.Image, Sequence[int], OnPart | None], FoundMaps]
"""A function of (image in the network's size, K columns of labels, what is called after each step) to their maps."""


@dataclass(frozen=True)
class Explanation:
    """The evidence for some labels of an image.

    `maps_KHW` holds for each of `labels` how much a place speaks for it beside the other labels, in `unit`: where parts
    were hidden, the log-odds that it loses; below 0, hiding the place helps. `doubts` say by label what is doubtful.

    Shapes: K labels, height and width in pixels of what the network sees.
    """

    prediction: Prediction
    labels: tuple[str, ...]
    shown: Image.Image
    maps_KHW: Float32Array
    doubts: Mapping[str, tuple[str, ...]]
    unit: str
    strong: float

    @property
    def notes(self) -> tuple[str, ...]:
        """What is doubtful about the maps, each sentence once."""
        return tuple(dict.fromkeys(note for label in self.labels for note in self.doubts[label]))

    def find_peak(self, label: str) -> tuple[float, float]:
        """Return where the evidence for a label is strongest, as shares of width and height from the upper left."""
        return _find_peak(self.maps_KHW[self.labels.index(label)])

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
    on_part: OnPart | None = None,
    find_maps: FindMaps | None = None,
) -> Explanation:
    """Return what in an image speaks for some labels.

    Args:
        predictor: the model.
        image: a path, the bytes of a file, an array or a Pillow image.
        labels: which ones; None takes those that the image is given, or the most probable one where it is given none.
        name: what the answer calls the image; by default its path.
        regions: where labels are, in pixels of the image: a map that misses them all is noted.
        on_part: called after each part that was hidden; there are `count_parts()`.
        find_maps: how maps are found; None hides parts.

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
    find = find_maps if find_maps is not None else build_hiding(predictor)
    found = find(shown, [predictor.label_space.index(label) for label in chosen], on_part)
    doubts = _find_doubts(chosen, found, regions, image, predictor.preprocess)
    return Explanation(prediction, chosen, shown, found.maps_KHW, doubts, found.unit, found.strong)


def build_hiding(predictor: Predictor) -> FindMaps:
    """Return the way to find maps that hides parts: it asks the bundle itself, and works for every model."""

    def find_maps(shown: Image.Image, columns: Sequence[int], on_part: OnPart | None) -> FoundMaps:
        maps_KHW = map_evidence(predictor.answer_pixels, predictor.preprocess, shown, columns, on_part)
        return FoundMaps(
            maps_KHW,
            unit="log-odds that the label loses, beside the others,\nwhere a place is hidden",
            place=(1 / max(GRIDS), 1 / max(GRIDS)),
            strong=1.0,
            is_little_K=[bool(map_HW.max() < LITTLE) for map_HW in maps_KHW],
            little=_LITTLE_IS_HIDDEN,
        )

    return find_maps


def count_parts() -> int:
    """Return how many parts are hidden, and how many answers an explanation takes beside one."""
    return sum(grid * grid for grid in GRIDS)


def map_evidence(
    answer: Callable[[Float32Array], Float32Array],
    preprocess: Preprocess,
    shown: Image.Image,
    columns: Sequence[int],
    on_part: OnPart | None = None,
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
    pixels_CHW, hidden_CHW = (preprocess.normalise(np.asarray(each)) for each in (shown, hide_image(shown)))
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


def hide_image(shown: Image.Image) -> Image.Image:
    """Return an image on which nothing can be seen: so blurred that only its colours are left."""
    return shown.filter(ImageFilter.GaussianBlur(max(shown.size) / 4))


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


def _find_doubts(
    labels: Sequence[str], found: FoundMaps, regions: Sequence[Region], image: ImageSource, preprocess: Preprocess
) -> dict[str, tuple[str, ...]]:
    """Return what is doubtful about the map of each label; a sentence on several stands at each of them."""
    doubts: dict[str, list[str]] = {label: list(found.notes) for label in labels}
    little = [label for label, is_little in zip(labels, found.is_little_K, strict=True) if is_little]
    for label in little:
        doubts[label].append(found.little.format(labels=join_names([repr(each) for each in little])))
    for first, second in _find_alike(labels, found.maps_KHW):
        note = (
            f"The maps of {first!r} and {second!r} are nearly the same: the model may see both in one place, or know "
            "the one by the other."
        )
        doubts[first].append(note)
        doubts[second].append(note)
    for label in _find_missed(labels, found, regions, image, preprocess):
        doubts[label].append(
            f"The strongest evidence for {label!r} lies outside the regions that are marked as {label!r}: the model "
            "may know it by what stands beside it."
        )
    return {label: tuple(notes) for label, notes in doubts.items()}


def _find_alike(labels: Sequence[str], maps_KHW: Float32Array) -> list[tuple[str, str]]:
    return [
        (first, second)
        for (first, one_HW), (second, other_HW) in combinations(zip(labels, maps_KHW, strict=True), 2)
        if one_HW.std() > 0 and other_HW.std() > 0 and np.corrcoef(one_HW.ravel(), other_HW.ravel())[0, 1] > _ALIKE
    ]


def _find_missed(
    labels: Sequence[str], found: FoundMaps, regions: Sequence[Region], image: ImageSource, preprocess: Preprocess
) -> list[str]:
    """Return the labels whose strongest evidence lies outside all of their regions, widened by half a place."""
    if not regions or preprocess.resize != "squash":
        return []
    width_px, height_px = image_size_px(image)
    margin_y, margin_x = height_px * found.place[0] / 2, width_px * found.place[1] / 2
    missed = []
    for label, map_HW in zip(labels, found.maps_KHW, strict=True):
        boxes = [box for region in regions if region.label == label and (box := _find_box(region)) is not None]
        x, y = _find_peak(map_HW)
        x, y = x * width_px, y * height_px
        if boxes and not any(
            left - margin_x <= x <= left + width + margin_x and top - margin_y <= y <= top + height + margin_y
            for left, top, width, height in boxes
        ):
            missed.append(label)
    return missed


def _find_peak(map_HW: Float32Array) -> tuple[float, float]:
    """Return the middle of the highest places, as shares of width and height: at an edge coarse maps are level."""
    rows, columns = np.nonzero(map_HW == map_HW.max())
    return (float(np.median(columns)) + 0.5) / map_HW.shape[1], (float(np.median(rows)) + 0.5) / map_HW.shape[0]


def _find_box(region: Region) -> tuple[float, float, float, float] | None:
    return region.box_px if region.box_px is not None else region.find_bounds()
