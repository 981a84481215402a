"""The picture of a prediction: there for any number of labels and any name."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from manylabel.errors import DataError, RunError
from manylabel.inference.picture import draw_prediction
from manylabel.inference.prediction import Prediction

IMAGE = np.full((30, 40, 3), (200, 30, 30), np.uint8)


def predict(num_labels: int, num_given: int, name: str = "label") -> Prediction:
    names = [f"{name} {column}" for column in range(num_labels)]
    probs = {label: 0.9 if column < num_given else 0.1 for column, label in enumerate(names)}
    return Prediction("image", tuple(names[:num_given]), probs, dict.fromkeys(names, 0.5))


def draw(prediction: Prediction, path: Path) -> npt.NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_prediction(prediction, IMAGE, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(
    ("num_labels", "num_given"), [(1, 0), (1, 1), (5, 0), (5, 5), (30, 25), (2000, 0), (2000, 1500)]
)
def test_a_picture_shows_image_and_bars_for_any_number_of_labels(
    tmp_path: Path, num_labels: int, num_given: int
) -> None:
    pixels = draw(predict(num_labels, num_given), tmp_path / "new" / "picture.png")
    assert pixels.shape[0] < 2500
    assert (pixels == (200, 30, 30)).all(axis=2).mean() > 0.02  # the image itself
    given = (pixels == (0x1B, 0x6C, 0xA8)).all(axis=2).any()
    assert bool(given) == (num_given > 0)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("$", id="a formula begins"),
        pytest.param(r"$\frac{x}$", id="a formula that is wrong"),
        pytest.param("<script>alert(1)</script>", id="markup"),
        pytest.param("x" * 5000, id="long"),
        pytest.param("大きな犬 🐕", id="no such letters in the font"),
        pytest.param("\x1b[2J\x00", id="control characters"),
        pytest.param("gr\udcfc", id="not text"),
        pytest.param("a_b^c{%&#~", id="signs with a meaning to TeX"),
        pytest.param("_hidden", id="a name that legends leave out"),
    ],
)
def test_no_name_breaks_a_picture(tmp_path: Path, name: str) -> None:
    assert draw(predict(3, 2, name), tmp_path / "picture.png").std() > 0


def test_the_picture_changes_with_the_probabilities(tmp_path: Path) -> None:
    first, second = (draw(predict(3, given), tmp_path / "picture.png") for given in (1, 2))
    assert first.shape != second.shape or (first != second).any()


def test_there_is_no_picture_of_an_error(tmp_path: Path) -> None:
    failed = Prediction("c.jpg", None, error={"kind": "missing", "message": "it is gone"})
    with pytest.raises(DataError) as caught:
        draw_prediction(failed, IMAGE, tmp_path / "picture.png")
    assert str(caught.value) == "c.jpg: no picture of an image that cannot be used (it is gone)."
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"picture\.png: cannot write [\d,]+ bytes \("):
        draw_prediction(predict(1, 1), IMAGE, tmp_path / "file" / "picture.png")
