"""History: one JSON object per line, with null for what is undefined."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from manylabel.errors import RunError
from manylabel.training.history import load_history, save_history

ROWS = [
    {"epoch": 0, "train_loss": 0.1 + 0.2, "val_roc_auc_macro": math.nan, "monitor": "loss", "is_best": True},
    {"epoch": 1, "train_loss": 1e-17, "val_roc_auc_macro": math.inf, "monitor": "loss", "is_best": False},
]


def test_rows_come_back_as_they_were_with_null_for_what_is_undefined(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    save_history(path, ROWS)
    assert load_history(path) == [{**row, "val_roc_auc_macro": None} for row in ROWS]


def test_every_line_is_strict_json(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    save_history(path, ROWS)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    lines = path.read_text().splitlines()
    assert [json.loads(line, parse_constant=refuse)["epoch"] for line in lines] == [0, 1]


def test_no_epoch_is_an_empty_history(tmp_path: Path) -> None:
    assert load_history(tmp_path / "history.jsonl") == []
    save_history(tmp_path / "history.jsonl", [])
    assert load_history(tmp_path / "history.jsonl") == []


def test_a_damaged_line_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"epoch": 0}\n{"epo')
    with pytest.raises(RunError, match=r"history\.jsonl: a line is not JSON \(.*\)\. Restore the file or start a new"):
        load_history(path)
