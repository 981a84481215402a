"""One model by every way there is: equal label sets where precision allows, and how many differ where it does not."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
import torch
from tests.scenarios.serving import serve

import manylabel as ml
from manylabel.bundle.bundle import Bundle
from manylabel.bundle.export import save_bundle
from manylabel.bundle.manifest import Manifest
from manylabel.bundle.tuned import save_policy
from manylabel.data.annotations import Annotations
from manylabel.data.images import load_image
from manylabel.data.preprocess import Preprocess
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.rules import Rule
from manylabel.inference.predictor import Predictor
from manylabel.labels.space import LabelSpace
from manylabel.models.backbones import build_backbone
from manylabel.models.classifier import build_classifier
from manylabel.runs.export import export

pytestmark = pytest.mark.scenario

COCO = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "coco128"
SPACE = LabelSpace(("ant", "bee", "cat", "dog", "eel", "fox"))
SIZE = 64
RULES = (Rule("implies", ("ant",), ("bee",)), Rule("at_most", count=4))

LabelSets = Mapping[str, frozenset[str]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The paths of 128 photographs, where they are beside this checkout, and of 100 of the demo's images."""
    folder = tmp_path_factory.mktemp("demo")
    ml.write_demo(folder, num_images={"train": 100})
    photographs = sorted(COCO.rglob("*.jpg")) if COCO.is_dir() else []
    return [str(path) for path in [*photographs, *sorted((folder / "images").glob("*.png"))]]


@pytest.fixture(scope="module")
def bundle(images: list[str], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A network with drawn weights; each threshold lies in the widest gap near the middle of what the images get.

    So every label is given to about half of the images, and no probability lies on a threshold by chance.
    """
    torch.manual_seed(0)
    backbone = build_backbone("resnet10t", "none")
    classifier = build_classifier(backbone, [0.5] * len(SPACE))
    with torch.no_grad():
        classifier.head.weight.normal_(0, 0.5)
    preprocess = Preprocess(height_px=SIZE, width_px=SIZE, mean=backbone.mean, std=backbone.std)
    manifest = Manifest(
        SPACE,
        preprocess,
        DecisionPolicy(SPACE, (0.5,) * 6),
        {"name": "resnet10t"},
        {"name": "linear"},
        {"name": "drawn"},
    )
    folder = tmp_path_factory.mktemp("model") / "bundle"
    some = np.stack([preprocess.load(path) for path in images[:8]])
    saved, _ = save_bundle(folder, classifier.eval(), manifest, some)
    probs_NL = np.stack([Predictor(saved).answer_pixels(preprocess.load(path)) for path in images])
    return save_policy(saved, DecisionPolicy(SPACE, tuple(map(find_gap, probs_NL.T)), rules=RULES))


def find_gap(probs_N: np.ndarray) -> float:
    middle = np.sort(probs_N)[len(probs_N) // 3 : -len(probs_N) // 3]
    place = int(np.diff(middle).argmax())
    return float((middle[place] + middle[place + 1]) / 2)


@pytest.fixture(scope="module")
def expected(bundle: Bundle, images: list[str]) -> LabelSets:
    """What Python says of one image after the other."""
    model = Predictor(bundle)
    answers = {path: frozenset(model.predict(path).labels or ()) for path in images}
    assert len(set(answers.values())) > 5, "the images differ"
    return answers


def ask_many(bundle: Bundle, images: Sequence[str]) -> LabelSets:
    return {each.image: frozenset(each.labels or ()) for each in Predictor(bundle).predict_many(images)}


def ask_one_thread(bundle: Bundle, images: Sequence[str]) -> LabelSets:
    model = Predictor(bundle, num_threads=1)
    return {path: frozenset(model.predict(Path(path).read_bytes()).labels or ()) for path in images}


def ask_pixels(bundle: Bundle, images: Sequence[str]) -> LabelSets:
    """Pixels as a file gives them: a large JPEG is decoded no larger than it needs to be."""
    model = Predictor(bundle)
    pixels = {path: np.asarray(load_image(path, min_size_px=(SIZE, SIZE))) for path in images}
    return {path: frozenset(model.predict(pixels[path]).labels or ()) for path in images}


def ask_command(kind: str) -> Callable[[Bundle, Sequence[str]], LabelSets]:
    def ask(bundle: Bundle, images: Sequence[str]) -> LabelSets:
        out = bundle.folder.parent / f"answers.{kind}"
        command = [sys.executable, "-m", "manylabel", "predict", str(bundle.folder), "-", "--out", str(out), "--quiet"]
        subprocess.run(command, input="\n".join(images), encoding="utf-8", check=True)
        if kind == "parquet":
            table = pq.read_table(out)
            rows = zip(table["image"].to_pylist(), table["labels"].to_pylist(), strict=True)
            return {image: frozenset(labels) for image, labels in rows}
        text = out.read_text("utf-8")
        if kind == "jsonl":
            return {row["image"]: frozenset(row["labels"]) for row in map(json.loads, text.splitlines())}
        return {
            row["image"]: frozenset(filter(None, row["labels"].split("|"))) for row in csv.DictReader(io.StringIO(text))
        }

    return ask


def ask_server(bundle: Bundle, images: Sequence[str]) -> LabelSets:
    answers = {}
    with serve(bundle.folder) as served:
        for path in images:
            request = urllib.request.Request(f"{served.url}/predict", Path(path).read_bytes(), method="POST")
            request.add_header("Content-Type", "application/octet-stream")
            with urllib.request.urlopen(request, timeout=30) as response:
                answers[path] = frozenset(json.load(response)["labels"])
    return answers


def ask_file_alone(bundle: Bundle, images: Sequence[str]) -> LabelSets:
    """The ONNX file and nothing else of the bundle."""
    model = ml.load(bundle.onnx_path)
    return {path: frozenset(model.predict(path).labels or ()) for path in images}


def ask_onnxruntime(bundle: Bundle, images: Sequence[str]) -> LabelSets:
    """Probabilities of onnxruntime alone, in batches of 16, decided by the policy of the file's metadata."""
    session = onnxruntime.InferenceSession(str(bundle.onnx_path), providers=["CPUExecutionProvider"])
    held = json.loads(session.get_modelmeta().custom_metadata_map["manylabel"])
    policy = DecisionPolicy.from_dict(held["policy"], LabelSpace(tuple(held["labels"])))
    preprocess = Preprocess.from_dict(held["preprocess"])
    answers = {}
    for start in range(0, len(images), 16):
        block = images[start : start + 16]
        (probs_BL,) = session.run(None, {"images": np.stack([preprocess.load(path) for path in block])})
        for path, given_L in zip(block, policy.decide(probs_BL), strict=True):
            answers[path] = frozenset(SPACE.names[column] for column in np.flatnonzero(given_L))
    return answers


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(ask_many, id="many in threads"),
        pytest.param(ask_one_thread, id="bytes, one thread"),
        pytest.param(ask_pixels, id="pixels"),
        pytest.param(ask_command("csv"), id="command, CSV"),
        pytest.param(ask_command("jsonl"), id="command, JSON lines"),
        pytest.param(ask_command("parquet"), id="command, Parquet"),
        pytest.param(ask_server, id="server"),
        pytest.param(ask_file_alone, id="ONNX file alone"),
        pytest.param(ask_onnxruntime, id="onnxruntime in batches"),
    ],
)
def test_label_sets_are_equal_by_every_way_with_32_bits(
    bundle: Bundle, images: list[str], expected: LabelSets, ask: Callable[[Bundle, Sequence[str]], LabelSets]
) -> None:
    given = ask(bundle, images)
    differing = {
        path: (sorted(expected[path]), sorted(given[path])) for path in images if given[path] != expected[path]
    }
    assert differing == {}


@pytest.mark.parametrize(
    ("engine", "most"),
    [("openvino", 0), ("openvino_bf16", 12)],
)
def test_other_engines_differ_in_nothing_or_little(
    bundle: Bundle, images: list[str], expected: LabelSets, engine: str, most: int
) -> None:
    pytest.importorskip("openvino")
    model = Predictor(bundle, engine=engine)
    differing = [path for path in images if frozenset(model.predict(path).labels or ()) != expected[path]]
    assert len(differing) <= most, differing


@pytest.mark.parametrize(("kind", "most"), [("fp16", 6), ("int8", 120)])
def test_smaller_numbers_differ_in_as_many_as_they_say(
    bundle: Bundle, images: list[str], expected: LabelSets, tmp_path: Path, kind: str, most: int
) -> None:
    table = build_table(images, expected)
    exported = export(bundle, tmp_path / kind, quantize=kind, check=table, max_changed=1)
    assert exported.cost is not None
    judged = images[1::2] if kind == "int8" else images
    model = ml.load(exported.path)
    differing = [path for path in judged if frozenset(model.predict(path).labels or ()) != expected[path]]
    assert len(differing) == exported.cost.num_changed <= most


def build_table(images: Sequence[str], label_sets: LabelSets) -> Annotations:
    arrays = [np.zeros((1, 1, 3), np.uint8)] * len(images)
    table = ml.annotations_from_arrays(arrays, [sorted(label_sets[path]) for path in images], label_space=SPACE)
    records = tuple(
        replace(record, id=path, path=path, pixels=None) for record, path in zip(table.records, images, strict=True)
    )
    return replace(table, records=records)
