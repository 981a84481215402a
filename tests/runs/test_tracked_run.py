"""A run with TensorBoard: its event files are read back, and its weights are those of a run without."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event
from tests.runs.conftest import Start

from manylabel.errors import ConfigError
from manylabel.training.history import load_history


def read_events(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Yield name, step and value of every scalar: records of length, its checksum, the message and its checksum."""
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 12 + length + 4
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    yield value.tag, event.step, value.simple_value


def read_curve(run: Path, name: str) -> list[tuple[int, float]]:
    return [(step, value) for tag, step, value in read_events(run / "tracking" / "tensorboard") if tag == name]


def test_tensorboard_has_every_epoch_and_the_end_and_changes_no_bit(start: Start, tmp_path: Path) -> None:
    start(out="plain")
    run = start(out="tracked", track="tensorboard")
    weights = [(tmp_path / out / "bundle" / "model.safetensors").read_bytes() for out in ("plain", "tracked")]
    assert weights[0] == weights[1]
    rows = load_history(tmp_path / "tracked" / "history.jsonl")
    for name in ("val_loss", "train_loss", "val_average_precision_macro"):
        expected = [(row["epoch"] + 1, pytest.approx(row[name], rel=1e-6)) for row in rows]
        assert read_curve(tmp_path / "tracked", name) == expected
    final = read_curve(tmp_path / "tracked", "final_val_f1_macro")
    assert final == [(2, pytest.approx(run.reports["val"].metrics["f1_macro"].value, rel=1e-6))]


def test_a_resumed_run_goes_on_with_the_same_curves(start: Start, tmp_path: Path) -> None:
    def interrupt(event: str, facts: object) -> None:
        del facts
        if event == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(track="tensorboard", on_event=interrupt)
    start(track="tensorboard", resume=True)
    assert [step for step, _ in read_curve(tmp_path / "run", "val_loss")] == [1, 2]


def test_trackers_may_be_added_and_left_out_when_a_run_goes_on(start: Start, tmp_path: Path) -> None:
    start()
    start(track="tensorboard", resume=True)
    assert [step for step, _ in read_curve(tmp_path / "run", "val_loss")] == [1, 2]
    assert json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["config"]["track"] == "tensorboard"
    start(resume=True)


def test_a_tracker_that_does_not_exist_stops_before_anything_is_written(start: Start, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown tracker 'mlfow' \\(did you mean 'mlflow'\\?\\)"):
        start(track="mlfow")
    assert not (tmp_path / "run").exists()
