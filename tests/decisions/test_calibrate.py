"""Calibration against scikit-learn, and against what was drawn."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from manylabel.decisions import CALIBRATIONS, calibrate
from manylabel.decisions.calibrate import FITS, NO_CALIBRATION, Calibration
from manylabel.errors import BundleError
from manylabel.labels.space import LabelSpace
from manylabel.metrics.calibration import expected_calibration_error

SPACE = LabelSpace(("beach", "dog", "sun"))


def draw(num_images: int = 3000, slope: float = 2.0, shift: float = -1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return answers whose logits are `slope` times the true ones, plus a shift."""
    rng = np.random.default_rng(0)
    logits_NL = rng.normal(-0.5, 1.5, (num_images, 3))
    truth_NL = rng.random(logits_NL.shape) < 1 / (1 + np.exp(-logits_NL))
    probs_NL = (1 / (1 + np.exp(-(slope * logits_NL + shift)))).astype(np.float32)
    return probs_NL, truth_NL, np.ones_like(truth_NL)


def logit(probs_N: np.ndarray) -> np.ndarray:
    clipped = np.clip(probs_N.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.log(clipped) - np.log1p(-clipped)


def fit_sklearn(features_ND: np.ndarray, truth_N: np.ndarray, **options: Any) -> LogisticRegression:
    return LogisticRegression(C=np.inf, tol=1e-10, max_iter=2000, **options).fit(features_ND, truth_N)


def test_the_table_of_methods_is_what_can_be_chosen() -> None:
    assert CALIBRATIONS == ("none", "auto", "temperature", "platt", "beta", "isotonic")


def test_temperature_is_a_logistic_regression_of_all_logits_without_intercept() -> None:
    probs_NL, truth_NL, known_NL = draw()
    found = calibrate.fit_temperature(probs_NL, truth_NL, known_NL)
    expected = fit_sklearn(logit(probs_NL).reshape(-1, 1), truth_NL.ravel(), fit_intercept=False).coef_[0, 0]
    a, b, c = found.weights[1]
    assert (a, b, c) == (pytest.approx(expected, rel=1e-4), a, 0.0)


def test_platt_without_a_prior_is_a_logistic_regression_of_each_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "_PRIOR_SLOPE", 1e-9)
    monkeypatch.setattr(calibrate, "_PRIOR_SHIFT", 1e-9)
    probs_NL, truth_NL, known_NL = draw()
    found = calibrate.fit_platt(probs_NL, truth_NL, known_NL)
    for column in range(3):
        expected = fit_sklearn(logit(probs_NL[:, [column]]), truth_NL[:, column])
        a, b, c = found.weights[column]
        assert a == b == pytest.approx(expected.coef_[0, 0], rel=1e-4)
        assert c == pytest.approx(expected.intercept_[0], rel=1e-4)


def test_beta_without_a_prior_is_a_logistic_regression_on_both_logarithms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "_PRIOR_SLOPE", 1e-9)
    monkeypatch.setattr(calibrate, "_PRIOR_SHIFT", 1e-9)
    probs_NL, truth_NL, known_NL = draw()
    found = calibrate.fit_beta(probs_NL, truth_NL, known_NL)
    probs_N = np.clip(probs_NL[:, 0].astype(np.float64), 1e-7, 1 - 1e-7)
    expected = fit_sklearn(np.stack([np.log(probs_N), -np.log1p(-probs_N)], axis=1), truth_NL[:, 0])
    assert found.weights[0][:2] == pytest.approx(expected.coef_[0], rel=1e-3)
    assert found.weights[0][2] == pytest.approx(expected.intercept_[0], rel=1e-3)


def test_isotonic_is_scikit_learns_up_to_its_ends() -> None:
    probs_NL, truth_NL, known_NL = draw(400)
    found = calibrate.fit_isotonic(probs_NL, truth_NL, known_NL)
    reference = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(probs_NL[:, 0], truth_NL[:, 0])
    expected_N = reference.predict(probs_NL[:, 0])
    inside_N = (expected_N > 0) & (expected_N < 1)
    assert inside_N.sum() > 300
    np.testing.assert_allclose(found.apply(probs_NL)[inside_N, 0], expected_N[inside_N], atol=1e-5)
    ends = found.apply(np.array([[0.0] * 3, [1.0] * 3]))
    assert ((ends > 0) & (ends < 1)).all(), "no number of images shows that something never happens"


@pytest.mark.parametrize("method", FITS)
def test_a_calibrated_model_says_what_comes_true(method: str) -> None:
    probs_NL, truth_NL, known_NL = draw(12_000, slope=2.0, shift=0.0)
    half = slice(0, 6000), slice(6000, None)
    before = expected_calibration_error(probs_NL[half[1]], truth_NL[half[1]])
    fitted = FITS[method](probs_NL[half[0]], truth_NL[half[0]], known_NL[half[0]])
    after = expected_calibration_error(fitted.apply(probs_NL[half[1]]), truth_NL[half[1]])
    assert before > 0.05
    assert after < 0.02


@pytest.mark.parametrize("method", ["temperature", "platt", "beta"])
def test_gathering_many_cells_changes_a_curve_by_nearly_nothing(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw(9000)
    gathered = FITS[method](*drawn).weights
    monkeypatch.setattr(calibrate, "_EXACT_CELLS", 10**6)
    assert np.array(gathered) == pytest.approx(np.array(FITS[method](*drawn).weights), abs=2e-4)


@pytest.mark.parametrize("method", FITS)
def test_unknown_cells_and_the_order_of_images_change_no_calibration(method: str) -> None:
    probs_NL, truth_NL, known_NL = draw(500)
    known_NL[np.random.default_rng(1).random(known_NL.shape) < 0.3] = False
    expected = FITS[method](probs_NL, truth_NL, known_NL)
    other = FITS[method](np.where(known_NL, probs_NL, 0.9), truth_NL ^ ~known_NL, known_NL)
    rows = np.random.default_rng(2).permutation(500)
    shuffled = FITS[method](probs_NL[rows], truth_NL[rows], known_NL[rows])
    np.testing.assert_array_equal(other.apply(probs_NL), expected.apply(probs_NL))
    np.testing.assert_allclose(shuffled.apply(probs_NL), expected.apply(probs_NL), atol=1e-5)


@pytest.mark.parametrize("method", FITS)
@pytest.mark.parametrize(
    ("present", "known"),
    [
        pytest.param([0, 0, 0], [1, 1, 1], id="no positive"),
        pytest.param([1, 1, 1], [1, 1, 1], id="no negative"),
        pytest.param([1, 0, 0], [1, 0, 0], id="one known cell"),
        pytest.param([1, 0, 0], [0, 0, 0], id="nothing known"),
    ],
)
def test_a_label_of_which_little_is_known_is_calibrated_by_the_others(
    method: str, present: list[int], known: list[int]
) -> None:
    probs_NL, truth_NL, known_NL = draw(300)
    truth_NL[:, 0], known_NL[:, 0] = np.resize(present, 300), np.resize(known, 300)
    calibrated_NL = FITS[method](probs_NL, truth_NL, known_NL).apply(probs_NL)
    assert np.isfinite(calibrated_NL).all()
    assert ((calibrated_NL >= 0) & (calibrated_NL <= 1)).all()


@pytest.mark.parametrize("method", FITS)
@settings(max_examples=20, deadline=None)
@given(probs_NL=hnp.arrays(np.float32, (6, 3), elements=st.floats(0, 1, width=32)))
def test_calibration_never_turns_two_images_round_and_survives_json(method: str, probs_NL: np.ndarray) -> None:
    fitted = FITTED[method]
    calibrated_NL = fitted.apply(probs_NL)
    for column in range(3):
        order = np.argsort(probs_NL[:, column], kind="stable")
        assert (np.diff(calibrated_NL[order, column]) >= 0).all()
    restored = Calibration.from_dict(json.loads(json.dumps(fitted.to_dict(SPACE))), SPACE)
    assert restored == fitted
    np.testing.assert_array_equal(restored.apply(probs_NL), calibrated_NL)
    np.testing.assert_array_equal(fitted.apply(probs_NL[0]), calibrated_NL[0])


FITTED = {method: fit(*draw(200)) for method, fit in FITS.items()}


def test_none_changes_nothing() -> None:
    probs_NL, _, _ = draw(10)
    assert NO_CALIBRATION.apply(probs_NL) is probs_NL


CURVES = {"beach": [1, 1, 0], "dog": [1, 1, 0], "sun": [1, 1, 0]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(
            {"method": "x"}, "calibration: not a table with curves or knots, got {'method': 'x'}.", id="empty"
        ),
        pytest.param(
            {"curves": {"beach": [1, 1, 0]}},
            "calibration: its curves are not for the model's labels, got 'dog, sun'.",
            id="labels are missing",
        ),
        pytest.param(
            {"curves": CURVES | {"dog": [1, -1, 0]}},
            "calibration of 'dog': not a rising curve, got [1, -1, 0], expected a, b (from 0) and c.",
            id="falling",
        ),
        pytest.param(
            {"curves": CURVES | {"dog": [1, "1", 0]}},
            "calibration of 'dog': not a list of numbers, got [1, '1', 0].",
            id="text",
        ),
        pytest.param(
            {"curves": CURVES | {"dog": [1, float("inf"), 0]}},
            "calibration of 'dog': not finite, got [1, inf, 0].",
            id="infinite",
        ),
        pytest.param(
            {"knots": {key: {"from": [0, 0.5, 0.5], "to": [0, 0.5, 1]} for key in SPACE}},
            "calibration of 'beach': not a curve that rises inside 0 to 1, got '(0.0, 0.5, 0.5) to (0.0, 0.5, 1.0)'.",
            id="two knots at one place",
        ),
        pytest.param(
            {"knots": {key: [0, 1] for key in SPACE}},
            "calibration of 'beach': not a table with from and to, got [0, 1].",
            id="no table",
        ),
    ],
)
def test_a_damaged_calibration_is_refused(values: Any, message: str) -> None:
    with pytest.raises(BundleError) as error:
        Calibration.from_dict(values, SPACE)
    assert str(error.value) == message
