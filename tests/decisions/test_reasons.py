"""What rules changed about an image, worked by hand for each kind of rule."""

from __future__ import annotations

import numpy as np
import pytest

from manylabel.decisions import reasons
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.reasons import RuleEffect, decide_with_reasons
from manylabel.decisions.rules import Rule
from manylabel.labels.space import LabelSpace

SPACE = LabelSpace(("a", "b", "c", "d"))


def decide(rules: tuple[Rule, ...], *probabilities: float) -> tuple[str, tuple[RuleEffect, ...]]:
    """Decide with thresholds of 0.5."""
    decision = decide_with_reasons(DecisionPolicy(SPACE, (0.5,) * 4, rules=rules), np.array(probabilities, np.float32))
    return "".join(decision.labels), decision.by_rules


@pytest.mark.parametrize(
    ("rules", "probabilities", "labels", "effects"),
    [
        pytest.param((), (0.75, 0.25, 0, 0), "a", (), id="no rules"),
        pytest.param(
            (Rule("implies", ("a",), ("b",)),), (0.75, 0.625, 0, 0), "ab", (), id="a rule that is kept anyway"
        ),
        pytest.param(
            (Rule("implies", ("a",), ("b",)), Rule("implies", ("b",), ("c",))),
            (0.75, 0, 0.25, 0),
            "acb",
            (RuleEffect("a implies b", added=("b",)), RuleEffect("b implies c", added=("c",))),
            id="what follows over two steps",
        ),
        pytest.param(
            (Rule("hierarchy", ("a",), ("b", "c")),),
            (0.25, 0, 0.75, 0),
            "ca",
            (RuleEffect("b and c below a", added=("a",)),),
            id="a parent that was not raised",
        ),
        pytest.param(
            (Rule("forbids", ("a",), ("b", "c")),),
            (0.75, 0.625, 0.5, 0),
            "a",
            (RuleEffect("a forbids b and c", removed=("b", "c")),),
            id="what a label forbids",
        ),
        pytest.param(
            (Rule("exclusive", ("a", "b")), Rule("implies", ("c",), ("b",))),
            (0.875, 0, 0.75, 0),
            "a",
            (RuleEffect("only one of a, b", removed=("c",)),),
            id="a label is left out for what it would bring",
        ),
        pytest.param(
            (Rule("at_most", count=2),),
            (0.75, 0.625, 0.5, 0.875),
            "da",
            (RuleEffect("at most 2 labels", removed=("b", "c")),),
            id="a limit on all labels",
        ),
        pytest.param(
            (Rule("at_least", ("a", "b"), count=1), Rule("required", ("b",))),
            (0.375, 0.25, 0, 0),
            "ab",
            (RuleEffect("at least 1 of a, b", added=("a",)), RuleEffect("one of b at least", added=("b",))),
            id="a demand that a later one meets too",
        ),
        pytest.param(
            (Rule("at_least", count=2),),
            (0.75, 0.25, 0.375, 0),
            "ac",
            (RuleEffect("at least 2 labels", added=("c",)),),
            id="a demand of all labels",
        ),
    ],
)
def test_each_label_that_a_rule_added_or_left_out_stands_under_it(
    rules: tuple[Rule, ...], probabilities: tuple[float, ...], labels: str, effects: tuple[RuleEffect, ...]
) -> None:
    assert decide(rules, *probabilities) == (labels, effects)


def test_a_policy_that_does_not_abstain_says_nothing_of_a_person() -> None:
    assert decide_with_reasons(DecisionPolicy(SPACE, (0.5,) * 4), np.zeros(4, np.float32)).needs_person is None


def test_what_reaches_its_threshold_is_for_the_policy_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = (Rule("required", ("a", "b")),)
    assert decide(rules, 0.5, 0, 0, 0) == ("a", ())
    # Were it ">", a label on its threshold would have to be added by the rule, and that would be said.
    monkeypatch.setattr(DecisionPolicy, "find_reached", lambda policy, adjusted: adjusted > policy.thresholds_L)
    assert decide(rules, 0.5, 0, 0, 0) == ("a", (RuleEffect("one of a, b at least", added=("a",)),))


def test_a_rule_that_stands_twice_is_told_once() -> None:
    assert decide((Rule("exclusive", ("a", "b")),) * 2, 0.75, 0.5, 0, 0)[1] == (
        RuleEffect("only one of a, b", removed=("b",)),
    )


def test_reasons_ask_only_rules_that_speak_of_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(f"{number}" for number in range(100))
    pairs = tuple(Rule("exclusive", (names[at], names[at + 1])) for at in range(0, 100, 2))
    policy = DecisionPolicy(LabelSpace(names), (0.5,) * 100, rules=pairs)
    asked: list[str] = []
    is_broken = reasons._RuleAsSets.is_broken_limit

    def note(each: reasons._RuleAsSets, given: frozenset[str]) -> bool:
        asked.append(str(each.rule))
        return is_broken(each, given)

    monkeypatch.setattr(reasons._RuleAsSets, "is_broken_limit", note)
    decision = decide_with_reasons(policy, np.ones(100, np.float32))
    assert [effect.removed for effect in decision.by_rules] == [(name,) for name in names[1::2]]
    assert len(asked) == 50  # of 50 labels times 50 rules
