"""Why an image has its labels: what its probabilities reach, and what the rules of a policy made of that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.decisions import GOALS
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.rules import Rule

Float32Array = npt.NDArray[np.float32]

_BY_PROBABILITY = "top_k"
"""The goal whose thresholds are all 0, so that a limit on the number of labels decides alone."""


@dataclass(frozen=True)
class RuleEffect:
    """A rule in words, the labels that it gave below their thresholds, and those that it left out above them."""

    rule: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """The labels of one image in order of their margin, and what rules changed about them.

    A label stands under each rule that asks for it (or forbids it) beside the other labels of the image, so that it may
    stand under several. `needs_person` is None where the policy does not abstain.
    """

    labels: tuple[str, ...]
    by_rules: tuple[RuleEffect, ...] = ()
    needs_person: bool | None = None


def decide_with_reasons(policy: DecisionPolicy, adjusted_L: Float32Array) -> Decision:
    """Return what a policy decides for the probabilities of one image, and why.

    The probabilities are those that a prediction shows: `policy.adjust` has been through them.

    Shapes: L labels.

    Example:
        >>> from manylabel.labels.space import LabelSpace
        >>> rule = Rule("implies", ("dog",), ("animal",))
        >>> policy = DecisionPolicy(LabelSpace(("animal", "dog")), (0.75, 0.5), rules=(rule,))
        >>> decide_with_reasons(policy, np.array([0.5, 0.75], np.float32)).by_rules
        (RuleEffect(rule='dog implies animal', added=('animal',), removed=()),)
    """
    names = policy.label_space.names
    labels = tuple(names[column] for column in policy.order_adjusted(adjusted_L))
    needs_person = None if policy.abstention is None else bool(policy.is_doubtful_adjusted(adjusted_L))
    return Decision(labels, _find_effects(policy, adjusted_L, labels), needs_person)


def describe_moved(policy: DecisionPolicy) -> list[str]:
    """Return, in sentences, what of a policy no longer holds where its thresholds are replaced."""
    name = policy.goal.partition(",")[0].strip()
    notes = []
    if name == _BY_PROBABILITY:
        notes.append(
            "The model gives the most probable labels, whatever their thresholds; with moved ones it gives those that "
            "lie highest above them."
        )
    if name in GOALS and GOALS[name].promise:
        notes.append(f"What its goal {policy.goal!r} promises holds for the model's own thresholds only.")
    if policy.abstention is not None:
        notes.append("How many images need a person was chosen with the model's own thresholds.")
    return notes


def _find_effects(policy: DecisionPolicy, adjusted_L: Float32Array, labels: tuple[str, ...]) -> tuple[RuleEffect, ...]:
    """Return what each rule changed, in the order of the policy's rules; labels by margin."""
    if not policy.rules:
        return ()
    names, given = policy.label_space.names, frozenset(labels)
    order = np.argsort(policy.thresholds_L - adjusted_L, kind="stable")
    reached_L = policy.find_reached(adjusted_L)
    reached = [names[column] for column in order if reached_L[column]]
    has_reached = frozenset(reached)
    rules = _RuleSets(policy.rules)
    added: list[list[str]] = [[] for _ in rules.all]
    removed: list[list[str]] = [[] for _ in rules.all]
    for label in labels:
        if label not in has_reached:
            for place in _find_asking(rules, label, given):
                added[place].append(label)
    for label in reached:
        if label not in given:
            for place in _find_forbidding(rules, _find_implied(policy, label), given):
                removed[place].append(label)
    return tuple(
        RuleEffect(str(each.rule), tuple(more), tuple(less))
        for each, more, less in zip(rules.all, added, removed, strict=True)
        if more or less
    )


@dataclass(frozen=True)
class _RuleAsSets:
    """A rule with its labels as sets, which for many rules take longer to build than to ask."""

    rule: Rule
    labels: frozenset[str]
    others: frozenset[str]

    def implies(self, label: str, given: frozenset[str]) -> bool:
        if self.rule.kind == "hierarchy":
            return label in self.labels and not given.isdisjoint(self.others)
        return self.rule.kind == "implies" and label in self.others and not given.isdisjoint(self.labels)

    def demands(self, label: str) -> bool:
        return self.rule.kind in ("at_least", "required") and (not self.labels or label in self.labels)

    def is_broken_limit(self, given: frozenset[str]) -> bool:
        if self.rule.kind == "forbids":
            return not given.isdisjoint(self.labels) and not given.isdisjoint(self.others)
        return self.rule.kind in ("at_most", "exclusive") and self.count_given(given) > self.count

    def count_given(self, given: frozenset[str]) -> int:
        return len(given & self.labels) if self.labels else len(given)

    @property
    def count(self) -> int:
        return self.rule.count if self.rule.kind in ("at_least", "at_most") else 1


class _RuleSets:
    """The rules of a policy, and which of them speak of a label."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.all = [_RuleAsSets(rule, frozenset(rule.labels), frozenset(rule.others)) for rule in dict.fromkeys(rules)]
        self._of_all = [place for place, each in enumerate(self.all) if not each.labels]
        self._by_label: dict[str, list[int]] = {}
        for place, each in enumerate(self.all):
            for label in each.labels | each.others:
                self._by_label.setdefault(label, []).append(place)

    def find_places(self, labels: Iterable[str]) -> list[int]:
        """Return the places of the rules that speak of any of these labels, or of all, in order."""
        return sorted({*self._of_all, *(place for label in labels for place in self._by_label.get(label, ()))})


def _find_asking(rules: _RuleSets, label: str, given: frozenset[str]) -> list[int]:
    """Return the places of the rules for which a label stands beside the others."""
    places = rules.find_places((label,))
    implying = [place for place in places if rules.all[place].implies(label, given)]
    demanding = [place for place in places if rules.all[place].demands(label)]
    needed = [place for place in demanding if rules.all[place].count_given(given) <= rules.all[place].count]
    # A demand may have been met by more than it asked for: then it is the one that asked all the same.
    return [*implying, *needed] or demanding


def _find_forbidding(rules: _RuleSets, wanted: frozenset[str], given: frozenset[str]) -> list[int]:
    """Return the places of the limits that these labels would break beside the given ones, which break none."""
    with_them = given | wanted
    return [place for place in rules.find_places(wanted - given) if rules.all[place].is_broken_limit(with_them)]


def _find_implied(policy: DecisionPolicy, label: str) -> frozenset[str]:
    names = policy.label_space.names
    implied_L = policy.rule_set.implied_LL[policy.label_space.index(label)]
    return frozenset(names[column] for column in np.flatnonzero(implied_L))
