"""A reload takes a model only when it can answer; until then the old one stays."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.inference.conftest import write_bundle
from tests.server.conftest import RED, write_turned_bundle

from manylabel.bundle.bundle import Bundle
from manylabel.bundle.network import Network
from manylabel.bundle.tuned import replace_folder
from manylabel.errors import BundleError
from manylabel.server import model
from manylabel.server.counters import Counters
from manylabel.server.model import ModelPlace, load_checked


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def damage_digest(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"other")


def cut_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])


def raise_schema(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))


def remove_network(folder: Path) -> None:
    (folder / "model.onnx").unlink()


@pytest.mark.parametrize("damage", [damage_digest, cut_manifest, raise_schema, remove_network, shutil.rmtree])
def test_a_model_that_cannot_be_loaded_leaves_the_old_one_in_place(
    folder: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters()
    place = ModelPlace(str(folder), counters)
    before = place.current
    damage(folder)
    assert not place.reload()
    assert place.current is before
    assert "The model stays as it was: " in caplog.text
    assert counters.reloads.read("failed") == 1


def test_another_model_is_taken_whole(folder: Path) -> None:
    place = ModelPlace(str(folder), Counters())
    before = place.current
    write_bundle(folder, names=("one", "two"), thresholds=(0.5, 0.5))
    assert place.reload()
    assert list(place.current.thresholds) == ["one", "two"]
    assert list(before.predictor.label_space) == ["red", "green", "blue"]


def test_a_reload_that_went_well_is_no_warning_and_says_whether_the_model_is_another(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.log, "propagate", True)
    caplog.set_level(logging.INFO, model.log.name)
    place = ModelPlace(str(folder), Counters())
    before = place.current.digest
    place.reload()
    write_bundle(folder, names=("one", "two"), thresholds=(0.5, 0.5))
    place.reload()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", f"Serving model {before}, loaded again, the same."),
        ("INFO", f"Serving model {place.current.digest} now, before it was {before}."),
    ]


def test_a_path_without_a_model_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no model in this folder"):
        load_checked(str(tmp_path))


def replace_while_loading(folder: Path, monkeypatch: pytest.MonkeyPatch, num_times: int) -> None:
    """Put other bundles, in turn, in the place of one after its manifest was read and before its network is."""
    others = [
        make(folder.with_name(f"other{number}"))
        for number, make in enumerate([write_turned_bundle, write_bundle] * num_times)
    ]
    waiting = others[:num_times]
    read_network = Bundle.read_network

    def read_later(bundle: Bundle) -> Network:
        if waiting:
            replace_folder(folder, waiting.pop(0))
        return read_network(bundle)

    monkeypatch.setattr(Bundle, "read_network", read_later)
    monkeypatch.setattr(model, "_PAUSE_SECONDS", 0.0)


@pytest.mark.parametrize("num_times", [1, 2, 5])
def test_labels_of_one_model_never_go_with_the_network_of_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch, num_times: int
) -> None:
    replace_while_loading(folder, monkeypatch, num_times)
    loaded = load_checked(str(folder))
    answer = loaded.predictor.predict(RED)
    assert answer.labels == (("rouge",) if num_times % 2 else ("red",))
    assert loaded.digest == load_checked(str(folder)).digest


def test_a_model_that_is_replaced_again_and_again_is_not_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ModelPlace(str(folder), Counters())
    before = place.current
    replace_while_loading(folder, monkeypatch, 30)
    assert not place.reload()
    assert place.current is before
