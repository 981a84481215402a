"""Export: the model with smaller numbers or as one file, checked on real images before it counts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.bundle.bundle import ONNX_NAME, Bundle, load_bundle
from manylabel.bundle.reduced import REDUCTIONS, save_reduced_bundle
from manylabel.data.annotations import Annotations
from manylabel.data.images import ImageError
from manylabel.errors import BundleError, ConfigError, DataError, RunError, build_message, suggest_name
from manylabel.files import describe_write_error
from manylabel.inference.predictor import Predictor, collect_predictions
from manylabel.labels.predictions import Predictions
from manylabel.metrics.counts import confusion_counts
from manylabel.metrics.decisions import f1
from manylabel.metrics.ranking import average_precision
from manylabel.training.events import OnEvent, tell_nobody

MAX_CHANGED = 0.05
"""The share of images that may get another label set than before."""

NUM_CALIBRATION_IMAGES = 128
"""Images on which the range of every activation is seen; more change little."""

LEAST_IMAGES = 8
"""Images that `int8` has to see, and to be judged on: of fewer, 5 % is nothing."""

_EXACT = 1e-4


@dataclass(frozen=True)
class LabelCost:
    """What smaller numbers cost a label: decisions that changed, and figures before and after; NaN where undefined."""

    label: str
    num_positive: int
    num_changed: int
    f1_before: float
    f1_after: float
    average_precision_before: float
    average_precision_after: float


@dataclass(frozen=True)
class Cost:
    """What an export answers differently on real images, decoding and resizing included."""

    num_images: int
    num_changed: int
    """Images that get another label set."""
    max_difference: float
    mean_difference: float
    labels: tuple[LabelCost, ...]

    def summarise(self) -> dict[str, Any]:
        """Return what the manifest keeps."""
        return {
            "num_images": self.num_images,
            "num_changed": self.num_changed,
            "max_difference": self.max_difference,
            "mean_difference": self.mean_difference,
        }


@dataclass(frozen=True)
class Exported:
    """What was written: its place, its size beside the original network's, and what it costs, where that was asked."""

    path: Path
    num_bytes: int
    num_bytes_before: int
    cost: Cost | None


def export(
    model: Bundle | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    quantize: str = "none",
    check: Annotations | None = None,
    max_changed: float = MAX_CHANGED,
    unknown_labels: str = "stop",
    on_event: OnEvent | None = None,
) -> Exported:
    """Write a model elsewhere: as a bundle, or as one ONNX file that holds labels, pixels and decisions too.

    Args:
        model: a bundle, or the path of one or of a run.
        out: a folder for a bundle, or a file that ends in `.onnx`.
        quantize: one of `REDUCTIONS`. `int8` sees the range of activations on some of the images of `check`.
        check: images to compare answers on, their test part where they have one; truth that is known there is used for
            figures before and after. The other images, or every second one, are those that `int8` sees.
        max_changed: the largest share of images that may get another label set.
        unknown_labels: what to do with labels that the model does not have: `stop` or `drop`.

    Raises:
        ConfigError: no such reduction, `int8` without images, or a place that belongs to the model itself.
        DataError: no image of the check can be used, or too few for `int8`.
        BundleError: the network cannot be made smaller, or answers too differently: then nothing is written.
        RunError: the place cannot be written.
    """
    if quantize not in REDUCTIONS:
        problem = f"no such numbers: {quantize!r}{suggest_name(quantize, REDUCTIONS)}"
        raise ConfigError(build_message("--quantize", problem, expected=" or ".join(REDUCTIONS)))
    if quantize == "int8" and check is None:
        raise ConfigError(
            build_message("--quantize int8", "it has to see images", do="Give a table of some with --check DATA")
        )
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    tell = on_event if on_event is not None else tell_nobody
    target = Path(out)
    is_file = target.suffix.lower() == ".onnx"
    _check_place(bundle, target, is_file)
    num_bytes_before = bundle.onnx_path.stat().st_size
    before = Predictor(bundle)
    aligned = None if check is None else check.align(before.label_space, unknown_labels)
    shown, judged = (None, None) if aligned is None else _divide(aligned, quantize)
    images = [] if shown is None else list(_prepare(before, shown))
    if quantize == "int8" and not images:
        raise DataError(build_message("--check", "int8 has to see images, and none can be used", do="Give some more"))
    costs: list[Cost] = []

    def compare(reduced: Bundle) -> Mapping[str, Any]:
        after = Predictor(reduced)
        _check_finite(after, quantize)
        if judged is None:
            return {}
        cost = _compare(before, after, judged, tell)
        costs.append(cost)
        _check_cost(cost, quantize, max_changed)
        return cost.summarise()

    tell("stage", {"name": "Writing the network"})
    if not is_file:
        reduced = save_reduced_bundle(bundle, target, quantize, iter(images), compare)
        return Exported(target, reduced.onnx_path.stat().st_size, num_bytes_before, costs[0] if costs else None)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            reduced = save_reduced_bundle(bundle, Path(folder) / "bundle", quantize, iter(images), compare)
            num_bytes = reduced.onnx_path.stat().st_size
            reduced.onnx_path.replace(target)
    except OSError as error:
        raise RunError(describe_write_error(target, num_bytes_before, error)) from error
    return Exported(target, num_bytes, num_bytes_before, costs[0] if costs else None)


def _check_place(bundle: Bundle, target: Path, is_file: bool) -> None:
    """Stop where an export would take the place of the model that it is made from, or of a file that is no model.

    Raises:
        ConfigError: it would.
    """
    own, place = bundle.folder.resolve(), target.resolve()
    is_own = place == bundle.onnx_path.resolve() or (bundle.onnx_name == ONNX_NAME and own in (place, *place.parents))
    if is_own or (not is_file and place in own.parents):
        raise ConfigError(build_message(target, "the model itself lies there", do="Export it to another place"))
    if is_file and target.exists():
        try:
            load_bundle(target)
        except BundleError as error:
            problem = "there is a file that is no model of manylabel"
            raise ConfigError(build_message(target, problem, do="Export to another place")) from error


def _check_finite(after: Predictor, quantize: str) -> None:
    """Stop where a network gives no numbers, whatever it is shown.

    Raises:
        BundleError: it does.
    """
    preprocess = after.preprocess
    rng = np.random.default_rng(0)
    for contrast in (0, 60, 127):
        pixels_HWC = (128 + contrast * rng.uniform(-1, 1, (preprocess.height_px, preprocess.width_px, 3))).astype(
            np.uint8
        )
        if not np.isfinite(after.answer_pixels(preprocess.normalise(pixels_HWC))).all():
            problem = "what the network computes is too large for these numbers: it answers with none"
            raise BundleError(build_message(f"--quantize {quantize}", problem, do="Keep larger numbers"))


def _divide(table: Annotations, quantize: str) -> tuple[Annotations, Annotations]:
    """Return the images that show ranges, and those that the answers are compared on.

    Where the table has a test part, that is compared on, and the others show; else int8 takes every second one.
    """
    is_judged_N = np.array([record.part == "test" for record in table.records])
    if not is_judged_N.any() or is_judged_N.all():
        is_judged_N = np.arange(len(table)) % 2 == 1 if quantize == "int8" else np.ones(len(table), bool)
    rows = np.flatnonzero(~is_judged_N)
    if quantize == "int8" and min(len(rows), int(is_judged_N.sum())) < LEAST_IMAGES:
        problem = f"{len(rows):,} images to see and {int(is_judged_N.sum()):,} to be judged on are too few for int8"
        raise DataError(build_message(table.name, problem, expected=f"{LEAST_IMAGES} or more of each"))
    spread = rows[np.linspace(0, max(0, len(rows) - 1), min(len(rows), NUM_CALIBRATION_IMAGES)).astype(np.int64)]
    return table.select(spread), table.select(np.flatnonzero(is_judged_N))


def _prepare(predictor: Predictor, table: Annotations) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the usable images of a table as the network takes them."""
    for record in table.records:
        try:
            yield predictor.preprocess.load(record.source, name=record.id)
        except ImageError:
            continue


def _compare(before: Predictor, after: Predictor, table: Annotations, tell: OnEvent) -> Cost:
    answers = []
    for name, predictor in (("before", before), ("after", after)):
        tell("stage", {"name": f"Predicting, {name}", "total": len(table)})
        answers.append(collect_predictions(predictor, table, lambda: tell("progress", {}))[0])
    if not len(answers[0]):
        raise DataError(
            build_message(table.name, "none of its images can be used", do="Check them with 'manylabel inspect'")
        )
    decided_NL, other_NL = (before.policy.decide(each.probs_NL) for each in answers)
    differences_NL = np.abs(answers[0].probs_NL - answers[1].probs_NL)
    return Cost(
        len(answers[0]),
        int((decided_NL != other_NL).any(axis=1).sum()),
        float(differences_NL.max()),
        float(differences_NL.mean()),
        tuple(_cost_labels(answers, (decided_NL, other_NL))),
    )


def _cost_labels(
    answers: list[Predictions], decisions: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
) -> Iterator[LabelCost]:
    targets = answers[0].targets
    assert targets is not None
    truth_NL, known_NL = targets.present_NL(), targets.known_NL()
    f1_before_L, f1_after_L = (f1(confusion_counts(each_NL, truth_NL, known_NL)) for each_NL in decisions)
    before_L, after_L = (average_precision(each.probs_NL, truth_NL, known_NL) for each in answers)
    changed_L = (decisions[0] != decisions[1]).sum(axis=0)
    for column, label in enumerate(answers[0].label_space):
        yield LabelCost(
            label,
            int(targets.num_present_L[column]),
            int(changed_L[column]),
            float(f1_before_L[column]),
            float(f1_after_L[column]),
            float(before_L[column]),
            float(after_L[column]),
        )


def _check_cost(cost: Cost, quantize: str, max_changed: float) -> None:
    """Stop where an export answers too differently; one with the same numbers has to answer alike.

    Raises:
        BundleError: how differently.
    """
    if quantize == "none" and (cost.num_changed or cost.max_difference > _EXACT):
        problem = (
            f"the copy differs by {cost.max_difference:.2g} in a probability, and in {cost.num_changed} label sets"
        )
        raise BundleError(build_message("export", problem, do="Report this model"))
    if cost.num_changed > max_changed * cost.num_images:
        problem = f"{cost.num_changed:,} of {cost.num_images:,} images get other labels than before"
        raise BundleError(
            build_message(
                f"--quantize {quantize}",
                problem,
                expected=f"at most {max_changed:.1%}",
                do="Keep larger numbers, or allow more with --max-changed",
            )
        )
