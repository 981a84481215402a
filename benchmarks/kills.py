"""Whether a run can be lost: kills, signals, damage, dead workers and full disks, and what the resumed run ends in.

Truth is the SHA-256 of weights, average, optimiser, random states and history of a run that nothing happened to. The
finishing (export, judging) is left out of these runs: it begins anew from the last checkpoint. Linux only.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forked import TRAIN, VAL, build_table, digest, finish, is_zombie, slow_writes, start, wait_uniform
from process import report

from manylabel.losses.binary_cross_entropy import binary_cross_entropy

CHANCE = random.Random(0)


class Bench:
    """The folder of all runs, the digest that each has to end in, and how long a run takes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        started = time.monotonic()
        whole = start(folder / "whole")
        if whole.wait() != 0:
            raise SystemExit(whole.read_log())
        self.seconds = time.monotonic() - started
        self.digest = digest(folder / "whole")
        self.count = 0

    def new(self) -> Path:
        """Return a folder for another run."""
        self.count += 1
        return self.folder / f"run {self.count}"


def kill_anywhere(bench: Bench, number: int) -> dict[str, Any]:
    """Kill the process group at a random time, with and without workers, and go on."""
    outcomes = [_kill_and_go_on(bench, 1, index % 2 * 2, in_save=False) for index in range(number)]
    return _sum_up(outcomes)


def kill_in_save(bench: Bench, number: int) -> dict[str, Any]:
    """Kill while a checkpoint is written, flushed or moved: the writes are held up, the moment is random."""
    return _sum_up([_kill_and_go_on(bench, 1, index % 2 * 2, in_save=True) for index in range(number)])


def kill_thrice(bench: Bench, number: int) -> dict[str, Any]:
    """Kill a run, the resumed run and that one's resumed run."""
    return _sum_up([_kill_and_go_on(bench, 3, 0, in_save=index % 2 == 1) for index in range(number)])


def send_signals(bench: Bench, number: int) -> dict[str, Any]:
    """Send SIGTERM and SIGINT in training, validation and saving; the exit code says so, within ten seconds."""
    outcomes, slowest = [], 0.0
    moments = ("step", "validation_step", "saving")
    for index in range(2 * number):
        sent, expected = ((signal.SIGTERM, 143), (signal.SIGINT, 130))[index % 2]
        folder = bench.new()
        run = start(folder, slow_writes)
        run.wait_for(moments[index // 2 % 3], CHANCE.randint(1, 6))
        os.kill(run.pid, sent)
        started = time.monotonic()
        code = run.wait()
        slowest = max(slowest, time.monotonic() - started)
        outcomes.append("" if code == expected and finish(folder) == bench.digest else f"exit code {code}")
    return _sum_up(outcomes) | {"slowest_seconds": round(slowest, 2)}


def kill_workers(bench: Bench, number: int) -> dict[str, Any]:
    """Kill a data worker: one sentence, soon, and a checkpoint to go on from."""
    outcomes, slowest = [], 0.0
    for _ in range(number):
        folder = bench.new()
        run = start(folder, workers=2)
        run.wait_for("step", CHANCE.randint(20, 60))
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        if not children:
            outcomes.append("no worker was found")
            continue
        os.kill(int(CHANCE.choice(children)), signal.SIGKILL)
        started = time.monotonic()
        code = run.wait()
        slowest = max(slowest, time.monotonic() - started)
        said = run.read_log()
        is_clear = code == 2 and "a process that decodes images is gone" in said and "Traceback" not in said
        outcomes.append("" if is_clear and finish(folder) == bench.digest else f"exit code {code}: {said[-400:]}")
    return _sum_up(outcomes) | {"slowest_seconds": round(slowest, 2)}


def start_twice(bench: Bench, number: int) -> dict[str, Any]:
    """Start a second run in the folder, then kill the first and go on: there is no stale lock."""
    outcomes = []
    for index in range(number):
        folder = bench.new()
        first = start(folder, workers=index % 2 * 2)
        first.wait_for("step", 3)
        second = start(folder, resume=True)
        code, said = second.wait(), second.read_log()
        first.kill()
        is_clear = code == 2 and f"another run works here: process {first.pid} on " in said
        outcomes.append("" if is_clear and finish(folder) == bench.digest else f"exit code {code}: {said[-400:]}")
    return _sum_up(outcomes)


def orphan_workers(bench: Bench, number: int) -> dict[str, Any]:
    """Kill the training process alone: its workers end themselves, and do not hold the folder."""
    outcomes = []
    for _ in range(number):
        folder = bench.new()
        run = start(folder, workers=2)
        run.wait_for("step", 5)
        children = [int(pid) for pid in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()]
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        is_same = finish(folder) == bench.digest
        time.sleep(3)
        left = [pid for pid in children if not is_zombie(pid)]
        outcomes.append("" if is_same and children and not left else f"still there: {left}")
    return _sum_up(outcomes)


def damage(bench: Bench, number: int) -> dict[str, Any]:
    """Cut the newest checkpoint at many places, flip bits, empty it, take it away, put JSON there."""
    folder = bench.new()
    run = start(folder)
    run.wait_for("step", 70)
    run.kill()
    path = folder / "checkpoints/last.safetensors"
    whole = path.read_bytes()
    places = [int(share * len(whole) / number) for share in range(number)]
    faults: list[bytes | None] = [whole[:place] for place in places]
    faults += [whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :] for place in places]
    faults += [b"", None, b'{"epoch": 1}']
    outcomes, keep = [], folder.with_name("kept")
    os.system(f"cp -r '{folder}' '{keep}'")
    for index, fault in enumerate(faults):
        os.system(f"rm -rf '{folder}' && cp -r '{keep}' '{folder}'")
        path.unlink() if fault is None else path.write_bytes(fault)
        run = start(folder, resume=True)
        run.wait_for("note Going on")
        if index % 10 == 0:
            run.wait()
        else:
            run.kill()
        said = run.read_log()
        is_told = "The run goes on from the one before it" in said and "previous.safetensors" in said
        is_same = index % 10 != 0 or digest(folder) == bench.digest
        outcomes.append("" if is_told and is_same else said[:400])
    return _sum_up(outcomes)


def resume_wrongly(bench: Bench, number: int) -> dict[str, Any]:
    """Go on with other labels, another network, another order, and two settings at once: refused with all of it."""
    del number
    folder = bench.new()
    run = start(folder)
    run.wait_for("step", 40)
    run.kill()
    before = _read_all(folder)
    other = build_table(400, 5, "train")
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"train": other}, ["another training table"]),
        ({"backbone": "test_resnet.r160_in1k"}, ["another backbone"]),
        ({"train": TRAIN.select(range(399, -1, -1))}, ["another order of the training table"]),
        ({"lr": 0.5, "ema": 0.0}, ["another lr", "another ema"]),
    ]
    outcomes = []
    for changed, texts in cases:
        run = start(folder, resume=True, **changed)
        code, said = run.wait(), run.read_log()
        is_same = _read_all(folder) == before
        outcomes.append("" if code == 2 and is_same and all(text in said for text in texts) else said[-400:])
    return _sum_up(outcomes)


def explode(bench: Bench, number: int) -> dict[str, Any]:
    """Let numbers become infinite or not a number: the run stops, says where, and its checkpoint is good."""
    outcomes = []
    for index in range(number):
        folder = bench.new()
        run = start(folder, loss=_BecomeNan(20 + 9 * index))
        code, said = run.wait(), run.read_log()
        is_clear = (
            code == 2 and f"step {21 + 9 * index}" in said and "learning rate" in said and "Traceback" not in said
        )
        outcomes.append("" if is_clear and finish(folder) == bench.digest else said[-400:])
    return _sum_up(outcomes)


def vary(bench: Bench, number: int) -> dict[str, Any]:
    """Let workers, time zone, locale and path differ: one digest."""
    cases = [(workers, {}, "plain") for workers in (0, 1, 2) for _ in range(max(1, number // 3))]
    cases += [(0, {"TZ": "Asia/Kathmandu"}, "zone"), (0, {"LC_ALL": "tr_TR.UTF-8"}, "locale")]
    cases += [(0, {}, "ä b 日本 " + "x" * 200)]
    outcomes = []
    for workers, environment, name in cases:

        def change(_: Path, environment: dict[str, str] = environment) -> None:
            os.environ.update(environment)
            time.tzset()

        parent = bench.new()
        parent.mkdir()
        run = start(parent / name, change, workers=workers)
        code = run.wait()
        is_same = code == 0 and digest(parent / name) == bench.digest
        outcomes.append("" if is_same else f"workers {workers} {environment} {name}: {code}")
    return _sum_up(outcomes)


def fill_disk(bench: Bench, number: int) -> dict[str, Any]:
    """Fill the disk while a run works; after room is made it goes on."""
    outcomes = []
    for _ in range(number):
        place = bench.new()
        place.mkdir()
        if os.system(f"mount -t tmpfs -o size=64m tmpfs '{place}'") != 0:
            return {"skipped": "a file system of memory cannot be mounted here"}
        folder = place / "run"
        run = start(folder)
        run.wait_for("step", 30)
        filler = place / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                while file.write(b"0" * 65536):
                    pass
        except OSError:
            pass
        code, said = run.wait(), run.read_log()
        filler.unlink()
        is_clear = code == 2 and "cannot write" in said and "bytes (No space left on device)" in said
        no_rest = not list(folder.rglob("*.partial"))
        outcomes.append("" if is_clear and no_rest and finish(folder) == bench.digest else f"{code}: {said[-400:]}")
        os.system(f"umount '{place}'")
    return _sum_up(outcomes)


CASES: dict[str, tuple[Callable[[Bench, int], dict[str, Any]], int]] = {
    "wrong_resume": (resume_wrongly, 4),
    "kills_in_save": (kill_in_save, 12),
    "kills_anywhere": (kill_anywhere, 18),
    "kills_thrice": (kill_thrice, 5),
    "signals": (send_signals, 10),
    "worker_kills": (kill_workers, 10),
    "two_runs": (start_twice, 10),
    "orphans": (orphan_workers, 2),
    "damage": (damage, 20),
    "not_finite": (explode, 10),
    "variations": (vary, 9),
    "full_disk": (fill_disk, 5),
}


class _BecomeNan:
    """Binary cross-entropy that is NaN once, after some steps of training."""

    def __init__(self, after: int) -> None:
        self.after, self.count = after, 0

    def __call__(self, logits: Any, truth: Any, known: Any) -> Any:
        value = binary_cross_entropy(logits, truth, known)
        self.count += bool(logits.requires_grad)
        return value * math.nan if logits.requires_grad and self.count > self.after else value


def _kill_and_go_on(bench: Bench, number: int, workers: int, *, in_save: bool) -> str:
    """Kill a run so often, let it go on each time, and return what is wrong with its end."""
    folder = bench.new()
    for index in range(number):
        run = start(folder, slow_writes if in_save else None, workers=workers, resume=index > 0)
        if in_save:
            run.wait_for("saving", CHANCE.randint(1, 6))
            wait_uniform(CHANCE, 0.3)
        else:
            wait_uniform(CHANCE, bench.seconds / number)
        run.kill()
        if (folder / "checkpoints").exists() and "epoch" in run.read_log():
            files = [folder / f"checkpoints/{name}.safetensors" for name in ("last", "previous")]
            if not any(file.exists() for file in files):
                return "no checkpoint is left"
    found = finish(folder, workers=workers)
    if list(folder.rglob("*.partial")):
        return "half a file is left"
    return "" if found == bench.digest else found


def _read_all(folder: Path) -> dict[str, bytes]:
    """Return every file but the lock, which a killed run leaves behind and the next one takes."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "run.lock"]
    return {str(path): path.read_bytes() for path in files}


def _sum_up(outcomes: list[str]) -> dict[str, Any]:
    problems = [outcome for outcome in outcomes if outcome]
    return {"good": len(outcomes) - len(problems), "of": len(outcomes)} | ({"problems": problems} if problems else {})


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Provoke the chosen faults."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        found: dict[str, Any] = {"num_images": [len(TRAIN), len(VAL)], "seconds_of_a_run": round(bench.seconds, 1)}
        for name in given.only if given.only else CASES:
            provoke, number = CASES[name]
            started = time.monotonic()
            found[name] = provoke(bench, given.number if given.number else number)
            found[name]["seconds"] = round(time.monotonic() - started, 1)
            print(name, found[name], file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    report(
        "kills",
        run,
        ("--only", {"nargs": "*", "choices": list(CASES), "help": "some of the faults"}),
        ("--number", {"type": int, "default": 0, "help": "how often each, in place of its own number"}),
    )
