"""The contract of decisions: what is chosen on images must not hang on their order, or on what nobody knows.

A policy is chosen once and then executed in many places, so the contract has two halves: how it comes out of images
with truth, and how it decides about others.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from manylabel.decisions.policy import DecisionPolicy
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

ChoosePolicy = Callable[[Predictions], DecisionPolicy]

_SPACE = LabelSpace(("ant", "bee", "cat", "dog", "eel"))
_NUM_IMAGES = 120
_TOLERANCE = 1e-6
_LOOSE_TOLERANCE = 1e-3


def check_policy(choose: ChoosePolicy, *, seed: int = 0) -> None:
    """Try a way of choosing decisions on random answers, and stop at the first promise that it breaks.

    Args:
        choose: from predictions with truth to a policy, such as `lambda answers: choose_policy(answers, "f1")`.
        seed: of the random answers.

    Raises:
        AssertionError: the message says which promise is broken and by what.
    """
    answers = _draw(seed)
    policy = choose(answers)
    assert isinstance(policy, DecisionPolicy), f"it returns a {type(policy).__name__}, not a DecisionPolicy"
    assert policy.label_space == answers.label_space, "the policy is about other labels than the answers"
    _check_choice(choose, policy, answers)
    _check_small(choose, answers)
    others_NL = _draw(seed + 1).probs_NL
    _check_edge(policy, others_NL)
    _check_single(policy, others_NL)
    _check_file(policy, others_NL)


def _draw(seed: int) -> Predictions:
    """Return answers that are right more often than not; some truth is unknown, some probabilities are equal."""
    rng = np.random.default_rng(seed)
    truth_NL = rng.random((_NUM_IMAGES, len(_SPACE))) < [0.5, 0.4, 0.3, 0.2, 0.1]
    logits_NL = rng.normal(size=truth_NL.shape) + 2.5 * truth_NL - 1.5
    probs_NL = np.round(1 / (1 + np.exp(-logits_NL)), 2).astype(np.float32)
    targets = Targets.from_dense(truth_NL, rng.random(truth_NL.shape) < 0.9)
    images = tuple(f"{number}.jpg" for number in range(_NUM_IMAGES))
    return Predictions(images, _SPACE, probs_NL, targets, data_digest="answers")


def _turn_labels(answers: Predictions) -> Predictions:
    assert answers.targets is not None
    columns = list(range(len(_SPACE)))[::-1]
    space = LabelSpace(tuple(_SPACE.names[column] for column in columns))
    targets = answers.targets.select_labels(columns)
    return replace(answers, label_space=space, probs_NL=answers.probs_NL[:, columns], targets=targets)


def _check_choice(choose: ChoosePolicy, policy: DecisionPolicy, answers: Predictions) -> None:
    """The same images give the same policy, in whatever order they and their labels stand."""
    assert answers.targets is not None
    _compare(policy, choose(answers), "the same answers give another policy the second time")
    shuffled = [answers.images[row] for row in np.random.default_rng(0).permutation(len(answers))]
    _compare(policy, choose(answers.select(shuffled)), "the order of the images changes it")
    _compare(policy, choose(_turn_labels(answers)), "the order of the labels changes it")
    known_NL = answers.targets.known_NL()
    for filler in (0.0, 1.0):
        filled = replace(answers, probs_NL=np.where(known_NL, answers.probs_NL, np.float32(filler)))
        _compare(policy, choose(filled), f"a probability of {filler:g} in unknown cells changes it")


def _compare(policy: DecisionPolicy, other: DecisionPolicy, problem: str) -> None:
    """Compare two policies by what they do: thresholds, shown probabilities, decisions and doubt about other images."""
    columns = [other.label_space.index(name) for name in policy.label_space]
    for name, threshold, found in zip(
        policy.label_space, policy.thresholds, np.array(other.thresholds)[columns], strict=True
    ):
        assert abs(found - threshold) <= _TOLERANCE, f"{problem}: {name!r} has {threshold:.6g}, then {found:.6g}"
    probs_NL = np.random.default_rng(2).random((200, len(columns))).astype(np.float32)
    others_NL = np.empty_like(probs_NL)
    others_NL[:, columns] = probs_NL
    shown_NL, found_NL = policy.adjust(probs_NL), other.adjust(others_NL)[:, columns]
    largest = float(np.abs(shown_NL - found_NL).max())
    assert largest <= _LOOSE_TOLERANCE, f"{problem}: a probability that is shown moves by {largest:.2g}"
    # What lies on a threshold may fall to either side by rounding.
    is_clear_N = (np.abs(shown_NL - policy.thresholds_L) > _LOOSE_TOLERANCE).all(axis=1)
    differs_N = (policy.decide(probs_NL) != other.decide(others_NL)[:, columns]).any(axis=1) & is_clear_N
    assert not differs_N.any(), f"{problem}: {int(differs_N.sum())} of {len(probs_NL)} images get other labels"
    num_doubtful = int(((policy.is_doubtful(probs_NL) != other.is_doubtful(others_NL)) & is_clear_N).sum())
    assert num_doubtful <= 1, f"{problem}: {num_doubtful} of {len(probs_NL)} images change between sure and in doubt"


def _check_small(choose: ChoosePolicy, answers: Predictions) -> None:
    """One image, no image, one state only, or nothing known are no reason to fail."""
    nothing_NL = np.zeros(answers.probs_NL.shape)
    states = {"absent": nothing_NL, "present": nothing_NL + 1, "unknown": nothing_NL + np.nan}
    cases = {f"where every cell is {state}": (answers, cells_NL) for state, cells_NL in states.items()}
    cases["on one image"] = answers.select(answers.images[:1]), states["present"][:1]
    cases["on no image"] = answers.select([]), states["present"][:0]
    for where, (table, cells_NL) in cases.items():
        try:
            policy = choose(replace(table, targets=Targets.from_dense(cells_NL)))
        except Exception as error:
            raise AssertionError(f"it fails {where}: {error}") from error
        assert isinstance(policy, DecisionPolicy), f"{where} it returns a {type(policy).__name__}"


def _check_edge(policy: DecisionPolicy, probs_NL: npt.NDArray[np.float32]) -> None:
    """Without rules, a label is given where the probability shown reaches its threshold, and nowhere else."""
    bare = replace(policy, rules=())
    # Of a calibrated policy nobody knows which answer of the network lies on the edge.
    edge_NL = probs_NL if bare.calibration.weights or bare.calibration.knots else _append(probs_NL, bare.thresholds_L)
    expected_NL = bare.adjust(edge_NL) >= bare.thresholds_L
    decided_NL = bare.decide(edge_NL)
    for row, column in np.argwhere(decided_NL != expected_NL):
        given = "given" if decided_NL[row, column] else "not given"
        shown, threshold = bare.adjust(edge_NL)[row, column], bare.thresholds_L[column]
        raise AssertionError(
            f"{_SPACE.names[column]!r} is {given} at a probability of {shown:g} with a threshold of {threshold:g}"
        )


def _append(probs_NL: npt.NDArray[np.float32], probs_L: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.concatenate([probs_NL, probs_L[np.newaxis]])


def _check_single(policy: DecisionPolicy, probs_NL: npt.NDArray[np.float32]) -> None:
    """What an image gets does not hang on those beside it."""
    together_NL, turned_NL = policy.decide(probs_NL), policy.decide(probs_NL[::-1])[::-1]
    alone_NL = np.stack([policy.decide(probs_L) for probs_L in probs_NL])
    for decided_NL, beside in ((turned_NL, "in another order"), (alone_NL, "alone")):
        wrong = np.flatnonzero((decided_NL != together_NL).any(axis=1))
        assert not len(wrong), f"{len(wrong)} of {len(probs_NL)} images get other labels {beside}"


def _check_file(policy: DecisionPolicy, probs_NL: npt.NDArray[np.float32]) -> None:
    """It survives its JSON: read back, it decides alike."""
    try:
        text = json.dumps(policy.to_dict(), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"it cannot be written as JSON: {error}") from error
    again = DecisionPolicy.from_dict(json.loads(text), policy.label_space)
    num_changed = int((again.decide(probs_NL) != policy.decide(probs_NL)).any(axis=1).sum())
    assert num_changed == 0, f"read back from its JSON it decides differently about {num_changed} images"
    num_doubtful = int((again.is_doubtful(probs_NL) != policy.is_doubtful(probs_NL)).sum())
    assert num_doubtful == 0, f"read back from its JSON it sends other images to a person: {num_doubtful}"
