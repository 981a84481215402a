"""From predictions to a policy, and what it says of its own gain."""

from __future__ import annotations

import numpy as np
import pytest

from manylabel.decisions import choose_thresholds
from manylabel.decisions.rules import Rule
from manylabel.decisions.search import Choice, choose_policy, divide_into_folds, list_goal_rules, tune_policy
from manylabel.errors import ConfigError, DataError
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

SPACE = LabelSpace(("a", "b", "c", "d"))


def draw(
    num_images: int = 600, shift: float = -1.5, slope: float = 1.0, signal: float = 2.0, seed: int = 0
) -> Predictions:
    """Return answers that are too low by `shift` and too sure by `slope`."""
    rng = np.random.default_rng(seed)
    truth_NL = rng.random((num_images, 4)) < [0.4, 0.3, 0.2, 0.1]
    prior_L = np.log([0.4 / 0.6, 0.3 / 0.7, 0.2 / 0.8, 0.1 / 0.9])
    # The log odds of a normal variable at 0 or at `signal`.
    logits_NL = prior_L + signal * rng.normal(0, 1, truth_NL.shape) + signal**2 * (truth_NL - 0.5)
    probs_NL = 1 / (1 + np.exp(-(slope * logits_NL + shift)))
    images = tuple(f"{number}.jpg" for number in range(num_images))
    return Predictions(images, SPACE, probs_NL, Targets.from_dense(truth_NL), data_digest="val")


def shuffle(predictions: Predictions, seed: int = 1) -> Predictions:
    rows = np.random.default_rng(seed).permutation(len(predictions))
    return predictions.select([predictions.images[row] for row in rows])


def test_a_policy_is_chosen_on_all_images_and_says_on_which() -> None:
    predictions = draw()
    policy = choose_policy(predictions, "cardinality")
    assert predictions.targets is not None
    present_NL, known_NL = predictions.targets.present_NL(), predictions.targets.known_NL()
    chosen = choose_thresholds("cardinality", predictions.probs_NL, present_NL, known_NL)
    np.testing.assert_array_equal(policy.thresholds_L, chosen.thresholds_L)
    assert (policy.goal, policy.chosen_on, policy.sources) == ("cardinality", "val", ("label",) * 4)


def test_what_is_worth_it_is_said_and_what_is_not_too() -> None:
    low = choose_policy(draw(shift=-1.5)).gain
    assert low["is_worth_it"]
    assert (low["metric"], low["num_images"], low["num_folds"]) == ("f1_macro", 600, 5)
    assert low["at_half"] < low["tuned"] == pytest.approx(low["at_half"] + low["gain"])
    noise = choose_policy(draw(60, shift=0.7, signal=3.0)).gain
    assert not noise["is_worth_it"]


def test_the_gain_is_that_of_images_that_were_not_chosen_on() -> None:
    # Of pure noise every threshold is as good as another: on its own images the best looks better, on others it does
    # not. The true F1 of giving a label to everyone is what tuning should end at.
    predictions = draw(100, shift=0, signal=0.01)
    assert predictions.targets is not None
    tuning = tune_policy(predictions, Choice())
    own = tuning.policy.decide(predictions.probs_NL)
    truth_NL = predictions.targets.present_NL()
    own_f1 = np.mean(2 * (own & truth_NL).sum(axis=0) / (own.sum(axis=0) + truth_NL.sum(axis=0)))
    assert tuning.figures["f1_macro"].after < own_f1 - 0.02


def test_the_order_of_the_images_changes_no_policy_and_no_gain() -> None:
    predictions = draw(200)
    for choice in (Choice("f1", "auto"), Choice("precision,at_least=0.8", abstain=("margin", 0.1))):
        first, second = (tune_policy(table, choice) for table in (predictions, shuffle(predictions)))
        assert second.policy.thresholds == pytest.approx(first.policy.thresholds, abs=1e-5)
        assert second.policy.calibration.method == first.policy.calibration.method
        for key in ("at_half", "tuned", "gain"):
            assert second.policy.gain[key] == pytest.approx(first.policy.gain[key])


def test_folds_follow_names_and_are_equally_large() -> None:
    names = [f"{number}.jpg" for number in range(23)]
    fold_N = divide_into_folds(names)
    assert sorted(np.bincount(fold_N).tolist()) == [4, 4, 5, 5, 5]
    assert divide_into_folds(names[::-1]).tolist() == fold_N[::-1].tolist()


def test_images_of_one_group_stay_in_one_fold_and_are_one_draw() -> None:
    predictions = draw(150)
    copies = [predictions.select(predictions.images) for _ in range(4)]
    images = tuple(f"{number} {name}" for number, one in enumerate(copies) for name in one.images)
    assert predictions.targets is not None
    truth_NL = np.tile(predictions.targets.present_NL(), (4, 1))
    repeated = Predictions(images, SPACE, np.tile(predictions.probs_NL, (4, 1)), Targets.from_dense(truth_NL))
    group_of = {image: image.split()[1] for image in images}
    fold_N = divide_into_folds(images, group_of)
    assert all(len({fold_N[row] for row in range(place, 600, 150)}) == 1 for place in range(150))
    assert np.bincount(fold_N).tolist() == [120] * 5
    single = tune_policy(predictions, Choice(calibrate="auto"))
    grouped = tune_policy(repeated, Choice(calibrate="auto"), group_of)
    blind = tune_policy(repeated, Choice(calibrate="auto"))
    # Four copies of an image say no more than one: the interval is that of 150 images, not of 600.
    width, grouped_width, blind_width = (
        tuning.policy.gain["high"] - tuning.policy.gain["low"] for tuning in (single, grouped, blind)
    )
    assert grouped_width == pytest.approx(width, rel=0.1)
    assert blind_width < 0.7 * width
    loss, grouped_loss, blind_loss = (tuning.losses["platt"] for tuning in (single, grouped, blind))
    assert grouped_loss.high - grouped_loss.low == pytest.approx(loss.high - loss.low, rel=0.1)
    assert blind_loss.high - blind_loss.low < 0.7 * (loss.high - loss.low)


def test_few_groups_say_nothing_of_a_gain() -> None:
    predictions = draw(60)
    for num_groups, has_gain in ((2, False), (19, False), (20, True)):
        group_of = {image: str(row % num_groups) for row, image in enumerate(predictions.images)}
        tuning = tune_policy(predictions, Choice(calibrate="auto"), group_of)
        assert bool(tuning.policy.gain) == has_gain
        assert has_gain or tuning.policy.calibration.method == "none"


def test_a_policy_says_how_often_it_gives_each_label() -> None:
    predictions = draw(300)
    policy = choose_policy(predictions, "recall,at_least=0.95")
    shares = policy.decide(predictions.probs_NL).mean(axis=0)
    assert policy.given == pytest.approx(dict(zip(SPACE, shares.tolist(), strict=True)))


def test_auto_calibrates_what_is_miscalibrated_and_leaves_the_rest() -> None:
    off = tune_policy(draw(2000, shift=-1.5, slope=2.0), Choice(calibrate="auto"))
    assert off.policy.calibration.method in ("platt", "beta")
    assert off.losses["platt"].is_better
    right = tune_policy(draw(2000, shift=0), Choice(calibrate="auto"))
    assert right.policy.calibration.method == "none"
    assert set(right.losses) == {"none", "temperature", "platt", "beta", "isotonic"}


def test_thresholds_fit_the_calibrated_probabilities() -> None:
    predictions = draw(2000, shift=-1.5)
    raw, calibrated = (choose_policy(predictions, "f1", method) for method in ("none", "platt"))
    # Calibration rises in every label, so that the best sets stay what they are.
    np.testing.assert_array_equal(raw.decide(predictions.probs_NL), calibrated.decide(predictions.probs_NL))
    assert (calibrated.thresholds_L > raw.thresholds_L).all()


def test_rules_are_kept_and_what_they_change_is_measured() -> None:
    rules = (Rule("exclusive", ("a", "b")),)
    tuning = tune_policy(draw(), Choice("f1", rules=rules))
    decided_NL = tuning.policy.decide(draw().probs_NL)
    assert not (decided_NL[:, 0] & decided_NL[:, 1]).any()
    assert tuning.rule_figures["recall_macro"].gain < 0  # they do not hold in these data
    assert tune_policy(draw(), Choice("f1")).rule_figures == {}


@pytest.mark.parametrize(
    ("goal", "low", "high"),
    [
        pytest.param("top_k,k=2", 2, 2, id="exactly two"),
        pytest.param("at_least_one", 1, 4, id="one or more"),
    ],
)
def test_a_goal_that_counts_labels_holds_for_every_image(goal: str, low: int, high: int) -> None:
    policy = choose_policy(draw(), goal)
    num_given_N = policy.decide(draw(seed=3).probs_NL).sum(axis=1)
    assert (num_given_N.min(), num_given_N.max() <= high) == (low, True)
    assert policy.rules == list_goal_rules(goal, 4)


def test_a_promise_is_reported_with_what_was_reached() -> None:
    gain = choose_policy(draw(2000), "recall,at_least=0.8").gain
    assert gain["asked"] == {"metric": "recall_macro", "at_least": 0.8}
    assert gain["metric"] == "recall_macro"  # at 0.5 it is not kept
    assert gain["reached"] == pytest.approx(0.8, abs=0.03)
    kept = choose_policy(draw(2000, shift=1.5), "recall,at_least=0.5").gain
    assert kept["metric"] == "precision_macro"  # it is kept at 0.5 already: what counts is what else it brings


def test_too_few_images_give_a_policy_and_no_gain() -> None:
    for num_images in (0, 1, 19):
        tuning = tune_policy(draw(num_images), Choice("f1", "auto", abstain=("margin", 0.1)))
        assert tuning.policy.gain == tuning.figures == tuning.losses == {}
        assert tuning.policy.calibration.method == "none"


def test_images_of_which_nothing_is_known_give_halves_and_no_gain() -> None:
    predictions = draw(50)
    unknown = Targets.from_dense(np.zeros((50, 4), bool), np.zeros((50, 4), bool))
    for method in ("auto", "platt", "isotonic"):
        table = Predictions(predictions.images, SPACE, predictions.probs_NL, unknown)
        tuning = tune_policy(table, Choice("f1", method))
        assert tuning.policy.thresholds == (0.5,) * 4
        assert tuning.policy.gain == {}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        pytest.param(
            Choice(calibrate="plat"),
            "calibrate: unknown method 'plat' (did you mean 'platt'?), expected none, auto, temperature, platt, beta, "
            "isotonic.",
            id="no such method",
        ),
        pytest.param(
            Choice("miss_rate,at_most=0.1", "platt"),
            "goal miss_rate: images that also calibrate cannot guarantee a miss rate. Use --calibrate none, or another "
            "goal.",
            id="a guarantee on calibrated images",
        ),
        pytest.param(
            Choice("miss_rate,at_most=0.1", rules=(Rule("exclusive", ("a", "b")),)),
            "goal miss_rate: rules that take labels away break the guarantee: only one of a, b. Remove them, or choose "
            "another goal.",
            id="a guarantee with a limit",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(choice: Choice, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        tune_policy(draw(), choice)
    assert str(error.value) == message
    assert tune_policy(draw(), Choice("miss_rate,at_most=0.1", "auto")).policy.calibration.method == "none"


def test_predictions_without_truth_are_refused() -> None:
    predictions = draw()
    bare = Predictions(predictions.images, SPACE, predictions.probs_NL)
    with pytest.raises(DataError, match="predictions: there is no truth to choose on"):
        tune_policy(bare, Choice())
