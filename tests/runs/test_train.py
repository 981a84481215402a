"""Whole runs: the same seed gives the same bits, a stop costs nothing, and what is kept is what was judged."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import math
import os
import re
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from tests.runs.conftest import LABELS, SETTINGS, TRAIN, VAL, Events, Start, build_table, ignore, write_table
from torch import Tensor, nn

from manylabel.bundle import export
from manylabel.bundle.export import export_onnx
from manylabel.data.annotations import Annotations, annotations_from_arrays
from manylabel.data.formats.detect import load_annotations
from manylabel.errors import ConfigError, DataError, ManylabelError, RunError
from manylabel.inference.predictor import load
from manylabel.labels.targets import Targets
from manylabel.losses.binary_cross_entropy import binary_cross_entropy
from manylabel.metrics.summary import SUMMARY_NAMES
from manylabel.runs.train import Run
from manylabel.training import checkpoints
from manylabel.training.config import TrainConfig
from manylabel.training.history import load_history

RATES = {"images_per_second", "waiting_seconds", "train_seconds", "seconds"}
EVERYTHING: Mapping[str, Any] = {"ema": 0.7, "dropout": 0.3, "drop_path": 0.2, "augment": "medium", "epochs": 3}


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hashes_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hash_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def weights_of(run: Run) -> str:
    return hash_of(run.bundle.weights_path)


def without_rates(rows: Any) -> list[dict[str, Any]]:
    return [{key: repr(value) for key, value in row.items() if key not in RATES} for row in rows]


class StopAt:
    """Sends a signal from within a step, as a person at the keyboard would."""

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.step, self.number, self.events = step, number, Events()

    def __call__(self, event: str, facts: Mapping[str, Any]) -> None:
        self.events.append((event, facts))
        if event == "step" and facts["step"] == self.step:
            signal.raise_signal(self.number)


class Loss:
    """Binary cross-entropy that turns into something else after some training steps, by a function of it."""

    def __init__(self, change: Any, after: int) -> None:
        self.change, self.after, self.num_steps = change, after, 0

    def __call__(self, logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        value = binary_cross_entropy(logits, truth, known)
        if not logits.requires_grad:
            return value  # judging
        self.num_steps += 1
        changed: Tensor = self.change(value, logits) if self.num_steps > self.after else value
        return changed


def get_worse(value: Tensor, _: Tensor) -> Tensor:
    return -value


# --- the same seed ---------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits_with_and_without_workers(start: Start) -> None:
    settings = {"dropout": 0.3, "augment": "medium", "mix": "cutmix"}
    runs = [
        start(f"workers {number}-{again}", workers=number, **settings)
        for number, again in ((0, 0), (0, 1), (1, 0), (2, 0))
    ]
    assert len({weights_of(run) for run in runs}) == 1
    assert len({str(without_rates(run.history)) for run in runs}) == 1
    assert weights_of(start("other seed", seed=1, **settings)) != weights_of(runs[0])


@pytest.mark.parametrize(("mix", "has_shares"), [("none", False), ("cutmix,share=1", True), ("mosaic,share=1", False)])
def test_the_loss_is_given_the_truth_of_the_mix_in_training_only(start: Start, mix: str, has_shares: bool) -> None:
    truths: dict[bool, list[Tensor]] = {True: [], False: []}

    def loss(logits_BL: Tensor, truth_BL: Tensor, known_BL: Tensor) -> Tensor:
        truths[torch.is_grad_enabled()].append(truth_BL)
        return nn.functional.binary_cross_entropy_with_logits(logits_BL, truth_BL, known_BL.float())

    start(mix=mix, loss=loss, epochs=1, augment="none", precision="fp32")
    trained, judged = (torch.cat(truths[is_training]) for is_training in (True, False))
    assert bool(((trained > 0) & (trained < 1)).any()) == has_shares
    assert set(judged.unique().tolist()) == {0, 1}
    assert (trained.sum() > TRAIN.targets.present_NL().sum()) == (mix == "mosaic,share=1")  # the union of four


def test_training_lowers_the_loss_below_that_of_the_prior(start: Start) -> None:
    run = start(epochs=8, lr=5e-3, augment="none")
    losses = [row["val_loss"] for row in run.history]
    share = VAL.targets.present_NL().mean(axis=0)
    prior = -(share * np.log(share) + (1 - share) * np.log(1 - share)).mean()
    assert min(losses) < prior
    assert run.history[-1]["train_loss"] < run.history[0]["train_loss"]


# --- stopping and going on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "settings"),
    [
        pytest.param(6, {}, id="in the second epoch"),
        pytest.param(4, {}, id="at the last step of an epoch"),
        pytest.param(2, EVERYTHING, id="in the first epoch, everything random and averaged"),
        pytest.param(6, {"augment": "strong", "mix": "mosaic,truth=weighted"}, id="in the second epoch, images mixed"),
        pytest.param(
            3,  # of two steps an epoch
            {"accumulate": 2, "head_epochs": 1, "schedule": "one_cycle", "layer_decay": 0.8, "ema": 0.9},
            id="in the second epoch, which the backbone joins, between groups of batches",
        ),
        pytest.param(
            7,
            {**EVERYTHING, "workers": 2},
            id="in the second epoch, everything, with workers",
            marks=pytest.mark.scenario,
        ),
    ],
)
def test_a_run_that_was_stopped_and_goes_on_equals_one_that_was_not(
    start: Start, step: int, settings: Mapping[str, Any], tmp_path: Path
) -> None:
    whole = start("whole", **settings)
    stop = StopAt(step)
    stopped = start("stopped", on_event=stop, **settings)
    assert (stopped.status, stopped.exit_code) == ("stopped", 130)
    assert [facts["step"] for event, facts in stop.events if event == "step"] == list(range(1, step + 1))
    assert stopped.bundle.folder.is_dir()
    assert load(tmp_path / "stopped").predict(VAL.records[0].pixels).labels is not None  # type: ignore[arg-type]

    resumed = start("stopped", resume=True, **settings)
    assert (resumed.status, resumed.exit_code) == ("finished", 0)
    last, other_last = (load_file(tmp_path / name / "checkpoints/last.safetensors") for name in ("whole", "stopped"))
    assert last.keys() == other_last.keys()
    assert any(key.startswith("optimiser.") for key in last)
    assert [key for key in last if not torch.equal(last[key], other_last[key])] == []
    assert weights_of(resumed) == weights_of(whole)
    assert without_rates(resumed.history) == without_rates(whole.history)
    written = [load_history(tmp_path / name / "history.jsonl") for name in ("whole", "stopped")]
    assert without_rates(written[0]) == without_rates(written[1])
    assert len(written[0]) == whole.history[-1]["epoch"] + 1


def test_a_run_that_was_terminated_says_so(start: Start) -> None:
    run = start(on_event=StopAt(1, signal.SIGTERM))
    assert (run.status, run.exit_code) == ("stopped", 143)


def test_a_stop_in_the_last_step_leaves_the_validation_for_later(start: Start) -> None:
    run = start(epochs=1, on_event=StopAt(4))
    assert (run.status, run.exit_code, len(run.history)) == ("stopped", 130, 0)
    assert len(start(epochs=1, resume=True).history) == 1


def test_a_stop_during_validation_is_heeded_and_costs_nothing(start: Start) -> None:
    class StopInValidation(StopAt):
        def __call__(self, event: str, facts: Mapping[str, Any]) -> None:
            if event == "validation_step":
                signal.raise_signal(self.number)
            super().__call__(event, facts)

    settings = {**EVERYTHING, "epochs": 2}
    whole = start("whole", **settings)
    stop = StopInValidation(99, signal.SIGTERM)
    stopped = start("stopped", on_event=stop, **settings)
    assert (stopped.status, stopped.exit_code, len(stopped.history)) == ("stopped", 143, 0)
    assert [event for event, _ in stop.events].count("validation_step") == 1
    resumed = start("stopped", resume=True, **settings)
    assert weights_of(resumed) == weights_of(whole)
    assert without_rates(resumed.history) == without_rates(whole.history)


def test_a_signal_that_a_launcher_sends_twice_does_not_cut_the_export(start: Start) -> None:
    class StopTwice(StopAt):
        def __call__(self, event: str, facts: Mapping[str, Any]) -> None:
            super().__call__(event, facts)
            if event == "stage" and str(facts["name"]).startswith("Exporting"):
                signal.raise_signal(signal.SIGTERM)

    run = start(on_event=StopTwice(2, signal.SIGTERM))
    assert (run.status, run.exit_code) == ("stopped", 143)
    assert run.bundle.weights_path.is_file()


def test_a_signal_after_the_last_question_is_answered_though_the_run_is_whole(start: Start) -> None:
    class StopAfterTheEnd(StopAt):
        def __call__(self, event: str, facts: Mapping[str, Any]) -> None:
            super().__call__(event, facts)
            if event == "epoch":
                signal.raise_signal(signal.SIGTERM)

    heard = StopAfterTheEnd(99)
    run = start(epochs=1, on_event=heard)
    assert (run.status, run.exit_code, len(run.history)) == ("finished", 143, 1)
    assert run.bundle.weights_path.is_file()
    assert [facts for event, facts in heard.events if event == "note" and "Stopping here" in str(facts["message"])]


def test_the_signals_are_given_back(start: Start) -> None:
    before = signal.getsignal(signal.SIGINT)
    start(epochs=1, on_event=StopAt(1))
    assert signal.getsignal(signal.SIGINT) is before


def test_going_on_after_the_end_changes_no_weight(start: Start) -> None:
    run = start()
    again = start(resume=True)
    assert again.status == "finished"
    assert weights_of(again) == weights_of(run)
    assert without_rates(again.history) == without_rates(run.history)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"lr": 0.5}, "another lr, got '0.5', expected '0.001'", id="setting"),
        pytest.param({"epochs": 9}, "another epochs, got '9', expected '2'", id="epochs: the schedule hangs on them"),
        pytest.param({"precision": "bf16"}, "another precision, got 'bf16', expected 'fp32'", id="precision"),
        pytest.param({"budget": "1m"}, "another budget, got '1m', expected ''", id="budget"),
        pytest.param({"train_table": build_table(15)}, "another training table, got ", id="training images"),
        pytest.param({"val": build_table(9, seed=1)}, "another validation table, got ", id="validation images"),
        pytest.param({"ema": 0.9}, "another ema, got '0.9', expected '0.0'", id="average that was not kept"),
    ],
)
def test_a_run_does_not_go_on_with_other_data_or_settings(
    start: Start, change: Mapping[str, Any], message: str, tmp_path: Path
) -> None:
    start(on_event=StopAt(2))
    before = hashes_of(tmp_path / "run")
    with pytest.raises(RunError, match=re.escape(f"last.safetensors: the run was started with {message}")):
        start(resume=True, **change)
    assert hashes_of(tmp_path / "run") == before


def test_what_changes_nothing_that_was_computed_may_differ(start: Start) -> None:
    start(on_event=StopAt(2))
    assert start(resume=True, workers=1, patience=5, max_bad_images=0.5, goal="half").status == "finished"


def test_what_was_measured_at_the_start_is_kept_when_a_run_goes_on(start: Start, tmp_path: Path) -> None:
    start(precision="auto", on_event=StopAt(2))
    config = tmp_path / "run/config.json"
    before = json.loads(config.read_text("utf-8"))["resolved"]
    start(precision="auto", resume=True)
    assert json.loads(config.read_text("utf-8"))["resolved"] == before
    assert before["precision"] in before["measured_images_per_second"]


def test_a_folder_that_lost_its_checkpoints_is_refused(start: Start, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/history.jsonl").write_text("{}")
    before = hashes_of(tmp_path / "run")
    message = (
        r"run: there is no checkpoint to go on from, and the folder is not empty \(history.jsonl\)\. Put the run's"
    )
    with pytest.raises(RunError, match=message):
        start(resume=True)
    assert hashes_of(tmp_path / "run") == before


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again_and_says_so(
    start: Start, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    whole = start("whole")
    with pytest.raises(ZeroDivisionError):
        start(on_event=lambda event, _: fail() if event == "step" else None)
    assert not (tmp_path / "run/run.lock").exists()
    events: Events = []
    resumed = start(resume=True, on_event=lambda *event: events.append(event))
    messages = [facts["message"] for event, facts in events if event == "note"]
    assert f"There is no checkpoint in {tmp_path / 'run'} yet: the run starts from its beginning." in messages
    assert weights_of(resumed) == weights_of(whole)


def test_checkpoints_within_an_epoch_change_no_bit(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = start("whole", **EVERYTHING)
    steps: list[int] = []
    save = checkpoints.save_checkpoint

    def note(*given: Any) -> None:
        steps.append(given[4].step)
        save(*given)

    monkeypatch.setattr("manylabel.training.loop.save_checkpoint", note)
    often = start(checkpoint_minutes=1e-9, **EVERYTHING)
    assert steps == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12, 12]
    assert weights_of(often) == weights_of(whole)
    assert without_rates(often.history) == without_rates(whole.history)


@pytest.mark.parametrize("damaged", ["last", "best"])
def test_a_damaged_file_falls_back_and_ends_in_the_same_bits(start: Start, tmp_path: Path, damaged: str) -> None:
    settings = {**EVERYTHING, "monitor": "loss"}
    whole = start("whole", **settings)
    start(on_event=StopAt(9), **settings)  # in the third epoch; the one before is of the end of the second
    file = tmp_path / f"run/checkpoints/{damaged}.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    events: Events = []
    resumed = start(resume=True, on_event=lambda *event: events.append(event), **settings)
    warnings = [
        facts["message"] for event, facts in events if event == "note" and "checkpoint is damaged" in facts["message"]
    ]
    assert len(warnings) == (damaged == "last")
    assert all("last.safetensors" in warning and "previous.safetensors" in warning for warning in warnings)
    assert weights_of(resumed) == weights_of(whole)
    assert without_rates(resumed.history) == without_rates(whole.history)


def test_a_second_run_in_the_folder_is_refused_while_the_first_works(start: Start, tmp_path: Path) -> None:
    found: list[str] = []

    def start_second(event: str, facts: Mapping[str, Any]) -> None:
        if event == "step" and facts["step"] == 6:
            before = hashes_of(tmp_path / "run")
            with pytest.raises(RunError) as caught:
                start(resume=True)
            found.append(str(caught.value))
            assert hashes_of(tmp_path / "run") == before

    start(on_event=start_second)
    assert found == [
        f"{tmp_path / 'run'}: another run works here: process {os.getpid()} on {socket.gethostname()}. "
        "Wait until it has ended, stop it, or choose another --out."
    ]
    assert not (tmp_path / "run/run.lock").exists()


def test_the_folder_of_another_run_is_refused_and_unchanged(start: Start, tmp_path: Path) -> None:
    start(epochs=1)
    before = hashes_of(tmp_path / "run")
    with pytest.raises(RunError, match=r"run: the folder holds another run \(.*\)\. Choose another --out"):
        start(epochs=1)
    assert hashes_of(tmp_path / "run") == before


# --- which epoch is kept ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("monitor", "ema"),
    [
        pytest.param("loss", 0.0, id="weights of the step"),
        pytest.param("loss", 0.5, id="averaged weights"),
        pytest.param("average_precision_macro", 0.5, id="a metric where more is better"),
    ],
)
def test_the_weights_in_the_bundle_are_those_that_had_the_best_score(
    start: Start, tmp_path: Path, ema: float, monitor: str
) -> None:
    # Four steps an epoch; after two epochs the network unlearns, so the best epoch is not the last.
    run = start(epochs=5, lr=0.01, augment="none", ema=ema, monitor=monitor, loss=Loss(get_worse, after=8))
    values = [row[f"val_{monitor}"] for row in run.history]
    lower_is_better = monitor != "average_precision_macro"
    best = int(np.argmin(values) if lower_is_better else np.argmax(values))
    assert best < 4
    assert [row["is_best"] for row in run.history][best]
    assert not any(row["is_best"] for row in run.history[best + 1 :])
    saved = load_file(tmp_path / "run/checkpoints/best.safetensors")
    kept = load_file(run.bundle.weights_path)
    assert all(torch.equal(kept[key], saved[key]) for key in saved)
    last = load_file(tmp_path / "run/checkpoints/last.safetensors")
    assert not torch.equal(kept["head.weight"], last["model.head.weight"])
    provenance = run.bundle.manifest.provenance
    assert (provenance["best_epoch"], provenance["monitor_value"]) == (best + 1, values[best])
    # The bundle itself answers with the score that chose it.
    probs_NL = np.array(
        [list(load(tmp_path / "run").predict(record.pixels).probabilities.values()) for record in VAL.records]  # type: ignore[arg-type]
    )
    truth_NL = VAL.targets.present_NL()
    cross_entropy = -np.where(truth_NL, np.log(probs_NL), np.log(1 - probs_NL)).mean()
    assert cross_entropy == pytest.approx(run.history[best]["val_loss"], rel=1e-4)


def test_patience_ends_a_run_that_gets_no_better(start: Start) -> None:
    run = start(epochs=20, lr=0.01, augment="none", patience=2, loss=Loss(get_worse, after=4))
    best = run.bundle.manifest.provenance["best_epoch"]
    assert run.status == "early"
    assert run.exit_code == 0
    assert len(run.history) == best + 2 < 20
    assert [row["is_best"] for row in run.history][-2:] == [False, False]


def test_a_run_that_ended_early_does_not_go_on(start: Start) -> None:
    options: dict[str, Any] = {"epochs": 20, "lr": 0.01, "patience": 1}
    run = start(loss=Loss(get_worse, after=4), **options)
    again = start(resume=True, **options)
    assert (run.status, again.status, len(again.history)) == ("early", "early", len(run.history))


# --- numbers that are not finite -------------------------------------------------------------------------------------


def test_a_learning_rate_that_explodes_stops_the_run_with_step_and_rate(start: Start, tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        start(lr=1e20, epochs=10, clip_norm=0.0)
    assert re.match(
        r"epoch \d+, step \d+: (the loss or its gradient|an answer for validation) is (nan|inf) at a learning rate of "
        r"1e\+20 \(batch of (train|val)/000\d\d, .*\)\. Lower --lr or --clip-norm; the last checkpoint is kept",
        str(caught.value),
    )
    assert not (tmp_path / "run/bundle").exists()


def to_nan(value: Tensor, _: Tensor) -> Tensor:
    return value * math.nan


def to_steep(value: Tensor, logits: Tensor) -> Tensor:
    """Finite, with a gradient that is not: the slope of a root at zero, times zero."""
    return value + ((logits - logits.detach()) ** 2).sqrt().sum()


@pytest.mark.parametrize("clip_norm", [0.0, 1.0], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("change", [to_nan, to_steep], ids=["loss", "gradient"])
def test_a_loss_that_is_not_finite_leaves_the_last_checkpoint_to_go_on_from(
    start: Start, change: Any, clip_norm: float
) -> None:
    with pytest.raises(
        RunError, match=r"^epoch 2, step 6: the loss or its gradient is nan at a learning rate of 0.001"
    ):
        start(clip_norm=clip_norm, loss=Loss(change, after=5))
    resumed = start(resume=True, clip_norm=clip_norm)
    assert [row["epoch"] for row in resumed.history] == [0, 1]
    assert resumed.status == "finished"


# --- images that cannot be used --------------------------------------------------------------------------------------


def break_image(table: Annotations, row: int) -> str:
    path = Path(table.records[row].path)
    path.write_bytes(path.read_bytes()[:200])
    return table.records[row].id


def test_broken_images_are_skipped_counted_and_named(start: Start, tmp_path: Path) -> None:
    train_table, val = write_table(TRAIN, tmp_path), write_table(VAL, tmp_path)
    broken, broken_in_val = break_image(train_table, 3), break_image(val, 2)
    events: Events = []
    run = start(
        train_table=train_table,
        val=val,
        max_bad_images=0.2,
        on_event=lambda event, facts: events.append((event, facts)),
    )
    assert list(run.reports["val"].skipped) == [broken_in_val]
    assert run.reports["val"].num_images == len(VAL) - 1
    (note,) = [facts["message"] for event, facts in events if event == "note" and "training images" in facts["message"]]
    assert note.startswith(f"Warning: 1 of 14 training images cannot be used and were skipped.\n{broken}: ")
    assert pq.read_table(tmp_path / "run/predictions/val.parquet").num_rows == len(VAL) - 1
    steps = [facts["images_done"] for event, facts in events if event == "step"]
    assert steps[3] == 14  # all rows are accounted for


@pytest.mark.parametrize(("part", "total"), [("train", 14), ("val", 8)])
def test_too_many_broken_images_stop_the_run_and_are_named(start: Start, tmp_path: Path, part: str, total: int) -> None:
    tables = {"train": write_table(TRAIN, tmp_path), "val": write_table(VAL, tmp_path)}
    broken = break_image(tables[part], 3)
    with pytest.raises(RunError) as caught:
        start(train_table=tables["train"], val=tables["val"])
    assert str(caught.value).startswith(
        f"{part}: 1 of {total} images cannot be used, more than --max-bad-images 0.01 allows. "
        f"Mend or remove them ('manylabel inspect --fix' does), or allow more with --max-bad-images.\n{broken}: "
    )


def test_the_first_broken_image_stops_a_run_that_is_told_so(start: Start, tmp_path: Path) -> None:
    table = write_table(TRAIN, tmp_path)
    broken = break_image(table, 3)
    with pytest.raises(RunError) as caught:
        start(train_table=table, bad_images="stop", max_bad_images=1.0)
    assert str(caught.value).startswith("train: 1 of 14 images cannot be used, more than --bad-images stop allows. ")
    assert f"\n{broken}: " in str(caught.value)


def test_images_that_vanish_in_mid_run_are_named_and_the_run_goes_on_once_they_are_back(
    start: Start, tmp_path: Path
) -> None:
    table = write_table(TRAIN, tmp_path)
    whole = start("whole", train_table=table, epochs=3)

    def vanish(event: str, facts: Mapping[str, Any]) -> None:
        if event == "epoch" and facts["epoch"] == 0:
            for record in table.records[:5]:
                Path(record.path).unlink()

    with pytest.raises(RunError, match=r"train-0000\d.*: there is no such file") as caught:
        start("stopped", train_table=table, epochs=3, on_event=vanish)
    assert "of 14 images cannot be used, more than --max-bad-images 0.01 allows" in str(caught.value)
    write_table(TRAIN, tmp_path)
    resumed = start("stopped", train_table=table, epochs=3, resume=True)
    assert weights_of(resumed) == weights_of(whole)
    assert without_rates(resumed.history) == without_rates(whole.history)


def test_a_validation_table_without_a_usable_image_stops_before_anything_is_written(
    start: Start, tmp_path: Path
) -> None:
    val = write_table(VAL, tmp_path)
    for row in range(len(val)):
        break_image(val, row)
    with pytest.raises(DataError, match=r"^val: none of the 8 validation images can be used\. The first: val-00000"):
        start(val=val, max_bad_images=1.0)
    assert not (tmp_path / "run").exists()


# --- tables of every kind --------------------------------------------------------------------------------------------


def test_a_label_that_only_validation_has_is_a_label(start: Start) -> None:
    sets = [[*VAL.labels_of(row), "rare"] for row in range(len(VAL))]
    pixels = [record.pixels for record in VAL.records if record.pixels is not None]
    run = start(val=annotations_from_arrays(pixels, sets, [*LABELS, "rare"], "val"))
    assert tuple(run.bundle.manifest.label_space) == (*LABELS, "rare")
    assert run.reports["val"].num_labels == 4


def test_a_label_without_a_positive_is_left_out_of_what_it_leaves_undefined(start: Start) -> None:
    names = ["blue", "green", "nowhere", "red"]
    tables = [
        annotations_from_arrays(
            [record.pixels for record in table.records if record.pixels is not None],
            [table.labels_of(row) for row in range(len(table))],
            names,
            table.name,
        )
        for table in (TRAIN, VAL)
    ]
    run = start(train_table=tables[0], val=tables[1], monitor="average_precision_macro")
    report = run.reports["val"]
    assert not math.isnan(run.history[-1]["val_average_precision_macro"])
    assert "nowhere" in str(report.undefined)
    assert run.bundle.manifest.provenance["prevalence"]["nowhere"] == 0


def test_one_label_is_enough(start: Start) -> None:
    tables = [
        annotations_from_arrays(
            [record.pixels for record in table.records if record.pixels is not None],
            [["red"] if "red" in table.labels_of(row) else [] for row in range(len(table))],
            ["red"],
            table.name,
        )
        for table in (TRAIN, VAL)
    ]
    run = start(train_table=tables[0], val=tables[1], epochs=1)
    prediction = load(run.folder).predict(VAL.records[0].pixels)  # type: ignore[arg-type]
    assert list(prediction.probabilities) == ["red"]


def test_without_validation_images_some_of_training_are_kept_for_it(start: Start) -> None:
    events: Events = []
    run = start(train_table=build_table(40), val=None, epochs=1, on_event=lambda *event: events.append(event))
    assert run.reports["val"].num_images == 6  # 15 % of 40
    assert run.bundle.manifest.provenance["num_train"] == 34
    assert ("note", {"message": "No validation images were given: 6 of the training images are kept for it."}) in events


def test_test_images_are_judged_and_choose_nothing(start: Start) -> None:
    run = start("with", test=build_table(10, seed=2, name="test"))
    assert run.reports["test"].num_images == 10
    alone = start("without")
    assert weights_of(run) == weights_of(alone)
    assert run.bundle.manifest.policy.thresholds == alone.bundle.manifest.policy.thresholds


def test_no_image_with_a_label_stops_before_anything_is_written(start: Start, tmp_path: Path) -> None:
    pixels = [record.pixels for record in TRAIN.records if record.pixels is not None]
    with pytest.raises(DataError, match="no image has any of the 3 labels"):
        start(train_table=annotations_from_arrays(pixels, [[]] * len(pixels), LABELS, "train"))
    assert not (tmp_path / "run").exists()


# --- settings that reach the loop ------------------------------------------------------------------------------------


def test_features_have_no_memory_order(start: Start) -> None:
    run = start(freeze="backbone", precision="fp32_channels_last", epochs=1)
    assert run.status == "finished"


def test_a_frozen_backbone_keeps_its_weights_and_the_statistics_of_its_norms(start: Start, tmp_path: Path) -> None:
    settings = {"frozen": {}, "longer": {"epochs": 3}, "still": {"lr": 1e-9}}
    for name, changes in settings.items():
        start(name, freeze="backbone", **changes)
    first, longer, still = (load_file(tmp_path / name / "bundle/model.safetensors") for name in settings)
    backbone = [key for key in first if key.startswith("backbone.")]
    assert any(key.endswith("running_mean") for key in backbone)
    assert all(torch.equal(first[key], longer[key]) and torch.equal(first[key], still[key]) for key in backbone)
    assert not torch.equal(first["head.weight"], longer["head.weight"])
    assert not torch.equal(first["head.weight"], still["head.weight"])


def test_the_answers_of_a_frozen_backbone_are_computed_once(start: Start) -> None:
    stages: list[tuple[str, int]] = []

    def note(event: str, facts: Mapping[str, Any]) -> None:
        if event == "stage" and facts["name"].startswith("Features"):
            stages.append((facts["name"], facts["total"]))

    first = start("first", freeze="backbone", on_event=note)
    assert stages == [("Features of train", 14), ("Features of val", 8)]
    second = start("second", freeze="backbone", on_event=note)
    assert len(stages) == 2
    names = ("train_loss", "val_loss")
    figures = [[[row[name] for name in names] for row in run.history] for run in (first, second)]
    assert figures[0] == figures[1]


def test_a_frozen_backbone_scores_in_the_model_what_it_scored_as_features(start: Start) -> None:
    run = start(freeze="backbone", epochs=4, monitor="average_precision_macro")
    best = max(row["val_average_precision_macro"] for row in run.history)
    assert run.reports["val"].metrics["average_precision_macro"].value == pytest.approx(best, abs=1e-6)


def test_a_frozen_run_does_not_go_on_with_another_backbone(start: Start, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    for seed in (0, 1):
        torch.manual_seed(seed)
        save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), weights)
        if seed == 0:
            start(freeze="backbone", weights=str(weights))
    with pytest.raises(RunError, match="the run was started with another features of the backbone"):
        start(freeze="backbone", weights=str(weights), resume=True)


@pytest.mark.parametrize("freeze", ["none", "backbone"])
def test_a_head_that_looks_at_positions_is_trained_judged_and_recorded(
    start: Start, monkeypatch: pytest.MonkeyPatch, freeze: str
) -> None:
    monkeypatch.setattr(export, "export_onnx", export_onnx)  # the graph that tests fill is that of a linear head
    head = "ml_decoder,num_groups=2,hidden=16"
    settings = {"head": head, "freeze": freeze, "image_size": 64, "ema": 0.5, "monitor": "average_precision_macro"}
    run = start(epochs=3, **settings)
    best = max(row["val_average_precision_macro"] for row in run.history)
    assert run.reports["val"].metrics["average_precision_macro"].value == pytest.approx(best, abs=1e-6)
    assert run.bundle.manifest.head == {"name": "ml_decoder", "text": head, "takes": "tokens", "num_features": 96}
    assert "head.queries_QE" in load_file(run.bundle.weights_path)


def test_batches_that_are_accumulated_learn_as_one_large_batch_does(start: Start) -> None:
    truth_NL = TRAIN.targets.present_NL()
    known_NL = np.random.default_rng(5).random(truth_NL.shape) < 0.7  # so that batches differ in what they know
    table = dataclasses.replace(TRAIN, targets=Targets.from_dense(truth_NL, known_NL))
    settings = {"train_table": table, "freeze": "backbone", "augment": "none", "label_smoothing": 0.1}
    events: Events = []
    small = start("small", batch_size=4, accumulate=2, on_event=lambda *event: events.append(event), **settings)
    large = start("large", batch_size=8, **settings)
    # The last group of an epoch has 6 images, and steps too.
    assert [facts["images_done"] for event, facts in events if event == "step"] == [8, 14, 8, 14]
    heads = [load_file(run.bundle.weights_path)["head.weight"] for run in (small, large)]
    torch.testing.assert_close(heads[0], heads[1], rtol=1e-4, atol=1e-6)
    alone = start("alone", batch_size=4, **settings)
    assert not torch.allclose(heads[0], load_file(alone.bundle.weights_path)["head.weight"], rtol=1e-4, atol=1e-6)


def test_the_head_learns_alone_for_as_many_epochs_as_asked(start: Start, tmp_path: Path) -> None:
    states = []
    for name, epochs in (("held", 2), ("joined", 3)):
        start(name, epochs=epochs, head_epochs=2)
        states.append(load_file(tmp_path / name / "checkpoints/last.safetensors"))
    key = next(key for key in states[0] if key.startswith("model.backbone.") and key.endswith("running_mean"))
    assert (states[0][key] == 0).all()
    assert not (states[1][key] == 0).all()
    moved = [
        key
        for key in states[0]
        if key.startswith("model.backbone.") and not torch.equal(states[0][key], states[1][key])
    ]
    assert len(moved) > 1


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_report_reproduces_the_score_of_the_best_epoch(start: Start, ema: float) -> None:
    run = start(epochs=3, ema=ema, monitor="average_precision_macro")
    best = max(row["val_average_precision_macro"] for row in run.history)
    (row,) = [row for row in run.history if row["epoch"] + 1 == run.bundle.manifest.provenance["best_epoch"]]
    assert row["val_average_precision_macro"] == best
    assert run.reports["val"].metrics["average_precision_macro"].value == pytest.approx(best, abs=1e-6)


def test_label_smoothing_moves_the_truth_towards_one_half_in_training_only(start: Start) -> None:
    seen: dict[bool, set[float]] = {True: set(), False: set()}

    def loss(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        seen[logits.requires_grad] |= {round(value, 6) for value in truth.flatten().tolist()}
        return binary_cross_entropy(logits, truth, known)

    start(epochs=1, label_smoothing=0.2, loss=loss)
    assert seen == {True: {0.1, 0.9}, False: {0.0, 1.0}}


@pytest.mark.parametrize("images", [1, 14])
def test_batches_of_one_are_refused_where_norms_need_two(start: Start, images: int) -> None:
    with pytest.raises(ConfigError) as caught:
        start(train_table=TRAIN.select(range(14 - images, 14)), batch_size=1)
    assert str(caught.value) == (
        "batch_size: this backbone normalises over the images of a batch, and cannot learn from one alone, "
        "expected at least 2 images in a batch, and in the training table. "
        "Raise --batch-size, or keep the norms as they are with --freeze backbone."
    )


def test_batches_of_one_are_learnt_from_where_norms_are_kept(start: Start) -> None:
    run = start(batch_size=1, epochs=1, freeze="backbone")
    assert run.history[0]["train_loss"] > 0


def test_a_last_batch_of_one_image_is_left_out_where_norms_need_two(start: Start) -> None:
    events: Events = []
    run = start(train_table=TRAIN.select(range(9)), epochs=1, on_event=lambda *event: events.append(event))
    assert [facts["images_done"] for event, facts in events if event == "step"] == [4, 8, 9]
    assert math.isfinite(run.history[0]["train_loss"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"monitor": "los"}, "monitor: unknown monitor 'los' (did you mean 'loss'?)"),
        ({"head": "ml_decodr"}, "head: unknown head 'ml_decodr' (did you mean 'ml_decoder'?)"),
        ({"head": "mlp,hiden=4"}, "head: unknown setting 'hiden' (did you mean 'hidden'?) of mlp"),
        ({"goal": "halv"}, "goal: unknown goal 'halv' (did you mean 'half'?)"),
        ({"loss": None, "augment": "lite"}, "augment: unknown preset 'lite'"),
        ({"head": "lin"}, "head: unknown head 'lin'"),
        (
            {"augment": "light,crop=2", "mix": "cutmx"},
            "augment crop: out of range, got 2.0, expected 0.01 to 1.\nmix: unknown mix 'cutmx' (did you",
        ),
    ],
    ids=["monitor", "nearly a head", "setting of a head", "goal", "augment", "head", "augment and mix"],
)
def test_a_name_that_does_not_exist_stops_before_anything_is_written(
    start: Start, tmp_path: Path, settings: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ManylabelError) as caught:
        start(**settings)
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "run").exists()


# --- a full disk -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["checkpoints/last", "history"])
def test_a_full_disk_is_one_sentence_and_leaves_what_existed(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    start(on_event=StopAt(5))  # one epoch is there
    before = hashes_of(tmp_path / "run" / "checkpoints")
    history = (tmp_path / "run/history.jsonl").read_bytes()
    replace = Path.replace

    def fail(self: Path, target: Any) -> Path:
        if part in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(RunError, match=r"cannot write [\d,]+ bytes \(No space left on device\)\. Free space or choose"):
        start(resume=True)
    after = hashes_of(tmp_path / "run" / "checkpoints")
    assert set(before.values()) & set(after.values()) >= {before["last.safetensors"]}
    if part == "history":
        assert (tmp_path / "run/history.jsonl").read_bytes() == history
    assert not list((tmp_path / "run").rglob("*.partial"))
    monkeypatch.undo()


# --- the folder ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with everything that a person gets: the real export, the pictures and the page."""
    from manylabel.runs.train import train

    out = tmp_path_factory.mktemp("runs") / "first"
    config = TrainConfig(**SETTINGS)
    test = build_table(10, seed=2, name="test")
    return train(TRAIN, VAL, config, out=out, test=test, on_event=ignore)


def test_every_promised_file_is_there_and_can_be_read(finished: Run) -> None:
    folder = finished.folder
    facts = json.loads((folder / "config.json").read_text("utf-8"))
    assert TrainConfig(**facts["config"]) == TrainConfig(**SETTINGS)
    assert {"versions", "data", "hardware"} <= set(facts)
    assert facts["data"]["train"]["digest"] == TRAIN.digest
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text("utf-8").splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1]
    assert all(not isinstance(value, dict | list) for row in rows for value in row.values())
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {
        "best.safetensors", "last.safetensors", "previous.safetensors"
    }  # fmt: skip
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert set(metrics) == {"val", "test"}
    assert metrics["test"]["num_images"] == 10
    assert set(SUMMARY_NAMES) <= set(metrics["test"]["metrics"])
    page = (folder / "report.html").read_text("utf-8")
    assert not re.search(r"""(src|href)=["']https?:""", page)
    assert {path.name for path in (folder / "bundle").iterdir()} == {
        "manifest.json", "model.safetensors", "model.onnx", "README.md"
    }  # fmt: skip


def test_the_page_and_the_card_show_what_the_run_knows(finished: Run) -> None:
    page = (finished.folder / "report.html").read_text("utf-8")
    assert "data:image/jpeg;base64," in page  # the worst images, from the tables at hand
    assert "What was found in the data" in page
    assert "manylabel train data.csv --images IMAGES --config config.json --out AGAIN" in page
    assert page.index("Results on test</bdi></h2>") < page.index("Results on val</bdi></h2>")
    card = (finished.folder / "bundle" / "README.md").read_text("utf-8")
    assert "## Results on test" in card
    assert f"| F1 per label | {finished.reports['test'].metrics['f1_macro'].value:.3f} |" in card


def test_the_predictions_on_disk_are_the_bundles_answers_with_the_truth(finished: Run) -> None:
    predictor = load(finished.folder)
    for part, table in (("val", VAL), ("test", build_table(10, seed=2, name="test"))):
        columns = pq.read_table(finished.folder / f"predictions/{part}.parquet").to_pydict()
        expected = ["image", *(f"{kind}:{name}" for kind in ("probability", "truth") for name in LABELS)]
        assert sorted(columns) == sorted(expected)
        assert columns["image"] == list(table.images)
        for row, record in enumerate(table.records):
            probs = predictor.predict(record.pixels).probabilities  # type: ignore[arg-type]
            assert {name: columns[f"probability:{name}"][row] for name in LABELS} == dict(probs)
            assert [name for name in LABELS if columns[f"truth:{name}"][row]] == table.labels_of(row)


def test_the_table_of_a_run_can_be_trained_on_again(start: Start, tmp_path: Path) -> None:
    train_table, val = write_table(TRAIN, tmp_path), write_table(VAL, tmp_path)
    start(train_table=train_table, val=val, epochs=1)
    table = load_annotations(tmp_path / "run/data.csv", images=tmp_path)
    parts = table.parts()
    assert parts["train"].images == train_table.images
    assert parts["val"].images == val.images
    assert [parts["val"].labels_of(row) for row in range(8)] == [val.labels_of(row) for row in range(8)]


def test_every_epoch_is_told_and_written_alike(start: Start) -> None:
    events: Events = []
    run = start(on_event=lambda *event: events.append(event))
    assert [facts for event, facts in events if event == "epoch"] == list(run.history)
    assert [facts["step"] for event, facts in events if event == "step"] == list(range(1, 9))
    assert {facts["num_steps"] for event, facts in events if event == "step"} == {8}
    assert dataclasses.is_dataclass(run)
