"""Answers that are not all there yet: parts of some rows beside their place, each whole or not there.

A run that is killed loses the part that it was filling and no other: `--resume` reads which images have an answer, and
the file is put together of all parts once every image has one.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from manylabel.errors import ConfigError, DataError, RunError, build_message
from manylabel.inference.tally import Tally
from manylabel.lock import lock_folder

ROWS_PER_PART = 1024

_PLAN = "run.json"


class Unfinished:
    """The parts of one file of answers, in a folder beside it.

    `plan` is what the answers hang on, such as the model and the images: parts of another plan are never mixed in.
    """

    def __init__(self, path: Path, plan: Mapping[str, Any]) -> None:
        self.path = path
        self.folder = path.with_name(path.name + ".partial")
        self.extension = path.suffix.lower()
        self.plan = {**plan, "extension": self.extension}
        self.done: set[str] = set()
        """The images that have an answer."""
        self.tally = Tally()
        """What the answers come to."""

    @property
    def exists(self) -> bool:
        """Whether an earlier run has left something."""
        return self.folder.is_dir()

    @contextmanager
    def hold(self, *, is_resumed: bool) -> Iterator[None]:
        """Keep other runs out of the folder; begin, or go on with what an earlier run has left.

        Raises:
            ConfigError: there are parts that nobody said to go on with, or those of another plan.
            RunError: another run works here, or the folder is not ours.
        """
        is_new = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        is_ours = is_new
        try:
            with lock_folder(self.folder):
                if not is_new:
                    self._take_up(is_resumed)
                is_ours = True
                unnamed = self.folder / f"{_PLAN}.partial"
                unnamed.write_text(json.dumps(self.plan), encoding="utf-8")
                unnamed.replace(self.folder / _PLAN)
                yield
        finally:
            if is_ours and self.folder.is_dir() and not self._parts():  # nothing to go on from
                shutil.rmtree(self.folder, ignore_errors=True)

    def _take_up(self, is_resumed: bool) -> None:
        parts = self._parts()
        plan = self.folder / _PLAN
        if not plan.is_file():
            strange = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("run."))
            if strange:
                problem = f"it is not a folder of unfinished answers: it holds {strange[0]}"
                raise RunError(build_message(self.folder, problem, do="Choose another --out"))
            return  # killed before it had begun
        if not parts:
            return
        if not is_resumed:
            problem = f"it keeps {self._count_rows(parts):,} answers of a run that did not end"
            do = "Go on from them with --resume, or remove the folder to begin anew"
            raise ConfigError(build_message(self.folder, problem, do=do))
        try:
            found = json.loads(plan.read_text("utf-8"))
        except ValueError:
            found = {}
        differing = [name for name in self.plan if found.get(name) != self.plan[name]]
        if differing:
            told = ", ".join(f"{name} was {found.get(name)!r} and is {self.plan[name]!r}" for name in differing)
            do = "Repeat the command that was stopped, or remove the folder to begin anew"
            raise ConfigError(build_message(self.folder, f"its answers are of another run: {told}", do=do))
        for part in parts:
            for image, labels in read_answers(part):
                self.done.add(image)
                self.tally.add(labels)

    def add(self, first_row: int, write: Callable[[Path], None]) -> None:
        """Keep one more part, which `write` writes; the same first row again replaces it."""
        unnamed = self.folder / f"part{self.extension}.partial"
        write(unnamed)
        unnamed.replace(self.folder / f"{first_row:012}{self.extension}")

    def finish(self, write_empty: Callable[[Path], None]) -> None:
        """Put the parts together in their place, and remove them; `write_empty` writes a file without rows."""
        empty, whole = self.folder / f"empty{self.extension}", self.folder / f"whole{self.extension}.partial"
        write_empty(empty)
        JOINERS[self.extension](self._parts(), empty, whole)
        whole.replace(self.path)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _parts(self) -> list[Path]:
        return sorted(path for path in self.folder.glob(f"*{self.extension}") if path.stem.isdigit())

    def _count_rows(self, parts: Sequence[Path]) -> int:
        return sum(1 for part in parts for _ in read_answers(part))


def read_answers(path: Path) -> Iterator[tuple[str, list[str] | None]]:
    """Yield each image of a file of answers and its labels, None where it could not be used.

    Raises:
        DataError: it is no such file, or damaged.
    """
    try:
        yield from READERS[path.suffix.lower()](path)
    except OSError:
        raise
    except Exception as error:  # a file of somebody else may be anything, and its readers raise what they like
        problem = "there is a file that holds no answers"
        raise DataError(build_message(path, problem, do="Choose another --out, or remove it")) from error


Rows = Iterator[tuple[str, list[str] | None]]


def _read_csv(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if list(reader.fieldnames or ())[:3] != ["image", "labels", "error"]:
            raise ValueError("these are no answers")
        for row in reader:
            yield row["image"], None if row["error"] else [label for label in row["labels"].split("|") if label]


def _read_jsonl(path: Path) -> Rows:
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield row["image"], row["labels"]


def _read_parquet(path: Path) -> Rows:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        if not {"image", "labels"} <= set(file.schema_arrow.names):
            raise ValueError("these are no answers")
        for batch in file.iter_batches(ROWS_PER_PART, columns=["image", "labels"]):
            yield from zip(batch["image"].to_pylist(), batch["labels"].to_pylist(), strict=True)


READERS: Mapping[str, Callable[[Path], Rows]] = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
"""How the images of a part and their labels (None where one could not be used) are read, by the extension."""


def _join_text(parts: Sequence[Path], empty: Path, whole: Path) -> None:
    """A file without rows has the heading alone, which each part begins with."""
    heading = empty.read_bytes()
    with whole.open("wb") as file:
        file.write(heading)
        for part in parts:
            with part.open("rb") as rows:
                rows.seek(len(heading))
                shutil.copyfileobj(rows, file)


def _join_parquet(parts: Sequence[Path], empty: Path, whole: Path) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(whole, pq.read_schema(empty)) as writer:
        for part in parts:
            with pq.ParquetFile(part) as file:  # one part's memory, however many there are
                writer.write_table(file.read(use_threads=False))


JOINERS: Mapping[str, Callable[[Sequence[Path], Path, Path], None]] = {
    ".csv": _join_text,
    ".jsonl": _join_text,
    ".parquet": _join_parquet,
}
"""How parts become one file, by the extension."""
