"""Each loss against its paper's formula, written a second time in NumPy on single cells, or a case worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from manylabel.errors import ConfigError
from manylabel.losses import LOSSES, Loss, ScheduledLoss, build_loss, describe_loss, find_loss, loss_at, parse_loss
from manylabel.losses.counts import LabelCounts
from manylabel.losses.label_smoothing import smooth_labels

COUNTS = LabelCounts(np.array([50.0, 10.0, 1.0]), np.array([100.0, 100.0, 100.0]))


def evaluate(loss: Loss, logits: list[list[float]], truth: list[list[float]]) -> float:
    cells = torch.tensor(logits)
    return float(loss(cells, torch.tensor(truth), torch.ones_like(cells).bool()))


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def focal(z: float, y: float) -> float:
    right = sigmoid(z) if y else 1 - sigmoid(z)
    return -((1 - right) ** 2) * math.log(right)


def asymmetric(z: float, y: float) -> float:
    p = sigmoid(z)
    shifted = max(p - 0.1, 0)
    return -(1 - p) * math.log(p) if y else -(shifted**3) * math.log(1 - shifted)


def hill(z: float, y: float) -> float:
    p, pm = sigmoid(z), sigmoid(z - 1)
    return -((1 - pm) ** 2) * math.log(pm) if y else (1.5 - p) * p * p


def paced(z: float, y: float) -> float:
    pm = sigmoid(z - 1)
    return -((1 - pm) ** 2) * math.log(pm) if y or sigmoid(z) > 0.6 else -math.log(1 - sigmoid(z))


@pytest.mark.parametrize(
    ("text", "progress", "cell"),
    [
        pytest.param("focal", 0, focal, id="focal"),
        pytest.param("asl,gamma_negative=3,gamma_positive=1,clip=0.1", 0, asymmetric, id="asl"),
        pytest.param("hill", 0, hill, id="hill"),
        pytest.param("splc", 0.5, paced, id="splc after its start"),
    ],
)
def test_a_loss_of_cells_is_the_mean_of_its_formula(
    text: str, progress: float, cell: Callable[[float, float], float]
) -> None:
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(scale=2, size=(6, 5)), (rng.random((6, 5)) < 0.4).astype(float)
    expected = np.mean([cell(z, y) for z, y in zip(logits.ravel(), truth.ravel(), strict=True)])
    loss = loss_at(find_loss(text), progress)
    assert evaluate(loss, logits.tolist(), truth.tolist()) == pytest.approx(expected, rel=1e-5)


def test_focal_with_a_gamma_of_zero_and_asl_without_focus_are_cross_entropy() -> None:
    logits, truth = [[1.0, -2.0, 0.5]], [[1.0, 1.0, 0.0]]
    expected = evaluate(find_loss("bce"), logits, truth)
    assert evaluate(find_loss("focal,gamma=0"), logits, truth) == pytest.approx(expected)
    assert evaluate(find_loss("asl,gamma_negative=0,clip=0"), logits, truth) == pytest.approx(expected)
    assert evaluate(find_loss("large_loss"), logits, truth) == pytest.approx(expected)
    assert evaluate(find_loss("distribution_balanced,kappa=0,scale=1"), [[0.0]], [[0.0]]) == pytest.approx(
        1.1 * math.log(2), rel=1e-5
    )


def test_ratio_weights_are_those_of_a_table_worked_by_hand() -> None:
    loss = build_loss("weighted_bce,cap=5", LabelCounts(np.array([49.5, 9.5]), np.array([99.0, 99.0])))
    # Absent over present is 50 / 50 and 90 / 10, capped at 5. Weights over all cells sum to
    # 49.5 * 1 + 49.5 + 9.5 * 5 + 89.5 = 236, of 198 cells.
    scale = 198 / 236
    one, other = math.log(2) * scale * 1, math.log(2) * scale * 5
    assert evaluate(loss, [[0.0, 0.0]], [[1.0, 1.0]]) == pytest.approx((one + other) / 2)
    assert evaluate(loss, [[0.0, 0.0]], [[0.0, 0.0]]) == pytest.approx(math.log(2) * scale)


def test_the_effective_number_makes_weights_even_for_many_and_inverse_for_few() -> None:
    counts = LabelCounts(np.array([10.0]), np.array([1000.0]))
    beta = 0.99
    present, absent = (1 - beta) / (1 - beta**10), (1 - beta) / (1 - beta**990)
    loss = build_loss("class_balanced,beta=0.99,cap=10000", counts)
    ratio = evaluate(loss, [[0.0]], [[1.0]]) / evaluate(loss, [[0.0]], [[0.0]])
    assert ratio == pytest.approx(present / absent)
    capped = build_loss("class_balanced,beta=0.99,cap=3", counts)
    assert evaluate(capped, [[0.0]], [[1.0]]) / evaluate(capped, [[0.0]], [[0.0]]) == pytest.approx(3)


@pytest.mark.parametrize("name", ["weighted_bce", "class_balanced"])
def test_weights_have_a_mean_of_one_over_the_table(name: str) -> None:
    loss = build_loss(name, COUNTS)
    truth = torch.zeros(100, 3)
    for label, count in enumerate((50, 10, 1)):
        truth[:count, label] = 1
    value = float(loss(torch.zeros(100, 3), truth, torch.ones(100, 3).bool()))
    assert value == pytest.approx(math.log(2), rel=1e-5)


def test_the_distribution_balanced_weights_are_those_of_the_paper() -> None:
    loss = build_loss("distribution_balanced", COUNTS)
    frequency = [50.5 / 101, 10.5 / 101, 1.5 / 101]
    logits, truth = [1.0, -1.0, 0.5], [1.0, 0.0, 1.0]
    expected = 0.0
    total = 1 / frequency[0] + 1 / frequency[2]
    for z, y, p in zip(logits, truth, frequency, strict=True):
        weight = 0.1 + sigmoid(10 * (1 / p / total - 0.2))
        shifted = z + 0.05 * math.log(p / (1 - p))
        expected += weight * (math.log1p(math.exp(-shifted)) if y else math.log1p(math.exp(2 * shifted)) / 2)
    assert evaluate(loss, [logits], [truth]) == pytest.approx(expected / 3, rel=1e-5)


def test_zlpr_is_the_sum_of_its_formula_for_each_image() -> None:
    logits, truth = [[1.0, -2.0, 0.5], [0.3, 0.0, -1.0]], [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    first = math.log(1 + math.exp(-1) + math.exp(2)) + math.log(1 + math.exp(0.5))
    second = math.log(1 + math.exp(0.3) + 1 + math.exp(-1))
    assert evaluate(find_loss("zlpr"), logits, truth) == pytest.approx((first + second) / 2)


def test_two_way_is_its_formula_over_images_and_labels() -> None:
    logits, truth = np.array([[1.0, -2.0, 0.5], [0.3, 0.0, -1.0]]), np.array([[1, 1, 0], [0, 0, 0]])

    def compare(z: np.ndarray, y: np.ndarray) -> float | None:
        if not y.any() or y.all():
            return None
        present = 4 * math.log(np.exp(-z[y == 1] / 4).sum())
        return math.log1p(math.exp(math.log(np.exp(z[y == 0]).sum()) + present))

    rows = [v for v in map(compare, logits, truth) if v is not None]
    columns = [v for v in map(compare, logits.T, truth.T) if v is not None]
    expected = np.mean(rows) + np.mean(columns)
    assert evaluate(find_loss("two_way"), logits.tolist(), truth.astype(float).tolist()) == pytest.approx(expected)


def test_large_losses_of_absent_cells_are_left_out_more_and_more() -> None:
    logits, truth = [[4.0, 3.0, -1.0, -1.0]], [[0.0, 1.0, 0.0, 0.0]]
    loss = find_loss("large_loss,share=0.5")
    cells = [math.log1p(math.exp(4)), math.log1p(math.exp(-3)), math.log1p(math.exp(-1)), math.log1p(math.exp(-1))]
    assert evaluate(loss, logits, truth) == pytest.approx(sum(cells) / 4)
    assert evaluate(loss_at(loss, 1.0), logits, truth) == pytest.approx(sum(cells[1:]) / 4)  # 0.5 of 3 cells is 1


def test_splc_takes_sure_answers_for_labels_after_its_start_only() -> None:
    loss = find_loss("splc,start=0.3")
    early, late = (evaluate(loss_at(loss, progress), [[3.0]], [[0.0]]) for progress in (0.2, 0.3))
    assert early == pytest.approx(math.log1p(math.exp(3)))
    assert late < 0.05


def test_only_two_losses_change_in_a_run_and_a_function_stays_what_it_is() -> None:
    scheduled = {name for name in LOSSES if isinstance(find_loss(name), ScheduledLoss)}
    assert scheduled == {"splc", "large_loss"}

    def mine(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:  # noqa: ARG001
        return logits.sum()

    assert loss_at(mine, 0.7) is mine


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_truth_between_lies_between(name: str) -> None:
    loss = loss_at(find_loss(name), 1.0)
    logits = [[0.4, -1.0, 0.2], [-0.3, 0.1, 2.0]]
    ends = [evaluate(loss, logits, [[1.0, truth, 0.0], [0.0, 1.0, 1.0]]) for truth in (0.0, 1.0)]
    between = evaluate(loss, logits, [[1.0, 0.3, 0.0], [0.0, 1.0, 1.0]])
    assert min(ends) - 0.2 <= between <= max(ends) + 0.2


def test_smoothing_moves_every_cell_towards_one_half() -> None:
    assert smooth_labels(torch.tensor([[1.0, 0.0]]), 0.1).tolist() == [[pytest.approx(0.95), pytest.approx(0.05)]]
    assert math.isnan(float(smooth_labels(torch.tensor([math.nan]), 0.1)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("asll", "loss: unknown loss 'asll' (did you mean 'asl'?), expected " + ", ".join(
            [*list(LOSSES)[:-1]]) , id="name"),
        pytest.param("asl,gama_negative=3", "loss: unknown setting 'gama_negative' (did you mean 'gamma_negative'?) of "
                     "asl, expected gamma_negative, gamma_positive, clip.", id="setting"),
        pytest.param("focal,gamma=much", "loss gamma: not a number, got 'much'.", id="no number"),
        pytest.param("focal,gamma=11", "loss gamma: out of range, got '11', expected 0 to 10.", id="range"),
        pytest.param("bce,gamma=1", "loss: unknown setting 'gamma' of bce, expected none.", id="no settings"),
    ],
)  # fmt: skip
def test_a_wrong_text_is_said_with_what_is_right(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_loss(text)
    assert str(caught.value).startswith(message)


def test_all_mistakes_of_a_text_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_loss("focal,gamma=11,x=1")
    assert len(str(caught.value).splitlines()) == 2


def test_what_is_suggested_from_the_data_is_said() -> None:
    few = LabelCounts(np.array([2.0]), np.array([100.0]))
    assert describe_loss("asl", build_loss("asl", few)) == "Loss: asl (gamma_negative 4, gamma_positive 0, clip 0.05)."
    assert describe_loss("asl", build_loss("asl", COUNTS)) == (
        "Loss: asl (gamma_negative 2, gamma_positive 0, clip 0.05)."
    )
    assert describe_loss("bce", build_loss("bce", COUNTS)) == "Loss: bce."
    # Ratios 1, 90.5 / 10.5 and 99.5 / 1.5 (capped at 20): with a 1 for each absent cell the sum is 395.2 of 300 cells.
    text = describe_loss("weighted_bce", build_loss("weighted_bce", COUNTS))
    assert text == "Loss: weighted_bce (weights of present cells 0.76 to 15, of absent cells 0.76 to 0.76)."


def test_a_table_without_a_known_cell_still_builds_every_loss() -> None:
    nothing = LabelCounts(np.zeros(2), np.zeros(2))
    for name in LOSSES:
        assert math.isfinite(evaluate(build_loss(name, nothing), [[1.0, -1.0]], [[1.0, 0.0]]))
