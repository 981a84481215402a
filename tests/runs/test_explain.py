"""Ways to find maps: the network in torch is the bundle's own, and whoever lacks something is told of the other way."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.runs.conftest import SETTINGS, build_table, export_by_filling, ignore

from manylabel.bundle import export
from manylabel.bundle.bundle import Bundle, hash_file, load_bundle
from manylabel.errors import BundleError, ConfigError, MissingExtraError
from manylabel.inference.explain import explain
from manylabel.inference.picture import draw_explanation
from manylabel.inference.predictor import load
from manylabel.models.backbones import build_backbone
from manylabel.models.scoring import logits_to_probs
from manylabel.runs.explain import METHODS, find_method, load_classifier
from manylabel.runs.train import train
from manylabel.training.config import TrainConfig

SIZE = 128


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of a run of one epoch: images of 128 px, which leave 4 x 4 places."""
    folder = tmp_path_factory.mktemp("explain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export_onnx", export_by_filling)
        patch.setattr("manylabel.runs.train.save_reports", lambda *_, **__: None)
        settings = TrainConfig(**{**SETTINGS, "image_size": SIZE, "epochs": 1})
        run = train(build_table(10), build_table(6, seed=1, name="val"), settings, out=folder / "run", on_event=ignore)
    return run.bundle


@pytest.fixture
def copy(model: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model.folder, tmp_path / "bundle"))


def reseal(folder: Path, **changes: Any) -> None:
    """Write a manifest anew after its files or parts were changed."""
    bundle = load_bundle_unchecked(folder)
    files = {name: hash_file(folder / name) for name in bundle.manifest.files}
    manifest = replace(bundle.manifest, files=files, **changes)
    (folder / "manifest.json").write_text(json.dumps(manifest.to_dict()), "utf-8")


def load_bundle_unchecked(folder: Path) -> Bundle:
    from manylabel.bundle.manifest import Manifest

    values = json.loads((folder / "manifest.json").read_text("utf-8"))
    return Bundle(folder, Manifest.from_dict(values, "test"))


def draw_image() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_the_network_in_torch_answers_as_the_bundle(model: Bundle) -> None:
    predictor = load(model.folder, num_threads=1)
    pixels_CHW = predictor.preprocess(draw_image())
    with torch.no_grad():
        logits_BL = load_classifier(model).eval()(torch.from_numpy(pixels_CHW)[None])
    np.testing.assert_allclose(logits_to_probs(logits_BL)[0].numpy(), predictor.answer_pixels(pixels_CHW), atol=1e-5)


def test_gradients_give_a_map_for_each_label_with_a_scale_of_their_own(model: Bundle, tmp_path: Path) -> None:
    predictor = load(model.folder, num_threads=1)
    labels = ["red", "blue", "green"]
    found = explain(predictor, draw_image(), labels, find_maps=METHODS["gradients"].build(predictor))
    assert found.maps_KHW.shape == (3, SIZE, SIZE)
    assert "a place adds to the label" in found.unit
    assert "(4 x 4 places)" in found.unit
    assert "hid" not in found.unit + " ".join(found.notes)
    # Of three labels beside each other, what one gains the others lose: their maps add up to nothing.
    np.testing.assert_allclose(found.maps_KHW.sum(0), 0, atol=1e-5)
    draw_explanation(found, tmp_path / "gradients.png")
    with Image.open(tmp_path / "gradients.png") as picture:
        assert picture.format == "PNG"


def test_a_map_of_few_places_says_so(model: Bundle) -> None:
    predictor = load(model.folder, num_threads=1)
    find_maps = METHODS["gradients"].build(predictor)
    found = find_maps(draw_image(), [0], None)
    assert (found.place, found.notes) == ((0.25, 0.25), ())
    from manylabel.models.gradient_maps import GradientMaps
    from manylabel.runs.explain import _describe

    maps_KRC = np.array([[[0.1, 0.0, 0.2], [0.0, 0.4, 0.0]]], np.float32)
    few = _describe(GradientMaps(maps_KRC, np.array([0.7], np.float32)), (30, 20))
    assert few.maps_KHW.shape == (1, 20, 30)
    assert few.notes == ("The network has only 2 x 3 places: maps by gradients are no finer, those by hiding are.",)
    assert list(few.is_little_K) == [False]
    faint = _describe(GradientMaps(maps_KRC / 3, np.array([0.7 / 3], np.float32)), (30, 20))
    assert list(faint.is_little_K) == [True]
    rough = _describe(GradientMaps(maps_KRC, np.array([9.0], np.float32)), (30, 20))
    assert rough.notes[1].startswith("The gradients do not add up")


def test_unknown_ways_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"--method: there is no way 'gradient' .*did you mean 'gradients'\?"):
        find_method("gradient")


def write_file_without_weights(folder: Path) -> Path:
    """Put a one-file model beside weights that are not its own."""
    return Path(shutil.copy(folder / "model.onnx", folder / "one.onnx"))


def write_bundle_without_weights(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    bundle = load_bundle_unchecked(folder)
    manifest = replace(bundle.manifest, files={"model.onnx": bundle.manifest.files["model.onnx"]})
    (folder / "manifest.json").write_text(json.dumps(manifest.to_dict()), "utf-8")
    return folder


@pytest.mark.parametrize("write", [write_file_without_weights, write_bundle_without_weights])
def test_a_model_without_weights_is_told_of_hiding(copy: Path, write: Callable[[Path], Path]) -> None:
    predictor = load(write(copy), num_threads=1)
    with pytest.raises(ConfigError, match=r"the model has no model\.safetensors.* Use --method hiding"):
        METHODS["gradients"].build(predictor)


def test_weights_of_another_training_are_noticed_by_their_answers(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    save_file({name: tensor + (name == "head.bias") for name, tensor in weights.items()}, copy / "model.safetensors")
    reseal(copy)
    predictor = load(copy, num_threads=1)
    with pytest.raises(
        BundleError, match=r"differs by 0\.\d+ from that of the network in the bundle\. Use --method hid"
    ):
        explain(predictor, draw_image(), ["red"], find_maps=METHODS["gradients"].build(predictor))


def damage_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x08")
    reseal(folder)


def lose_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["head.bias"]
    save_file(weights, folder / "model.safetensors")
    reseal(folder)


def read_another_file(folder: Path) -> None:
    reseal(folder, backbone={"name": "test_resnet", "args": {"checkpoint_path": "evil.pth"}})


def name_no_backbone(folder: Path) -> None:
    reseal(folder, backbone={"name": "hf-hub:evil/model", "args": {}})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param(damage_weights, "", id="no safetensors"),
        pytest.param(lose_a_tensor, "Error.s. in loading state_dict", id="a tensor is missing"),
        pytest.param(read_another_file, r"its backbone reads other files \(checkpoint_path\)", id="a hostile manifest"),
        pytest.param(name_no_backbone, "unknown backbone 'hf-hub:evil/model'", id="a backbone from elsewhere"),
    ],
)
def test_a_network_that_cannot_be_built_is_one_sentence(
    copy: Path, change: Callable[[Path], None], problem: str
) -> None:
    change(copy)
    with pytest.raises(BundleError, match=rf"the network cannot be built .*{problem}.* Use --method hiding") as caught:
        load_classifier(load_bundle(copy))
    assert len(str(caught.value).splitlines()) == 1


def test_weights_that_were_swapped_are_noticed_by_their_digest(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"other")
    with pytest.raises(BundleError, match="not the one its manifest describes"):
        load_classifier(load_bundle(copy))


def test_weights_that_cannot_be_read_are_one_sentence(copy: Path) -> None:
    bundle = load_bundle(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"model\.safetensors: cannot be read \(No such file or directory\)\. Copy"):
        load_classifier(bundle)


def test_weights_that_are_replaced_while_they_are_loaded_are_not_mixed_in(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = load_file(copy / "model.safetensors")

    def replace_weights(*args: Any, **options: Any) -> Any:
        others = {name: tensor + (name == "head.bias") for name, tensor in weights.items()}
        save_file(others, copy / "model.safetensors")
        return build_backbone(*args, **options)

    monkeypatch.setattr("manylabel.models.backbones.build_backbone", replace_weights)
    loaded = load_classifier(load_bundle(copy)).state_dict()
    assert torch.equal(loaded["head.bias"], weights["head.bias"])
    assert not torch.equal(load_file(copy / "model.safetensors")["head.bias"], weights["head.bias"])


def test_an_error_without_text_is_called_by_its_class(model: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("manylabel.models.backbones.build_backbone", fail)
    with pytest.raises(BundleError, match=r"the network cannot be built .*\(RuntimeError\)"):
        load_classifier(model)


@pytest.mark.parametrize("library", ["torch", "captum"])
def test_a_missing_library_is_named_with_both_ways_out(
    model: Bundle, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    predictor = load(model.folder, num_threads=1)
    for name in [name for name in sys.modules if name.startswith(("manylabel.models.gradient", "captum"))]:
        monkeypatch.delitem(sys.modules, name)
    if library == "torch":
        monkeypatch.delitem(sys.modules, "manylabel.bundle.export")
    monkeypatch.setitem(sys.modules, library, None)
    expected = f"it needs {library}, which is not installed. Install it with: pip install 'manylabel[train]', or use"
    with pytest.raises(MissingExtraError, match=re.escape(expected)):
        METHODS["gradients"].build(predictor)
