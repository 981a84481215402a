"""Training in several processes, started by `torchrun` as a person does: what two learn is what one learns."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import manylabel as ml
from manylabel.data.demo import write_demo
from manylabel.losses.binary_cross_entropy import binary_cross_entropy
from manylabel.training.history import load_history

pytestmark = pytest.mark.scenario

FLAGS = (
    "--backbone", "test_resnet", "--weights", "none", "--image-size", "32", "--epochs", "2", "--workers", "0",
    "--precision", "fp32", "--batch-size", "16", "--accumulate", "2", "--ema", "0.9", "--max-bad-images", "0.05",
)  # fmt: skip
ALONE = (sys.executable,)
IN_TWO = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2")


def call(start: tuple[str, ...], *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [*start, *map(str, arguments)]
    # One thread, as the launcher gives to each: more add numbers in another order.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Composed digits: 67 for training, in every third of which two labels are unknown, and two of which are broken."""
    folder = tmp_path_factory.mktemp("data")
    table = write_demo(folder, num_images={"train": 67, "val": 21})
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "labels", "unknown", "part"])
        for number, row in enumerate(rows):
            labels = set(filter(None, row["labels"].split("|")))
            unknown = {"1", "7"} - labels if number % 3 == 0 else set()
            writer.writerow([row["image"], "|".join(sorted(labels)), "|".join(sorted(unknown)), row["part"]])
    training = [row["image"] for row in rows if row["part"] == "train"]
    for image in (training[5], training[40], next(row["image"] for row in rows if row["part"] == "val")):
        (folder / image).write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    return table


def test_two_processes_learn_what_one_learns(table: Path, tmp_path: Path) -> None:
    for name, start in (("one", ALONE), ("two", IN_TWO)):
        told = call(start, "-m", "manylabel", "train", table, "--out", tmp_path / name, *FLAGS)
        assert told.returncode == 0, told.stderr
        assert told.stdout.count("Report:") == 1, "one process speaks"
        assert told.stderr.count("epoch   train loss") == 1
        assert ("2 processes share every batch of 16 images." in told.stderr) == (name == "two")
        assert "2 of 67 training images cannot be used and were skipped" in told.stderr
    one, two = tmp_path / "one", tmp_path / "two"
    expected, found = (load_file(run / "checkpoints" / "last.safetensors") for run in (one, two))
    assert found.keys() - expected.keys() == {"random.cpu.1"}
    weights = [key for key in expected if key.startswith(("model.", "average.")) and expected[key].ndim > 1]
    apart = torch.cat([(found[key] - expected[key]).abs().flatten() for key in weights])
    # AdamW takes a whole step also where a gradient is nothing but rounding; a wrong gradient moves all by 1e-3.
    assert apart.mean() < 5e-5
    assert apart.median() < 1e-6
    for row, other in zip(load_history(one / "history.jsonl"), load_history(two / "history.jsonl"), strict=True):
        for key in ("step", "lr", "train_loss", "val_loss", "val_brier"):
            assert other[key] == pytest.approx(row[key], abs=1e-4), key
        for key in ("val_average_precision_macro", "val_f1_macro", "val_hamming_loss", "val_ranking_loss"):
            assert other[key] == pytest.approx(row[key], abs=0.02), f"{key}: rounding may swap two images"
    answers = pq.read_table(two / "predictions" / "val.parquet").to_pydict()
    assert len(set(answers["image"])) == len(answers["image"]) == 20, "every usable image once"
    facts = json.loads((two / "config.json").read_text("utf-8"))
    assert facts["hardware"]["num_processes"] == 2


def test_an_error_is_told_once_and_ends_all(table: Path, tmp_path: Path) -> None:
    told = call(IN_TWO, "-m", "manylabel", "train", table, "--out", tmp_path / "run", *FLAGS, "--bad-images", "stop")
    assert told.returncode == 1
    assert sum(line.startswith("Error: ") for line in told.stderr.splitlines()) == 1
    assert "of 67 images cannot be used, more than --bad-images stop allows" in told.stderr
    assert "manylabel/training/loop.py" not in told.stderr, "no traceback of ours"


class SignalAfter:
    """A loss that sends its process SIGTERM in a training step."""

    def __init__(self, step: int) -> None:
        self.step, self.num_steps = step, 0

    def __call__(self, logits_BL: torch.Tensor, truth_BL: torch.Tensor, known_BL: torch.Tensor) -> torch.Tensor:
        self.num_steps += logits_BL.requires_grad
        if self.num_steps == self.step:
            signal.raise_signal(signal.SIGTERM)
        return binary_cross_entropy(logits_BL, truth_BL, known_BL)


def train_here(table: str, out: str, stop_at: str) -> None:
    """What the processes of the next test run: only the second is told to stop."""
    parts = ml.load_annotations(table).parts()
    settings: dict[str, Any] = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "workers": 0}
    config = ml.TrainConfig(
        **settings,
        epochs=2,
        batch_size=16,
        precision="fp32",
        dropout=0.3,
        max_bad_images=0.1,
        resume=Path(out).exists(),
    )
    loss = SignalAfter(int(stop_at)) if os.environ["RANK"] == "1" else binary_cross_entropy
    run = ml.train(parts["train"], parts["val"], config, out=out, loss=loss, on_event=lambda *_: None)
    print(run.status, run.exit_code)


def test_a_signal_to_one_stops_all_and_the_run_goes_on_bit_for_bit(table: Path, tmp_path: Path) -> None:
    runs = [("whole", "0", "finished 0\n"), ("stopped", "7", "stopped 143\n"), ("stopped", "0", "finished 0\n")]
    for name, stop_at, expected in runs:
        told = call(IN_TWO, __file__, table, tmp_path / name, stop_at)
        assert told.returncode == 0, told.stderr
        assert told.stdout == expected
    whole, resumed = (load_file(tmp_path / name / "checkpoints" / "last.safetensors") for name in ("whole", "stopped"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole), "weights, optimiser and both random states"


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no signal to one process of a group")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_launcher_stops_all_with_a_checkpoint_and_the_run_goes_on(
    table: Path, tmp_path: Path, number: int
) -> None:
    out = tmp_path / "run"
    flags = ["--epochs", "40", "--workers", "2", *FLAGS[FLAGS.index("--precision") :]]
    command = [*IN_TWO, "-m", "manylabel", "train", str(table), "--out", str(out), *FLAGS[:6], *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as run:
        try:
            until = time.monotonic() + 120
            while run.poll() is None and not (out / "history.jsonl").exists() and time.monotonic() < until:
                time.sleep(0.1)
            run.send_signal(number)
            output, _ = run.communicate(timeout=120)
        finally:
            run.kill()
    assert run.returncode != 0
    # Not what follows the checkpoint: the launcher kills after 30 seconds, and the export may take longer than these.
    assert output.count("Stopping here") == 1, output
    done = len(load_history(out / "history.jsonl"))
    assert 0 < done < 40
    resumed = call((command[0],), *command[1:], "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "Going on in epoch" in resumed.stderr
    assert len(load_history(out / "history.jsonl")) == 40


if __name__ == "__main__":
    train_here(*sys.argv[1:])
