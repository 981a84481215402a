"""The answers for many images as CSV, JSON lines or Parquet; what is interrupted can go on."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from manylabel.errors import ConfigError, RunError, build_message
from manylabel.files import describe_write_error
from manylabel.inference.prediction import Prediction
from manylabel.inference.tally import Tally
from manylabel.inference.unfinished import ROWS_PER_PART, Unfinished, read_answers
from manylabel.labels.predictions import PROBABILITY_PREFIX
from manylabel.labels.space import LabelSpace


def save_answers(
    predictions: Iterable[Prediction],
    path: Path,
    label_space: LabelSpace,
    all_probabilities: bool = False,
    on_image: Callable[[], None] | None = None,
    *,
    has_doubt: bool = False,
    unfinished: Unfinished | None = None,
) -> Tally:
    """Write one row per image as the extension of `path` says, and return what all answers of the file come to.

    The file takes its place when it is complete: an interrupted run leaves what was there before, and beside it the
    answers that it has, from which `open_unfinished` goes on.

    Args:
        predictions: the answers, of one model.
        path: the file.
        label_space: the labels of the model.
        all_probabilities: a CSV or JSON file has them for labels that are not given too.
        on_image: called after each image.
        has_doubt: the model abstains, so a table has a column `needs_person`.
        unfinished: from `open_unfinished`, with rows that are there already; None begins.

    Raises:
        ConfigError: the extension is none of `WRITERS`.
        RunError: the file cannot be written.
    """
    check_extension(path)
    if unfinished is None:
        with open_unfinished(path, {}) as fresh:
            return save_answers(
                predictions, path, label_space, all_probabilities, on_image, has_doubt=has_doubt, unfinished=fresh
            )
    open_writer = WRITERS[path.suffix.lower()]

    def write_part(answers: Sequence[Prediction], place: Path) -> None:
        with open_writer(place, label_space, all_probabilities, has_doubt) as write:
            for answer in answers:
                write(answer)

    # One name for the rows that wait and the number of the first: a signal finds both of one moment, never half of two.
    waiting: tuple[int, list[Prediction]] = unfinished.tally.num_images, []
    try:
        for prediction in predictions:
            waiting[1].append(replace(prediction, image=as_text(prediction.image)))
            unfinished.tally.add(prediction.labels)
            if len(waiting[1]) == ROWS_PER_PART:
                unfinished.add(waiting[0], partial(write_part, waiting[1]))
                waiting = waiting[0] + ROWS_PER_PART, []
            if on_image is not None:
                on_image()
        if waiting[1]:
            unfinished.add(waiting[0], partial(write_part, waiting[1]))
        unfinished.finish(partial(write_part, []))
    except OSError as error:
        raise RunError(describe_write_error(path, 0, error)) from error
    except BaseException:  # what somebody interrupts keeps its answers
        if waiting[1]:
            with contextlib.suppress(OSError):
                unfinished.add(waiting[0], partial(write_part, waiting[1]))
        raise
    return unfinished.tally


def check_replaceable(path: Path) -> None:
    """Stop where a file that is there holds no answers: it would be lost.

    Raises:
        DataError: it holds something else.
    """
    if path.exists():
        next(read_answers(path), None)


def check_extension(path: Path) -> None:
    """Stop where no answers can be written into such a file.

    Raises:
        ConfigError: the extension is none of `WRITERS`.
    """
    if path.suffix.lower() not in WRITERS:
        raise ConfigError(build_message(path, "unknown kind of file", got=path.suffix, expected=", ".join(WRITERS)))


@contextmanager
def open_unfinished(path: Path, plan: Mapping[str, Any], *, is_resumed: bool = False) -> Iterator[Unfinished]:
    """Yield where answers are kept until all of them are there; other runs are kept out.

    Args:
        path: the file that they will become.
        plan: what they hang on, such as the model and the images.
        is_resumed: go on with what an earlier run of the same plan has left, if there is something.

    Raises:
        ConfigError: there are answers that nobody said to go on with, or those of another plan.
        RunError: nothing can be written there, or another run works there.
    """
    parts = Unfinished(path, plan)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(parts.hold(is_resumed=is_resumed))
        except OSError as error:
            raise RunError(describe_write_error(path, 0, error)) from error
        yield parts


def as_text(name: str) -> str:
    """A file name that is not text holds lone surrogates, which no UTF-8 file can: they are written as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


Write = Callable[[Prediction], None]

_DOUBT_COLUMN = "needs_person"


@contextmanager
def _write_csv(path: Path, label_space: LabelSpace, all_probabilities: bool, has_doubt: bool) -> Iterator[Write]:
    names = [PROBABILITY_PREFIX + label for label in label_space] if all_probabilities else []
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "labels", "error", *([_DOUBT_COLUMN] if has_doubt else []), *names])

        def write(prediction: Prediction) -> None:
            labels = "" if prediction.labels is None else "|".join(prediction.labels)
            error = "" if prediction.error is None else as_text(prediction.error["message"])
            probs = [repr(prediction.probabilities[label]) if prediction.probabilities else "" for label in label_space]
            doubt = [int(bool(prediction.needs_person))] if has_doubt else []
            writer.writerow([prediction.image, labels, error, *doubt, *(probs if all_probabilities else [])])

        yield write


@contextmanager
def _write_jsonl(path: Path, _: LabelSpace, all_probabilities: bool, __: bool) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        yield lambda prediction: print(json.dumps(prediction.to_dict(all_probabilities), ensure_ascii=False), file=file)


@contextmanager
def _write_parquet(path: Path, label_space: LabelSpace, _: bool, has_doubt: bool) -> Iterator[Write]:
    """Parquet has a list column of labels and one float32 column per label, always all of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [("image", pa.string()), ("labels", pa.list_(pa.string())), ("error", pa.string())]
        + ([(_DOUBT_COLUMN, pa.bool_())] if has_doubt else [])
        + [(PROBABILITY_PREFIX + label, pa.float32()) for label in label_space]
    )
    rows: list[dict[str, Any]] = []

    def write(prediction: Prediction) -> None:
        error = None if prediction.error is None else as_text(prediction.error["message"])
        labels = None if prediction.labels is None else list(prediction.labels)
        probs = {PROBABILITY_PREFIX + label: prob for label, prob in prediction.probabilities.items()}
        doubt = {_DOUBT_COLUMN: prediction.needs_person} if has_doubt else {}
        rows.append({"image": prediction.image, "labels": labels, "error": error, **doubt, **probs})

    yield write
    pq.write_table(pa.Table.from_pylist(rows, schema), path)


WRITERS: Mapping[str, Callable[[Path, LabelSpace, bool, bool], Any]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
"""How answers are written, by the extension of the file."""
