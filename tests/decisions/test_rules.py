"""Rules, worked by hand and against a slow search over label sets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manylabel.decisions import rules as rules_module
from manylabel.decisions.rules import Rule, RuleSet
from manylabel.errors import ConfigError
from manylabel.labels.space import LabelSpace

SPACE = LabelSpace(("animal", "dog", "cat", "day", "night"))
ANIMALS = (Rule("hierarchy", ("animal",), ("dog", "cat")),)


def apply(rules: tuple[Rule, ...], margins: list[float]) -> list[str]:
    """Return the names that one image gets."""
    margins_1L = np.array([margins], np.float32)
    decided_L = RuleSet(SPACE, rules).apply(margins_1L >= 0, margins_1L)[0]
    return [name for name, is_given in zip(SPACE, decided_L, strict=True) if is_given]


# By hand. The margins are of animal, dog, cat, day, night.
@pytest.mark.parametrize(
    ("rules", "margins", "expected"),
    [
        pytest.param((), [0.1, -0.1, 0, 0.2, 0.3], ["animal", "cat", "day", "night"], id="no rule"),
        pytest.param((Rule("at_most", count=1),), [0.1, -0.1, 0.4, 0.2, 0.3], ["cat"], id="the largest margin stays"),
        pytest.param((Rule("at_most", count=1),), [0.2, 0.2, -1, -1, -1], ["animal"], id="of a tie the first"),
        pytest.param(
            (Rule("at_least", count=2),), [-0.4, -0.1, -0.3, 0.1, -0.2], ["dog", "day"], id="the nearest joins"
        ),
        pytest.param(
            (Rule("required", ("dog", "cat")),), [0.1, -0.3, -0.2, -1, -1], ["animal", "cat"], id="one of two"
        ),
        pytest.param((Rule("exclusive", ("day", "night")),), [-1, -1, -1, 0.1, 0.2], ["night"], id="day or night"),
        pytest.param(
            (Rule("exclusive", ("day", "night")), Rule("required", ("day", "night"))),
            [-1, -1, -1, -0.1, -0.2],
            ["day"],
            id="exactly one",
        ),
        pytest.param(
            (Rule("implies", ("dog",), ("animal", "day")),),
            [-1, 0.1, -1, -1, -1],
            ["animal", "dog", "day"],
            id="implied",
        ),
        pytest.param(
            (Rule("implies", ("dog",), ("animal",)), Rule("implies", ("animal",), ("day",))),
            [-1, 0.1, -1, -1, -1],
            ["animal", "dog", "day"],
            id="implied over two steps",
        ),
        pytest.param(
            (Rule("forbids", ("dog",), ("cat", "night")),), [-1, 0.2, 0.1, 0.3, 0.1], ["dog", "day"], id="forbidden"
        ),
        pytest.param(
            (Rule("forbids", ("dog",), ("night",)),), [-1, 0.1, -1, -1, 0.2], ["night"], id="the stronger stays"
        ),
        pytest.param(ANIMALS, [-0.1, 0.1, -1, -1, -1], ["animal", "dog"], id="a child brings its parent"),
        pytest.param(
            (*ANIMALS, Rule("exclusive", ("animal", "day"))),
            [-1, 0.1, -1, 0.2, -1],
            ["day"],
            id="what a limit keeps out keeps out what would need it",
        ),
        pytest.param(
            (Rule("required", ("dog",)), Rule("forbids", ("dog",), ("night",))),
            [-1, -0.1, -1, -1, 0.2],
            ["night"],
            id="a limit stands above a demand",
        ),
        pytest.param(
            (*ANIMALS, Rule("at_most", ("animal", "day"), count=1), Rule("at_least", ("dog", "night"), count=1)),
            [-1, -0.1, -1, 0.2, -0.3],
            ["day", "night"],
            id="a demand takes the nearest that no limit forbids",
        ),
    ],
)
def test_an_image_gets_the_labels_worked_by_hand(
    rules: tuple[Rule, ...], margins: list[float], expected: list[str]
) -> None:
    assert apply(rules, margins) == expected


margins_of_images = hnp.arrays(np.float32, (7, 5), elements=st.integers(-8, 8).map(lambda number: number / 8))
many_rules = st.lists(
    st.sampled_from(
        [
            Rule("at_most", count=2),
            Rule("at_most", ("animal", "day", "night"), count=1),
            Rule("exclusive", ("day", "night")),
            Rule("forbids", ("dog",), ("cat", "night")),
            Rule("implies", ("cat",), ("animal",)),
            Rule("hierarchy", ("animal",), ("dog",)),
            Rule("at_least", count=1),
            Rule("required", ("day", "night")),
            Rule("implies", ("night",), ("day",)),
        ]
    ),
    unique=True,
)


def take_slowly(rules: RuleSet, margins_L: np.ndarray) -> set[int]:
    """Return one image's labels by the three steps of the module's page, one label at a time and without matrices."""
    names = SPACE.names
    implied: dict[int, set[int]] = {column: {column} for column in range(5)}
    for _ in range(5):
        for rule in rules.rules:
            if rule.kind in ("implies", "hierarchy"):
                causes, effects = (rule.others, rule.labels) if rule.kind == "hierarchy" else (rule.labels, rule.others)
                for column, closed in implied.items():
                    if closed & {names.index(name) for name in causes}:
                        implied[column] = closed | {names.index(name) for name in effects}

    def breaks_limit(taken: set[int]) -> bool:
        has = {names[column] for column in taken}
        for rule in rules.rules:
            group = set(rule.labels) if rule.labels else set(names)
            if rule.kind == "at_most" and len(has & group) > rule.count:
                return True
            if rule.kind == "exclusive" and len(has & group) > 1:
                return True
            if rule.kind == "forbids" and has & group and has & set(rule.others):
                return True
        return False

    order = sorted(range(5), key=lambda column: -margins_L[column])
    taken: set[int] = set()
    for column in order:
        if margins_L[column] >= 0 and not breaks_limit(taken | implied[column]):
            taken |= implied[column]
    for rule in rules.rules:
        if rule.kind in ("at_least", "required"):
            group = {names.index(name) for name in (rule.labels if rule.labels else names)}
            for column in order:
                enough = len(taken & group) >= (rule.count if rule.kind == "at_least" else 1)
                if not enough and column in group - taken and not breaks_limit(taken | implied[column]):
                    taken |= implied[column]
    return taken


@settings(max_examples=150, deadline=None)
@given(many_rules, margins_of_images)
def test_many_images_at_once_get_what_one_gets_step_by_step(chosen: list[Rule], margins_NL: np.ndarray) -> None:
    try:
        rules = RuleSet(SPACE, chosen)
    except ConfigError:
        return  # some of them contradict each other
    decided_NL = rules.apply(margins_NL >= 0, margins_NL)
    for margins_L, decided_L in zip(margins_NL, decided_NL, strict=True):
        assert set(np.flatnonzero(decided_L).tolist()) == take_slowly(rules, margins_L)


@settings(max_examples=100, deadline=None)
@given(many_rules, margins_of_images)
def test_few_images_and_many_get_the_same_though_implications_are_looked_up_or_multiplied(
    chosen: list[Rule], margins_NL: np.ndarray
) -> None:
    try:
        rules = RuleSet(SPACE, chosen)
    except ConfigError:
        return
    decided = []
    for few in (0, 1_000):  # of so few images implications are looked up
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rules_module, "_FEW_IMAGES", few)
            decided.append(rules.apply(margins_NL >= 0, margins_NL))
    np.testing.assert_array_equal(*decided)


@settings(max_examples=60, deadline=None)
@given(many_rules, margins_of_images)
def test_limits_and_implications_hold_for_every_image(chosen: list[Rule], margins_NL: np.ndarray) -> None:
    kept = [rule for rule in chosen if rule.kind not in ("at_least", "required")]
    try:
        rules = RuleSet(SPACE, kept)
    except ConfigError:
        return
    assert rules.find_broken(rules.apply(margins_NL >= 0, margins_NL)) == {}


def test_broken_rules_are_counted() -> None:
    decisions_NL = np.array([[0, 1, 0, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], bool)
    rules = (*ANIMALS, Rule("exclusive", ("day", "night")), Rule("at_least", count=1))
    assert RuleSet(SPACE, rules).find_broken(decisions_NL) == {
        "dog and cat below animal": 1,
        "only one of day, night": 1,
        "at least 1 labels": 1,
    }


def test_a_parent_has_at_least_the_probability_of_all_below_it() -> None:
    space = LabelSpace(("thing", "animal", "dog", "car"))
    rules = RuleSet(space, [Rule("hierarchy", ("thing",), ("animal", "car")), Rule("hierarchy", ("animal",), ("dog",))])
    probs_NL = np.array([[0.1, 0.2, 0.6, 0.3], [0.9, 0.2, 0.1, 0.3]], np.float32)
    np.testing.assert_array_equal(
        rules.raise_probabilities(probs_NL), np.array([[0.6, 0.6, 0.6, 0.3], [0.9, 0.2, 0.1, 0.3]], np.float32)
    )


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        pytest.param(
            [Rule("exclusive", ("day", "nigt"))],
            "rule 'only one of day, nigt': unknown label 'nigt' (did you mean 'night'?), expected one of the model's 5 "
            "labels.",
            id="unknown label",
        ),
        pytest.param(
            [Rule("exclusive", ("day", "day"))], "rule 'only one of day, day': a label stands twice.", id="twice"
        ),
        pytest.param(
            [Rule("exclusive", ("day",))], "rule 'only one of day': 1 labels, expected 2 or more.", id="alone"
        ),
        pytest.param(
            [Rule("at_least", count=6)], "rule 'at least 6 labels': there are only 5 labels, got 6.", id="many"
        ),
        pytest.param(
            [Rule("implies", ("dog",), ("cat",)), Rule("forbids", ("cat",), ("dog",))],
            "rules: label 'dog' could never be given: it needs dog, cat, expected at most 1 of dog, cat. Remove one of "
            "the rules.",
            id="implies what it forbids",
        ),
        pytest.param(
            [Rule("at_most", count=1), Rule("at_least", count=2)],
            "rules: at least 2 of animal, dog, cat, day, night are demanded, and at most 1 are allowed. Remove one of "
            "the rules.",
            id="more than there may be",
        ),
        pytest.param(
            [Rule("hierarchy", ("dog",), ("cat",)), Rule("hierarchy", ("cat",), ("dog",))],
            "rules: in the hierarchy these labels stand below themselves: dog, cat.",
            id="a circle",
        ),
    ],
)
def test_rules_that_cannot_be_kept_are_refused(rules: list[Rule], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        RuleSet(SPACE, rules)
    assert str(error.value) == message


def test_the_order_of_labels_changes_nothing_where_no_margins_are_equal() -> None:
    rng = np.random.default_rng(0)
    margins_NL = rng.normal(0, 0.3, (50, 5)).astype(np.float32)
    rules = (*ANIMALS, Rule("at_most", count=2), Rule("required", ("day", "night")))
    expected_NL = RuleSet(SPACE, rules).apply(margins_NL >= 0, margins_NL)
    for columns in itertools.islice(itertools.permutations(range(5)), 1, None, 17):
        other = RuleSet(SPACE.subset([SPACE.names[column] for column in columns]), rules)
        shuffled_NL = margins_NL[:, columns]
        np.testing.assert_array_equal(other.apply(shuffled_NL >= 0, shuffled_NL), expected_NL[:, columns])
