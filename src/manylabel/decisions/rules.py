"""Rules: what is known of labels beside the images, such as that a dog is an animal or that no image is day and night.

They are applied in an order that does not depend on the order of the file:

1. `hierarchy` raises the probability of a parent to the largest of its children's.
2. Labels whose probability reaches the threshold are taken, the largest margin first, each with all that it implies,
   and left out where a limit would be broken.
3. Where a demand is not met, the labels nearest to their thresholds are added, as far as no limit forbids it.

So limits (`at_most`, `exclusive`, `forbids`) and `implies` hold for every image. A demand (`at_least`, `required`)
holds wherever the limits leave room for it. Of equal margins the label that comes first in the model's order wins.

Source: of the probabilities of step 1, Silla and Freitas, "A survey of hierarchical classification across different
    application domains", 2011, section 3.2; greedy decoding under limits is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.errors import ConfigError, build_message, join_names, join_problems, suggest_name
from manylabel.labels.space import LabelSpace

BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]

_ROWS_AT_ONCE = 16_384
_FEW_IMAGES = 16
"""Of fewer, looking up what their labels imply costs less than a product with the whole matrix."""


@dataclass(frozen=True)
class Rule:
    """A rule by kind; `others` are what `labels` imply or forbid, or the children of a parent; `count` is a limit.

    `labels` may be empty for `at_most` and `at_least`, which then speak of all labels.

    Example:
        >>> str(Rule("implies", ("dog",), ("animal",)))
        'dog implies animal'
    """

    kind: str
    labels: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    count: int = 1

    def __str__(self) -> str:
        return RULES[self.kind].describe(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as a file holds it."""
        kind = RULES[self.kind]
        values: dict[str, Any] = {"kind": self.kind}
        if kind.has_count:
            values["count"] = self.count
        if self.labels or not kind.is_about_all:
            values[kind.labels_key] = list(self.labels)
        if kind.others_key:
            values[kind.others_key] = list(self.others)
        return values


@dataclass(frozen=True)
class RuleKind:
    """How a kind of rule is written in a file and in words."""

    meaning: str
    describe: Callable[[Rule], str]
    labels_key: str = "labels"
    others_key: str = ""
    has_count: bool = False
    is_about_all: bool = False
    min_labels: int = 1


def _join(labels: Sequence[str]) -> str:
    return " and ".join(labels)


def _of(rule: Rule) -> str:
    return f" of {', '.join(rule.labels)}" if rule.labels else " labels"


RULES: Mapping[str, RuleKind] = {
    "at_most": RuleKind(
        "an image has at most `count` of `labels`, or of all",
        lambda rule: f"at most {rule.count}{_of(rule)}",
        has_count=True,
        is_about_all=True,
    ),
    "at_least": RuleKind(
        "an image has at least `count` of `labels`, or of all",
        lambda rule: f"at least {rule.count}{_of(rule)}",
        has_count=True,
        is_about_all=True,
    ),
    "exclusive": RuleKind(
        "an image has at most one of `labels`",
        lambda rule: f"only one of {', '.join(rule.labels)}",
        min_labels=2,
    ),
    "required": RuleKind(
        "an image has at least one of `labels`",
        lambda rule: f"one of {', '.join(rule.labels)} at least",
    ),
    "implies": RuleKind(
        "an image with any label of `if` has all of `then`",
        lambda rule: f"{_join(rule.labels)} implies {_join(rule.others)}",
        labels_key="if",
        others_key="then",
    ),
    "forbids": RuleKind(
        "an image with any label of `if` has none of `then`",
        lambda rule: f"{_join(rule.labels)} forbids {_join(rule.others)}",
        labels_key="if",
        others_key="then",
    ),
    "hierarchy": RuleKind(
        "`children` imply their `parent`, whose probability is at least theirs",
        lambda rule: f"{_join(rule.others)} below {_join(rule.labels)}",
        labels_key="parent",
        others_key="children",
    ),
}
"""The kinds of rules; a file has one table `[[rule]]` with `kind` and these keys for each rule."""


class RuleSet:
    """Rules turned into matrices over a label space, applied to any number of images at once.

    Raises:
        ConfigError: a label that does not exist, an empty rule, or rules that contradict each other; all are listed.

    Example:
        >>> space = LabelSpace(("animal", "dog", "car"))
        >>> rules = RuleSet(space, [Rule("implies", ("dog",), ("animal",)), Rule("exclusive", ("dog", "car"))])
        >>> margins_NL = np.array([[-0.2, 0.3, 0.1]], np.float32)
        >>> rules.apply(margins_NL >= 0, margins_NL).tolist()
        [[True, True, False]]
    """

    def __init__(self, label_space: LabelSpace, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        problems = [problem for rule in self.rules for problem in _find_problems(rule, label_space)]
        if problems:
            raise ConfigError(join_problems(problems))
        self._space = label_space
        self.implied_LL = self._close(("implies", "hierarchy"))
        """implied_LL[a, b]: with label a goes label b; every label with itself."""
        self._below_LL = self._close(("hierarchy",)).T
        """below_LL[a, b]: b is a or stands below a."""
        self._limits, self._demands = list(self._find_limits()), list(self._find_demands())
        self._check_contradictions()
        self._limit_RL = _stack([group_L for group_L, _ in self._limits], len(label_space))
        self._limit_R = np.array([count for _, count in self._limits], np.float32)
        self._has_implications = bool((self.implied_LL.sum(axis=1) > 1).any())
        self._are_limits_apart = not self._has_implications and bool((self._limit_RL.sum(axis=0) <= 1).all())

    def raise_probabilities(self, probs_NL: Float32Array) -> Float32Array:
        """Return probabilities in which no parent has less than one of its children.

        Shapes: N images, L labels.
        """
        parents = np.flatnonzero(self._below_LL.sum(axis=1) > 1)
        if not len(parents):
            return probs_NL
        raised_NL = probs_NL.copy()
        for parent in parents:
            raised_NL[:, parent] = probs_NL[:, self._below_LL[parent]].max(axis=1)
        return raised_NL

    def apply(self, given_NL: BoolArray, margins_NL: Float32Array) -> BoolArray:
        """Return the labels that images get, from those that reach their thresholds and by how much all do.

        Shapes: N images, L labels.
        """
        if not self.rules:
            return given_NL
        blocks = range(0, len(given_NL), _ROWS_AT_ONCE)
        decided = [
            self._apply_block(given_NL[i : i + _ROWS_AT_ONCE], margins_NL[i : i + _ROWS_AT_ONCE]) for i in blocks
        ]
        return np.concatenate(decided) if decided else given_NL

    def find_broken(self, decisions_NL: BoolArray) -> dict[str, int]:
        """Return, in words, each rule that some images do not keep, and how many they are."""
        broken = {}
        for rule in self.rules:
            single = RuleSet(self._space, [rule])
            is_kept_N = single._keeps_limits(decisions_NL) & single._keeps_implications(decisions_NL)
            for group_L, count in single._demands:
                is_kept_N &= decisions_NL[:, group_L].sum(axis=1) >= count
            if not is_kept_N.all():
                broken[str(rule)] = int((~is_kept_N).sum())
        return broken

    def _apply_block(self, given_NL: BoolArray, margins_NL: Float32Array) -> BoolArray:
        decided_NL = self._with_implied(given_NL)
        # Where all that is wanted keeps the limits there is nothing to choose from.
        rows = np.flatnonzero(~self._keeps_limits(decided_NL))
        if len(rows) and self._are_limits_apart:
            decided_NL[rows] = self._keep_best(given_NL[rows], margins_NL[rows])
        elif len(rows):
            nothing_ML = np.zeros((len(rows), len(self._space)), bool)
            decided_NL[rows] = self._take(nothing_ML, given_NL[rows], margins_NL[rows])
        for group_L, count in self._demands:
            rows = np.flatnonzero(decided_NL[:, group_L].sum(axis=1) < count)
            if len(rows):
                wanted_ML = ~decided_NL[rows] & group_L
                decided_NL[rows] = self._take(decided_NL[rows], wanted_ML, margins_NL[rows], group_L, count)
        return decided_NL

    def _keep_best(self, given_ML: BoolArray, margins_ML: Float32Array) -> BoolArray:
        """Return what `_take` would from nothing, faster: no label is under two limits, and none implies another."""
        kept_ML = given_ML.copy()
        for group_L, count in self._limits:
            columns = np.flatnonzero(group_L)
            wanted_MG = given_ML[:, columns]
            order_MG = np.argsort(np.where(wanted_MG, -margins_ML[:, columns], np.inf), axis=1, kind="stable")
            best_MG = np.zeros_like(wanted_MG)
            np.put_along_axis(best_MG, order_MG[:, :count], True, axis=1)
            kept_ML[:, columns] = wanted_MG & best_MG
        return kept_ML

    def _take(
        self,
        taken_ML: BoolArray,
        wanted_ML: BoolArray,
        margins_ML: Float32Array,
        group_L: BoolArray | None = None,
        count: int = 0,
    ) -> BoolArray:
        """Return what was taken and, by margin, what is wanted and keeps the limits; with a group, until it has enough.

        Shapes: M images, L labels.
        """
        taken_ML = taken_ML.copy()
        order_ML = np.argsort(np.where(wanted_ML, -margins_ML, np.inf), axis=1, kind="stable")
        num_wanted_M = wanted_ML.sum(axis=1)
        rows = np.arange(len(taken_ML))
        for place in range(int(num_wanted_M.max(initial=0))):
            is_going_on = num_wanted_M[rows] > place
            if group_L is not None:
                is_going_on &= taken_ML[rows][:, group_L].sum(axis=1) < count
            rows = rows[is_going_on]
            tried_ML = taken_ML[rows] | self.implied_LL[order_ML[rows, place]]
            keeps_M = self._keeps_limits(tried_ML)
            taken_ML[rows[keeps_M]] = tried_ML[keeps_M]
        return taken_ML

    def _with_implied(self, given_NL: BoolArray) -> BoolArray:
        if not self._has_implications:
            return given_NL.copy()
        if len(given_NL) < _FEW_IMAGES:
            return np.array([self.implied_LL[given_L].any(axis=0) for given_L in given_NL]).reshape(given_NL.shape)
        return np.asarray(given_NL.astype(np.float32) @ self.implied_LL.astype(np.float32) > 0)

    def _keeps_limits(self, decisions_NL: BoolArray) -> BoolArray:
        if not len(self._limit_RL):
            return np.ones(len(decisions_NL), bool)
        counts_NR = decisions_NL.astype(np.float32) @ self._limit_RL.T.astype(np.float32)
        return np.asarray((counts_NR <= self._limit_R).all(axis=1))

    def _keeps_implications(self, decisions_NL: BoolArray) -> BoolArray:
        return np.asarray((self._with_implied(decisions_NL) == decisions_NL).all(axis=1))

    def _columns(self, labels: Iterable[str]) -> list[int]:
        return [self._space.index(label) for label in labels]

    def _close(self, kinds: tuple[str, ...]) -> BoolArray:
        """Return what follows from what, also over several steps, by rules of these kinds."""
        follows_LL = np.eye(len(self._space), dtype=bool)
        for rule in self.rules:
            if rule.kind in kinds:
                # The children of a hierarchy imply their parent.
                causes, effects = (rule.others, rule.labels) if rule.kind == "hierarchy" else (rule.labels, rule.others)
                follows_LL[np.ix_(self._columns(causes), self._columns(effects))] = True
        while True:
            further_LL = follows_LL.astype(np.float32) @ follows_LL.astype(np.float32) > 0
            if np.array_equal(further_LL, follows_LL):
                return follows_LL
            follows_LL = further_LL

    def _group(self, labels: Sequence[str]) -> BoolArray:
        group_L = np.zeros(len(self._space), bool)
        group_L[self._columns(labels) if labels else slice(None)] = True
        return group_L

    def _find_limits(self) -> Iterator[tuple[BoolArray, int]]:
        for rule in self.rules:
            if rule.kind == "at_most":
                yield self._group(rule.labels), rule.count
            elif rule.kind == "exclusive":
                yield self._group(rule.labels), 1
            elif rule.kind == "forbids":
                for label in rule.labels:
                    for other in rule.others:
                        yield self._group((label, other)), 1

    def _find_demands(self) -> Iterator[tuple[BoolArray, int]]:
        for rule in self.rules:
            if rule.kind in ("at_least", "required"):
                yield self._group(rule.labels), rule.count if rule.kind == "at_least" else 1

    def _check_contradictions(self) -> None:
        problems = list(self._find_contradictions())
        if problems:
            raise ConfigError(join_problems(problems))

    def _find_contradictions(self) -> Iterator[str]:
        names = self._space.names
        for column, closed_L in enumerate(self.implied_LL):
            for group_L, count in self._limits:
                needed = [names[other] for other in np.flatnonzero(closed_L & group_L)]
                if len(needed) > count:
                    problem = f"label {names[column]!r} could never be given: it needs {join_names(needed)}"
                    do = "Remove one of the rules"
                    expected = f"at most {count} of {join_names([names[other] for other in np.flatnonzero(group_L)])}"
                    yield build_message("rules", problem, expected=expected, do=do)
        for demanded_L, least in self._demands:
            for group_L, count in self._limits:
                outside = int((demanded_L & ~group_L).sum())
                if least > count + outside:
                    shown = join_names([names[other] for other in np.flatnonzero(demanded_L)])
                    problem = f"at least {least} of {shown} are demanded, and at most {count + outside} are allowed"
                    yield build_message("rules", problem, do="Remove one of the rules")
        has_cycle_L = (self._below_LL & self._below_LL.T).sum(axis=1) > 1
        if has_cycle_L.any():
            shown = join_names([names[column] for column in np.flatnonzero(has_cycle_L)])
            yield build_message("rules", f"in the hierarchy these labels stand below themselves: {shown}")


def _stack(groups: list[BoolArray], num_labels: int) -> BoolArray:
    return np.stack(groups) if groups else np.zeros((0, num_labels), bool)


def _find_problems(rule: Rule, label_space: LabelSpace) -> Iterator[str]:
    kind = RULES[rule.kind]
    where = f"rule '{rule}'"
    for name in (*rule.labels, *rule.others):
        if name not in label_space:
            problem = f"unknown label {name!r}{suggest_name(name, label_space)}"
            yield build_message(where, problem, expected=f"one of the model's {len(label_space)} labels")
    everything = (*rule.labels, *rule.others)
    if len(set(everything)) < len(everything):
        yield build_message(where, "a label stands twice")
    if len(rule.labels) < kind.min_labels and not (kind.is_about_all and not rule.labels):
        yield build_message(where, f"{len(rule.labels)} labels", expected=f"{kind.min_labels} or more")
    if kind.others_key and not rule.others:
        yield build_message(where, f"{kind.others_key!r} is empty", expected="one label or more")
    if rule.kind == "hierarchy" and len(rule.labels) != 1:
        yield build_message(where, "a hierarchy has one parent", got=join_names(rule.labels))
    size = len(rule.labels) if rule.labels else len(label_space)
    if rule.kind == "at_least" and rule.count > size:
        yield build_message(where, f"there are only {size} labels", got=rule.count)
