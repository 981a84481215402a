"""Thresholds against a search over every cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manylabel.decisions import GOALS, choose_thresholds, parse_goal
from manylabel.decisions import thresholds as thresholds_module
from manylabel.decisions.thresholds import MIN_POSITIVES, Thresholds, choose_f1_thresholds, choose_half
from manylabel.errors import ConfigError, DataError

# Few distinct values, so that ties are common.
coarse = hnp.arrays(np.float32, (24, 3), elements=st.integers(0, 8).map(lambda number: number / 8))
fine = hnp.arrays(np.float32, (24, 3), elements=st.floats(0, 1, width=32))
truths = hnp.arrays(np.bool_, (24, 3))
masks = hnp.arrays(np.bool_, (24, 3), elements=st.sampled_from([True, True, True, False]))


def f1(truth_N: np.ndarray, decisions_N: np.ndarray) -> float:
    # scikit-learn's f1_score with zero_division=0 is the same number, and far slower.
    num_right = int((truth_N & decisions_N).sum())
    num_wrong = int((truth_N ^ decisions_N).sum())
    return 2 * num_right / (2 * num_right + num_wrong) if num_right else 0.0


def best_f1(probs_N: np.ndarray, truth_N: np.ndarray) -> float:
    """Return the largest F1 over every set of images that some threshold gives the label to."""
    return max((f1(truth_N, probs_N >= cut) for cut in np.unique(probs_N)), default=0.0)


def is_tunable(truth_N: np.ndarray) -> bool:
    return truth_N.sum() >= MIN_POSITIVES and not truth_N.all()


@settings(max_examples=40, deadline=None)
@given(coarse | fine, truths, masks)
def test_no_cut_is_better_and_half_is_never_better(
    probs_NL: np.ndarray, truth_NL: np.ndarray, known_NL: np.ndarray
) -> None:
    chosen = choose_f1_thresholds(probs_NL, truth_NL, known_NL)
    for column in range(3):
        known_N = known_NL[:, column]
        probs_N, truth_N = probs_NL[known_N, column], truth_NL[known_N, column]
        if is_tunable(truth_N):
            assert chosen.sources[column] == "label"
            value = f1(truth_N, probs_N >= chosen.thresholds_L[column])
            assert value == pytest.approx(best_f1(probs_N, truth_N), abs=1e-12)
            assert value >= f1(truth_N, probs_N >= 0.5) - 1e-12
        else:
            assert chosen.sources[column] == "global"
            assert chosen.thresholds_L[column] == np.float32(chosen.global_threshold)
    probs, truth = probs_NL[known_NL], truth_NL[known_NL]
    if truth.any():
        assert f1(truth, probs >= chosen.global_threshold) == pytest.approx(best_f1(probs, truth), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(fine, truths, masks, st.randoms(use_true_random=False))
def test_an_unknown_cell_changes_nothing(
    probs_NL: np.ndarray, truth_NL: np.ndarray, known_NL: np.ndarray, random: st.DrawFn
) -> None:
    other_probs_NL = np.where(known_NL, probs_NL, np.float32(random.random()))  # type: ignore[attr-defined]
    other_truth_NL = np.where(known_NL, truth_NL, ~truth_NL)
    first = choose_f1_thresholds(probs_NL, truth_NL, known_NL)
    second = choose_f1_thresholds(other_probs_NL, other_truth_NL, known_NL)
    np.testing.assert_array_equal(first.thresholds_L, second.thresholds_L)
    assert (first.sources, first.global_threshold) == (second.sources, second.global_threshold)


@settings(max_examples=40, deadline=None)
@given(coarse, truths, st.randoms(use_true_random=False))
def test_the_rounding_of_another_machine_decides_no_image(
    probs_NL: np.ndarray, truth_NL: np.ndarray, random: st.DrawFn
) -> None:
    assume(truth_NL.any())  # else all are 0.5, whatever the probabilities
    thresholds_L = choose_f1_thresholds(probs_NL, truth_NL, np.ones_like(truth_NL)).thresholds_L
    # Distinct values are an eighth apart, so that half-way leaves a sixteenth; only 0 has nothing below it.
    seed = random.randrange(2**32)  # type: ignore[attr-defined]
    noise_NL = np.random.default_rng(seed).uniform(-0.06, 0.06, probs_NL.shape)
    shaken_NL = np.where(probs_NL == 0, probs_NL, probs_NL + noise_NL)
    np.testing.assert_array_equal(shaken_NL >= thresholds_L, probs_NL >= thresholds_L)


def choose(probs_N: list[float], truth_N: list[int]) -> Thresholds:
    truth_NL = np.array(truth_N, bool)[:, None]
    return choose_f1_thresholds(np.array(probs_N, np.float32)[:, None], truth_NL, np.ones_like(truth_NL))


# By hand.
@pytest.mark.parametrize(
    ("probs", "truth", "threshold", "source"),
    [
        pytest.param([0.9, 0.8, 0.7, 0.6, 0.5, 0.1], [1, 1, 1, 1, 1, 0], 0.3, "label", id="half-way across the gap"),
        pytest.param([0.8] * 5 + [0.8, 0.4], [1] * 5 + [0, 0], 0.6, "label", id="a tie is not parted"),
        pytest.param([0.8] * 5 + [0.4] * 5, [0] * 5 + [1] * 5, 0.2, "label", id="the wrong way round: all get it"),
        pytest.param([0.0] * 6, [1] * 5 + [0], 0.0, "label", id="all at 0"),
        pytest.param([0.9, 0.2, 0.4, 0.6, 0.3], [1, 0, 0, 1, 0], 0.5, "global", id="too few positives"),
        pytest.param([0.9, 0.8, 0.7, 0.6, 0.5], [1] * 5, 0.25, "global", id="no negative"),
        pytest.param([0.9, 0.2, 0.3], [0, 0, 0], 0.5, "global", id="no positive at all"),
        pytest.param([], [], 0.5, "global", id="no image"),
    ],
)
def test_the_threshold_is_the_one_worked_by_hand(
    probs: list[float], truth: list[int], threshold: float, source: str
) -> None:
    chosen = choose(probs, truth)
    assert chosen.thresholds_L[0] == pytest.approx(threshold, abs=1e-6)
    assert chosen.sources == (source,)


def test_of_equally_good_cuts_the_highest_is_taken() -> None:
    # F1 at 0.9: 2 * 3 / (3 + 6) = 2/3; at 0.3: 2 * 6 / (12 + 6) = 2/3; in between it is lower.
    probs = [0.9] * 3 + [0.5] * 5 + [0.3] * 4
    truth = [1] * 3 + [0] * 5 + [1] * 3 + [0]
    assert choose(probs, truth).thresholds_L[0] == pytest.approx(0.7)


def test_a_rare_label_gets_the_threshold_that_is_best_for_all_cells_together() -> None:
    probs_NL = np.array([[0.9, 0.6], [0.8, 0.7], [0.7, 0.1], [0.6, 0.2], [0.5, 0.1], [0.2, 0.3]], np.float32)
    truth_NL = np.array([[1, 1], [1, 0], [1, 0], [1, 0], [1, 0], [0, 0]], bool)
    chosen = choose_f1_thresholds(probs_NL, truth_NL, np.ones_like(truth_NL))
    assert chosen.sources == ("label", "global")
    # By hand: the pooled cut above 0.3 gives 6 true and 1 false, F1 12/13.
    assert chosen.thresholds_L[1] == np.float32(chosen.global_threshold) == pytest.approx(0.4)


def test_neighbouring_probabilities_are_still_parted() -> None:
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    thresholds_L = choose([float(high)] * 5 + [float(low)] * 5, [1] * 5 + [0] * 5).thresholds_L
    assert low < thresholds_L[0] <= high


def test_half_is_half_for_every_label() -> None:
    chosen = choose_half(np.zeros((0, 3)), np.zeros((0, 3), bool), np.zeros((0, 3), bool))
    assert chosen.thresholds_L.tolist() == [0.5, 0.5, 0.5]
    assert chosen.thresholds_L.dtype == np.float32
    assert chosen.sources == ("global",) * 3


EXAMPLES = {
    "f1": "f1",
    "f_beta": "f_beta,beta=2",
    "precision": "precision,at_least=0.6",
    "recall": "recall,at_least=0.7",
    "cost": "cost,missed=3",
    "cardinality": "cardinality",
    "top_k": "top_k,k=2",
    "at_least_one": "at_least_one",
    "miss_rate": "miss_rate,at_most=0.2",
    "half": "half",
}


@pytest.mark.parametrize("goal", GOALS)
def test_every_goal_gives_a_threshold_and_a_source_per_label(goal: str) -> None:
    rng = np.random.default_rng(0)
    probs_NL, truth_NL = rng.random((30, 4)).astype(np.float32), rng.random((30, 4)) < 0.4
    chosen = choose_thresholds(EXAMPLES[goal], probs_NL, truth_NL, np.ones_like(truth_NL))
    assert chosen.thresholds_L.shape == (4,)
    assert chosen.thresholds_L.dtype == np.float32
    assert len(chosen.sources) == 4


# ---------------------------------------------------------------------------------------------------------------------
# Other goals than F1, against a search over every cut.
# ---------------------------------------------------------------------------------------------------------------------


def find_decisions(probs_N: np.ndarray) -> list[np.ndarray]:
    """Return what every threshold gives, from nothing to all."""
    return [np.zeros(len(probs_N), bool), *(probs_N >= cut for cut in np.unique(probs_N)[::-1])]


def count(decisions_N: np.ndarray, truth_N: np.ndarray) -> tuple[int, int, int]:
    return int((decisions_N & truth_N).sum()), int((decisions_N & ~truth_N).sum()), int((~decisions_N & truth_N).sum())


def best(probs_N: np.ndarray, truth_N: np.ndarray, goal: str) -> float:
    """Return the best value of a goal over all thresholds, by its definition and not by our cuts."""
    values = []
    for decisions_N in find_decisions(probs_N):
        hits, wrong, missed = count(decisions_N, truth_N)
        if goal == "precision,at_least=0.6,shrink=0":
            values.append(hits if hits >= 0.6 * (hits + wrong) else -1)
        elif goal == "recall,at_least=0.7":
            values.append(-hits - wrong if hits >= 0.7 * (hits + missed) - 1e-9 else -1e9)
        elif goal == "cost,missed=3,shrink=0":
            values.append(-3 * missed - wrong)
        elif goal == "cardinality":
            values.append(-abs(wrong - missed))
        else:
            values.append(5 * hits / (5 * hits + 4 * missed + wrong) if hits else 0)
    return max(values)


@pytest.mark.parametrize(
    "goal",
    [
        "f_beta,beta=2",
        "precision,at_least=0.6,shrink=0",
        "recall,at_least=0.7",
        "cost,missed=3,shrink=0",
        "cardinality",
    ],
)
@settings(max_examples=30, deadline=None)
@given(probs_NL=coarse | fine, truth_NL=truths)
def test_no_threshold_serves_a_goal_better(goal: str, probs_NL: np.ndarray, truth_NL: np.ndarray) -> None:
    assume(not (probs_NL == 1).any())  # else no threshold gives the label to no image
    chosen = choose_thresholds(goal, probs_NL, truth_NL, np.ones_like(truth_NL))
    for column in range(3):
        probs_N, truth_N = probs_NL[:, column], truth_NL[:, column]
        if not is_tunable(truth_N):
            continue
        decisions_N = probs_N >= chosen.thresholds_L[column]
        hits, wrong, missed = count(decisions_N, truth_N)
        given_value = {
            "precision": hits if hits >= 0.6 * (hits + wrong) else -1,
            "recall": -hits - wrong if hits >= 0.7 * (hits + missed) - 1e-9 else -1e9,
            "cost": -3 * missed - wrong,
            "cardinality": -abs(wrong - missed),
            "f_beta": 5 * hits / (5 * hits + 4 * missed + wrong) if hits else 0,
        }[goal.split(",")[0]]
        assert given_value == pytest.approx(best(probs_N, truth_N, goal))


@pytest.mark.parametrize(
    ("low", "high", "does_rise"),
    [
        pytest.param("recall,at_least=0.5", "recall,at_least=0.8", False, id="more recall, lower thresholds"),
        pytest.param(
            "recall,at_least=0.5,shrink=9", "recall,at_least=0.8,shrink=9", False, id="the same, drawn together"
        ),
        pytest.param("precision,at_least=0.4", "precision,at_least=0.7", True, id="more precision, higher thresholds"),
        pytest.param("cost,missed=1", "cost,missed=4", False, id="misses cost more, lower thresholds"),
        pytest.param("cost,false_alarm=1", "cost,false_alarm=4", True, id="false alarms cost more, higher thresholds"),
        pytest.param("miss_rate,at_most=0.4", "miss_rate,at_most=0.2", False, id="fewer misses, lower thresholds"),
        pytest.param(
            "miss_rate,at_most=0.4,per=label", "miss_rate,at_most=0.2,per=label", False, id="fewer misses of each label"
        ),
    ],
)
@settings(max_examples=25, deadline=None)
@given(probs_NL=coarse | fine, truth_NL=truths, known_NL=masks)
def test_asking_for_more_never_moves_a_threshold_the_other_way(
    low: str, high: str, does_rise: bool, probs_NL: np.ndarray, truth_NL: np.ndarray, known_NL: np.ndarray
) -> None:
    first, second = (choose_thresholds(goal, probs_NL, truth_NL, known_NL).thresholds_L for goal in (low, high))
    assert (second >= first).all() if does_rise else (second <= first).all()


@pytest.mark.parametrize("goal", EXAMPLES.values(), ids=EXAMPLES)
@settings(max_examples=15, deadline=None)
@given(probs_NL=coarse, truth_NL=truths, known_NL=masks, seed=st.integers(0, 1000))
def test_the_order_of_images_and_labels_changes_nothing(
    goal: str, probs_NL: np.ndarray, truth_NL: np.ndarray, known_NL: np.ndarray, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(24), rng.permutation(3)
    chosen = choose_thresholds(goal, probs_NL, truth_NL, known_NL)
    shuffled = choose_thresholds(goal, *(table[rows][:, columns] for table in (probs_NL, truth_NL, known_NL)))
    np.testing.assert_array_equal(shuffled.thresholds_L, chosen.thresholds_L[columns])
    assert shuffled.sources == tuple(chosen.sources[column] for column in columns)


@pytest.mark.parametrize("goal", EXAMPLES.values(), ids=EXAMPLES)
def test_an_unknown_cell_changes_no_threshold_of_any_goal(goal: str) -> None:
    rng = np.random.default_rng(2)
    probs_NL = rng.random((60, 4)).astype(np.float32)
    truth_NL, known_NL = rng.random((60, 4)) < 0.4, rng.random((60, 4)) < 0.7
    chosen = choose_thresholds(goal, probs_NL, truth_NL, known_NL)
    other = choose_thresholds(goal, np.where(known_NL, probs_NL, 0.99), truth_NL ^ ~known_NL, known_NL)
    np.testing.assert_array_equal(chosen.thresholds_L, other.thresholds_L)
    assert chosen.sources == other.sources


@pytest.mark.parametrize("goal", EXAMPLES.values(), ids=EXAMPLES)
@pytest.mark.parametrize(
    ("num_images", "share_known"),
    [pytest.param(0, 1, id="no image"), pytest.param(1, 1, id="one image"), pytest.param(20, 0, id="all unknown")],
)
def test_every_goal_has_an_answer_where_there_is_nothing_to_choose_on(
    goal: str, num_images: int, share_known: int
) -> None:
    probs_NL, truth_NL = np.full((num_images, 2), 0.3, np.float32), np.ones((num_images, 2), bool)
    chosen = choose_thresholds(goal, probs_NL, truth_NL, np.full((num_images, 2), share_known, bool))
    assert ((chosen.thresholds_L >= 0) & (chosen.thresholds_L <= 1)).all()
    assert "label" not in chosen.sources


@pytest.mark.parametrize("bad", [np.nan, 1.5, -0.1])
def test_what_is_no_probability_is_refused(bad: float) -> None:
    probs_NL, truth_NL = np.full((9, 1), 0.3), np.ones((9, 1), bool)
    probs_NL[4] = bad
    for goal in ("f1", "miss_rate,at_most=0.1"):
        with pytest.raises(DataError, match="probs_NL"):
            choose_thresholds(goal, probs_NL, truth_NL, np.ones_like(truth_NL))


def test_a_precision_that_no_cut_reaches_gives_the_label_to_no_image_and_says_so() -> None:
    probs_NL = np.linspace(0.1, 0.9, 17, dtype=np.float32)[:, None]
    truth_NL = np.arange(17)[:, None] < 6  # the wrong way round
    chosen = choose_thresholds("precision,at_least=0.9,shrink=0", probs_NL, truth_NL, np.ones_like(truth_NL))
    assert chosen.sources == ("never",)
    assert not (probs_NL >= chosen.thresholds_L).any()


def test_shrinking_moves_a_label_from_its_own_cut_to_the_common_one() -> None:
    rng = np.random.default_rng(5)
    truth_NL = rng.random((400, 6)) < 0.3
    probs_NL = (1 / (1 + np.exp(-rng.normal(0, 1.5, truth_NL.shape) - 2 * truth_NL + 1))).astype(np.float32)
    known_NL = np.ones_like(truth_NL)
    thresholds = {
        shrink: choose_f1_thresholds(probs_NL, truth_NL, known_NL, shrink).thresholds_L for shrink in (0, 30, 1e6)
    }
    common = choose_f1_thresholds(probs_NL, truth_NL, known_NL).global_threshold
    distances = {shrink: np.abs(values_L - common).mean() for shrink, values_L in thresholds.items()}
    assert distances[0] > distances[30] > distances[1e6]
    np.testing.assert_allclose(thresholds[1e6], common, atol=0.02)


def test_very_many_cells_are_pooled_nearly_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    truth_NL = rng.random((5000, 3)) < 0.2
    probs_NL = (1 / (1 + np.exp(-rng.normal(0, 1.5, truth_NL.shape) - 2 * truth_NL + 1))).astype(np.float32)
    exact = choose_f1_thresholds(probs_NL, truth_NL, np.ones_like(truth_NL)).global_threshold
    monkeypatch.setattr(thresholds_module, "_EXACT_CELLS", 10)
    gathered = choose_f1_thresholds(probs_NL, truth_NL, np.ones_like(truth_NL)).global_threshold
    assert gathered == pytest.approx(exact, rel=0.01)


# ---------------------------------------------------------------------------------------------------------------------
# Texts.
# ---------------------------------------------------------------------------------------------------------------------


def test_a_goal_is_read_with_its_settings() -> None:
    assert parse_goal("cost, missed=5, false_alarm=0.5") == ("cost", {"missed": 5.0, "false_alarm": 0.5})
    assert parse_goal("miss_rate,at_most=0.1,per=label") == ("miss_rate", {"at_most": 0.1, "per": "label"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "f11",
            "goal: unknown goal 'f11' (did you mean 'f1'?), expected f1, f_beta, precision, recall, cost, cardinality, "
            "top_k, at_least_one, miss_rate, half.",
            id="no such goal",
        ),
        pytest.param(
            "f_beta,bta=2",
            "goal: unknown setting 'bta' (did you mean 'beta'?) of f_beta, expected beta, shrink.",
            id="no such setting",
        ),
        pytest.param("half,beta=1", "goal: unknown setting 'beta' of half, expected none.", id="no settings at all"),
        pytest.param(
            "precision", "goal: precision lacks 'at_least'. Write precision,at_least=....", id="one is missing"
        ),
        pytest.param("recall,at_least=x", "goal at_least: not a number, got 'x'.", id="no number"),
        pytest.param(
            "recall,at_least=80", "goal at_least: out of range, got '80', expected 0.001 to 0.999.", id="per cent"
        ),
        pytest.param(
            "miss_rate,at_most=0.1,per=row",
            "goal per: unknown choice 'row', expected image, label.",
            id="no such word",
        ),
    ],
)
def test_a_goal_that_does_not_exist_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_goal(text)
    assert str(error.value) == message
