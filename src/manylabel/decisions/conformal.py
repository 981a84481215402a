"""Guarantees: thresholds with a miss rate of at most alpha on images to come, and which images to send to a person.

The guarantee is on average over the images that were chosen on and the next one, all drawn alike and in any order; it
needs no assumption about the model. It is void where the next images are of another kind, where the same images chose
the epoch of a small validation part, and where a rule takes labels away again.

Source: Angelopoulos, Bates, Fisch, Lei and Schuster, "Conformal risk control", 2024, equation 4; for one label it is
    split conformal prediction of its positives (Vovk, Gammerman and Shafer, "Algorithmic learning in a random world",
    2005).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.decisions.halfway import halfway
from manylabel.errors import BundleError, ConfigError, build_message, join_names, suggest_name

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]


def find_miss_rate_threshold(probs_NL: FloatArray, truth_NL: BoolArray, known_NL: BoolArray, alpha: float) -> float:
    """Return the highest common threshold that misses at most the share `alpha` of an image's true labels, on average.

    Images without a known positive can miss nothing and take no part. With n other images a threshold is only found
    where 1 / (n + 1) is at most alpha; else it is 0, which misses nothing.

    Shapes: N images, L labels.

    Example:
        >>> probs_NL = np.arange(1, 20)[:, None] / 20  # 19 images with the label: one in twenty may be missed
        >>> all_NL = np.ones((19, 1), bool)
        >>> threshold = find_miss_rate_threshold(probs_NL, all_NL, all_NL, 0.1)
        >>> int((probs_NL < threshold).sum())
        1
    """
    probs_NL = np.asarray(probs_NL, np.float32)  # as they are compared
    is_positive_NL = truth_NL & known_NL
    num_positive_N = is_positive_NL.sum(axis=1)
    num_images = int((num_positive_N > 0).sum())
    allowed = alpha * (num_images + 1) - 1  # of the sum over images of the share that each misses
    if num_images == 0 or allowed < -1e-9:
        return 0.0
    rows, columns = np.nonzero(is_positive_NL)
    probs = probs_NL[rows, columns]
    order = np.argsort(probs, kind="stable")
    missed = np.cumsum(1 / num_positive_N[rows[order]])
    # What is missed at the threshold probs[order][j] are the cells before the first of its ties.
    first_of_tie = np.searchsorted(probs[order], probs[order], side="left")
    missed_there = np.where(first_of_tie > 0, missed[first_of_tie - 1], 0.0)
    lowest_in = probs[order][np.flatnonzero(missed_there <= allowed + 1e-9)[-1]]
    below = probs_NL[known_NL & (probs_NL < lowest_in)]
    highest_out = np.float32(below.max()) if below.size else np.float32(0)
    return float(halfway(lowest_in, highest_out))


def measure_margin(margins_NL: FloatArray, decisions_NL: BoolArray) -> npt.NDArray[np.float32]:  # noqa: ARG001
    """Return the negative distance of each image's nearest label from its threshold: the nearer, the less sure."""
    return np.asarray(-np.abs(margins_NL).min(axis=-1), np.float32)


def measure_width(margins_NL: FloatArray, decisions_NL: BoolArray) -> npt.NDArray[np.float32]:  # noqa: ARG001
    """Return how many labels each image is given: with a guaranteed miss rate, a wide set is a model that is unsure."""
    return np.asarray(decisions_NL.sum(axis=-1), np.float32)


DOUBTS: Mapping[str, Callable[[FloatArray, BoolArray], npt.NDArray[np.float32]]] = {
    "margin": measure_margin,
    "width": measure_width,
}
"""What makes an image doubtful: a function of (margins_NL, decisions_NL), larger where the model is less sure."""


@dataclass(frozen=True)
class Abstention:
    """Which images are sent to a person: those whose doubt is above a limit, chosen as a share of the tuning images.

    Raises:
        BundleError: no such doubt, or numbers that make no sense.
    """

    by: str
    limit: float
    share: float

    def __post_init__(self) -> None:
        if self.by not in DOUBTS:
            problem = f"unknown doubt {self.by!r}{suggest_name(self.by, DOUBTS)}"
            raise BundleError(build_message("abstention", problem, expected=join_names(list(DOUBTS))))
        if not np.isfinite(self.limit) or not 0 < self.share < 1:
            raise BundleError(
                build_message("abstention", "not a limit and a share", got=f"{self.limit} and {self.share}")
            )

    def is_doubtful(self, margins_NL: FloatArray, decisions_NL: BoolArray) -> BoolArray:
        """Return which images a person should look at, [N]."""
        return np.asarray(DOUBTS[self.by](margins_NL, decisions_NL) > np.float32(self.limit))

    def to_dict(self) -> dict[str, object]:
        """Return what the manifest carries."""
        return {"by": self.by, "limit": self.limit, "share": self.share}


def choose_abstention(by: str, share: float, margins_NL: FloatArray, decisions_NL: BoolArray) -> Abstention:
    """Return the limit above which at most a share of these images is."""
    doubts_N = np.sort(DOUBTS[by](margins_NL, decisions_NL))
    limit = doubts_N[max(0, len(doubts_N) - int(share * len(doubts_N)) - 1)]
    return Abstention(by, float(limit), share)


def parse_abstention(text: str) -> tuple[str, float] | None:
    """Read `margin,share=0.1`, or `none`.

    Raises:
        ConfigError: no such doubt or setting, or a share that is not between 0 and 1.

    Example:
        >>> parse_abstention("margin,share=0.2")
        ('margin', 0.2)
    """
    name, *changes = [piece.strip() for piece in text.split(",")]
    if name == "none" and not changes:
        return None
    if name not in DOUBTS:
        problem = f"unknown choice {name!r}{suggest_name(name, ['none', *DOUBTS])}"
        raise ConfigError(build_message("abstain", problem, expected=join_names(["none", *DOUBTS])))
    share = 0.1
    for change in changes:
        key, _, value = (piece.strip() for piece in change.partition("="))
        try:
            share = float(value) if key == "share" else -1
        except ValueError:
            share = -1
        if not 0 < share < 1:
            expected = "share=, a number between 0 and 1"
            raise ConfigError(build_message("abstain", "not a setting", got=change, expected=expected))
    return name, share
