"""Loading a bundle: what fits is read back, what was damaged is one sentence, and torch is not needed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from manylabel.bundle.bundle import Bundle, load_bundle
from manylabel.bundle.card import save_card, write_card
from manylabel.bundle.manifest import SCHEMA_VERSION, Manifest
from manylabel.bundle.tuned import save_policy
from manylabel.data.preprocess import Preprocess
from manylabel.decisions.policy import DecisionPolicy
from manylabel.errors import BundleError
from manylabel.labels.space import LabelSpace

SPACE = LabelSpace(("beach", "dog"))
MANIFEST = Manifest(
    SPACE,
    Preprocess(height_px=8, width_px=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    DecisionPolicy(SPACE, (0.3, 0.6)),
    {"name": "mean"},
    {"name": "linear"},
    {},
    {"model.onnx": "00"},
)


def edit(folder: Path, **values: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


def test_a_saved_bundle_is_read_back_equal(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert Manifest.from_dict(bundle.manifest.to_dict(), "x") == bundle.manifest
    assert bundle.manifest.policy.thresholds == (0.5, 0.25, 0.75)
    assert bundle.manifest.policy.sources == ("label", "global", "label")
    assert set(bundle.manifest.files) == {"model.safetensors", "model.onnx"}
    assert (bundle.onnx_path, bundle.weights_path) == (folder / "model.onnx", folder / "model.safetensors")
    assert len(bundle.digest) == 16


def test_a_run_folder_stands_for_its_bundle(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run" / "bundle")
    assert load_bundle(tmp_path / "run").digest == load_bundle(folder).digest


def swap_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(
            lambda folder: swap_byte(folder / "model.onnx"),
            "{folder}/model.onnx: the file is not the one its manifest describes. Copy the whole bundle folder again.",
            id="network changed",
        ),
        pytest.param(
            lambda folder: (folder / "model.onnx").unlink(),
            "{folder}/model.onnx: the file is missing. Copy the whole bundle folder.",
            id="network missing",
        ),
        pytest.param(
            lambda folder: edit(folder, policy={**MANIFEST.policy.to_dict(), "thresholds": {}}),
            "{folder}/manifest.json: the manifest is damaged (decision policy: its thresholds are not "
            "for the model's labels",
            id="thresholds gone",
        ),
        pytest.param(
            lambda folder: edit(folder, labels=["green | bright", "red", "blue"]),
            "{folder}/manifest.json: the manifest was changed after it was written: its digest does not fit, got '",
            id="labels in another order",
        ),
        pytest.param(
            lambda folder: edit(folder, provenance={"prevalence": {"red": 0.9}}),
            "{folder}/manifest.json: the manifest was changed after it was written: its checksum does not fit, got '",
            id="other training frequencies",
        ),
        pytest.param(
            lambda folder: (folder / "model.safetensors").unlink(),
            "{folder}/model.safetensors: the file is missing. Copy the whole bundle folder.",
            id="weights not copied",
        ),
        pytest.param(
            lambda folder: edit(folder, schema_version=SCHEMA_VERSION + 1),
            "{folder}/manifest.json: the manifest is of a kind that this manylabel does not know, "
            f"got {SCHEMA_VERSION + 1}, expected 1 to {SCHEMA_VERSION}. Upgrade manylabel.",
            id="newer schema",
        ),
        pytest.param(
            lambda folder: edit(folder, schema_version="1"),
            "{folder}/manifest.json: the manifest is of a kind that this manylabel does not know, got '1'",
            id="schema in words",
        ),
        pytest.param(
            lambda folder: (folder / "manifest.json").write_text("{"),
            "{folder}/manifest.json: not JSON (",
            id="not JSON",
        ),
        pytest.param(
            lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe{}"),
            "{folder}/manifest.json: not JSON (",
            id="not UTF-8",
        ),
        pytest.param(
            lambda folder: (folder / "manifest.json").write_text("[1]"),
            "{folder}/manifest.json: not a manifest. Export the model again.",
            id="a list",
        ),
        pytest.param(
            lambda folder: (folder / "manifest.json").write_text("{}"),
            "{folder}/manifest.json: the manifest lacks 'schema_version'. Export the model again.",
            id="no key",
        ),
        pytest.param(
            lambda folder: (folder / "manifest.json").unlink(),
            "{folder}: no model in this folder, expected manifest.json, or a run folder with bundle/manifest.json.",
            id="no manifest",
        ),
        pytest.param(
            lambda folder: shutil.rmtree(folder),
            "{folder}: there is no such model, expected a bundle or a run folder.",
            id="no folder",
        ),
    ],
)
def test_a_damaged_bundle_is_one_sentence(folder: Path, damage: Any, message: str) -> None:
    damage(folder)
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    assert str(caught.value).startswith(message.format(folder=folder))


@pytest.mark.parametrize("key", ["labels", "preprocess", "policy", "backbone", "head", "provenance", "files"])
@pytest.mark.parametrize("value", [None, 7, "x", [1], {"x": 1}], ids=str)
def test_no_value_of_a_manifest_ends_in_a_traceback(key: str, value: Any) -> None:
    values = {**MANIFEST.to_dict(), key: value}
    if key in ("backbone", "head", "provenance") and isinstance(value, dict):
        return  # these may say anything
    with pytest.raises(BundleError, match=r"^m\.json: the manifest "):
        Manifest.from_dict(values, "m.json")


@pytest.mark.parametrize(
    "change",
    [
        {"policy": DecisionPolicy(SPACE, (0.3, 0.61))},
        {"preprocess": Preprocess(height_px=9, width_px=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))},
        {"files": {"model.onnx": "01"}},
    ],
    ids=["threshold", "preprocess", "network"],
)
def test_the_digest_changes_with_whatever_changes_answers(change: Any) -> None:
    from dataclasses import replace

    assert replace(MANIFEST, **change).digest != MANIFEST.digest
    assert replace(MANIFEST, provenance={"created": "later"}).digest == MANIFEST.digest


def test_a_hostile_label_stays_text_on_the_card() -> None:
    space = LabelSpace(("<script>alert(1)</script>", "a | b", "[x](http://y)", "`code`"))
    from dataclasses import replace

    card = write_card(replace(MANIFEST, label_space=space, policy=DecisionPolicy(space, (0.5,) * 4)))
    assert "<script>" not in card
    assert r"| a \| b | 0.500 |" in card
    assert r"\[x](http://y)" in card
    assert r"\`code\`" in card


def test_a_card_says_how_to_use_the_model(folder: Path) -> None:
    card = (folder / "README.md").read_text("utf-8")
    assert f"| Digest | `{load_bundle(folder).digest}` |" in card
    assert "| red | 0.500 | its own |" in card
    assert r"| green \| bright | 0.250 | all labels |" in card
    assert "`loss` = 0.500 on 2 validation images" in card


def test_a_card_holds_what_was_measured_until_the_decisions_change(folder: Path) -> None:
    bundle = load_bundle(folder)
    save_card(bundle, "## Results on test\n\n{good}")
    card = (folder / "README.md").read_text("utf-8")
    assert "## Results on test\n\n{good}\n\n## Labels and thresholds" in card
    save_policy(bundle, bundle.manifest.policy)
    assert "Results" not in (folder / "README.md").read_text("utf-8")


def test_a_model_answers_without_torch(folder: Path) -> None:
    program = """
import sys, numpy
import manylabel as ml
answer = ml.load(sys.argv[1]).predict(numpy.full((20, 20, 3), (255, 0, 0), numpy.uint8))
assert answer.labels == ("red",), answer
heavy = {"torch", "torchvision", "timm", "safetensors", "onnx", "pandas", "matplotlib", "manylabel.training"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_bundle_is_a_place_and_a_manifest() -> None:
    assert Bundle(Path("x"), MANIFEST).digest == MANIFEST.digest
