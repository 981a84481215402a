"""DecisionPolicy: which labels an image gets, executed by numpy alone and identical everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.errors import BundleError, build_message, join_names
from manylabel.labels.space import LabelSpace


@dataclass(frozen=True)
class DecisionPolicy:
    """A threshold per label, the goal it was chosen for, and the data it was chosen on.

    A label is given where `probability >= threshold`: an image on the threshold has the label. Thresholds and
    probabilities are compared as 32-bit numbers, so that the same ones given in 64 bits decide alike.

    `sources` says for each label whether its threshold is its own (`label`) or the common one (`global`).

    Raises:
        BundleError: a threshold is not a number from 0 to 1, or there is not one (or not one source) for each label.

    Example:
        >>> policy = DecisionPolicy(LabelSpace(("beach", "dog")), (0.5, 0.25))
        >>> policy.decide(np.array([[0.5, 0.2], [0.4, 0.25]])).tolist()
        [[True, False], [False, True]]
    """

    label_space: LabelSpace
    thresholds: tuple[float, ...]
    goal: str = "half"
    sources: tuple[str, ...] = ()
    chosen_on: str = ""

    def __post_init__(self) -> None:
        thresholds_L = np.asarray(self.thresholds, np.float32)
        if thresholds_L.shape != (len(self.label_space),):
            raise BundleError(
                build_message(
                    "decision policy",
                    f"{thresholds_L.size} thresholds for {len(self.label_space)} labels",
                    expected="one for each label",
                )
            )
        inside = (thresholds_L >= 0) & (thresholds_L <= 1)
        if not inside.all():
            column = int(np.flatnonzero(~inside)[0])
            where = f"threshold of {self.label_space.names[column]!r}"
            raise BundleError(build_message(where, "not a number from 0 to 1", got=self.thresholds[column]))
        object.__setattr__(self, "thresholds", tuple(float(threshold) for threshold in thresholds_L))
        object.__setattr__(self, "sources", tuple(self.sources))
        if self.sources and len(self.sources) != len(self.label_space):
            raise BundleError(
                build_message(
                    "decision policy",
                    f"{len(self.sources)} sources for {len(self.label_space)} labels",
                    expected="one for each label, or none",
                )
            )

    @property
    def thresholds_L(self) -> npt.NDArray[np.float32]:
        """The thresholds in the order of the labels, [L]."""
        return np.asarray(self.thresholds, np.float32)

    def decide(self, probs_NL: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return which labels each image gets.

        Shapes: N images, L labels; a single image's [L] is fine too.
        """
        probs = np.asarray(probs_NL, np.float32)
        assert probs.shape[-1] == len(self.label_space), f"probabilities of shape {probs.shape}"
        return np.asarray(probs >= self.thresholds_L)

    def order(self, probs_L: npt.ArrayLike) -> list[int]:
        """Return the columns of the labels of one image, by margin above the threshold, largest first."""
        margins_L = np.asarray(probs_L, np.float32) - self.thresholds_L
        columns = np.flatnonzero(self.decide(probs_L))
        return [int(column) for column in columns[np.argsort(-margins_L[columns], kind="stable")]]

    def to_dict(self) -> dict[str, Any]:
        """Return what the manifest and the ONNX file carry."""
        return {
            "goal": self.goal,
            "rule": "probability >= threshold",
            "chosen_on": self.chosen_on,
            "thresholds": dict(zip(self.label_space.names, self.thresholds, strict=True)),
            "sources": dict(zip(self.label_space.names, self.sources, strict=True)) if self.sources else {},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], label_space: LabelSpace) -> DecisionPolicy:
        """Read what `to_dict` wrote.

        Raises:
            BundleError: a label has no threshold, there is one for a label that does not exist, or one is no number.
        """
        thresholds, sources = values.get("thresholds", {}), values.get("sources", {})
        _check_labels("thresholds", thresholds, label_space)
        if sources:
            _check_labels("sources", sources, label_space)
        for name, threshold in thresholds.items():
            if isinstance(threshold, bool) or not isinstance(threshold, int | float):
                raise BundleError(
                    build_message(f"threshold of {name!r}", "not a number from 0 to 1", got=str(threshold))
                )
        return cls(
            label_space,
            tuple(thresholds[name] for name in label_space),
            str(values.get("goal", "")),
            tuple(str(sources[name]) for name in label_space) if sources else (),
            str(values.get("chosen_on", "")),
        )


def _check_labels(what: str, values: Any, label_space: LabelSpace) -> None:
    if not isinstance(values, Mapping):
        raise BundleError(build_message("decision policy", f"its {what} are not a table by label", got=values))
    differing = sorted(set(values) ^ set(label_space.names))
    if differing:
        raise BundleError(
            build_message("decision policy", f"its {what} are not for the model's labels", got=join_names(differing))
        )
