"""Export: one self-contained ONNX file that answers like torch, or no bundle at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from tests.bundle.conftest import MANIFEST, POLICY, PREPROCESS, SPACE, build_colours, draw_images
from torch import Tensor, nn

from manylabel.bundle import export
from manylabel.bundle.bundle import load_bundle
from manylabel.bundle.export import check_parity, save_bundle
from manylabel.bundle.tuned import save_policy
from manylabel.decisions.policy import DecisionPolicy
from manylabel.errors import BundleError, RunError
from manylabel.models.classifier import Classifier


def hashes_of(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def run(folder: Path, images_BCHW: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    (probs_BL,) = session.run(["probabilities"], {"images": images_BCHW})
    return np.asarray(probs_BL)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_network_gives_the_sigmoid_of_the_mean_colours_for_any_batch(saved: Path, batch: int) -> None:
    images = draw_images(batch)
    assert run(saved, images) == pytest.approx(1 / (1 + np.exp(-images.mean((2, 3)))), abs=1e-6)


def test_the_network_is_one_file_that_needs_no_other(saved: Path) -> None:
    model = onnx.load(saved / "model.onnx", load_external_data=False)
    assert not [
        tensor.name for tensor in model.graph.initializer if onnx.external_data_helper.uses_external_data(tensor)
    ]
    onnx.checker.check_model(model)
    assert {path.name for path in saved.iterdir()} == {"manifest.json", "model.onnx", "model.safetensors", "README.md"}


def test_the_network_alone_says_labels_thresholds_and_preprocessing(saved: Path) -> None:
    session = onnxruntime.InferenceSession(str(saved / "model.onnx"), providers=["CPUExecutionProvider"])
    facts = json.loads(session.get_modelmeta().custom_metadata_map["manylabel"])
    assert facts["labels"] == list(SPACE.names)
    assert facts["policy"]["thresholds"] == {"red": 0.5, "green | bright": 0.25, "blue": 0.75}
    assert facts["policy"]["rule"] == "probability >= threshold"
    assert facts["preprocess"] == PREPROCESS.to_dict()


def test_the_weights_are_those_of_the_classifier(saved: Path) -> None:
    state = build_colours().state_dict()
    weights = load_file(saved / "model.safetensors")
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[key], state[key]) for key in state)


def test_the_manifest_says_how_near_the_network_is(saved: Path) -> None:
    parity = load_bundle(saved).manifest.provenance["parity"]
    assert parity["images"] == 4
    assert parity["max_difference"] < 1e-5


def test_other_decisions_change_every_place_that_holds_them_and_no_weight(folder: Path) -> None:
    before, images = load_bundle(folder), draw_images(2)
    probs_BL = run(folder, images)
    save_policy(before, DecisionPolicy(SPACE, (0.1, 0.2, 0.3), "precision"))
    after = load_bundle(folder)
    assert after.manifest.policy.thresholds == pytest.approx((0.1, 0.2, 0.3))
    assert after.digest != before.digest
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    facts = json.loads(session.get_modelmeta().custom_metadata_map["manylabel"])
    assert facts["policy"] == after.manifest.policy.to_dict()
    assert "| red | 0.100 |" in (folder / "README.md").read_text("utf-8")
    assert np.array_equal(run(folder, images), probs_BL)
    assert after.manifest.files["model.safetensors"] == before.manifest.files["model.safetensors"]


class Fickle(nn.Module):
    """Answers otherwise once it is exported."""

    def forward(self, images_BCHW: Tensor) -> Tensor:
        shift = 1.0 if torch.compiler.is_compiling() else 0.0
        return images_BCHW.mean((2, 3)) + shift


def test_a_network_that_answers_otherwise_is_refused_and_the_older_bundle_stays(folder: Path) -> None:
    before = hashes_of(folder)
    with pytest.raises(BundleError) as caught:
        save_bundle(folder, Classifier(Fickle(), build_colours().head), MANIFEST, draw_images())
    assert "model.onnx: the exported network differs from torch by 0." in str(caught.value)
    assert str(caught.value).endswith(
        "in a probability, expected at most 0.0001. Choose another --backbone, and report this one."
    )
    assert hashes_of(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_weights_that_are_not_numbers_are_refused(saved: Path) -> None:
    classifier = build_colours()
    nn.init.constant_(classifier.head.bias, float("nan"))  # type: ignore[arg-type]
    with pytest.raises(BundleError, match=r"differs from torch by nan in a probability"):
        check_parity(classifier, saved / "model.onnx", draw_images())


class Stubborn(nn.Module):
    def forward(self, images_BCHW: Tensor) -> Tensor:
        values: Tensor = torch.linalg.eigvalsh(images_BCHW[:, 0, :3, :3])
        return values


def test_a_network_that_onnx_cannot_express_is_one_sentence(folder: Path) -> None:
    before = hashes_of(folder)
    with pytest.raises(
        BundleError, match=r"model\.onnx: the network cannot be written as ONNX \(.*Choose another --back"
    ):
        save_bundle(folder, Classifier(Stubborn(), build_colours().head), MANIFEST, draw_images())
    assert hashes_of(folder) == before


def copy_network(saved: Path) -> Any:
    def copy(_: Classifier, path: Path, *__: Any) -> None:
        path.write_bytes((saved / "model.onnx").read_bytes())

    return copy


def test_a_new_bundle_takes_the_place_of_the_older_whole(
    folder: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "export_onnx", copy_network(saved))
    (folder / "left over.txt").write_text("from the older one")
    bundle, parity = save_bundle(folder, build_colours(), replace(MANIFEST, provenance={"name": "new"}), draw_images(2))
    assert load_bundle(folder).manifest == bundle.manifest
    assert parity.num_images == 2
    assert not (folder / "left over.txt").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize(
    "place", [pytest.param("write", id="while it is written"), pytest.param("rename", id="when it takes its place")]
)
def test_a_full_disk_leaves_the_older_bundle(
    folder: Path, saved: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(export, "export_onnx", copy_network(saved))
    before = hashes_of(folder)
    rename, write = Path.rename, Path.write_bytes

    def fail_to_rename(self: Path, target: Any) -> Path:
        if place == "rename" and self.name.endswith(".partial"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(self, target)

    def fail_to_write(self: Path, data: bytes) -> int:
        if place == "write" and self.name == "model.safetensors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, data)

    monkeypatch.setattr(Path, "rename", fail_to_rename)
    monkeypatch.setattr(Path, "write_bytes", fail_to_write)
    with pytest.raises(RunError, match=r"model: cannot write [\d,]+ bytes \(No space left on device\)\. Free space"):
        save_bundle(folder, build_colours(), MANIFEST, draw_images(1))
    assert hashes_of(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_the_manifest_that_was_given_is_not_changed() -> None:
    assert MANIFEST.files == {}
    assert MANIFEST.policy == POLICY
