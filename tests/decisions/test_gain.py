"""Figures before and after, against scikit-learn; intervals, simulated."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from manylabel.decisions import gain as gain_module
from manylabel.decisions.gain import compare_decisions, describe_promise


def draw(num_images: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth_NL = rng.random((num_images, 4)) < 0.4
    before_NL, after_NL = truth_NL ^ (rng.random(truth_NL.shape) < 0.3), truth_NL ^ (rng.random(truth_NL.shape) < 0.2)
    return truth_NL, before_NL, after_NL


def test_every_figure_is_scikit_learns() -> None:
    truth_NL, before_NL, after_NL = draw()
    found = compare_decisions(before_NL, after_NL, truth_NL, np.ones_like(truth_NL), {"beta": 3, "missed": 2})
    for decided_NL, side in ((before_NL, "before"), (after_NL, "after")):
        has_N = truth_NL.any(axis=1)
        options = {"y_true": truth_NL, "y_pred": decided_NL, "zero_division": np.nan}
        wrong_NL = decided_NL & ~truth_NL
        missed_NL = truth_NL & ~decided_NL
        expected = {
            "f1_macro": metrics.f1_score(**options, average="macro"),
            "f1_micro": metrics.f1_score(**options, average="micro"),
            "f1_samples": metrics.f1_score(**options, average="samples"),
            "f_beta_macro": metrics.fbeta_score(**options, beta=3, average="macro"),
            "precision_macro": metrics.precision_score(**options, average="macro"),
            "precision_micro": metrics.precision_score(**options, average="micro"),
            "recall_macro": metrics.recall_score(**options, average="macro"),
            "recall_micro": metrics.recall_score(**options, average="micro"),
            "recall_samples": metrics.recall_score(truth_NL[has_N], decided_NL[has_N], average="samples"),
            "subset_accuracy": metrics.accuracy_score(truth_NL, decided_NL),
            "hamming_loss": metrics.hamming_loss(truth_NL, decided_NL),
            "count_error": np.abs(decided_NL.sum(axis=1) - truth_NL.sum(axis=1)).mean(),
            "cost_per_image": (2 * missed_NL.sum() + wrong_NL.sum()) / len(truth_NL),
            "labels_per_image": decided_NL.sum(axis=1).mean(),
        }
        assert {name: getattr(figure, side) for name, figure in found.items()} == pytest.approx(expected)


def test_gain_is_positive_where_after_is_better_also_where_less_is() -> None:
    truth_NL, before_NL, after_NL = draw()
    found = compare_decisions(before_NL, after_NL, truth_NL, np.ones_like(truth_NL), {})
    assert found["f1_macro"].gain == pytest.approx(found["f1_macro"].after - found["f1_macro"].before)
    assert found["hamming_loss"].gain == pytest.approx(found["hamming_loss"].before - found["hamming_loss"].after)
    assert found["f1_macro"].is_better
    assert found["hamming_loss"].is_better
    assert not compare_decisions(after_NL, before_NL, truth_NL, np.ones_like(truth_NL), {})["f1_macro"].is_better


def test_the_same_decisions_gain_nothing() -> None:
    truth_NL, before_NL, _ = draw()
    for figure in compare_decisions(before_NL, before_NL, truth_NL, np.ones_like(truth_NL), {}).values():
        assert (figure.gain, figure.low, figure.high) == (0, 0, 0)
        assert not figure.is_better


def test_an_unknown_cell_changes_no_figure() -> None:
    truth_NL, before_NL, after_NL = draw()
    known_NL = np.random.default_rng(5).random(truth_NL.shape) < 0.7
    expected = compare_decisions(before_NL, after_NL, truth_NL, known_NL, {})
    assert compare_decisions(before_NL ^ ~known_NL, after_NL, truth_NL ^ ~known_NL, known_NL, {}) == expected


def test_groups_of_images_have_nearly_the_interval_of_single_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    truth_NL, before_NL, after_NL = draw(4000)
    single = compare_decisions(before_NL, after_NL, truth_NL, np.ones_like(truth_NL), {})["f1_macro"]
    monkeypatch.setattr(gain_module, "_MOST_GROUPS", 400)
    grouped = compare_decisions(before_NL, after_NL, truth_NL, np.ones_like(truth_NL), {})["f1_macro"]
    assert grouped.gain == pytest.approx(single.gain)
    assert grouped.high - grouped.low == pytest.approx(single.high - single.low, rel=0.15)


@pytest.mark.slow
def test_the_interval_covers_the_true_gain() -> None:
    # The micro F1 of infinitely many images: a share 0.4 true, each cell wrong with the probability of `draw`.
    def f1(wrong: float) -> float:
        return 2 * 0.4 * (1 - wrong) / (0.4 * (1 - wrong) + 0.6 * wrong + 0.4)

    num_covered = 0
    for seed in range(200):
        truth_NL, before_NL, after_NL = draw(150, seed)
        figure = compare_decisions(before_NL, after_NL, truth_NL, np.ones_like(truth_NL), {})["f1_micro"]
        num_covered += figure.low <= f1(0.2) - f1(0.3) <= figure.high
    assert 180 <= num_covered <= 198  # 95 % of 200, three standard errors either way


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        pytest.param("precision", {"at_least": 0.8}, ("precision_macro", 0.8), id="precision"),
        pytest.param("miss_rate", {"at_most": 0.2}, ("recall_samples", 0.8), id="per image"),
        pytest.param("miss_rate", {"at_most": 0.2, "per": "label"}, ("recall_macro", 0.8), id="per label"),
    ],
)
def test_what_a_goal_promises(name: str, settings: dict[str, float | str], expected: tuple[str, float]) -> None:
    promise = "precision_macro" if name == "precision" else "recall_samples"
    assert describe_promise(name, promise, settings) == expected
