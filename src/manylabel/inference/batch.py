"""Many images: which files an argument stands for, and their answers as CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from manylabel.data.images import find_images
from manylabel.errors import ConfigError, DataError, RunError, build_message
from manylabel.files import describe_write_error
from manylabel.inference.prediction import Prediction
from manylabel.labels.predictions import PROBABILITY_PREFIX
from manylabel.labels.space import LabelSpace

_ROWS_PER_GROUP = 4096


def expand_images(arguments: Iterable[str], standard_input: TextIO) -> list[str]:
    """Return the path of every image that the arguments stand for, each once, in order.

    A folder stands for every file below it with an image extension, a pattern for what it matches, `-` for the paths
    on standard input, one per line; anything else is a path, even if nothing is there: it gets an answer too, and so
    does a pattern that matches nothing.

    Raises:
        DataError: the arguments stand for no image at all.
    """
    wanted, paths, unmatched = list(arguments), dict[str, None](), set[str]()
    for argument in wanted:
        if argument == "-":
            found = [line.rstrip("\r\n") for line in standard_input if line.strip()]
        elif os.path.isdir(argument):  # noqa: PTH112 - arguments stay text
            found = [str(path) for path in find_images(Path(argument))]
        elif os.path.lexists(argument) or not glob.has_magic(argument):
            found = [argument]
        else:
            matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 - keeps the pattern's own spelling
            found = matches if matches else [argument]
            unmatched |= set() if matches else {argument}
        paths.update(dict.fromkeys(found))
    if paths.keys() <= unmatched:
        raise DataError(
            build_message(" ".join(wanted), "there is no image", expected="files, folders or patterns with images")
        )
    return list(paths)


def save_answers(
    predictions: Iterable[Prediction],
    path: Path,
    label_space: LabelSpace,
    all_probabilities: bool = False,
    on_image: Callable[[], None] | None = None,
    *,
    has_doubt: bool = False,
) -> int:
    """Write one row per image as the extension of `path` says, and return how many images could not be used.

    The file takes its place when it is complete: an interrupted run leaves what was there before.

    Args:
        predictions: the answers, of one model.
        path: the file.
        label_space: the labels of the model.
        all_probabilities: a CSV or JSON file has them for labels that are not given too.
        on_image: called after each image.
        has_doubt: the model abstains, so a table has a column `needs_person`.

    Raises:
        ConfigError: the extension is none of `WRITERS`.
        RunError: the file cannot be written.
    """
    if path.suffix.lower() not in WRITERS:
        raise ConfigError(build_message(path, "unknown kind of file", got=path.suffix, expected=", ".join(WRITERS)))
    num_failed = 0
    partial = path.with_name(path.name + ".partial")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with WRITERS[path.suffix.lower()](partial, label_space, all_probabilities, has_doubt) as write:
            for prediction in predictions:
                write(replace(prediction, image=_as_text(prediction.image)))
                num_failed += prediction.labels is None
                if on_image is not None:
                    on_image()
        partial.replace(path)
    except OSError as error:
        raise RunError(describe_write_error(path, 0, error)) from error
    finally:
        if partial.is_file():
            partial.unlink()
    return num_failed


def _as_text(name: str) -> str:
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
            error = "" if prediction.error is None else _as_text(prediction.error["message"])
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
    with pq.ParquetWriter(path, schema) as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(rows, schema))
            rows.clear()

        def write(prediction: Prediction) -> None:
            error = None if prediction.error is None else _as_text(prediction.error["message"])
            labels = None if prediction.labels is None else list(prediction.labels)
            probs = {PROBABILITY_PREFIX + label: prob for label, prob in prediction.probabilities.items()}
            doubt = {_DOUBT_COLUMN: prediction.needs_person} if has_doubt else {}
            rows.append({"image": prediction.image, "labels": labels, "error": error, **doubt, **probs})
            if len(rows) == _ROWS_PER_GROUP:
                flush()

        yield write
        flush()


WRITERS: Mapping[str, Callable[[Path, LabelSpace, bool, bool], Any]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
"""How answers are written, by the extension of the file."""
