"""metrics.json: several parts in one file that any JSON reader takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from manylabel.errors import ConfigError, RunError
from manylabel.evaluation.evaluate import Report
from manylabel.evaluation.report.metrics import build_metrics, load_metrics, save_metrics


def test_several_parts_are_saved_and_loaded_by_name(make_report: Callable[..., Report], tmp_path: Path) -> None:
    val, test = make_report(name="val"), make_report(name="test", seed=1, share_unknown=0.3)
    save_metrics([val, test], tmp_path / "metrics.json")
    assert load_metrics(tmp_path / "metrics.json") == {"val": val.to_dict(), "test": test.to_dict()}
    assert build_metrics([val, test]) == {"val": val.to_dict(), "test": test.to_dict()}


def test_an_undefined_number_is_null_and_never_nan(make_report: Callable[..., Report], tmp_path: Path) -> None:
    save_metrics([make_report(share_unknown=1.0)], tmp_path / "metrics.json")
    text = (tmp_path / "metrics.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert load_metrics(tmp_path / "metrics.json")["test"]["metrics"]["f1_macro"] == {
        "value": None,
        "low": None,
        "high": None,
    }


def test_names_survive_even_those_that_are_not_text(make_report: Callable[..., Report], tmp_path: Path) -> None:
    broken = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    report = make_report(names=["犬", "Straße", "c", "d"], skipped={broken: "truncated"})
    save_metrics([report], tmp_path / "metrics.json")
    assert "犬" in (tmp_path / "metrics.json").read_text(encoding="utf-8"), "names can be read by people"
    part = load_metrics(tmp_path / "metrics.json")["test"]
    assert part["skipped"] == {broken: "truncated"}
    assert [row["label"] for row in part["labels"]] == ["犬", "Straße", "c", "d"]


def test_two_parts_of_one_name_are_refused(make_report: Callable[..., Report], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two parts have one name: test"):
        save_metrics([make_report(), make_report()], tmp_path / "metrics.json")
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(None, "cannot be read", id="there is no file"),
        pytest.param("{", "is not JSON", id="cut off"),
        pytest.param("[1]", "is not a metrics.json", id="another JSON file"),
        pytest.param(json.dumps({"test": {}}), "is not a metrics.json", id="a part without metrics"),
    ],
)
def test_what_is_no_metrics_file_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "metrics.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=f"metrics.json: {message}"):
        load_metrics(path)
