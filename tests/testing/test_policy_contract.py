"""The contract of decisions holds for every goal, calibration and rule that is shipped, and planted faults break it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from manylabel.decisions import CALIBRATIONS, GOALS
from manylabel.decisions.calibrate import Calibration
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.rules import Rule
from manylabel.decisions.search import Choice, choose_policy, tune_policy
from manylabel.labels.predictions import Predictions
from manylabel.testing.policies import check_policy

REQUIRED = {"at_least": "at_least=0.8", "at_most": "at_most=0.2", "k": "k=2"}
RULES = (
    Rule("implies", ("ant",), ("bee",)),
    Rule("exclusive", ("cat", "dog")),
    Rule("at_least", count=1),
    Rule("at_most", count=3),
)


def complete(goal: str) -> str:
    return ",".join([goal, *(REQUIRED[name] for name in GOALS[goal].required)])


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("goal", GOALS)
def test_every_goal_keeps_the_contract(goal: str, seed: int) -> None:
    check_policy(lambda answers: choose_policy(answers, complete(goal)), seed=seed)


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_every_calibration_keeps_the_contract(method: str) -> None:
    check_policy(lambda answers: choose_policy(answers, "f1", method))


@pytest.mark.parametrize("abstain", [("margin", 0.1), None])
def test_rules_and_abstention_keep_the_contract(abstain: tuple[str, float] | None) -> None:
    check_policy(lambda answers: tune_policy(answers, Choice("f1", rules=RULES, abstain=abstain)).policy)


def build(answers: Predictions, thresholds_L: npt.ArrayLike) -> DecisionPolicy:
    return DecisionPolicy(answers.label_space, tuple(np.asarray(thresholds_L, np.float64).tolist()))


def by_first_image(answers: Predictions) -> DecisionPolicy:
    probs_NL = answers.probs_NL if len(answers) else np.full((1, len(answers.label_space)), 0.5)
    return build(answers, probs_NL[0])


def by_column(answers: Predictions) -> DecisionPolicy:
    return build(answers, np.linspace(0.2, 0.8, len(answers.label_space)))


def by_unknown(answers: Predictions) -> DecisionPolicy:
    return build(answers, answers.probs_NL.mean(axis=0) if len(answers) else [0.5] * len(answers.label_space))


class Dice:
    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)

    def __call__(self, answers: Predictions) -> DecisionPolicy:
        return build(answers, self.generator.random(len(answers.label_space)))


def by_precision_of_nothing(answers: Predictions) -> DecisionPolicy:
    assert answers.targets is not None
    if answers.targets.num_present_L.min() < 1:
        raise ZeroDivisionError("division by zero")
    return choose_policy(answers)


def rules_by_order(answers: Predictions) -> DecisionPolicy:
    policy = replace(choose_policy(answers), gain={}, given={})
    first = int(answers.images[0].removesuffix(".jpg")) if len(answers) else 0
    return replace(policy, rules=(Rule("at_most", count=1 + first % 3),))


def calibrated_by_unknown(answers: Predictions) -> DecisionPolicy:
    mean = float(answers.probs_NL.mean()) if len(answers) else 0.5
    policy = replace(choose_policy(answers), gain={}, given={})
    return replace(policy, calibration=Calibration("platt", weights=((1.0 + mean, 1.0 + mean, 0.0),) * 5))


@dataclass(frozen=True)
class Above(DecisionPolicy):
    """Gives nothing on the threshold."""

    def decide_adjusted(self, adjusted_NL: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        return np.asarray(adjusted_NL > self.thresholds_L)


@dataclass(frozen=True)
class Ranked(DecisionPolicy):
    """Gives a label to the twentieth of the images that are more probable than the others."""

    def decide_adjusted(self, adjusted_NL: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        given_NL = adjusted_NL >= self.thresholds_L
        if adjusted_NL.ndim == 1 or not self.rules:
            return np.asarray(given_NL)
        return np.asarray(given_NL & (adjusted_NL >= np.quantile(adjusted_NL, 0.95, axis=0)))


@dataclass(frozen=True)
class Rounded(DecisionPolicy):
    """Writes its thresholds with one digit."""

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        return {**values, "thresholds": {name: round(each, 1) for name, each in values["thresholds"].items()}}


@dataclass(frozen=True)
class Unwritable(DecisionPolicy):
    """Writes what JSON does not have."""

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "gain": {"low": float("nan")}}


def turn_into(kind: type[DecisionPolicy], **changes: Any) -> Any:
    def choose(answers: Predictions) -> DecisionPolicy:
        policy = replace(choose_policy(answers), gain={}, given={}, **changes)
        return kind(policy.label_space, policy.thresholds, policy.goal, rules=policy.rules)

    return choose


@pytest.mark.parametrize(
    ("choose", "problem"),
    [
        pytest.param(lambda answers: answers.probs_NL, "it returns a ndarray, not a DecisionPolicy", id="no policy"),
        pytest.param(Dice(), "give another policy the second time", id="chance"),
        pytest.param(by_first_image, "the order of the images changes it", id="order of images"),
        pytest.param(by_column, "the order of the labels changes it", id="order of labels"),
        pytest.param(by_unknown, "in unknown cells changes it", id="unknown cells"),
        pytest.param(
            rules_by_order, "the order of the images changes it: .* images get other labels", id="rules by order"
        ),
        pytest.param(
            calibrated_by_unknown, "in unknown cells changes it: a probability that is shown", id="calibrated"
        ),
        pytest.param(by_precision_of_nothing, "it fails where every cell is absent: division by zero", id="no image"),
        pytest.param(turn_into(Above), "is not given at a probability of", id="edge"),
        pytest.param(
            turn_into(Ranked, rules=(Rule("at_least", count=1),)), "get other labels alone", id="beside others"
        ),
        pytest.param(turn_into(Rounded), "read back from its JSON it decides differently about", id="rounded"),
        pytest.param(turn_into(Unwritable), "it cannot be written as JSON: ", id="not JSON"),
    ],
)
def test_planted_faults_are_named(choose: Any, problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        check_policy(choose)
