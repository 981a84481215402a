"""Guarantees, simulated: coverage on images that nothing was chosen on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from manylabel.decisions import choose_thresholds
from manylabel.decisions.conformal import (
    DOUBTS,
    Abstention,
    choose_abstention,
    find_miss_rate_threshold,
    parse_abstention,
)
from manylabel.errors import BundleError, ConfigError

ALPHA = 0.1


def draw(num_images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth_NL = rng.random((num_images, 4)) < [0.5, 0.3, 0.2, 0.1]
    logits_NL = rng.normal(0, 1.5, truth_NL.shape) + 2 * truth_NL - 1
    return (1 / (1 + np.exp(-logits_NL))).astype(np.float32), truth_NL


def measure_misses(goal: str, num_images: int, num_repeats: int) -> np.ndarray:
    """Return the share of missed labels per label (and of images) over many draws of images to choose and judge on."""
    rates = []
    for seed in range(num_repeats):
        probs_NL, truth_NL = draw(num_images, seed)
        thresholds_L = choose_thresholds(goal, probs_NL, truth_NL, np.ones_like(truth_NL)).thresholds_L
        probs_NL, truth_NL = draw(400, 100_000 + seed)
        missed_NL = truth_NL & (probs_NL < thresholds_L)
        num_true_N = truth_NL.sum(axis=1)
        per_image = (missed_NL.sum(axis=1)[num_true_N > 0] / num_true_N[num_true_N > 0]).mean()
        rates.append([*(missed_NL.sum(axis=0) / truth_NL.sum(axis=0)), per_image])
    return np.array(rates)


@pytest.mark.parametrize("num_images", [30, 200])
def test_the_miss_rate_of_images_is_kept_and_not_by_giving_everything(num_images: int) -> None:
    rates = measure_misses(f"miss_rate,at_most={ALPHA}", num_images, 300)[:, -1]
    error = rates.std() / np.sqrt(len(rates))
    assert rates.mean() <= ALPHA + 3 * error
    # The theory's lower bound: what one image can move the mean by.
    assert rates.mean() >= ALPHA - 2 / (num_images + 1) * 2 - 3 * error


@pytest.mark.parametrize("num_images", [60, 400])
def test_the_miss_rate_of_every_label_is_kept(num_images: int) -> None:
    rates = measure_misses(f"miss_rate,at_most={ALPHA},per=label", num_images, 300)[:, :4]
    errors_L = rates.std(axis=0) / np.sqrt(len(rates))
    assert (rates.mean(axis=0) <= ALPHA + 3 * errors_L).all()
    assert rates.mean(axis=0)[0] >= ALPHA / 2  # half of the images have the first label: enough to be exact


def test_a_guarantee_that_needs_more_images_gives_every_label_and_says_so() -> None:
    probs_NL, truth_NL = np.full((8, 1), 0.7, np.float32), np.ones((8, 1), bool)
    chosen = choose_thresholds("miss_rate,at_most=0.1", probs_NL, truth_NL, truth_NL)
    assert chosen.thresholds_L.tolist() == [0.0]
    assert chosen.sources == ("always",)


def test_one_label_is_split_conformal_prediction() -> None:
    # By hand: of 19 positives the second lowest may be the cut, since 2 / 20 = 0.1 of the next are below it.
    probs_NL = np.linspace(0.05, 0.95, 19, dtype=np.float32)[:, None]
    all_NL = np.ones((19, 1), bool)
    threshold = find_miss_rate_threshold(probs_NL, all_NL, all_NL, 0.1)
    assert threshold == pytest.approx(0.075)
    assert (probs_NL < threshold).sum() == 1


def test_probabilities_in_64_bits_choose_what_those_in_32_do() -> None:
    probs_NL, all_NL = np.arange(1, 20)[:, None] / 20, np.ones((19, 1), bool)
    expected = find_miss_rate_threshold(probs_NL.astype(np.float32), all_NL, all_NL, 0.1)
    assert find_miss_rate_threshold(probs_NL, all_NL, all_NL, 0.1) == expected


def test_images_without_a_label_and_unknown_cells_take_no_part() -> None:
    probs_NL, truth_NL = draw(100, 0)
    known_NL = np.ones_like(truth_NL)
    expected = find_miss_rate_threshold(probs_NL, truth_NL, known_NL, 0.2)
    more = np.concatenate([probs_NL, np.full((50, 4), 0.99, np.float32)])
    truth = np.concatenate([truth_NL, np.zeros((25, 4), bool), np.ones((25, 4), bool)])
    known = np.concatenate([known_NL, np.ones((25, 4), bool), np.zeros((25, 4), bool)])
    assert find_miss_rate_threshold(more, truth, known, 0.2) == expected


@pytest.mark.parametrize("by", DOUBTS)
def test_at_most_the_share_asked_for_is_sent_to_a_person(by: str) -> None:
    probs_NL, _ = draw(500, 3)
    margins_NL = probs_NL - np.float32(0.5)
    abstention = choose_abstention(by, 0.2, margins_NL, margins_NL >= 0)
    share = abstention.is_doubtful(margins_NL, margins_NL >= 0).mean()
    assert 0.02 < share <= 0.2
    if by == "margin":  # no two images are equally doubtful
        assert share == 0.2


def test_the_images_that_are_sent_to_a_person_are_the_ones_that_go_wrong() -> None:
    probs_NL, truth_NL = draw(2000, 4)
    margins_NL = probs_NL - np.float32(0.5)
    wrong_N = ((margins_NL >= 0) != truth_NL).any(axis=1)
    doubtful_N = choose_abstention("margin", 0.3, margins_NL, margins_NL >= 0).is_doubtful(margins_NL, margins_NL >= 0)
    assert wrong_N[doubtful_N].mean() > wrong_N[~doubtful_N].mean() + 0.1


def test_abstaining_is_read_from_a_text() -> None:
    assert parse_abstention("none") is None
    assert parse_abstention("margin") == ("margin", 0.1)
    assert parse_abstention("width, share=0.25") == ("width", 0.25)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "marging",
            "abstain: unknown choice 'marging' (did you mean 'margin'?), expected none, margin, width.",
            id="name",
        ),
        pytest.param(
            "margin,share=2",
            "abstain: not a setting, got 'share=2', expected share=, a number between 0 and 1.",
            id="share",
        ),
        pytest.param(
            "margin,part=0.1",
            "abstain: not a setting, got 'part=0.1', expected share=, a number between 0 and 1.",
            id="key",
        ),
    ],
)
def test_a_way_to_abstain_that_does_not_exist_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_abstention(text)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(("size", 1.0, 0.1), "abstention: unknown doubt 'size', expected margin, width.", id="doubt"),
        pytest.param(
            ("margin", float("nan"), 0.1), "abstention: not a limit and a share, got 'nan and 0.1'.", id="NaN"
        ),
        pytest.param(("margin", 0.1, 1.0), "abstention: not a limit and a share, got '0.1 and 1.0'.", id="all"),
    ],
)
def test_an_abstention_that_makes_no_sense_is_refused(values: Any, message: str) -> None:
    with pytest.raises(BundleError) as error:
        Abstention(*values)
    assert str(error.value) == message
