"""Mixing of images that have sets of labels: MixUp, CutMix and mosaic, with the truth of the mix in three states.

Zhang, Cisse, Dauphin & Lopez-Paz 2018, "mixup: beyond empirical risk minimization"; Yun et al. 2019, "CutMix";
Bochkovskiy, Wang & Liao 2020, "YOLOv4", section 3.3 (mosaic). Ours differ in the truth: sets of labels can
be united, not only weighted, and a cell that nobody looked at stays unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from manylabel.errors import ConfigError, build_message, join_names, join_problems, suggest_name

Pixels = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

# ---------------------------------------------------------------------------------------------------------------------
# The truth of a mix.
# ---------------------------------------------------------------------------------------------------------------------


def unite_truth(truth_KL: FloatArray, known_KL: BoolArray, weights_K: Sequence[float]) -> tuple[FloatArray, BoolArray]:
    """Return the truth of a mix as what any of its images has: present beats unknown, unknown beats absent.

    A label that one image has is in the mix, whatever is unknown of the others; that a label is absent follows only if
    it is absent in all. An image of weight 0 is not in the mix.

    Shapes: K images, L labels; `weights_K` are shares of the mix, their sum is 1.
    Returns: truth [L] (0 or 1; 0 where unknown), known [L].

    Example:
        >>> truth_KL, known_KL = np.float32([[1, 0, 0], [0, 0, 0]]), np.array([[1, 1, 1], [0, 0, 1]], bool)
        >>> truth_L, known_L = unite_truth(truth_KL, known_KL, (0.5, 0.5))
        >>> truth_L.tolist(), known_L.tolist()
        ([1.0, 0.0, 0.0], [True, False, True])
    """
    is_in_K = np.asarray(weights_K) > 0
    known_KL = np.asarray(known_KL, bool)[is_in_K]
    is_present_L = np.asarray(((np.asarray(truth_KL)[is_in_K] > 0) & known_KL).any(axis=0))
    is_known_L = is_present_L | np.asarray(known_KL.all(axis=0))
    return is_present_L.astype(np.float32), is_known_L


def weigh_truth(truth_KL: FloatArray, known_KL: BoolArray, weights_K: Sequence[float]) -> tuple[FloatArray, BoolArray]:
    """Return the truth of a mix as the share of it that has the label; unknown in one of its images is unknown.

    An image of weight 0 is not in the mix.

    Shapes: K images, L labels; `weights_K` are shares of the mix, their sum is 1.
    Returns: truth [L] (0 to 1; 0 where unknown), known [L].

    Example:
        >>> truth_KL, known_KL = np.float32([[1, 1, 0], [0, 1, 0]]), np.array([[1, 1, 1], [1, 1, 0]], bool)
        >>> truth_L, known_L = weigh_truth(truth_KL, known_KL, (0.25, 0.75))
        >>> truth_L.tolist(), known_L.tolist()
        ([0.25, 1.0, 0.0], [True, True, False])
    """
    is_in_K = np.asarray(weights_K) > 0
    is_known_L = np.asarray(np.asarray(known_KL, bool)[is_in_K].all(axis=0))
    share_L = np.asarray(weights_K, float)[is_in_K] @ np.asarray(truth_KL, float)[is_in_K]
    return np.where(is_known_L, np.minimum(share_L, 1), 0).astype(np.float32), is_known_L


TRUTHS: Mapping[str, Callable[[FloatArray, BoolArray, Sequence[float]], tuple[FloatArray, BoolArray]]] = {
    "union": unite_truth,
    "weighted": weigh_truth,
}

# ---------------------------------------------------------------------------------------------------------------------
# The pixels of a mix.
# ---------------------------------------------------------------------------------------------------------------------


def mix_up(images: Sequence[Pixels], alpha: float, rng: np.random.Generator) -> tuple[Pixels, tuple[float, ...]]:
    """Lay two images over each other, the first with a share drawn from Beta(alpha, alpha).

    Shapes: two images, uint8 [H, W, 3].
    Returns: the mix, and the weight of each image.
    """
    share = float(rng.beta(alpha, alpha))
    mixed = share * images[0].astype(np.float32) + (1 - share) * images[1].astype(np.float32)
    return np.rint(mixed).astype(np.uint8), (share, 1 - share)


def cut_mix(images: Sequence[Pixels], alpha: float, rng: np.random.Generator) -> tuple[Pixels, tuple[float, ...]]:
    """Put a window of the second image into the first; the window's area is 1 minus a draw from Beta(alpha, alpha).

    The window has the shape of the image and its middle anywhere; what leaves the image is cut off, and the weights are
    the areas that are left.

    Shapes: two images, uint8 [H, W, 3].
    Returns: the mix, and the weight of each image.
    """
    height, width = images[0].shape[:2]
    side = np.sqrt(1 - rng.beta(alpha, alpha))
    middle_y, middle_x = rng.random(2) * (height, width)
    top, bottom = (round(np.clip(middle_y + sign * side * height / 2, 0, height)) for sign in (-1, 1))
    left, right = (round(np.clip(middle_x + sign * side * width / 2, 0, width)) for sign in (-1, 1))
    mixed = images[0].copy()
    mixed[top:bottom, left:right] = images[1][top:bottom, left:right]
    share = (bottom - top) * (right - left) / (height * width)
    return mixed, (1 - share, share)


def tile_mosaic(images: Sequence[Pixels], alpha: float, rng: np.random.Generator) -> tuple[Pixels, tuple[float, ...]]:
    """Put four images, each whole, into the quarters around a point near the middle (0.3 to 0.7 of each side).

    An image is squashed into its quarter, so that nothing that it shows is cut off.

    Shapes: four images, uint8 [H, W, 3].
    Returns: the mix, and the weight of each image.
    """
    del alpha  # the quarters have no such setting
    height, width = images[0].shape[:2]
    split_y, split_x = (
        int(np.clip(round(share * side), 1, side - 1))
        for share, side in zip(rng.uniform(0.3, 0.7, 2), (height, width), strict=True)
    )
    mixed = np.empty_like(images[0])
    weights = []
    corners = [(top, left) for top in (slice(0, split_y), slice(split_y, height))
               for left in (slice(0, split_x), slice(split_x, width))]  # fmt: skip
    for image, (rows, columns) in zip(images, corners, strict=True):
        size = (columns.stop - columns.start, rows.stop - rows.start)
        mixed[rows, columns] = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        weights.append(size[0] * size[1] / (height * width))
    return mixed, tuple(weights)


@dataclass(frozen=True)
class Mixer:
    """How pixels are mixed, of how many images, and whether `alpha` means anything."""

    mix: Callable[[Sequence[Pixels], float, np.random.Generator], tuple[Pixels, tuple[float, ...]]]
    num_images: int
    has_alpha: bool


MIXERS: Mapping[str, Mixer] = {
    "mixup": Mixer(mix_up, 2, has_alpha=True),
    "cutmix": Mixer(cut_mix, 2, has_alpha=True),
    "mosaic": Mixer(tile_mosaic, 4, has_alpha=False),
}

# ---------------------------------------------------------------------------------------------------------------------
# Settings.
# ---------------------------------------------------------------------------------------------------------------------


_LIMITS: Mapping[str, tuple[float, float]] = {"share": (0, 1), "alpha": (0.01, 100)}


def _find_problem(name: str, value: object) -> str:
    low, high = _LIMITS[name]
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return ""
    return build_message(f"mix {name}", "out of range", got=value, expected=f"{low:g} to {high:g}")


@dataclass(frozen=True)
class MixSettings:
    """What is mixed: the mixer's name ("none" mixes nothing), and how.

    `share` is the probability that an image is mixed; `alpha` is of the Beta distribution that weights are drawn from:
    small ones mix hardly or almost wholly, 1 is uniform. `truth` is "union" or "weighted".
    """

    name: str
    share: float = 0.5
    alpha: float = 1.0
    truth: str = "weighted"

    def __post_init__(self) -> None:
        problems = [problem for key in _LIMITS if (problem := _find_problem(key, getattr(self, key)))]
        if self.truth not in TRUTHS:
            problem = f"unknown choice {self.truth!r}{suggest_name(str(self.truth), TRUTHS)}"
            problems.append(build_message("mix truth", problem, expected=join_names(list(TRUTHS))))
        if problems:
            raise ConfigError(join_problems(problems))

    @property
    def num_partners(self) -> int:
        """How many other images a mix takes."""
        return MIXERS[self.name].num_images - 1 if self.name in MIXERS else 0


MIXES: Mapping[str, MixSettings] = {
    "none": MixSettings("none", share=0.0),
    "mixup": MixSettings("mixup", alpha=0.4),
    "cutmix": MixSettings("cutmix"),
    "mosaic": MixSettings("mosaic", truth="union"),
}


def find_mix_keys(name: str) -> list[str]:
    """Return the settings that a mix of this name has."""
    if name not in MIXERS:
        return []
    return ["share", "alpha", "truth"] if MIXERS[name].has_alpha else ["share", "truth"]


def parse_mix(text: str) -> MixSettings:
    """Read `cutmix`, or `cutmix,alpha=1,share=0.5,truth=union`: the name of a mix and what to change in it.

    Raises:
        ConfigError: no such mix or setting, or a value that makes no sense; all are listed, with the nearest names.

    Example:
        >>> parse_mix("mosaic,share=0.25")
        MixSettings(name='mosaic', share=0.25, alpha=1.0, truth='union')
    """
    name, *changes = [piece.strip() for piece in text.split(",")]
    if name not in MIXES:
        problem = f"unknown mix {name!r}{suggest_name(name, MIXES)}"
        raise ConfigError(build_message("mix", problem, expected=join_names(list(MIXES))))
    keys = find_mix_keys(name)
    problems = []
    values: dict[str, Any] = {}
    for change in changes:
        key, _, value = (piece.strip() for piece in change.partition("="))
        if key not in keys:
            expected = join_names(keys) if keys else "nothing after the name"
            problems.append(
                build_message("mix", f"{name} has no setting {key!r}{suggest_name(key, keys)}", expected=expected)
            )
        elif key == "truth" and value not in TRUTHS:
            problem = f"unknown choice {value!r}{suggest_name(value, TRUTHS)}"
            problems.append(build_message("mix truth", problem, expected=join_names(list(TRUTHS))))
        elif key == "truth":
            values[key] = value
        else:
            try:
                values[key] = float(value)
            except ValueError:
                problems.append(build_message(f"mix {key}", "not a number", got=value))
                continue
            problems += filter(None, [_find_problem(key, values[key])])
    if problems:
        raise ConfigError(join_problems(problems))
    return replace(MIXES[name], **values)


# ---------------------------------------------------------------------------------------------------------------------
# Partners.
# ---------------------------------------------------------------------------------------------------------------------

_STREAM = 0x6D6978
"""Keeps the draws of mixing apart from other streams that are seeded with an image's seed."""


@dataclass(frozen=True)
class MixPlan:
    """With which rows an image is mixed, the seed of each one's own changes, and the generator for what is left."""

    partners: tuple[tuple[int, int], ...]
    rng: np.random.Generator


def plan_mix(settings: MixSettings, row: int, num_rows: int, draw_seed: int) -> MixPlan | None:
    """Return how an image is mixed, from its own seed alone; None where it is not.

    Partners are other rows, each as likely as any; only a table with too few rows repeats one.

    Args:
        draw_seed: the seed that the image has in this epoch.
    """
    rng = np.random.default_rng([draw_seed, _STREAM])
    if rng.random() >= settings.share or num_rows < 2 or not settings.num_partners:
        return None
    others = rng.choice(num_rows - 1, settings.num_partners, replace=num_rows - 1 < settings.num_partners)
    seeds = rng.integers(0, 2**63 - 1, settings.num_partners)
    rows = [int(other) + (other >= row) for other in others]
    return MixPlan(tuple((int(other), int(seed)) for other, seed in zip(rows, seeds, strict=True)), rng)


def mix_images(
    settings: MixSettings,
    images: Sequence[Pixels],
    truth_KL: FloatArray,
    known_KL: BoolArray,
    rng: np.random.Generator,
) -> tuple[Pixels, FloatArray, BoolArray]:
    """Return the pixels, truth and known cells of a mix.

    Shapes: K images of one size, uint8 [H, W, 3]; truth and known [K, L]; returns [H, W, 3], [L] and [L].
    """
    pixels, weights_K = MIXERS[settings.name].mix(images, settings.alpha, rng)
    return pixels, *TRUTHS[settings.truth](truth_KL, known_KL, weights_K)
