"""The grid of a preview: every image where it belongs, every caption in words."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from manylabel.augment.preview import PreviewCell, describe_truth, draw_preview

COLOURS = [[(255, 0, 0), (0, 255, 0), (0, 0, 255)], [(255, 255, 0), (0, 255, 255), (255, 0, 255)]]


def draw(captions: list[str], width: int = 20, height: int = 20) -> np.ndarray:  # type: ignore[type-arg]
    rows = [
        [PreviewCell(np.full((height, width, 3), colour, np.uint8), caption) for colour in row]
        for row, caption in zip(COLOURS, captions, strict=True)
    ]
    return np.asarray(Image.open(io.BytesIO(draw_preview(rows, ["original", "epoch 1", "epoch 2"]))).convert("RGB"))


@pytest.mark.parametrize("size", [(20, 20), (40, 20), (20, 40)], ids=["square", "wide", "tall"])
@pytest.mark.parametrize("caption", ["cat", "a label of many words " * 6], ids=["short", "long"])
def test_every_image_stands_in_its_row_and_column(size: tuple[int, int], caption: str) -> None:
    pixels = draw([caption, "dog"], *size)
    height, width = pixels.shape[:2]
    tops = []
    for row in range(2):
        for column in range(3):
            places = np.argwhere((pixels == COLOURS[row][column]).all(axis=2))
            (top, left), (bottom, right) = places.min(axis=0), places.max(axis=0)
            assert len(places) == (bottom - top + 1) * (right - left + 1), "nothing is written into the image"
            assert column / 3 <= left / width < right / width <= (column + 1) / 3
            assert (right - left) / (bottom - top) == pytest.approx(size[0] / size[1], rel=0.08)
            tops.append((top, bottom))
    assert len(set(tops[:3])) == len(set(tops[3:])) == 1
    assert tops[0][1] < tops[3][0]
    assert tops[3][1] < height


def test_a_caption_is_written_between_the_images_and_names_that_are_formulas_are_names() -> None:
    pixels = draw(["a $_b^{ label", "\N{CJK UNIFIED IDEOGRAPH-732B}\n\x00"])
    top = np.argwhere((pixels == COLOURS[1][0]).all(axis=2)).min(axis=0)[0]
    bottom = np.argwhere((pixels == COLOURS[0][0]).all(axis=2)).max(axis=0)[0]
    between = pixels[bottom + 2 : top - 1, : pixels.shape[1] // 3]
    assert (between < 100).all(axis=2).sum() > 5


@pytest.mark.parametrize(
    ("truth", "known", "expected"),
    [
        pytest.param([1, 0, 1], [1, 1, 1], "cat, owl", id="known"),
        pytest.param([0, 0, 0], [1, 1, 1], "(none)", id="no label"),
        pytest.param([0, 1, 0], [0, 1, 0], "dog (2 unknown)", id="unknown cells"),
        pytest.param([0.25, 1, 0.005], [1, 1, 1], "cat 0.25, dog, owl 0.01", id="weights"),
    ],
)
def test_the_labels_of_an_image_in_words(truth: list[float], known: list[bool], expected: str) -> None:
    assert describe_truth(["cat", "dog", "owl"], truth, known) == expected
