"""A bundle with other decisions, and bundles of the time before there were any but thresholds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from manylabel.bundle.bundle import hash_file, load_bundle
from manylabel.bundle.card import write_card
from manylabel.bundle.manifest import SCHEMA_VERSION, Manifest
from manylabel.bundle.onnx_file import set_metadata
from manylabel.bundle.tuned import build_beside, save_tuned_bundle, write_answering_part, write_manifest
from manylabel.data.preprocess import Preprocess
from manylabel.decisions.calibrate import Calibration
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.rules import Rule
from manylabel.errors import BundleError, RunError
from manylabel.labels.space import LabelSpace

SPACE = LabelSpace(("day", "night"))
PREPROCESS = Preprocess(height_px=8, width_px=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
TUNED = DecisionPolicy(
    SPACE,
    (0.25, 0.75),
    "f1",
    calibration=Calibration("temperature", weights=((0.5, 0.5, 0.0),) * 2),
    rules=(Rule("exclusive", ("day", "night")),),
)


def write_bundle(folder: Path) -> Path:
    """Write a bundle whose network is an empty ONNX file: nobody asks it anything here."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"")
    (folder / "model.safetensors").write_bytes(b"weights")
    files = {name: hash_file(folder / name) for name in ("model.onnx", "model.safetensors")}
    manifest = Manifest(SPACE, PREPROCESS, DecisionPolicy(SPACE, (0.5, 0.5)), {"name": "b"}, {"name": "h"}, {}, files)
    (folder / "manifest.json").write_text(write_manifest(manifest), "utf-8")
    return folder


def test_a_copy_has_the_new_decisions_and_the_same_weights(tmp_path: Path) -> None:
    before = load_bundle(write_bundle(tmp_path / "bundle"))
    save_tuned_bundle(before, TUNED, tmp_path / "tuned")
    after = load_bundle(tmp_path / "tuned")
    assert after.manifest.policy == TUNED
    assert after.digest != before.digest
    assert (tmp_path / "tuned" / "model.safetensors").read_bytes() == b"weights"
    assert load_bundle(tmp_path / "bundle").manifest == before.manifest
    assert b"exclusive" in (tmp_path / "tuned" / "model.onnx").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "tuned"]


def test_a_model_that_is_one_file_is_tuned_and_no_other_network_is_taken(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "bundle"))
    one = tmp_path / "small.onnx"
    one.write_bytes(set_metadata(b"", "manylabel", write_answering_part(bundle.manifest)))
    (tmp_path / "model.onnx").write_bytes(set_metadata(b"", "other", "network"))
    save_tuned_bundle(load_bundle(one), TUNED, tmp_path / "tuned")
    tuned = load_bundle(tmp_path / "tuned")
    assert tuned.manifest.policy == TUNED
    assert b"other" not in tuned.onnx_path.read_bytes()


def test_a_bundle_may_take_its_own_place(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    save_tuned_bundle(load_bundle(folder), TUNED, folder)
    assert load_bundle(folder).manifest.policy == TUNED


def test_something_else_in_the_place_is_left_alone(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "bundle"))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(RunError) as error:
        save_tuned_bundle(bundle, TUNED, tmp_path / "photos")
    assert str(error.value) == f"{tmp_path / 'photos'}: there is something else than a bundle. Choose another --out."
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"x"


def test_two_that_build_for_one_place_keep_each_other_out(tmp_path: Path) -> None:
    place = tmp_path / "model"
    with build_beside(place) as partial:
        (partial / "half").touch()
        with pytest.raises(RunError, match=r"model\.partial: another run works here: process \d+"), build_beside(place):
            pass
        assert (partial / "half").is_file(), "the first goes on"
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_build_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "model.partial" / "bundle").mkdir(parents=True)
    (tmp_path / "model.partial" / "bundle" / "old").touch()
    with build_beside(tmp_path / "model") as partial:
        assert list(partial.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_what_is_around_the_thresholds(tmp_path: Path) -> None:
    manifest = load_bundle(write_bundle(tmp_path / "bundle")).manifest
    assert "| Calibration | none |\n| Rules | none |" in write_card(manifest)
    card = write_card(replace(manifest, policy=TUNED))
    assert "| Calibration | temperature |\n| Rules | only one of day, night |" in card
    assert "This model has a calibration before that and rules after that, as `policy` says." in card


def test_a_manifest_of_version_1_is_read_with_the_digest_that_it_had(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    values = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert values["schema_version"] == SCHEMA_VERSION == 2
    # As version 1 wrote it: these keys, this digest, and a checksum over all of them.
    policy = {
        "goal": "half",
        "rule": "probability >= threshold",
        "chosen_on": "",
        "thresholds": {"day": 0.5, "night": 0.5},
        "sources": {},
    }
    answering = {
        "labels": ["day", "night"],
        "preprocess": values["preprocess"],
        "policy": policy,
        "files": values["files"],
    }
    digest = hashlib.sha256(json.dumps(answering, sort_keys=True).encode()).hexdigest()[:16]
    old = {**values, "schema_version": 1, "policy": policy, "digest": digest}
    del old["checksum"]
    old["checksum"] = hashlib.sha256(json.dumps(old, sort_keys=True).encode()).hexdigest()[:16]
    (folder / "manifest.json").write_text(json.dumps(old), "utf-8")
    bundle = load_bundle(folder)
    assert bundle.digest == digest
    assert bundle.manifest.policy == DecisionPolicy(SPACE, (0.5, 0.5))


def test_rules_that_were_changed_by_hand_are_found(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    save_tuned_bundle(load_bundle(folder), TUNED, folder)
    path = folder / "manifest.json"
    path.write_text(path.read_text("utf-8").replace('"exclusive"', '"required"'), "utf-8")
    with pytest.raises(BundleError, match="the manifest was changed after it was written"):
        load_bundle(folder)
