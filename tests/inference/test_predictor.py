"""Predictor: the same answer for an image in whatever form it comes, worked by hand."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image
from tests.inference.conftest import NAMES, THRESHOLDS, write_bundle

from manylabel.bundle.bundle import Bundle, hash_file, load_bundle
from manylabel.bundle.manifest import Manifest
from manylabel.bundle.network import Network
from manylabel.bundle.onnx_file import set_metadata
from manylabel.bundle.tuned import write_answering_part
from manylabel.data.annotations import annotations_from_arrays
from manylabel.errors import BundleError, DataError
from manylabel.inference.batch import save_answers
from manylabel.inference.predictor import Predictor, collect_predictions, load

Colour = tuple[int, int, int]


def paint(colour: Colour, size: tuple[int, int] = (20, 12)) -> Image.Image:
    return Image.new("RGB", size, colour)


def probability(value: int) -> float:
    """The sigmoid of the normalised colour: mean one half, standard deviation one eighth."""
    return 1 / (1 + math.exp(-(value / 255 - 0.5) / 0.125))


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        pytest.param((0, 0, 0), (), id="no label"),
        pytest.param((255, 0, 0), ("red",), id="one label"),
        pytest.param((128, 255, 255), ("green", "blue", "red"), id="all, in order of margin not of probability"),
        # Margins: red 0.98 - 0.5, green 0.5 - 0.25, blue 0.98 - 0.75.
        pytest.param((255, 128, 255), ("red", "green", "blue"), id="the least probable before one with less margin"),
        pytest.param((127, 100, 165), ("green", "blue"), id="just below and just above"),
    ],
)
def test_an_image_has_the_labels_that_reach_their_thresholds(
    predictor: Predictor, colour: Colour, expected: tuple[str, ...]
) -> None:
    prediction = predictor.predict(paint(colour))
    probs = {name: probability(value) for name, value in zip(NAMES, colour, strict=True)}
    assert prediction.probabilities == pytest.approx(probs, abs=1e-6)
    assert {name for name in NAMES if probs[name] >= prediction.thresholds[name]} == set(expected)
    assert prediction.labels == expected
    assert prediction.error is None
    assert prediction.model == predictor.bundle.digest
    margins = [prediction.margins[name] for name in expected]
    assert margins == sorted(margins, reverse=True)


def test_probabilities_of_an_image_do_not_sum_to_one(predictor: Predictor) -> None:
    assert sum(predictor.predict(paint((255, 255, 255))).probabilities.values()) > 2.9
    assert sum(predictor.predict(paint((0, 0, 0))).probabilities.values()) < 0.1


def test_path_bytes_array_and_pillow_image_give_the_same(predictor: Predictor, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (33, 47, 3), dtype=np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    sources: list[Any] = [path, str(path), path.read_bytes(), pixels, Image.fromarray(pixels), Image.open(path)]
    answers = [predictor.predict(source, name="image") for source in sources]
    assert all(answer == answers[0] for answer in answers)
    assert predictor.predict(path).image == str(path)
    assert predictor.predict(pixels).image == "image"


def test_an_image_that_cannot_be_used_is_an_answer(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    paint((255, 0, 0)).save(path)
    path.write_bytes(path.read_bytes()[:40])
    prediction = predictor.predict(path)
    assert prediction.labels is None
    assert prediction.error is not None
    assert prediction.error["kind"] == "broken"
    assert prediction.error["message"].startswith(f"{path}: ")
    assert prediction.to_dict() == {
        "image": str(path), "labels": None, "probabilities": {}, "thresholds": {}, "model": predictor.bundle.digest,
        "error": dict(prediction.error),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        pytest.param("nowhere.jpg", "missing", id="path of nothing"),
        pytest.param(b"", "empty", id="no bytes"),
        pytest.param(b"%PDF-1.4 and more of it", "unsupported_format", id="bytes of something else"),
    ],
)
def test_what_is_no_image_says_why(predictor: Predictor, source: Any, kind: str) -> None:
    error = predictor.predict(source).error
    assert error is not None
    assert error["kind"] == kind


@pytest.mark.parametrize("top_k", [1, 2, 3, 10])
def test_top_k_gives_the_most_probable_whatever_their_thresholds(predictor: Predictor, top_k: int) -> None:
    prediction = predictor.predict(paint((10, 40, 20)), top_k=top_k)
    assert predictor.predict(paint((10, 40, 20))).labels == ()
    assert prediction.labels == ("green", "blue", "red")[:top_k]


def test_the_json_of_an_answer_is_the_promised_one(predictor: Predictor) -> None:
    prediction = predictor.predict(paint((255, 0, 0)), name="a/b.jpg")
    short = prediction.to_dict()
    assert list(short) == ["image", "labels", "probabilities", "thresholds", "model", "error"]
    assert (short["image"], short["labels"], short["error"]) == ("a/b.jpg", ["red"], None)
    assert short["probabilities"] == {"red": prediction.probabilities["red"]}
    assert short["thresholds"] == {"red": 0.5}
    assert list(prediction.to_dict(all_probabilities=True)["probabilities"]) == list(NAMES)
    assert json.loads(json.dumps(short)) == short


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Forty files, two of them unusable."""
    rng = np.random.default_rng(1)
    paths = [tmp_path / f"{row:02d}.png" for row in range(40)]
    for path in paths:
        colour = tuple(int(value) for value in rng.integers(0, 255, 3))
        paint(colour, (int(rng.integers(1, 60)), 30)).save(path)  # type: ignore[arg-type]
    paths[5].write_bytes(b"no image")
    paths[30].unlink()
    return paths


@pytest.mark.parametrize("ahead", [1, 8, 256])
def test_many_images_are_answered_in_order_and_as_one_by_one(
    predictor: Predictor, images: list[Path], monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    monkeypatch.setattr("manylabel.inference.predictor._IMAGES_AHEAD", ahead)
    answers = list(predictor.predict_many(images))
    assert [answer.image for answer in answers] == [str(path) for path in images]
    assert answers == [predictor.predict(path) for path in images]
    assert [row for row, answer in enumerate(answers) if answer.labels is None] == [5, 30]
    reversed_answers = list(predictor.predict_many(reversed(images)))
    assert reversed_answers == answers[::-1]


@pytest.mark.parametrize(("most_bytes", "most_taken"), [(0, 5), (2000, 12), (2**25, 40)])
def test_images_of_an_archive_are_read_ahead_as_far_as_their_bytes_go(
    predictor: Predictor, images: list[Path], monkeypatch: pytest.MonkeyPatch, most_bytes: int, most_taken: int
) -> None:
    monkeypatch.setattr("manylabel.inference.predictor._BYTES_AHEAD", most_bytes)
    whole, taken = images[0].read_bytes().ljust(250, b"\0"), 0

    def read() -> Iterator[tuple[str, bytes]]:
        nonlocal taken
        for path in images:
            taken += 1
            yield str(path), whole

    answers = predictor.predict_sources(read())
    assert next(answers).image == str(images[0])
    assert taken <= most_taken
    assert len(list(answers)) == len(images) - 1


def test_a_network_that_was_replaced_since_it_was_loaded_is_not_mixed_in(
    bundle_folder: Path, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manylabel.inference.predictor.count_cores", lambda: 2)  # many images then open it once more
    shutil.copytree(bundle_folder, tmp_path / "model")
    model = load(tmp_path / "model")
    network = model.bundle.onnx_path
    network.write_bytes(network.read_bytes() + b"\0")
    problem = r"model\.onnx: the network was replaced after the manifest was read\. Load the model again\."
    with pytest.raises(BundleError, match=problem):
        list(model.predict_many(images))


def test_what_was_read_answers_even_if_another_network_takes_its_place_at_once(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load(bundle_folder).predict(paint((255, 0, 0)))
    shutil.copytree(bundle_folder, tmp_path / "model")
    read = Bundle.read_network

    def read_and_replace(bundle: Bundle) -> Network:
        network = read(bundle)
        bundle.onnx_path.write_bytes(b"another")
        return network

    monkeypatch.setattr(Bundle, "read_network", read_and_replace)
    assert load(tmp_path / "model").predict(paint((255, 0, 0))) == expected


def test_a_file_that_is_larger_than_a_network_can_be_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(20 * 2**30)  # it takes no place on the disk
    problem = (
        r"huge\.onnx: the file is larger than an ONNX file can be, got '21,474,836,480 bytes', expected 2,147,483,647"
    )
    with pytest.raises(BundleError, match=problem):
        load(path)


def test_a_reader_may_leave_before_the_end(predictor: Predictor, images: list[Path]) -> None:
    answers = predictor.predict_many(images)
    assert next(answers).image == str(images[0])
    answers.close()  # type: ignore[attr-defined]
    assert list(predictor.predict_many([])) == []


def test_the_usable_images_of_a_table_keep_their_truth(predictor: Predictor) -> None:
    table = annotations_from_arrays(
        [np.full((4, 4, 3), 255, np.uint8), np.zeros((4, 4, 3), np.uint8)], [["red"], []], NAMES
    )
    broken = table.records[0].__class__("broken", "nowhere.png")
    holed = replace(table, records=(broken, table.records[1]))
    told: list[int] = []
    predictions, skipped = collect_predictions(predictor, holed, lambda: told.append(1))
    assert predictions.images == (table.images[1],)
    assert predictions.targets is not None
    assert not predictions.targets.present_NL().any()
    assert skipped["broken"].startswith("broken: ")
    assert len(told) == 2


def test_a_label_that_the_model_does_not_have_is_refused(predictor: Predictor) -> None:
    table = annotations_from_arrays([np.zeros((4, 4, 3), np.uint8)], [["rde"]], ["rde"])
    with pytest.raises(DataError, match=r"unknown label 'rde' \(did you mean 'red'\?\)"):
        collect_predictions(predictor, table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            {"num_outputs": 2},
            "the network's labels are not those of the manifest, got (2,), expected (3,)",
            id="labels",
        ),
        pytest.param(
            {"size_px": 8},
            "the network's images are not those of the manifest, got (3, 8, 8), expected (3, 16, 16)",
            id="size of images",
        ),
    ],
)
def test_a_network_that_is_not_the_manifests_is_refused(tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises(BundleError) as caught:
        load(write_bundle(tmp_path / "model", **options))
    assert str(caught.value) == f"{tmp_path}/model/model.onnx: {message}. Export the model again."


@pytest.mark.parametrize(
    ("network", "problem"),
    [(b"no network", r"not an ONNX file\. Export the model again\.$"), (b"", r"not a usable network \(.*\)\. Export")],
)
def test_a_file_that_is_no_network_is_one_sentence(
    bundle_folder: Path, tmp_path: Path, network: bytes, problem: str
) -> None:
    folder = Path(shutil.copytree(bundle_folder, tmp_path / "model"))
    (folder / "model.onnx").write_bytes(network)
    values = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest = Manifest.from_dict(values, "x")
    told = replace(manifest, files={"model.onnx": hash_file(folder / "model.onnx")})
    (folder / "manifest.json").write_text(json.dumps(told.to_dict()), "utf-8")
    with pytest.raises(BundleError, match=r"model\.onnx: " + problem):
        load(folder)


def test_the_onnx_file_alone_is_a_model(bundle_folder: Path, tmp_path: Path) -> None:
    whole = load(bundle_folder)
    manifest = whole.bundle.manifest
    path = tmp_path / "one file.ONNX"
    network = (bundle_folder / "model.onnx").read_bytes()
    path.write_bytes(set_metadata(network, "manylabel", write_answering_part(manifest)))
    alone = load(path)
    assert (alone.label_space, alone.preprocess, alone.policy) == (whole.label_space, whole.preprocess, whole.policy)
    for colour in ((255, 0, 0), (128, 255, 255)):
        assert alone.predict(paint(colour)).probabilities == whole.predict(paint(colour)).probabilities
        assert alone.predict(paint(colour)).labels == whole.predict(paint(colour)).labels
    assert alone.bundle.digest == load(path).bundle.digest


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "it is no model of manylabel"),
        ("{", "its metadata are no JSON"),
        ("[]", "its metadata are no manifest"),
        ("{}", "the manifest lacks 'schema_version'"),
        ('{"schema_version": 99}', "the manifest lacks 'labels'"),
    ],
)
def test_an_onnx_file_of_others_is_one_sentence(
    bundle_folder: Path, tmp_path: Path, text: str | None, problem: str
) -> None:
    network = (bundle_folder / "model.onnx").read_bytes()
    path = tmp_path / "other.onnx"
    path.write_bytes(network if text is None else set_metadata(network, "manylabel", text))
    with pytest.raises(BundleError, match=problem):
        load(path)


@pytest.mark.parametrize(
    "place", ["beside it", "above it", "anywhere", "behind a link", "in a linked folder", "behind a hard link"]
)
def test_a_network_that_wants_other_files_is_refused(bundle_folder: Path, tmp_path: Path, place: str) -> None:
    folder = Path(shutil.copytree(bundle_folder, tmp_path / "model"))
    network = onnx.load(folder / "model.onnx")
    onnx.save(network, folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "outside").mkdir()
    outside = tmp_path / "outside" / "weights.bin"
    if place != "beside it":
        (folder / "weights.bin").rename(outside)
    if place == "behind a link":
        (folder / "weights.bin").symlink_to(outside)
    elif place == "behind a hard link":
        (folder / "weights.bin").hardlink_to(outside)
    elif place == "in a linked folder":
        (folder / "sub").symlink_to(outside.parent)
    location = {"above it": "../outside/weights.bin", "anywhere": str(outside), "in a linked folder": "sub/weights.bin"}
    bent = onnx.load(folder / "model.onnx", load_external_data=False)
    for tensor in bent.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location.get(place, "weights.bin")
    (folder / "model.onnx").write_bytes(bent.SerializeToString())
    manifest = replace(load(bundle_folder).bundle.manifest, files={"model.onnx": hash_file(folder / "model.onnx")})
    (folder / "manifest.json").write_text(json.dumps(manifest.to_dict()), "utf-8")
    with pytest.raises(BundleError, match="the network wants files beside it, whose paths it chooses itself"):
        load(folder)
    with pytest.raises(BundleError, match="the network wants files beside it, whose paths it chooses itself"):
        load(folder / "model.onnx")


def answer_without_manylabel(folder: Path, path: Path) -> list[str]:
    """What the model card says: resize and normalise as the manifest says, run, compare with the thresholds."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    preprocess, thresholds = manifest["preprocess"], manifest["policy"]["thresholds"]
    assert preprocess["resize"] == "squash"
    with Image.open(path) as opened:
        image = opened.convert("RGB").resize(
            (preprocess["width_px"], preprocess["height_px"]), Image.Resampling[preprocess["interpolation"].upper()]
        )
    pixels_HWC = (np.asarray(image) / 255 - preprocess["mean"]) / preprocess["std"]
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    images_BCHW = pixels_HWC.transpose(2, 0, 1)[None].astype(np.float32)
    ((probs_L,),) = session.run(["probabilities"], {"images": images_BCHW})
    return [label for label, prob in zip(manifest["labels"], probs_L, strict=True) if prob >= thresholds[label]]


def test_every_way_to_ask_gives_the_same_labels(
    predictor: Predictor, bundle_folder: Path, images: list[Path], tmp_path: Path
) -> None:
    import csv

    usable = [path for row, path in enumerate(images) if row not in (5, 30)]
    save_answers(predictor.predict_many(usable), tmp_path / "answers.csv", predictor.label_space)
    with (tmp_path / "answers.csv").open(encoding="utf-8", newline="") as file:
        written = {row["image"]: {label for label in row["labels"].split("|") if label} for row in csv.DictReader(file)}
    num_labels = set()
    for path in usable:
        labels = set(predictor.predict(path).labels or ())
        assert written[str(path)] == labels
        assert set(answer_without_manylabel(bundle_folder, path)) == labels
        num_labels.add(len(labels))
    assert num_labels >= {0, 1, 2}


def test_a_predictor_says_what_it_knows(predictor: Predictor, bundle_folder: Path) -> None:
    assert predictor.label_space.names == NAMES
    assert predictor.policy.thresholds == THRESHOLDS
    assert predictor.preprocess.height_px == 16
    assert predictor.bundle == load_bundle(bundle_folder)
