"""Checkpoints: everything comes back bit for bit, and only to the run that it belongs to."""

from __future__ import annotations

import errno
import math
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from manylabel.errors import RunError
from manylabel.training import checkpoints
from manylabel.training.checkpoints import (
    Progress,
    load_checkpoint,
    load_weights,
    mend_checkpoints,
    save_checkpoint,
    save_weights,
)
from manylabel.training.ema import build_average

IDENTITY = {"training table": "abc", "lr": "0.001"}


def build(seed: int = 0, decay: float = 0.9) -> tuple[nn.Module, AveragedModel | None, torch.optim.AdamW]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    optimiser = torch.optim.AdamW(
        [{"params": part.parameters(), "lr": lr} for part, lr in ((model[0], 0.1), (model[3], 0.01))]
    )
    return model, build_average(model, decay), optimiser


def step(model: nn.Module, average: AveragedModel | None, optimiser: torch.optim.Optimizer, count: int) -> None:
    for _ in range(count):
        optimiser.zero_grad()
        model(torch.randn(6, 4)).square().sum().backward()
        optimiser.step()
        if average is not None:
            average.update_parameters(model)


def everything(model: nn.Module, average: AveragedModel | None, optimiser: torch.optim.Optimizer) -> list[torch.Tensor]:
    states = [state[key] for state in optimiser.state.values() for key in sorted(state)]
    averaged = [] if average is None else list(average.state_dict().values())
    return [*model.state_dict().values(), *averaged, *states, torch.random.get_rng_state()]


PROGRESS = Progress(
    epoch=2,
    images_done=7,
    step=19,
    loss_sum=0.1 + 0.2,
    num_seen=6,
    best_value=math.nan,
    best_epoch=1,
    history=[{"epoch": 0, "val_loss": 1 / 3, "val_f1_macro": math.nan}],
    bad_images={"ü|<b>.png": "cut off"},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a checkpoint belongs, beside the best weights of an epoch that has ended."""
    save_weights(tmp_path / "best.safetensors", {"a": torch.arange(3.0)})
    return tmp_path / "last.safetensors"


@pytest.mark.parametrize("decay", [0.0, 0.9], ids=["without average", "with average"])
def test_a_run_goes_on_as_if_it_had_never_stopped(path: Path, decay: float) -> None:
    whole = build(decay=decay)
    step(*whole, count=3)
    save_checkpoint(path, *whole, PROGRESS, IDENTITY)
    saved = [tensor.clone() for tensor in everything(*whole)]
    step(*whole, count=2)
    finished = [tensor.clone() for tensor in everything(*whole)]

    resumed = build(seed=99, decay=decay)
    step(*resumed, count=1)
    progress = load_checkpoint(path, *resumed, IDENTITY)
    assert repr(progress) == repr(PROGRESS)  # NaN equals nothing, but is written alike
    loaded = everything(*resumed)
    assert len(loaded) == len(saved)
    assert all(torch.equal(one, other) for one, other in zip(loaded, saved, strict=True))
    step(*resumed, count=2)
    assert all(torch.equal(one, other) for one, other in zip(everything(*resumed), finished, strict=True))


def test_a_checkpoint_before_the_first_step_comes_back_too(tmp_path: Path) -> None:
    parts = build()
    save_checkpoint(tmp_path / "last.safetensors", *parts, Progress(), IDENTITY)
    assert asdict(load_checkpoint(tmp_path / "last.safetensors", *build(1), IDENTITY))["epoch"] == 0


@pytest.mark.parametrize(
    ("key", "given"), [("training table", "xyz"), ("lr", "0.01"), ("a setting that is newer than the run", "1")]
)
def test_another_run_is_refused_with_what_differs_and_nothing_is_loaded(path: Path, key: str, given: str) -> None:
    save_checkpoint(path, *build(), PROGRESS, IDENTITY)
    resumed = build(seed=1)
    before = [tensor.clone() for tensor in everything(*resumed)]
    with pytest.raises(RunError) as caught:
        load_checkpoint(path, *resumed, IDENTITY | {key: given})
    assert str(caught.value) == (
        f"{path}: the run was started with another {key}, got {given!r}, expected {IDENTITY.get(key)!r}. "
        "Resume with the same data and settings, or start a new run in another --out."
    )
    assert all(torch.equal(one, other) for one, other in zip(everything(*resumed), before, strict=True))


def test_all_that_differs_is_listed(path: Path) -> None:
    save_checkpoint(path, *build(), PROGRESS, IDENTITY)
    with pytest.raises(RunError) as caught:
        load_checkpoint(path, *build(), {"training table": "xyz", "lr": "0.01"})
    assert str(caught.value).splitlines() == [
        f"{path}: the run was started with another training table, got 'xyz', expected 'abc'.",
        f"{path}: the run was started with another lr, got '0.01', expected '0.001'.",
        "Resume with the same data and settings, or start a new run in another --out.",
    ]


def test_weights_of_another_network_are_refused(path: Path) -> None:
    save_checkpoint(path, *build(), PROGRESS, IDENTITY)
    other = nn.Sequential(nn.Linear(4, 9))
    with pytest.raises(RunError, match=r"last\.safetensors: its weights are not those of this network \(Error\(s\) in"):
        load_checkpoint(path, other, None, torch.optim.AdamW(other.parameters()), IDENTITY)


def test_the_file_of_a_newer_version_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manylabel.training.checkpoints.VERSION", 7)
    save_checkpoint(path, *build(), PROGRESS, IDENTITY)
    monkeypatch.undo()
    with pytest.raises(RunError) as caught:
        load_checkpoint(path, *build(), IDENTITY)
    assert str(caught.value) == (
        f"{path}: the checkpoint was written by a newer manylabel, got 7, expected version 1. "
        "Install the version that config.json names, or start a new run in another --out."
    )


# --- two of them -----------------------------------------------------------------------------------------------------


def save_twice(path: Path) -> None:
    """Leave a checkpoint of step 19 and, newer, one of step 20 with other best weights."""
    parts = build()
    save_checkpoint(path, *parts, PROGRESS, IDENTITY)
    step(*parts, count=1)
    save_weights(path.with_name("best.safetensors"), {"a": torch.zeros(3)})
    save_checkpoint(path, *parts, replace(PROGRESS, step=20), IDENTITY)


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_two_are_kept(path: Path) -> None:
    save_twice(path)
    save_checkpoint(path, *build(), replace(PROGRESS, step=21), IDENTITY)
    assert names_in(path.parent) == ["best.safetensors", "last.safetensors", "previous.safetensors"]
    steps = [
        load_checkpoint(path.with_name(f"{name}.safetensors"), *build(), IDENTITY).step for name in ("last", "previous")
    ]
    assert steps == [21, 20]


def test_there_is_never_a_moment_without_a_whole_checkpoint(path: Path) -> None:
    state = build()
    step(*state, count=1)
    save_checkpoint(path, *state, PROGRESS, IDENTITY)
    previous = path.with_name("previous.safetensors")
    is_over, looks, failures, number = threading.Event(), [0], [], 0

    def look() -> None:
        while not is_over.is_set():
            looks[0] += 1
            # The older one again: what was the newer in the first look may have become it before the second.
            if not any(_is_whole(candidate) for candidate in (previous, path, previous)):
                failures.append(looks[0])
            time.sleep(0.0005)

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            until = time.monotonic() + 60
            while not looking.done() and time.monotonic() < until and (looks[0] < 100 or number < 200):
                number += 1
                save_checkpoint(path, *state, replace(PROGRESS, step=number), IDENTITY)
        finally:
            is_over.set()
        looking.result()
    assert (number >= 200, looks[0] >= 100) == (True, True)
    assert failures == []


def _is_whole(path: Path) -> bool:
    try:
        return bool(checkpoints._read(path))
    except RunError:
        return False


def test_a_kill_between_the_two_moves_loses_nothing(path: Path) -> None:
    save_twice(path)
    path.unlink()
    messages: list[str] = []
    progress = load_checkpoint(path, *build(), IDENTITY, lambda _, facts: messages.append(facts["message"]))
    assert progress.step == 19
    previous = path.with_name("previous.safetensors")
    assert messages == [
        f"Warning: {path}: the checkpoint is missing. The run goes on from the one before it, {previous}."
    ]


def test_a_damaged_one_is_put_aside_and_the_best_weights_go_back_as_well(path: Path) -> None:
    save_twice(path)
    damaged = cut(path.read_bytes())
    path.write_bytes(damaged)
    parts = build()
    progress = load_checkpoint(path, *parts, IDENTITY)
    mend_checkpoints(path)
    assert names_in(path.parent) == ["best.safetensors", "damaged.safetensors", "previous.safetensors"]
    assert load_weights(path.with_name("best.safetensors"))["a"].tolist() == [0, 1, 2]
    # It never takes the place of the whole one.
    save_checkpoint(path, *parts, progress, IDENTITY)
    path.unlink()
    assert load_checkpoint(path, *build(), IDENTITY).step == 19


def test_best_weights_of_an_epoch_that_is_not_in_the_checkpoint_go_away(path: Path) -> None:
    save_checkpoint(path, *build(), Progress(), IDENTITY)
    mend_checkpoints(path)
    assert names_in(path.parent) == ["last.safetensors"]


def test_where_both_are_damaged_nothing_is_touched(path: Path) -> None:
    save_twice(path)
    previous = path.with_name("previous.safetensors")
    for file in (path, previous):
        file.write_bytes(cut(file.read_bytes()))
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(RunError) as caught:
        load_checkpoint(path, *build(), IDENTITY)
    assert str(caught.value).splitlines() == [
        f"{path}: the checkpoint is damaged (its checksum does not fit).",
        f"{previous}: the checkpoint is damaged (its checksum does not fit).",
        f"{path.parent}: no checkpoint is left to go on from. Copy a whole one there from a backup, or start a new run "
        "in another --out; nothing was changed.",
    ]
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.03, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damage_anywhere_is_seen(path: Path, share: float, damage: str) -> None:
    save_checkpoint(path, *build(), PROGRESS, IDENTITY)
    data = path.read_bytes()
    place = int(share * len(data))
    flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    path.write_bytes(data[:place] if damage == "cut" else flipped)
    with pytest.raises(RunError, match="its checksum does not fit"):
        load_checkpoint(path, *build(), IDENTITY)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    return data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(cut, "the checkpoint is damaged", id="cut off"),
        pytest.param(flip, "the checkpoint is damaged", id="one bit of the numbers"),
        pytest.param(lambda _: b"", "the checkpoint is damaged", id="empty"),
        pytest.param(lambda data: b"\x80\x04" + data, "the checkpoint is damaged", id="no safetensors"),
    ],
)
def test_a_damaged_checkpoint_is_named(path: Path, damage: Any, reason: str) -> None:
    save_checkpoint(path, *build(), PROGRESS, IDENTITY)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunError) as caught:
        load_checkpoint(path, *build(), IDENTITY)
    assert str(caught.value).startswith(f"{path}: {reason} (its checksum does not fit).")


def test_weights_alone_are_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    save_weights(path, {"a": torch.zeros(1)})
    with pytest.raises(RunError) as caught:
        load_checkpoint(path, *build(), IDENTITY)
    assert str(caught.value) == f"{path}: not a checkpoint of a run. Start a new run in another --out."


def test_a_checkpoint_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    with pytest.raises(RunError) as caught:
        load_checkpoint(path, *build(), IDENTITY)
    assert str(caught.value) == f"{path}: there is no checkpoint. Start the run without --resume."


def test_damaged_weights_say_that_the_checkpoint_has_them_too(tmp_path: Path) -> None:
    save_weights(tmp_path / "best.safetensors", {"a": torch.zeros(1)})
    (tmp_path / "best.safetensors").write_bytes(b"")
    with pytest.raises(
        RunError, match=r"fit\)\. Give the same command with --resume: the checkpoint holds these weights"
    ):
        load_weights(tmp_path / "best.safetensors")


def test_weights_come_back_as_they_were(tmp_path: Path) -> None:
    state = build()[0].to(memory_format=torch.channels_last).state_dict()
    save_weights(tmp_path / "best.safetensors", state, {"epoch": "3"})
    loaded = load_weights(tmp_path / "best.safetensors")
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_a_full_disk_leaves_the_older_checkpoint(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = build()
    save_checkpoint(path, *parts, PROGRESS, IDENTITY)
    older = path.read_bytes()
    step(*parts, count=1)

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunError, match=r"last\.safetensors\S*: cannot write [\d,]+ bytes \(No space left on device\)"):
        save_checkpoint(path, *parts, PROGRESS, IDENTITY)
    assert path.read_bytes() == older
    assert names_in(path.parent) == ["best.safetensors", "last.safetensors"]
