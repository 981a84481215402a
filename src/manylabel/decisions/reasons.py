"""Why an image has its labels: what its probabilities reach, and what the rules of a policy made of that."""

from __future__ import annotations

from collections.abc import Collection
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
    margins_L = adjusted_L - policy.thresholds_L
    reached = [names[column] for column in np.argsort(-margins_L, kind="stable") if margins_L[column] >= 0]
    has_reached = frozenset(reached)
    added = [label for label in labels if label not in has_reached]
    removed = [label for label in reached if label not in given]
    by_rule: dict[Rule, tuple[list[str], list[str]]] = {rule: ([], []) for rule in policy.rules}
    for label in added:
        for rule in _find_asking(policy.rules, label, given):
            by_rule[rule][0].append(label)
    for label in removed:
        with_it = given | _find_implied(policy, label)
        for rule in policy.rules:
            if _is_broken_limit(rule, with_it):
                by_rule[rule][1].append(label)
    return tuple(
        RuleEffect(str(rule), tuple(more), tuple(less)) for rule, (more, less) in by_rule.items() if more or less
    )


def _find_asking(rules: Collection[Rule], label: str, given: frozenset[str]) -> list[Rule]:
    """Return the rules for which a label stands beside the others."""
    implying = [rule for rule in rules if _implies(rule, label, given)]
    demanding = [rule for rule in rules if _demands(rule, label)]
    needed = [rule for rule in demanding if len(given & _group(rule, given)) <= _count(rule)]
    # A demand may have been met by more than it asked for: then it is the one that asked all the same.
    return [*implying, *needed] or demanding


def _implies(rule: Rule, label: str, given: frozenset[str]) -> bool:
    if rule.kind == "hierarchy":
        return label in rule.labels and not given.isdisjoint(rule.others)
    return rule.kind == "implies" and label in rule.others and not given.isdisjoint(rule.labels)


def _demands(rule: Rule, label: str) -> bool:
    return rule.kind in ("at_least", "required") and (not rule.labels or label in rule.labels)


def _group(rule: Rule, given: frozenset[str]) -> frozenset[str]:
    return frozenset(rule.labels) if rule.labels else given


def _count(rule: Rule) -> int:
    return rule.count if rule.kind in ("at_least", "at_most") else 1


def _is_broken_limit(rule: Rule, given: frozenset[str]) -> bool:
    if rule.kind == "forbids":
        return not given.isdisjoint(rule.labels) and not given.isdisjoint(rule.others)
    return rule.kind in ("at_most", "exclusive") and len(given & _group(rule, given)) > _count(rule)


def _find_implied(policy: DecisionPolicy, label: str) -> frozenset[str]:
    names = policy.label_space.names
    implied_L = policy.rule_set.implied_LL[policy.label_space.index(label)]
    return frozenset(names[column] for column in np.flatnonzero(implied_L))
