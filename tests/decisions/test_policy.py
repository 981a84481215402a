from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manylabel.decisions.calibrate import Calibration
from manylabel.decisions.conformal import Abstention
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.rules import Rule
from manylabel.errors import BundleError, ConfigError, ManylabelError
from manylabel.labels.space import LabelSpace

SPACE = LabelSpace(("beach", "dog", "sun"))
shares = st.floats(0, 1, width=32)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 0.5, 1 / 3, 0.7, 0.9999999, 1.0])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_an_image_on_the_threshold_has_the_label_and_one_below_has_not(threshold: float, kind: type) -> None:
    policy = DecisionPolicy(LabelSpace(("dog",)), (threshold,))
    edge = np.float32(threshold)
    assert policy.decide(np.array([kind(threshold)]))[0]
    assert policy.decide(np.array([kind(edge)]))[0]
    if edge > 0:
        assert not policy.decide(np.array([kind(np.nextafter(edge, np.float32(-1)))]))[0]


@given(hnp.arrays(np.float32, (5, 3), elements=shares), st.tuples(shares, shares, shares))
def test_a_policy_that_went_through_json_decides_the_same(probs_NL: np.ndarray, thresholds: Any) -> None:
    policy = DecisionPolicy(SPACE, thresholds, "f1", ("label", "global", "label"), "val")
    probs_NL[0] = thresholds
    restored = DecisionPolicy.from_dict(json.loads(json.dumps(policy.to_dict())), SPACE)
    assert restored == policy
    np.testing.assert_array_equal(restored.decide(probs_NL), policy.decide(probs_NL))
    np.testing.assert_array_equal(restored.decide(probs_NL), probs_NL >= np.float32(thresholds))
    np.testing.assert_array_equal(policy.decide(probs_NL.astype(np.float64)), policy.decide(probs_NL))


def test_the_dictionary_names_the_rule_and_every_label() -> None:
    assert DecisionPolicy(SPACE, (0.5, 0.25, 1), "f1", ("label", "global", "label"), "val").to_dict() == {
        "goal": "f1",
        "rule": "probability >= threshold",
        "chosen_on": "val",
        "thresholds": {"beach": 0.5, "dog": 0.25, "sun": 1.0},
        "sources": {"beach": "label", "dog": "global", "sun": "label"},
    }


def test_labels_come_in_the_order_of_their_margin() -> None:
    # Margins by hand: beach 0.25, dog 0.5, sun 0.25 on the left; of equal margins the first column comes first.
    policy = DecisionPolicy(SPACE, (0.5, 0.25, 0.625))
    assert policy.order([0.75, 0.75, 0.875]) == [1, 0, 2]
    assert policy.order([0.49, 0.25, 1.0]) == [2, 1]
    assert policy.order([0.0, 0.0, 0.0]) == []


def test_one_image_and_many_are_decided_alike() -> None:
    policy = DecisionPolicy(SPACE, (0.5, 0.25, 0.75))
    probs_NL = np.array([[0.5, 0.2, 0.8], [0.4, 0.3, 0.7]])
    assert policy.decide(probs_NL).tolist() == [policy.decide(probs_L).tolist() for probs_L in probs_NL]


def test_probabilities_of_other_labels_are_not_decided() -> None:
    with pytest.raises(AssertionError, match=r"probabilities of shape \(2, 1\)"):
        DecisionPolicy(SPACE, (0.5, 0.5, 0.5)).decide(np.zeros((2, 1)))


@pytest.mark.parametrize(
    ("thresholds", "sources", "message"),
    [
        pytest.param(
            (0.5,), (), "decision policy: 1 thresholds for 3 labels, expected one for each label.", id="too few"
        ),
        pytest.param((0.5, 1.5, 0), (), "threshold of 'dog': not a number from 0 to 1, got 1.5.", id="above 1"),
        pytest.param((-0.1, 1, 0), (), "threshold of 'beach': not a number from 0 to 1, got -0.1.", id="below 0"),
        pytest.param((0, 0, float("nan")), (), "threshold of 'sun': not a number from 0 to 1, got nan.", id="NaN"),
        pytest.param(
            (0, 0, 0),
            ("label",),
            "decision policy: 1 sources for 3 labels, expected one for each label, or none.",
            id="sources",
        ),
    ],
)
def test_thresholds_that_do_not_fit_are_refused(thresholds: Any, sources: Any, message: str) -> None:
    with pytest.raises(BundleError) as error:
        DecisionPolicy(SPACE, thresholds, sources=sources)
    assert str(error.value) == message


HALVES = {"beach": 0.5, "dog": 0.5, "sun": 0.5}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(
            {}, "decision policy: its thresholds are not for the model's labels, got 'beach, dog, sun'.", id="none"
        ),
        pytest.param(
            {"thresholds": HALVES | {"cat": 0.5}},
            "decision policy: its thresholds are not for the model's labels, got 'cat'.",
            id="one more label",
        ),
        pytest.param(
            {"thresholds": [0.5] * 3},
            "decision policy: its thresholds are not a table by label, got [0.5, 0.5, 0.5].",
            id="a list",
        ),
        pytest.param(
            {"thresholds": HALVES | {"dog": "0.5"}},
            "threshold of 'dog': not a number from 0 to 1, got '0.5'.",
            id="text",
        ),
        pytest.param(
            {"thresholds": HALVES | {"dog": None}},
            "threshold of 'dog': not a number from 0 to 1, got 'None'.",
            id="null",
        ),
        pytest.param(
            {"thresholds": HALVES | {"dog": True}},
            "threshold of 'dog': not a number from 0 to 1, got 'True'.",
            id="true",
        ),
        pytest.param(
            {"thresholds": HALVES, "sources": {"dog": "label"}},
            "decision policy: its sources are not for the model's labels, got 'beach, sun'.",
            id="sources of some labels",
        ),
    ],
)
def test_a_dictionary_of_another_model_is_refused(values: Any, message: str) -> None:
    with pytest.raises(BundleError) as error:
        DecisionPolicy.from_dict(values, SPACE)
    assert str(error.value) == message


# ---------------------------------------------------------------------------------------------------------------------
# Calibration, rules and abstention around the thresholds.
# ---------------------------------------------------------------------------------------------------------------------

HALVED = Calibration("temperature", weights=((0.5, 0.5, 0.0),) * 3)
STEPS = Calibration("isotonic", knots=(((0.0, 0.5, 1.0), (0.1, 0.3, 0.9)),) * 3)
WHOLE = DecisionPolicy(
    SPACE,
    (0.5, 0.25, 0.625),
    "f1",
    ("label", "global", "label"),
    "val",
    HALVED,
    (Rule("hierarchy", ("sun",), ("beach",)), Rule("at_most", count=2)),
    Abstention("margin", -0.05, 0.1),
    {"metric": "f1_macro", "gain": 0.1},
)


@pytest.mark.parametrize("calibration", [HALVED, STEPS], ids=["curve", "knots"])
@given(hnp.arrays(np.float32, (5, 3), elements=shares))
def test_a_whole_policy_that_went_through_json_decides_the_same(calibration: Calibration, probs_NL: np.ndarray) -> None:
    policy = replace(WHOLE, calibration=calibration)
    restored = DecisionPolicy.from_dict(json.loads(json.dumps(policy.to_dict())), SPACE)
    assert restored == policy
    for ask in ("adjust", "decide", "is_doubtful"):
        np.testing.assert_array_equal(getattr(restored, ask)(probs_NL), getattr(policy, ask)(probs_NL))


@given(hnp.arrays(np.float32, (5, 3), elements=shares))
def test_one_image_of_a_whole_policy_is_decided_as_among_many(probs_NL: np.ndarray) -> None:
    for probs_L, adjusted_L, given_L, is_doubtful in zip(
        probs_NL, WHOLE.adjust(probs_NL), WHOLE.decide(probs_NL), WHOLE.is_doubtful(probs_NL), strict=True
    ):
        np.testing.assert_array_equal(WHOLE.adjust(probs_L), adjusted_L)
        np.testing.assert_array_equal(WHOLE.decide(probs_L), given_L)
        assert set(WHOLE.order(probs_L)) == set(np.flatnonzero(given_L).tolist())
        assert bool(WHOLE.is_doubtful(probs_L)) == is_doubtful


def test_a_decision_is_calibration_then_hierarchy_then_thresholds_then_rules() -> None:
    # By hand: half of the logit of 0.9 is that of 0.75. The sun stands above the beach, so it has 0.75 too: margins
    # 0.25, 0.5 and 0.125, of which two stay.
    probs_L = np.array([0.9, 0.9, 0.1])
    np.testing.assert_allclose(WHOLE.adjust(probs_L), [0.75, 0.75, 0.75], atol=1e-6)
    assert WHOLE.decide(probs_L).tolist() == [False, True, True]  # the beach needs the sun: three labels are too many
    assert WHOLE.order(probs_L) == [1, 2]


def test_a_policy_without_more_writes_only_what_version_1_knew() -> None:
    assert set(DecisionPolicy(SPACE, (0.5, 0.25, 1)).to_dict()) == {
        "goal", "rule", "chosen_on", "thresholds", "sources",
    }  # fmt: skip


def test_no_image_is_doubtful_where_the_model_does_not_abstain() -> None:
    assert DecisionPolicy(SPACE, (0.5, 0.5, 0.5)).is_doubtful(np.full((4, 3), 0.5)).tolist() == [False] * 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"rules": [{"kind": "no"}]}, "decision policy rule 1: unknown kind 'no'", id="rules"),
        pytest.param({"calibration": []}, "calibration: not a table with curves or knots", id="calibration"),
        pytest.param({"abstention": {"by": "margin"}}, "abstention: not a table with by, limit and share", id="parts"),
        pytest.param(
            {"abstention": {"by": "margin", "limit": "0", "share": 0.1}},
            "abstention: not a limit and a share",
            id="text",
        ),
        pytest.param({"gain": 3}, "decision policy: its gain is not a table, got 3.", id="gain"),
    ],
)
def test_a_damaged_part_is_refused(values: Any, message: str) -> None:
    with pytest.raises(ManylabelError, match=re.escape(message)):
        DecisionPolicy.from_dict({"thresholds": HALVES, **values}, SPACE)


def test_rules_for_labels_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown label 'sum' \\(did you mean 'sun'\\?\\)"):
        DecisionPolicy(SPACE, (0.5, 0.5, 0.5), rules=(Rule("required", ("sum",)),))


@pytest.mark.parametrize(
    ("threshold", "shown"),
    [
        ("x", "'x'"),
        ({}, "{}"),
        ("0.5", "'0.5'"),
        (True, "True"),
        ([0.5], r"\[0.5\]"),
        (1.5, "1.5"),
        (-1e-50, "-1e-50"),
        (float("nan"), "nan"),
        pytest.param(10**400, "inf", id="400 digits"),
        pytest.param(-(10**9000), "-inf", id="9,000 digits"),
    ],
)
def test_a_moved_threshold_that_is_no_share_is_refused_in_one_sentence(threshold: Any, shown: str) -> None:
    policy = DecisionPolicy(SPACE, (0.5,) * 3)
    with pytest.raises(ConfigError, match=rf"^threshold of 'dog': not a number from 0 to 1, got {shown}\.$"):
        policy.replace_thresholds({"dog": threshold})


@pytest.mark.parametrize("threshold", [0, 1, 0.25, np.float32(0.25), np.float64(0.25)])
def test_a_threshold_may_be_moved_to_any_kind_of_number(threshold: Any) -> None:
    moved = DecisionPolicy(SPACE, (0.5,) * 3).replace_thresholds({"dog": threshold})
    assert moved.thresholds == (0.5, float(threshold), 0.5)
