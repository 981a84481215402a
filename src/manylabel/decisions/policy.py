"""DecisionPolicy: which labels an image gets, executed by numpy alone and identical everywhere."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.decisions.calibrate import NO_CALIBRATION, Calibration
from manylabel.decisions.conformal import Abstention
from manylabel.decisions.rule_files import read_rules
from manylabel.decisions.rules import Rule, RuleSet
from manylabel.errors import BundleError, ConfigError, build_message, join_names
from manylabel.labels.space import LabelSpace

BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DecisionPolicy:
    """A threshold per label, the goal and the data it was chosen for and on, and the calibration and rules around it.

    From what the network says to a set of labels, always in this order: calibrate, raise the parents of a hierarchy,
    compare with the thresholds, apply the rules. A label reaches its threshold where `probability >= threshold`: an
    image on the threshold has the label. Thresholds and probabilities are compared as 32-bit numbers, so that the same
    ones given in 64 bits decide alike.

    `sources` says for each label whether its threshold is its own (`label`), the common one (`global`), or one that
    gives it to no image (`never`) or to each (`always`), because no cut keeps what the goal asks. `abstention` says
    which images a person should look at. `gain` holds what was measured when the policy was chosen, and `given` which
    share of the images it was chosen on get each label.

    Raises:
        BundleError: a threshold is not a number from 0 to 1, or there is not one (or not one source) for each label.
        ConfigError: rules that contradict each other or name a label that does not exist.

    Example:
        >>> policy = DecisionPolicy(LabelSpace(("beach", "dog")), (0.5, 0.25))
        >>> policy.decide(np.array([[0.5, 0.2], [0.4, 0.25]])).tolist()
        [[True, False], [False, True]]
        >>> policy = DecisionPolicy(policy.label_space, policy.thresholds, rules=(Rule("exclusive", ("beach", "dog")),))
        >>> policy.decide(np.array([[0.9, 0.3]])).tolist()
        [[True, False]]
    """

    label_space: LabelSpace
    thresholds: tuple[float, ...]
    goal: str = "half"
    sources: tuple[str, ...] = ()
    chosen_on: str = ""
    calibration: Calibration = NO_CALIBRATION
    rules: tuple[Rule, ...] = ()
    abstention: Abstention | None = None
    gain: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, float] = field(default_factory=dict)

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
        _check_thresholds(dict(zip(self.label_space, self.thresholds, strict=True)))
        object.__setattr__(self, "thresholds", tuple(float(threshold) for threshold in thresholds_L))
        object.__setattr__(self, "sources", tuple(self.sources))
        object.__setattr__(self, "rules", tuple(self.rules))
        object.__setattr__(self, "gain", dict(self.gain))
        object.__setattr__(self, "given", dict(self.given))
        if self.sources and len(self.sources) != len(self.label_space):
            raise BundleError(
                build_message(
                    "decision policy",
                    f"{len(self.sources)} sources for {len(self.label_space)} labels",
                    expected="one for each label, or none",
                )
            )
        _ = self.rule_set  # rules that cannot be applied are refused now

    @cached_property
    def rule_set(self) -> RuleSet:
        """The rules as they are applied."""
        return RuleSet(self.label_space, self.rules)

    @property
    def thresholds_L(self) -> Float32Array:
        """The thresholds in the order of the labels, [L]."""
        return np.asarray(self.thresholds, np.float32)

    def replace_thresholds(self, moved: Mapping[str, float]) -> DecisionPolicy:
        """Return a policy that differs in the thresholds of some labels, and no longer says what its own ones brought.

        Calibration, rules and abstention stay, so that it decides for the probabilities that this one shows.

        Raises:
            DataError: a label that does not exist.
            ConfigError: a threshold that is not a number from 0 to 1.

        Example:
            >>> policy = DecisionPolicy(LabelSpace(("beach", "dog")), (0.5, 0.25))
            >>> policy.replace_thresholds({"dog": 0.75}).thresholds
            (0.5, 0.75)
        """
        for name, threshold in moved.items():
            if not _is_share(threshold):
                where = f"threshold of {name!r}"
                raise ConfigError(build_message(where, "not a number from 0 to 1", got=_show_number(threshold)))
        thresholds_L = self.thresholds_L
        for name, threshold in moved.items():
            thresholds_L[self.label_space.index(name)] = threshold
        # A copy keeps the rules as they are applied: to build them for a thousand labels takes a third of a second.
        other = copy.copy(self)
        own = {"sources": (), "chosen_on": "", "gain": {}, "given": {}} if moved else {}
        for name, value in {"thresholds": tuple(thresholds_L.tolist()), **own}.items():
            object.__setattr__(other, name, value)
        return other

    def adjust(self, probs_NL: npt.ArrayLike) -> Float32Array:
        """Return the probabilities that are shown and compared: calibrated, and no parent below its children.

        Shapes: N images, L labels; a single image's [L] is fine too.
        """
        probs = np.asarray(probs_NL, np.float32)
        assert probs.shape[-1] == len(self.label_space), f"probabilities of shape {probs.shape}"
        if not self.rules:
            return self.calibration.apply(probs)
        calibrated_NL = np.atleast_2d(self.calibration.apply(probs))
        return self.rule_set.raise_probabilities(calibrated_NL).reshape(probs.shape)

    def decide(self, probs_NL: npt.ArrayLike) -> BoolArray:
        """Return which labels each image gets, from what the network says.

        Shapes: N images, L labels; a single image's [L] is fine too.
        """
        return self.decide_adjusted(self.adjust(probs_NL))

    def find_reached(self, adjusted_NL: Float32Array) -> BoolArray:
        """Return which labels reach their thresholds, before any rule; this is the one place that says what that is.

        Shapes: N images, L labels; a single image's [L] is fine too.
        """
        return np.asarray(adjusted_NL >= self.thresholds_L)

    def decide_adjusted(self, adjusted_NL: Float32Array) -> BoolArray:
        """Return `decide` for probabilities that `adjust` has been through."""
        given_NL = self.find_reached(adjusted_NL)
        if not self.rules:
            return given_NL
        margins_NL = adjusted_NL - self.thresholds_L
        decided_NL = self.rule_set.apply(np.atleast_2d(given_NL), np.atleast_2d(margins_NL))
        return decided_NL.reshape(adjusted_NL.shape)

    def is_doubtful(self, probs_NL: npt.ArrayLike) -> BoolArray:
        """Return which images a person should look at; none where the policy does not abstain.

        Shapes: N images, L labels -> N.
        """
        return self.is_doubtful_adjusted(self.adjust(probs_NL))

    def is_doubtful_adjusted(self, adjusted_NL: Float32Array) -> BoolArray:
        """Return `is_doubtful` for probabilities that `adjust` has been through."""
        if self.abstention is None:
            return np.zeros(adjusted_NL.shape[:-1], bool)
        margins_NL = adjusted_NL - self.thresholds_L
        return self.abstention.is_doubtful(margins_NL, self.decide_adjusted(adjusted_NL))

    def order(self, probs_L: npt.ArrayLike) -> list[int]:
        """Return the columns of the labels of one image, by margin above the threshold, largest first."""
        return self.order_adjusted(self.adjust(probs_L))

    def order_adjusted(self, adjusted_L: Float32Array) -> list[int]:
        """Return `order` for probabilities that `adjust` has been through."""
        columns = np.flatnonzero(self.decide_adjusted(adjusted_L))
        margins_L = adjusted_L - self.thresholds_L
        return [int(column) for column in columns[np.argsort(-margins_L[columns], kind="stable")]]

    def to_dict(self) -> dict[str, Any]:
        """Return what the manifest and the ONNX file carry; parts that a policy does not have are left out."""
        names = self.label_space.names
        values: dict[str, Any] = {
            "goal": self.goal,
            "rule": "probability >= threshold",
            "chosen_on": self.chosen_on,
            "thresholds": dict(zip(names, self.thresholds, strict=True)),
            "sources": dict(zip(names, self.sources, strict=True)) if self.sources else {},
        }
        if self.calibration != NO_CALIBRATION:
            values["calibration"] = self.calibration.to_dict(self.label_space)
        if self.rules:
            values["rules"] = [rule.to_dict() for rule in self.rules]
        if self.abstention is not None:
            values["abstention"] = self.abstention.to_dict()
        if self.gain:
            values["gain"] = dict(self.gain)
        if self.given:
            values["given"] = dict(self.given)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], label_space: LabelSpace) -> DecisionPolicy:
        """Read what `to_dict` wrote.

        Raises:
            BundleError: a label has no threshold, there is one for a label that does not exist, or one is no number.
            ConfigError: the rules cannot be applied.
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
        calibration, abstention, gain = values.get("calibration"), values.get("abstention"), values.get("gain", {})
        if not isinstance(gain, Mapping):
            raise BundleError(build_message("decision policy", "its gain is not a table", got=gain))
        given = values.get("given", {})
        if not isinstance(given, Mapping) or not all(_is_share(share) for share in given.values()):
            raise BundleError(build_message("decision policy", "what it gave is not a table of shares", got=given))
        return cls(
            label_space,
            tuple(thresholds[name] for name in label_space),
            str(values.get("goal", "")),
            tuple(str(sources[name]) for name in label_space) if sources else (),
            str(values.get("chosen_on", "")),
            NO_CALIBRATION if calibration is None else Calibration.from_dict(calibration, label_space),
            read_rules(values.get("rules", []), "decision policy"),
            None if abstention is None else _read_abstention(abstention),
            gain,
            {str(name): float(share) for name, share in given.items()},
        )


def _check_thresholds(thresholds: Mapping[str, float]) -> None:
    for name, threshold in thresholds.items():
        if not 0 <= np.float32(threshold) <= 1:
            where = f"threshold of {name!r}"
            raise BundleError(build_message(where, "not a number from 0 to 1", got=threshold))


def _is_share(value: Any) -> bool:
    # Numbers of numpy's with 32 bits are no `float`; a comparison with NaN is false.
    is_number = isinstance(value, int | float | np.floating | np.integer) and not isinstance(value, bool)
    return is_number and bool(0 <= value <= 1)


def _show_number(value: Any) -> Any:
    """Return what should have been a share, to be shown; Python writes no integer of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > 64:
        return math.inf if value > 0 else -math.inf
    return value


def _read_abstention(values: Any) -> Abstention:
    if not isinstance(values, Mapping) or not {"by", "limit", "share"} <= values.keys():
        raise BundleError(build_message("abstention", "not a table with by, limit and share", got=values))
    limit, share = values["limit"], values["share"]
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in (limit, share)):
        raise BundleError(build_message("abstention", "not a limit and a share", got=f"{limit} and {share}"))
    return Abstention(str(values["by"]), float(limit), float(share))


def _check_labels(what: str, values: Any, label_space: LabelSpace) -> None:
    if not isinstance(values, Mapping):
        raise BundleError(build_message("decision policy", f"its {what} are not a table by label", got=values))
    differing = sorted(set(values) ^ set(label_space.names))
    if differing:
        raise BundleError(
            build_message("decision policy", f"its {what} are not for the model's labels", got=join_names(differing))
        )
