"""Heat: colour where a map is above 0, the image in grey elsewhere, one scale for all maps of a page."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from manylabel.evaluation.mistake_maps import MistakeMap, MistakeMaps
from manylabel.evaluation.report.heat import describe_maps, embed_heat, find_strongest

GREEN = np.full((40, 80, 3), (30, 200, 40), np.uint8)


def read(address: str) -> npt.NDArray[np.int64]:
    kind, _, text = address.partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return np.asarray(image.convert("RGB")).astype(np.int64)


def test_what_speaks_for_a_label_is_coloured_and_the_rest_is_grey() -> None:
    map_HW = np.zeros((4, 8), np.float32)
    map_HW[:2, 6:], map_HW[2:, :2] = 3, -3
    shown_HWC = read(embed_heat(GREEN, map_HW, 3.0))
    assert shown_HWC.shape == (40, 80, 3)
    for row, column in ((20, 40), (35, 5)):  # nothing, and what speaks against it
        assert np.ptp(shown_HWC[row, column]) < 8
    bright = shown_HWC[3, 76]
    assert bright[0] > bright[2] + 25  # yellow
    assert bright.mean() > shown_HWC[20, 40].mean()


def make_map(strength: float, doubts: tuple[str, ...] = (), label: str = "dog") -> MistakeMap:
    map_HW = np.full((2, 2), strength, np.float32)
    return MistakeMap("a.jpg", label, GREEN, map_HW, (0.5, 0.25), doubts)


@pytest.mark.parametrize(("strengths", "expected"), [((0.1, 0.2), 1.0), ((0.1, 3.5), 3.5), ((), 1.0)])
def test_the_strongest_evidence_of_all_is_full_colour_unless_it_is_next_to_nothing(
    strengths: tuple[float, ...], expected: float
) -> None:
    assert find_strongest(MistakeMaps(tuple(map(make_map, strengths)), "log-odds", strong=1.0)) == pytest.approx(
        expected
    )


def test_maps_of_several_labels_of_one_image_do_not_replace_each_other() -> None:
    facts = describe_maps(MistakeMaps((make_map(1.0, label="dog"), make_map(2.0, label="cat")), "log-odds"))
    assert list(facts["maps"]) == [("a.jpg", "dog"), ("a.jpg", "cat")]
    assert facts["maps"]["a.jpg", "dog"]["text"].startswith("What speaks for dog:")


def test_a_part_without_maps_shows_no_scale() -> None:
    assert describe_maps(None) == {"maps": {}, "left_out": "", "doubts": [], "scale": {}}
    facts = describe_maps(MistakeMaps((), "", left_out="gone"))
    assert (facts["left_out"], facts["scale"]) == ("gone", {})


def test_the_scale_goes_from_grey_to_bright() -> None:
    facts = describe_maps(MistakeMaps((make_map(2.25, ("It\x1b is coarse.",)),), "log-odds\nlost"))
    scale = facts["scale"]
    assert (scale["unit"], scale["strongest"]) == ("log-odds lost", "2.2")
    assert scale["colours"].startswith("rgb(150,150,150),")
    assert facts["doubts"] == [("a.jpg", "It\\x1b is coarse.")]
    assert facts["maps"]["a.jpg", "dog"]["text"] == "What speaks for dog: most at 50% from the left, 25% from the top"
