"""Export: smaller numbers or one file, and nothing that answers otherwise."""

from __future__ import annotations

import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import nn

from manylabel.bundle.bundle import Bundle, hash_file, load_bundle
from manylabel.bundle.export import save_bundle
from manylabel.bundle.manifest import Manifest
from manylabel.bundle.tuned import write_manifest
from manylabel.data.annotations import Annotations, annotations_from_arrays
from manylabel.data.preprocess import Preprocess
from manylabel.decisions.policy import DecisionPolicy
from manylabel.errors import BundleError, ConfigError, DataError, RunError
from manylabel.inference.predictor import Predictor, load
from manylabel.labels.space import LabelSpace
from manylabel.models.classifier import Classifier
from manylabel.runs import export as export_module
from manylabel.runs.export import export

SPACE = LabelSpace(("red", "green", "blue"))
PREPROCESS = Preprocess(height_px=16, width_px=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
NUM_IMAGES = 60


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A network with convolutions whose weights are drawn."""
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    classifier = Classifier(body, nn.Linear(64, 3), dropout=0.0).eval()
    with torch.no_grad():
        classifier.head.weight.mul_(20)
    policy = DecisionPolicy(SPACE, (0.5, 0.5, 0.5))
    manifest = Manifest(SPACE, PREPROCESS, policy, {"name": "b"}, {"name": "linear"}, {"name": "drawn"})
    images = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
    folder = tmp_path_factory.mktemp("model") / "bundle"
    return save_bundle(folder, classifier, manifest, images)[0]


@pytest.fixture(scope="module")
def table(bundle: Bundle) -> Annotations:
    """Images whose truth is what the network says."""
    rng = np.random.default_rng(1)
    images: list[npt.NDArray[np.uint8]] = [
        (rng.random((20, 24, 3)) * rng.integers(40, 256, 3)).astype(np.uint8) for _ in range(NUM_IMAGES)
    ]
    model = Predictor(bundle)
    truth = [list(model.predict(image).labels or ()) for image in images]
    return annotations_from_arrays(images, truth, label_space=SPACE)


def test_half_and_eight_bits_are_smaller_and_say_what_they_cost(
    bundle: Bundle, table: Annotations, tmp_path: Path
) -> None:
    sizes = {}
    for kind in ("none", "fp16", "int8"):
        exported = export(bundle, tmp_path / kind, quantize=kind, check=table, max_changed=0.5)
        assert exported.cost is not None
        cost = exported.cost
        assert cost.num_images == (NUM_IMAGES // 2 if kind == "int8" else NUM_IMAGES)
        assert [each.label for each in cost.labels] == list(SPACE)
        assert all(each.f1_before in (1.0,) or math.isnan(each.f1_before) for each in cost.labels)
        sizes[kind] = exported.num_bytes
        model = load(tmp_path / kind)
        assert model.bundle.manifest.provenance["reduced"]["numbers"] == kind
        assert model.bundle.manifest.provenance["reduced"]["from"] == bundle.digest
        assert model.bundle.manifest.provenance["reduced"]["check"] == cost.summarise()
        before = Predictor(bundle)
        images = [record.pixels for record in table.records[:10]]
        for image in images:
            assert image is not None
            expected, given = (each.predict(image).probabilities for each in (before, model))
            assert max(abs(expected[label] - given[label]) for label in SPACE) <= cost.max_difference + 0.05
    assert sizes["int8"] < 0.5 * sizes["none"]
    assert sizes["fp16"] < 0.7 * sizes["none"]


def test_the_layer_that_gives_the_logits_keeps_its_numbers(bundle: Bundle, table: Annotations, tmp_path: Path) -> None:
    export(bundle, tmp_path / "int8", quantize="int8", check=table, max_changed=1)
    graph = onnx.load(tmp_path / "int8" / "model.onnx").graph
    makers = {output: node.op_type for node in graph.node for output in node.output}
    last = next(node for node in graph.node if node.op_type == "Sigmoid")
    assert makers[last.input[0]] in ("Gemm", "MatMul", "Add")
    assert "QuantizeLinear" in makers.values()


def test_one_file_holds_all_that_answering_needs(bundle: Bundle, table: Annotations, tmp_path: Path) -> None:
    exported = export(bundle, tmp_path / "new" / "model.onnx", check=table)
    assert exported.cost is not None
    assert (exported.cost.num_changed, exported.cost.max_difference) == (0, 0.0)
    alone, before = load(exported.path), Predictor(bundle)
    image = table.records[0].pixels
    assert image is not None
    assert alone.predict(image).probabilities == before.predict(image).probabilities
    assert [path.name for path in exported.path.parent.iterdir()] == ["model.onnx"]


def test_what_answers_too_differently_is_not_written(
    bundle: Bundle, table: Annotations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = export(bundle, tmp_path / "out").path
    digest = load_bundle(older).digest
    real = export_module._compare  # what stands in for a network that suffers

    def suffer(*given: object) -> object:
        return replace(real(*given), num_changed=7)  # type: ignore[arg-type]

    monkeypatch.setattr(export_module, "_compare", suffer)
    problem = r"--quantize fp16: 7 of 60 images get other labels than before, expected at most 5\.0%\. Keep larger"
    with pytest.raises(BundleError, match=problem):
        export(bundle, older, quantize="fp16", check=table)
    assert load_bundle(older).digest == digest
    assert export(bundle, older, quantize="fp16", check=table, max_changed=0.2).cost is not None
    with pytest.raises(BundleError, match="the copy differs by 0 in a probability, and in 7 label sets"):
        export(bundle, tmp_path / "copy", check=table)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_eight_bits_see_other_images_than_they_are_judged_on(
    bundle: Bundle, table: Annotations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    load_image = Preprocess.load

    def note(self: Preprocess, source: object, *, name: str | None = None) -> npt.NDArray[np.float32]:
        seen.append(str(name))
        return load_image(self, source, name=name)  # type: ignore[arg-type]

    monkeypatch.setattr(Preprocess, "load", note)
    parts = dict(zip(table.images, ["train"] * 20 + ["val"] * 10 + ["test"] * 30, strict=True))
    export(bundle, tmp_path / "int8", quantize="int8", check=table.with_parts(parts), max_changed=1)
    shown, judged = seen[:30], set(seen[30:])
    assert set(shown) == set(table.images[:30])
    assert judged == set(table.images[30:])


def test_the_model_itself_is_never_replaced(bundle: Bundle, tmp_path: Path) -> None:
    copy = load_bundle(shutil.copytree(bundle.folder, tmp_path / "run" / "bundle"))
    names = sorted(path.name for path in copy.folder.iterdir())
    for place in (copy.folder, copy.folder / "model.onnx", copy.folder / "sub", tmp_path / "run"):
        with pytest.raises(ConfigError, match="the model itself lies there"):
            export(copy, place, quantize="fp16")
    (tmp_path / "letter.onnx").write_text("dear")
    with pytest.raises(ConfigError, match="there is a file that is no model of manylabel"):
        export(copy, tmp_path / "letter.onnx")
    assert load_bundle(copy.folder).digest == bundle.digest
    assert sorted(path.name for path in copy.folder.iterdir()) == names
    first = export(copy, tmp_path / "one.onnx").path
    with pytest.raises(ConfigError, match="the model itself lies there"):
        export(first, first, quantize="fp16")
    assert export(copy, first, quantize="fp16").num_bytes < 0.7 * copy.onnx_path.stat().st_size, "an older model may go"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letter.onnx", "one.onnx", "run"]


def test_a_network_that_overflows_is_not_written(bundle: Bundle, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle.folder, tmp_path / "large")
    network = onnx.load(folder / "model.onnx")
    for tensor in network.graph.initializer:
        if "conv" in tensor.name or tensor.name.endswith("weight"):
            values = onnx.numpy_helper.to_array(tensor)
            if values.ndim == 4:
                tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1e6), tensor.name))
    onnx.save(network, folder / "model.onnx")
    manifest = replace(bundle.manifest, files={"model.onnx": hash_file(folder / "model.onnx")})
    (folder / "manifest.json").write_text(write_manifest(manifest), "utf-8")
    with pytest.raises(BundleError, match=r"too large for these numbers|cannot be written with fp16"):
        export(folder, tmp_path / "half", quantize="fp16")
    assert not (tmp_path / "half").exists()


def test_a_library_that_is_missing_is_named_with_the_extra_that_brings_it(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)  # importing it then fails
    problem = r"fp16: this needs onnx, which is not installed\. Install it with: pip install 'manylabel\[train\]'\."
    with pytest.raises(BundleError, match=problem):
        export(bundle, tmp_path / "half", quantize="fp16")
    assert not (tmp_path / "half").exists()


def test_some_images_are_too_few_for_eight_bits(bundle: Bundle, table: Annotations, tmp_path: Path) -> None:
    problem = "7 images to see and 7 to be judged on are too few for int8, expected 8 or more"
    with pytest.raises(DataError, match=problem):
        export(bundle, tmp_path / "int8", quantize="int8", check=table.select(range(14)))


@pytest.mark.parametrize(("first", "second"), [("int8", "int8"), ("fp16", "int8"), ("int8", "fp16")])
def test_what_has_smaller_numbers_already_is_not_made_smaller(
    bundle: Bundle, table: Annotations, tmp_path: Path, first: str, second: str
) -> None:
    small = export(bundle, tmp_path / "small", quantize=first, check=table, max_changed=1).path
    with pytest.raises(
        BundleError, match=r"numbers of 16 or 8 bits already\. Export from the model that it was made of"
    ):
        export(small, tmp_path / "smaller", quantize=second, check=table, max_changed=1)


@pytest.mark.parametrize(
    ("quantize", "kind", "problem"),
    [
        (
            "int4",
            ConfigError,
            r"--quantize: no such numbers: 'int4' \(did you mean 'int8'\?\), expected none or fp16 or",
        ),
        ("int8", ConfigError, "--quantize int8: it has to see images"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    bundle: Bundle, tmp_path: Path, quantize: str, kind: type[Exception], problem: str
) -> None:
    with pytest.raises(kind, match=problem):
        export(bundle, tmp_path / "out", quantize=quantize)
    assert list(tmp_path.iterdir()) == []


def test_images_that_cannot_be_used_and_other_folders_are_left_alone(
    bundle: Bundle, table: Annotations, tmp_path: Path
) -> None:
    broken = replace(
        table, records=tuple(replace(record, pixels=None, path=tmp_path / "gone.png") for record in table.records)
    )
    with pytest.raises(DataError, match="none of its images can be used"):
        export(bundle, tmp_path / "out", check=broken)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="there is something else than a bundle"):
        export(bundle, tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
