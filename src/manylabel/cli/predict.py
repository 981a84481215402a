"""`manylabel predict`: label sets for files, folders and globs, without importing torch."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path

from manylabel.errors import ConfigError, build_message
from manylabel.inference.batch import WRITERS, expand_images, save_answers
from manylabel.inference.prediction import Prediction
from manylabel.inference.predictor import Predictor, load


def run_predict(
    model: str,
    images: list[str],
    out: Path | None,
    top_k: int | None,
    all_probabilities: bool,
    picture: Path | None,
    json: bool,
    quiet: bool,
) -> int:
    """Print or write one answer per image; return 1 if some images cannot be used."""
    if out is not None and out.suffix.lower() not in WRITERS:
        raise ConfigError(build_message("--out", f"unknown kind of file {out.name!r}", expected=", ".join(WRITERS)))
    paths = expand_images(images, sys.stdin)
    predictor = load(model)
    if out is None:
        num_failed = 0
        for prediction in predictor.predict_many(paths, top_k=top_k):
            num_failed += prediction.labels is None
            print(_to_json(prediction, all_probabilities) if json else _to_line(prediction, all_probabilities))
    else:
        num_failed = _write(predictor, paths, out, top_k, all_probabilities, quiet)
        if not quiet:
            print(f"Written: {out} ({len(paths)} images)", file=sys.stderr)
    if picture is not None:
        _draw(predictor, paths[0], picture, top_k)
    if num_failed and not quiet:
        print(f"{num_failed} of {len(paths)} images cannot be used.", file=sys.stderr)
    return 1 if num_failed else 0


def _write(
    predictor: Predictor, paths: list[str], out: Path, top_k: int | None, all_probabilities: bool, quiet: bool
) -> int:
    from manylabel.cli.console import show_progress  # rich costs a tenth of a second that one image does not need

    with show_progress(quiet) as tell:
        tell("stage", {"name": "Predicting", "total": len(paths)})
        return save_answers(
            predictor.predict_many(paths, top_k=top_k),
            out,
            predictor.label_space,
            all_probabilities,
            lambda: tell("progress", {}),
            has_doubt=predictor.policy.abstention is not None,
        )


def _to_json(prediction: Prediction, all_probabilities: bool) -> str:
    return json_format.dumps(prediction.to_dict(all_probabilities), ensure_ascii=False)


def _to_line(prediction: Prediction, all_probabilities: bool) -> str:
    if prediction.labels is None:
        assert prediction.error is not None
        return f"{prediction.image}: cannot be used: {prediction.error['message']}"
    labels = list(prediction.labels)
    if all_probabilities:
        labels += [label for label in prediction.probabilities if label not in set(labels)]
    given = set(prediction.labels)
    shown = [
        f"{label} {prediction.probabilities[label]:.2f}"
        if label in given
        else f"({label} {prediction.probabilities[label]:.2f})"
        for label in labels
    ]
    doubt = " (for a person)" if prediction.needs_person else ""
    return f"{prediction.image}: {', '.join(shown) if shown else '(none)'}{doubt}"


def _draw(predictor: Predictor, path: str, picture: Path, top_k: int | None) -> None:
    """Draw one answer; an image that cannot be used has been answered for already, so it is only mentioned."""
    from manylabel.inference.picture import draw_prediction

    prediction = predictor.predict(path, top_k=top_k)
    if prediction.labels is None:
        print(f"No picture: {path} cannot be used.", file=sys.stderr)
    else:
        draw_prediction(prediction, path, picture)
