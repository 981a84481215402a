"""`manylabel tune` as a command: what it prints and writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from manylabel.bundle.bundle import hash_file, load_bundle
from manylabel.bundle.manifest import Manifest
from manylabel.bundle.tuned import write_manifest
from manylabel.cli.tables import Reading
from manylabel.cli.tune import run_tune
from manylabel.data.preprocess import Preprocess
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.rules import Rule
from manylabel.errors import ConfigError, DataError
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

SPACE = LabelSpace(("day", "[bold]dog", "night"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A bundle, and beside it the answers `val.parquet`."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"")
    preprocess = Preprocess(height_px=8, width_px=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    files = {"model.onnx": hash_file(folder / "model.onnx")}
    manifest = Manifest(SPACE, preprocess, DecisionPolicy(SPACE, (0.5,) * 3), {}, {}, {}, files)
    (folder / "manifest.json").write_text(write_manifest(manifest), "utf-8")
    rng = np.random.default_rng(0)
    truth_NL = rng.random((300, 3)) < 0.4
    probs_NL = 1 / (1 + np.exp(-rng.normal(0, 1, truth_NL.shape) - 3 * truth_NL + 3))
    images = tuple(f"{n}.jpg" for n in range(300))
    Predictions(images, SPACE, probs_NL, Targets.from_dense(truth_NL)).save(tmp_path / "val.parquet")
    return folder


def call(model: Path, **given: object) -> int:
    options: dict[str, object] = {
        "goal": "f1", "calibrate": None, "rules": None, "abstain": None, "mine": None, "part": None,
        "unknown_labels": "stop", "out": None, "json": False, "quiet": True,
    }  # fmt: skip
    data = str(model.parent / "val.parquet")
    return run_tune(str(model), data, Reading(), **{**options, **given})  # type: ignore[arg-type]


def test_the_figures_before_and_after_are_printed_in_80_columns(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(model, calibrate="auto", abstain="margin,share=0.2") == 0
    printed = capsys.readouterr().out
    assert "Worth it: f1_macro rises from" in printed
    assert "Each image is decided by what was chosen without it:" in printed
    assert "Sent to a person: 20.0% of the images, where a label is within" in printed
    assert "[bold]dog" in printed
    assert "Nothing was written: --out BUNDLE keeps these decisions." in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_bundle_with_the_new_decisions_is_written(model: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nkind = "exclusive"\nlabels = ["day", "night"]\n', "utf-8")
    call(model, goal="f_beta,beta=2", rules=str(rules), out=tmp_path / "tuned")
    policy = load_bundle(tmp_path / "tuned").manifest.policy
    assert policy.goal == "f_beta,beta=2"
    assert policy.rules == (Rule("exclusive", ("day", "night")),)
    call(tmp_path / "tuned", goal=None, rules="none", out=tmp_path / "bare")
    assert load_bundle(tmp_path / "bare").manifest.policy.rules == ()


def test_json_holds_the_policy_and_every_figure(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(model, json=True, goal="recall,at_least=0.9")
    answer = json.loads(capsys.readouterr().out)
    assert answer["num_images"] == 300
    assert answer["policy"]["gain"]["asked"] == {"metric": "recall_macro", "at_least": 0.9}
    assert set(answer["figures"]["f1_macro"]) == {"before", "after", "gain", "low", "high"}


def test_proposed_rules_are_written_to_a_file(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(model, mine=tmp_path / "mined.toml")
    assert (tmp_path / "mined.toml").read_text("utf-8").startswith("# Proposed from data.")
    assert "Proposed rules, not applied: 0." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        pytest.param({"goal": "f3"}, ConfigError, "goal: unknown goal 'f3'", id="goal"),
        pytest.param({"calibrate": "x"}, ConfigError, "calibrate: unknown method 'x'", id="method"),
        pytest.param({"rules": "gone.toml"}, ConfigError, "gone.toml: there is no such file of rules", id="rules"),
        pytest.param({"abstain": "x"}, ConfigError, "abstain: unknown choice 'x'", id="abstain"),
    ],
)
def test_what_does_not_exist_is_refused(
    model: Path, given: dict[str, object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        call(model, **given)


def test_a_part_that_does_not_exist_is_refused(model: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("image,labels,part\na.png,day,train\n", "utf-8")
    with pytest.raises(DataError, match=r"there is no part 'val', expected train, all\. Name the part with --part\."):
        run_tune(
            str(model),
            str(tmp_path / "t.csv"),
            Reading(),
            None,
            None,
            None,
            None,
            None,
            None,
            "stop",
            None,
            False,
            True,
        )
