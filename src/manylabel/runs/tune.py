"""Tune: other decisions for a model, chosen on images with truth, in seconds and without touching a weight."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from manylabel.bundle.bundle import Bundle, load_bundle
from manylabel.bundle.tuned import save_tuned_bundle
from manylabel.data.annotations import Annotations
from manylabel.decisions import GOALS
from manylabel.decisions.mining import MinedRule, mine_rules
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.rules import Rule
from manylabel.decisions.search import (
    TAKES_AWAY,
    Choice,
    Tuning,
    list_goal_rules,
    tune_policy,
)
from manylabel.errors import DataError, build_message, join_names
from manylabel.evaluation.report.sentences import describe_gain
from manylabel.inference.predictor import Predictor, collect_predictions
from manylabel.labels.groups import NO_GROUPS
from manylabel.labels.predictions import Predictions, load_predictions
from manylabel.labels.space import LabelSpace
from manylabel.runs.evaluate import find_groups
from manylabel.runs.folder import RunFolder
from manylabel.training.events import OnEvent, tell_nobody


@dataclass(frozen=True)
class Tuned:
    """What tuning came to: the model with its new decisions, what was chosen and what it brings.

    `model` is the one that was given where nothing was written. `mined` and `mined_tuning` hold proposed rules and what
    they would bring, where they were asked for.
    """

    model: Bundle
    tuning: Tuning
    predictions: Predictions
    mined: tuple[MinedRule, ...] = ()
    mined_tuning: Tuning | None = None


def tune(
    model: Bundle | str | os.PathLike[str],
    data: Annotations | Predictions,
    *,
    goal: str | None = None,
    calibrate: str | None = None,
    rules: Sequence[Rule] | None = None,
    abstain: tuple[str, float] | None = None,
    mine: bool = False,
    unknown_labels: str = "stop",
    out: str | os.PathLike[str] | None = None,
    on_event: OnEvent | None = None,
) -> Tuned:
    """Choose calibration and thresholds for a goal on images with truth, and say what that brings on others.

    What is not given stays as the model has it. For the validation images of a run its kept answers are taken, so that
    no image is read; for other images the model answers first.

    Args:
        model: a bundle, or the path of one or of a run.
        data: images with their truth, or answers of this model before calibration, with the truth beside them.
        goal: such as `f1` or `precision,at_least=0.9`.
        calibrate: one of `CALIBRATIONS`.
        rules: all rules of the model; () removes those that it has.
        abstain: by what images are sent to a person, and which share.
        mine: look for rules that the data keep, and say what they would bring; they are not applied.
        unknown_labels: what to do with labels that the model does not have: `stop` or `drop`.
        out: the folder of the new bundle; None writes nothing.

    Raises:
        DataError: labels that are not the model's, or images without truth.
        ConfigError: a goal, method or rule that does not exist or does not go with the others.
        RunError: `out` cannot be written.
    """
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    tell = on_event if on_event is not None else tell_nobody
    choice = _complete(bundle.manifest.policy, goal, calibrate, rules, abstain)
    group_of = NO_GROUPS if isinstance(data, Predictions) else find_groups(data)
    if isinstance(data, Predictions):
        predictions = _align(data, bundle.manifest.label_space)
    else:
        aligned = data.align(bundle.manifest.label_space, unknown_labels)
        folder = None if isinstance(model, Bundle) else Path(model)
        kept = None if folder is None else _find_kept(folder, aligned)
        predictions = kept if kept is not None else _predict(bundle, aligned, tell)
    if predictions.model_digest not in ("", bundle.digest):
        message = (
            f"Note: these answers are of model {predictions.model_digest}, this one is {bundle.digest}. That is right "
            "only if nothing but its decisions has changed since."
        )
        tell("note", {"message": message})
    if not len(predictions):
        raise DataError(build_message("tune", "there is no image to choose on", do="Give images with their labels"))
    if bundle.manifest.provenance.get("data", {}).get("train") in (predictions.data_digest, *_find_digest(data)):
        tell(
            "note", {"message": "Warning: the model was trained on these images, and is surer of them than of others."}
        )
    tell("stage", {"name": "Tuning"})
    tuning = tune_policy(predictions, choice, group_of)
    mined, mined_tuning = _mine(predictions, choice, group_of) if mine else ((), None)
    tuned = bundle if out is None else save_tuned_bundle(bundle, tuning.policy, Path(out))
    return Tuned(tuned, tuning, predictions, mined, mined_tuning)


def _find_digest(data: Annotations | Predictions) -> tuple[str, ...]:
    return () if isinstance(data, Predictions) else (data.digest,)


def _complete(
    policy: DecisionPolicy,
    goal: str | None,
    calibrate: str | None,
    rules: Sequence[Rule] | None,
    abstain: tuple[str, float] | None,
) -> Choice:
    """Return what is to be chosen, with what the model has in place of what was not given."""
    own = list_goal_rules(policy.goal, len(policy.label_space)) if policy.goal.partition(",")[0] in GOALS else ()
    had = tuple(rule for rule in policy.rules if rule not in own)
    had_abstain = None if policy.abstention is None else (policy.abstention.by, policy.abstention.share)
    return Choice(
        goal if goal is not None else policy.goal,
        calibrate if calibrate is not None else policy.calibration.method,
        had if rules is None else tuple(rules),
        abstain if abstain is not None else had_abstain,
    )


def _align(predictions: Predictions, space: LabelSpace) -> Predictions:
    """Return predictions with their labels in the order of the model."""
    if predictions.label_space == space:
        return predictions
    differing = sorted(set(predictions.label_space.names) ^ set(space.names))
    if differing:
        problem = f"their labels are not those of the model: {join_names(differing)} stands on one side only"
        raise DataError(build_message("predictions", problem, do="Take the answers of this model"))
    columns = [predictions.label_space.index(name) for name in space]
    targets = None if predictions.targets is None else predictions.targets.select_labels(columns)
    return replace(predictions, label_space=space, probs_NL=predictions.probs_NL[:, columns], targets=targets)


def _find_kept(folder: Path, aligned: Annotations) -> Predictions | None:
    """Return the answers that a run has kept for these very images and labels, if it has."""
    path = RunFolder(folder).predictions("val")
    if not path.is_file():
        return None
    kept = load_predictions(path)
    answered = set(kept.images)
    rows = [row for row, image in enumerate(aligned.images) if image in answered]
    is_same = kept.label_space == aligned.label_space and aligned.select(rows).digest == kept.data_digest
    return kept if is_same else None


def _predict(bundle: Bundle, aligned: Annotations, tell: OnEvent) -> Predictions:
    tell("stage", {"name": "Predicting", "total": len(aligned)})
    predictions, skipped = collect_predictions(Predictor(bundle), aligned, lambda: tell("progress", {}))
    if skipped:
        first = next(iter(skipped.values()))
        tell(
            "note", {"message": f"Warning: {len(skipped)} images cannot be used and were left out. The first: {first}"}
        )
    return predictions


def _mine(
    predictions: Predictions, choice: Choice, group_of: Mapping[str, str]
) -> tuple[tuple[MinedRule, ...], Tuning | None]:
    """Return proposed rules, and what all of them together would bring."""
    assert predictions.targets is not None
    truth_NL, known_NL = predictions.targets.present_NL(), predictions.targets.known_NL()
    mined = mine_rules(truth_NL, known_NL, predictions.label_space)
    if choice.goal.startswith("miss_rate"):
        mined = [one for one in mined if one.rule.kind not in TAKES_AWAY]
    fresh = [one for one in mined if one.rule not in choice.rules]
    if not fresh:
        return (), None
    rules = (*choice.rules, *(one.rule for one in fresh))
    return tuple(fresh), tune_policy(predictions, replace(choice, rules=rules), group_of)


# ---------------------------------------------------------------------------------------------------------------------
# In words.
# ---------------------------------------------------------------------------------------------------------------------


def describe_tuning(tuning: Tuning) -> str:
    """Return what was chosen and what it brings on images that it was not chosen on, for a person."""
    policy = tuning.policy
    lines = [f"Decisions for the goal {policy.goal}. {describe_gain(policy.goal, policy.gain)}"]
    if tuning.losses:
        lines.append(_describe_calibration(tuning))
    fallen_back = describe_sources(policy)
    return "\n".join([*lines, *([fallen_back] if fallen_back else [])])


def describe_sources(policy: DecisionPolicy) -> str:
    """Return which labels have no threshold of their own, and why; "" where all have."""
    meanings = {
        "global": "share one threshold (too few known positives, or no negative)",
        "never": "are given to no image (no threshold keeps what the goal asks)",
        "always": "are given to every image (too few positives for what the goal asks)",
    }
    if policy.goal.partition(",")[0] in ("half", "top_k") or policy.goal.endswith("per=image"):
        return ""
    sources = np.array(policy.sources)
    if policy.goal.startswith("miss_rate") and "per=label" not in policy.goal:
        meanings = {"always": meanings["always"]}
    lines = []
    for source, meaning in meanings.items():
        names = [policy.label_space.names[column] for column in np.flatnonzero(sources == source)]
        if names:
            lines.append(f"{len(names)} of {len(sources)} labels {meaning}: {join_names(names)}.")
    return "\n".join(lines)


def _describe_calibration(tuning: Tuning) -> str:
    method = tuning.policy.calibration.method
    tried = {name: figure for name, figure in tuning.losses.items() if name != "none"}
    best = min(tried, key=lambda name: tried[name].after)
    figure = tried[best]
    change = f"log loss {figure.before:.4f} to {figure.after:.4f}, lower by {figure.low:+.4f} to {figure.high:+.4f}"
    if method == "none":
        return f"Calibration: none, since the best, {best}, does not surely help ({change}, cross-fitted)."
    return f"Calibration: {method} ({change}, cross-fitted)."
