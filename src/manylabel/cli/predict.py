"""`manylabel predict`: label sets for files, folders and globs, without importing torch."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manylabel.cli.outputs import check_output, check_spares_images
from manylabel.cli.words import say
from manylabel.data.images import ImageError
from manylabel.errors import ConfigError, build_message, make_printable
from manylabel.inference.batch import as_text, check_extension, check_replaceable, open_unfinished, save_answers
from manylabel.inference.prediction import Prediction
from manylabel.inference.predictor import Predictor, load
from manylabel.inference.sources import Sources, find_sources
from manylabel.inference.tally import Tally
from manylabel.inference.unfinished import Unfinished, read_answers
from manylabel.runs.signals import exit_on_sigterm


def run_predict(
    model: str,
    images: list[str],
    out: Path | None,
    resume: bool,
    top_k: int | None,
    all_probabilities: bool,
    folder: str | None,
    image_column: str | None,
    engine: str,
    picture: Path | None,
    json: bool,
    quiet: bool,
) -> int:
    """Print or write one answer per image; return 1 if some images cannot be used."""
    if picture is not None:
        from manylabel.inference.picture import check_picture

        check_picture(picture, "--picture")
        check_output(picture, images, "--picture")
    if out is not None:
        check_extension(out)
        check_output(out, images)
        check_replaceable(out)
        if json:
            raise ConfigError(
                build_message("--json", "answers are printed or written, not both", do="Leave --out or it")
            )
    elif resume:
        raise ConfigError(
            build_message("--resume", "answers that are printed cannot go on", do="Give a file with --out")
        )
    sources = find_sources(images, sys.stdin, None if folder is None else Path(folder), image_column)
    for path in (picture, out):
        if path is not None:
            check_spares_images(path, sources.places)
    predictor = load(model, engine=engine)
    if predictor.engine_choice is not None and not quiet:
        say(predictor.engine_choice.describe())
    if out is None:
        tally = Tally()
        for prediction in predictor.predict_sources(sources.read(), top_k=top_k):
            tally.add(prediction.labels)
            print(_to_json(prediction, all_probabilities) if json else _to_line(prediction, all_probabilities))
    else:
        plan = {
            "model": predictor.bundle.digest,
            "engine": predictor.engine_name,
            "top_k": top_k,
            "all_probabilities": all_probabilities,
            "images": images,
            "--images": folder,
            "--image-column": image_column,
            "working folder": str(Path.cwd()),
        }
        tally = _write(predictor, sources, plan, out, resume, top_k, all_probabilities, quiet)
    if picture is not None:
        _draw(predictor, sources, picture, top_k)
    if not quiet:
        _print_summary(predictor, tally, top_k)
    return 1 if tally.num_failed else 0


def _write(
    predictor: Predictor,
    sources: Sources,
    plan: Mapping[str, Any],
    out: Path,
    resume: bool,
    top_k: int | None,
    all_probabilities: bool,
    quiet: bool,
) -> Tally:
    from manylabel.cli.console import show_progress  # rich costs a tenth of a second that one image does not need

    if resume and out.exists() and not Unfinished(out, plan).exists:
        return _recall(sources, out, quiet)
    with (
        show_progress(quiet) as tell,
        exit_on_sigterm(),
        open_unfinished(out, plan, is_resumed=resume) as unfinished,
    ):
        num_left = sources.num_images
        if unfinished.done:
            num_left = sum(as_text(name) not in unfinished.done for name in sources.names)
            tell("note", {"message": f"Going on: {num_left:,} of {sources.num_images:,} images have no answer yet."})
        tell("stage", {"name": "Predicting", "total": num_left})
        try:
            tally = save_answers(
                predictor.predict_sources(sources.read(_Spelt(unfinished.done)), top_k=top_k),
                out,
                predictor.label_space,
                all_probabilities,
                lambda: tell("progress", {}),
                has_doubt=predictor.policy.abstention is not None,
                unfinished=unfinished,
            )
        except (KeyboardInterrupt, SystemExit):
            kept = unfinished.tally.num_images
            if kept:
                message = f"Stopped: {kept:,} answers are kept in {unfinished.folder}."
                tell("note", {"message": f"{message} The same command with --resume goes on."})
            raise
    if not quiet:
        print(f"Written: {out} ({tally.num_images} images)", file=sys.stderr)
    return tally


def _recall(sources: Sources, out: Path, quiet: bool) -> Tally:
    """Return what a finished file comes to, where it has an answer for every image: nothing is left to do.

    Raises:
        ConfigError: it has not; it is that of another run.
    """
    tally, answered = Tally(), set[str]()
    for image, labels in read_answers(out):
        answered.add(image)
        tally.add(labels)
    num_missing = sum(as_text(name) not in answered for name in sources.names)
    if num_missing:
        problem = f"it is finished, and has no answer for {num_missing:,} of these {sources.num_images:,} images"
        raise ConfigError(build_message(out, problem, do="Choose another --out, or leave --resume to make it anew"))
    if not quiet:
        print(f"Nothing is left to do: {out} has an answer for every image.", file=sys.stderr)
    return tally


class _Spelt:
    """Names as a file of answers spells them: a name that is not text is written with escapes."""

    def __init__(self, names: set[str]) -> None:
        self._names = frozenset(names)

    def __contains__(self, name: object) -> bool:
        return bool(self._names) and as_text(str(name)) in self._names


def _print_summary(predictor: Predictor, tally: Tally, top_k: int | None) -> None:
    """Say on standard error what could not be used, and whether the images are of another kind."""
    if tally.num_failed:
        print(f"{tally.num_failed} of {tally.num_images} images cannot be used.", file=sys.stderr)
    if top_k is None:  # how many labels an image gets is then not the model's choice
        for line in tally.describe_drift(predictor.policy.given):
            say(line)


def _to_json(prediction: Prediction, all_probabilities: bool) -> str:
    return json_format.dumps(prediction.to_dict(all_probabilities), ensure_ascii=False)


def _to_line(prediction: Prediction, all_probabilities: bool) -> str:
    if prediction.labels is None:
        assert prediction.error is not None
        reason = prediction.error["message"].removeprefix(f"{prediction.image}: ")
        return make_printable(f"{prediction.image}: cannot be used: {reason}")
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
    return make_printable(f"{prediction.image}: {', '.join(shown) if shown else '(none)'}{doubt}")


def _draw(predictor: Predictor, sources: Sources, picture: Path, top_k: int | None) -> None:
    """Draw the first answer; an image that cannot be used has been answered for already, so it is only mentioned."""
    from manylabel.inference.picture import draw_prediction

    name, source = next(sources.read())
    prediction = next(predictor.predict_sources([(name, source)], top_k=top_k))
    if prediction.labels is None or isinstance(source, ImageError):
        print(f"No picture: {name} cannot be used.", file=sys.stderr)
    else:
        draw_prediction(prediction, source, picture)
