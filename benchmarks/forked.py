"""Runs in forked processes that can be killed, stopped and held up; what is slow to import is imported once."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

import manylabel as ml
from manylabel.data.annotations import Annotations, annotations_from_arrays
from manylabel.errors import ManylabelError
from manylabel.runs import train as runs_train

torch.set_num_threads(1)

LABELS = ("blue", "green", "red")
RATES = {"images_per_second", "waiting_seconds", "train_seconds", "seconds"}
SETTINGS: Mapping[str, Any] = {
    "backbone": "test_resnet", "weights": "none", "image_size": 32, "batch_size": 16, "epochs": 6, "workers": 0,
    "precision": "fp32", "monitor": "loss", "augment": "medium", "mix": "cutmix", "ema": 0.9, "dropout": 0.2,
    "checkpoint_minutes": 0.02,
}  # fmt: skip
"""A tiny network with everything random, AdamW, a schedule and an average; a checkpoint within every epoch."""

_PATIENCE_SECONDS = 120.0
Hook = Callable[[Path], None]


def build_table(num_images: int, seed: int, name: str) -> Annotations:
    """Noise in which each label makes its colour brighter."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 90, (num_images, 40, 40, 3), dtype=np.uint8)
    has_label = rng.random((num_images, 3)) < 0.5
    pixels += (has_label[:, ::-1] * np.uint8(150))[:, None, None, :].astype(np.uint8)
    sets = [[label for label, is_there in zip(LABELS, row, strict=True) if is_there] for row in has_label]
    return annotations_from_arrays(pixels, sets, LABELS, name)


TRAIN, VAL = build_table(400, 0, "train"), build_table(80, 1, "val")


@dataclass(frozen=True)
class Forked:
    """A run under way in a process group of its own."""

    pid: int
    log: Path

    def wait(self) -> int:
        """Return the exit code, minus a signal's number where one ended it; a run that hangs is killed and is 99."""
        started = time.monotonic()
        while time.monotonic() - started < _PATIENCE_SECONDS:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        self.kill()
        return 99

    def kill(self) -> None:
        """Kill the run and its workers at once."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            return

    def read_log(self) -> str:
        """Return what the run has printed so far."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def wait_for(self, text: str, count: int = 1) -> bool:
        """Wait until the run has printed something so often; False where it ended before."""
        started = time.monotonic()
        while time.monotonic() - started < _PATIENCE_SECONDS:
            if self.read_log().count(text) >= count:
                return True
            if not Path(f"/proc/{self.pid}").exists() or is_zombie(self.pid):
                return self.read_log().count(text) >= count
            time.sleep(0.002)
        return False


def is_zombie(pid: int) -> bool:
    """Return whether a process has ended and waits to be asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def start(
    folder: Path, hook: Hook | None = None, train: Annotations = TRAIN, val: Annotations = VAL,
    has_end: bool = False, loss: Any = None, **settings: Any,
) -> Forked:  # fmt: skip
    """Start a run and return at once.

    Args:
        hook: called in the new process before it trains, to plant a fault.
        has_end: whether the model is exported and judged, which takes seconds.
    """
    log = folder.with_name(f"{folder.name}.log")
    log.write_text("", "utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Forked(pid, log)
    os._exit(_train_here(folder, log, hook, train, val, has_end, loss, settings))


def _train_here(
    folder: Path, log: Path, hook: Hook | None, train: Annotations, val: Annotations, has_end: bool, loss: Any,
    settings: Mapping[str, Any],
) -> int:  # fmt: skip
    """Train in this process as the command line does, and return its exit code."""
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        if not has_end:
            runs_train._finish = lambda *_: (None, {})  # type: ignore[assignment]
        if hook is not None:
            hook(folder)
        config = ml.TrainConfig(**{**SETTINGS, **settings})
        return ml.train(train, val, config, out=folder, loss=loss, on_event=_print_event).exit_code
    except ManylabelError as error:
        os.write(1, f"Error: {error}\n".encode())
        return 2
    except KeyboardInterrupt:
        return 130
    except SystemExit as error:
        return int(error.code or 0)
    except BaseException:
        os.write(1, traceback.format_exc().encode())
        return 1


def _print_event(event: str, facts: Mapping[str, Any]) -> None:
    text = facts.get("message", facts.get("step", facts.get("name", "")))
    os.write(1, f"{event} {text}\n".encode())


def finish(folder: Path, **settings: Any) -> str:
    """Go on with a run to its end, and return its digest; what went wrong instead begins with 'failed'."""
    run = start(folder, resume=True, **settings)
    code = run.wait()
    return digest(folder) if code == 0 else f"failed with {code}: {run.read_log()[-600:]}"


def digest(folder: Path) -> str:
    """Return the SHA-256 of final weights, average, optimiser, random states and history without its times."""
    whole = hashlib.sha256()
    for name in ("last", "best"):
        for key, tensor in sorted(load_file(folder / f"checkpoints/{name}.safetensors").items()):
            whole.update(f"{name} {key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            whole.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    for line in (folder / "history.jsonl").read_text("utf-8").splitlines():
        row = {key: value for key, value in json.loads(line).items() if key not in RATES}
        whole.update(json.dumps(row, sort_keys=True).encode())
    return whole.hexdigest()


def slow_writes(folder: Path) -> None:
    """Hold every write of a checkpoint up, so that a kill can hit any moment of it; `saving` is printed first."""
    fsync, replace = os.fsync, Path.replace

    def slow_fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        if "last.safetensors" in target.name:
            os.write(1, b"saving\n")
            time.sleep(0.1)
            fsync(descriptor)
            time.sleep(0.05)
        else:
            fsync(descriptor)

    def slow_replace(self: Path, target: Any) -> Path:
        time.sleep(0.05 if folder.name in str(target) and "safetensors" in str(target) else 0.0)
        return replace(self, target)

    os.fsync = slow_fsync
    Path.replace = slow_replace  # type: ignore[method-assign,assignment]


def wait_uniform(chance: random.Random, seconds: float) -> None:
    """Sleep for a random time."""
    time.sleep(chance.uniform(0, seconds))
