"""RunFolder: where every file of a run stands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from manylabel.data.formats.delimited import label_names_path
from manylabel.errors import RunError, build_message, join_names
from manylabel.files import describe_write_error
from manylabel.lock import LOCK_NAME, check_not_running, lock_folder


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run; INTERFACE.md promises them."""

    path: Path

    @property
    def config(self) -> Path:
        """Resolved settings, versions, digests of the data, hardware."""
        return self.path / "config.json"

    @property
    def data(self) -> Path:
        """The canonical table of all images of the run, with their parts."""
        return self.path / "data.csv"

    @property
    def history(self) -> Path:
        """One JSON object per epoch."""
        return self.path / "history.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The last two states, to go on from, and the best weights."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """Everything that a run needs to go on bit for bit."""
        return self.checkpoints / "last.safetensors"

    @property
    def previous_checkpoint(self) -> Path:
        """The checkpoint before it, should that one be damaged."""
        return self.checkpoints / "previous.safetensors"

    @property
    def best_weights(self) -> Path:
        """The weights of the best epoch."""
        return self.checkpoints / "best.safetensors"

    @property
    def metrics(self) -> Path:
        """The figures of every part that was judged."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """One page that needs no network."""
        return self.path / "report.html"

    @property
    def pictures(self) -> Path:
        """Curves and confusion counts as PNG."""
        return self.path / "pictures"

    @property
    def tracking(self) -> Path:
        """What the trackers were told, a folder for each."""
        return self.path / "tracking"

    @property
    def bundle(self) -> Path:
        """The model."""
        return self.path / "bundle"

    @property
    def unfinished_bundle(self) -> Path:
        """Where the model stands until its thresholds are chosen."""
        return self.path / "bundle.unfinished"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a state to go on from, whole or not."""
        return self.last_checkpoint.exists() or self.previous_checkpoint.exists()

    @property
    def is_begun(self) -> bool:
        """Whether a run was killed here before its first checkpoint: nothing that anybody could go on with or use."""
        has_results = any(path.exists() for path in (self.history, self.metrics, self.report, self.bundle))
        return self.is_run and not self.has_checkpoint and not has_results

    @property
    def is_run(self) -> bool:
        """Whether the settings here were written by a run, and not by a person for something else."""
        try:
            facts = json.loads(self.config.read_text("utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(facts, dict) and {"config", "resolved", "versions"} <= facts.keys()

    def predictions(self, part: str) -> Path:
        """The probabilities and the truth of a part."""
        return self.path / "predictions" / f"{part}.parquet"

    @property
    def _own(self) -> tuple[Path, ...]:
        files = (self.config, self.data, self.history, self.metrics, self.report)
        folders = (self.checkpoints, self.pictures, self.bundle, self.path / "predictions", self.tracking)
        return (*files, label_names_path(self.data), *folders)


def open_run_folder(path: Path, *, resume: bool = False, num_bytes: int = 0) -> RunFolder:
    """Make the folder of a new run, or find that of a run that goes on.

    Args:
        resume: whether a run that is here goes on; a new run never touches another one's files.
        num_bytes: about how much the run will write; less free space is an error now, not in the last epoch.

    Raises:
        RunError: the folder holds another run (or, to resume, something else), cannot be made, or has too little space.
    """
    folder = RunFolder(path)
    if path.exists() and not path.is_dir():
        raise RunError(build_message(path, "a file stands where the run's folder should be", do="Choose another --out"))
    taken = [own.name for own in folder._own if own.exists()]
    if resume and taken and not folder.is_begun and not folder.has_checkpoint:
        problem = f"there is no checkpoint to go on from, and the folder is not empty ({join_names(taken)})"
        do = "Put the run's checkpoints folder back, or start a new run in another --out"
        raise RunError(build_message(path, problem, do=do))
    if taken and not resume and not folder.is_begun:
        raise RunError(
            build_message(
                path,
                f"the folder holds another run ({join_names(taken)})",
                do="Choose another --out; 'manylabel train --resume' goes on with a run",
            )
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        # What is here already needs no room again.
        free = shutil.disk_usage(path).free + sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    except OSError as error:
        raise RunError(describe_write_error(path, num_bytes, error)) from error
    if free < num_bytes:
        raise RunError(
            build_message(
                path,
                f"{free:,} bytes are free, the run needs about {num_bytes:,}",
                do="Free space or choose another --out",
            )
        )
    return folder


@contextmanager
def open_empty_folder(path: Path) -> Iterator[RunFolder]:
    """Make a folder for results that stand in no other's company, and keep others out while they are made.

    Raises:
        RunError: something is in it, such as a run or images, another run works there, or it cannot be made.
    """
    check_not_running(path)
    folder = open_run_folder(path)
    _check_is_empty(path)
    with lock_folder(path):
        _check_is_empty(path)  # another may have come and gone meanwhile
        yield folder


def _check_is_empty(path: Path) -> None:
    """Stop where a folder holds more than the lock of one that was killed.

    Raises:
        RunError: it does.
    """
    try:
        others = sorted(entry.name for entry in path.iterdir() if entry.name != LOCK_NAME)
    except OSError as error:
        raise RunError(describe_write_error(path, 0, error)) from error
    if others:
        problem = f"the folder is not empty ({join_names(others, limit=3)})"
        raise RunError(build_message(path, problem, do="Choose another --out"))
