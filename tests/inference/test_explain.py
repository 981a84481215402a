"""Evidence for labels: it lies where the label is, beside the others, and doubtful maps are called so."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tests.inference.conftest import write_bundle

from manylabel.data.preprocess import Preprocess
from manylabel.data.regions import Region
from manylabel.errors import ConfigError, DataError
from manylabel.inference.explain import count_parts, explain, map_evidence
from manylabel.inference.picture import draw_explanation
from manylabel.inference.predictor import Predictor, load


def paint(*patches: tuple[tuple[int, int, int], int]) -> npt.NDArray[np.uint8]:
    """Return a dark image, 64 wide and 48 high, with patches of 24 x 24 whose left edges are given."""
    pixels = np.full((48, 64, 3), 20, np.uint8)
    for colour, left in patches:
        pixels[12:36, left : left + 24] = colour
    return pixels


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return load(write_bundle(tmp_path_factory.mktemp("model") / "sharp", std=0.04), num_threads=1)


RED_LEFT_BLUE_RIGHT = paint(((255, 20, 20), 4), ((20, 20, 255), 36))


def test_the_evidence_for_a_label_lies_where_it_is(predictor: Predictor) -> None:
    told: list[int] = []
    explanation = explain(predictor, RED_LEFT_BLUE_RIGHT, ["red", "blue"], on_part=lambda: told.append(1))
    assert explanation.labels == ("red", "blue")
    assert explanation.maps_KHW.shape == (2, 16, 16)
    for label, middle in (("red", 16 / 64), ("blue", 48 / 64)):
        x, y = explanation.find_peak(label)
        assert abs(x - middle) < 0.1
        assert abs(y - 0.5) < 0.15
    assert explanation.notes == ()
    assert len(told) == count_parts()


def test_what_all_labels_lose_is_taken_off(predictor: Predictor) -> None:
    white_left = paint(((255, 255, 255), 4))
    explanation = explain(predictor, white_left, ["red", "green"])
    assert np.abs(explanation.maps_KHW).max() < 0.05
    assert explanation.notes[0] == (
        "Hiding any part costs 'red', 'green' little beside the other labels: what speaks for it is spread over the "
        "image, or is no part of it."
    )


def test_labels_that_are_given_are_explained_or_else_the_most_probable_one(predictor: Predictor) -> None:
    red = paint(((255, 20, 20), 4))
    assert predictor.predict(red).labels == ()
    assert explain(predictor, red).labels == ("red",)
    bright = np.full((16, 16, 3), (255, 255, 10), np.uint8)
    assert explain(predictor, bright).labels == predictor.predict(bright).labels == ("green", "red")


def test_maps_that_show_the_same_place_are_noted(tmp_path: Path) -> None:
    names = ("red", "green", "blue", "scarlet")
    alike = load(write_bundle(tmp_path / "alike", names, (0.5,) * 4, std=0.04), num_threads=1)
    notes = explain(alike, RED_LEFT_BLUE_RIGHT, ["red", "blue", "scarlet"]).notes
    assert len(notes) == 1
    assert notes[0].startswith("The maps of 'red' and 'scarlet' are nearly the same")


@pytest.mark.parametrize(("left", "is_noted"), [(4.0, False), (36.0, True)])
def test_a_map_that_misses_its_regions_is_noted(predictor: Predictor, left: float, is_noted: bool) -> None:
    regions = [Region("red", box_px=(left, 12.0, 24.0, 24.0)), Region("blue", box_px=(36.0, 12.0, 24.0, 24.0))]
    notes = explain(predictor, RED_LEFT_BLUE_RIGHT, ["red", "blue"], regions=regions).notes
    assert [note.startswith("The strongest evidence for 'red' lies outside") for note in notes] == [True] * is_noted


def test_polygons_are_regions_too(predictor: Predictor) -> None:
    region = Region("red", polygons_px=((40.0, 16.0, 60.0, 16.0, 60.0, 32.0),))
    assert len(explain(predictor, RED_LEFT_BLUE_RIGHT, ["red"], regions=[region]).notes) == 1


@pytest.mark.parametrize(
    ("labels", "problem"),
    [(["rad"], r"--labels: the model has no label 'rad' \(did you mean 'red'\?\)"), ([], "no label is named")],
)
def test_labels_have_to_be_the_model_s(predictor: Predictor, labels: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        explain(predictor, RED_LEFT_BLUE_RIGHT, labels)


def test_an_image_that_cannot_be_used_is_one_sentence(predictor: Predictor) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg: there is no such file"):
        explain(predictor, "gone.jpg")


def test_a_model_with_one_label_has_nothing_beside_it() -> None:
    preprocess = Preprocess(height_px=8, width_px=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4] = 255

    def answer(pixels_CHW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.array([1 / (1 + np.exp(-pixels_CHW[:, :, :4].mean()))], np.float32)

    (map_HW,) = map_evidence(answer, preprocess, Image.fromarray(pixels), [0])
    assert map_HW[:, :4].mean() > 10 * abs(map_HW[:, 6:].mean())


@pytest.mark.parametrize("num_labels", [1, 3, 6])
def test_the_picture_has_a_map_for_each_label(tmp_path: Path, num_labels: int) -> None:
    names = ("red", "green", "blue", "$x^", "大きな犬", "x" * 200)
    model = load(write_bundle(tmp_path / "model", names, (0.5,) * 6), num_threads=1)
    path = tmp_path / "new" / "explained.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_explanation(explain(model, RED_LEFT_BLUE_RIGHT, names[:num_labels]), path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 300 * min(4, 1 + num_labels)
        assert np.asarray(image.convert("RGB")).std() > 20
