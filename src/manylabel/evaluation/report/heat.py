"""Heat: maps drawn over images that a page holds in itself, and the scale that says what a colour means."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from manylabel.errors import make_printable
from manylabel.evaluation.mistake_maps import MistakeMap, MistakeMaps
from manylabel.evaluation.report.sentences import shorten

_COLOURS = ((0, 0, 4), (51, 10, 94), (120, 28, 109), (187, 55, 84), (237, 105, 37), (252, 180, 25), (252, 255, 164))
"""From nothing to all in equal steps: from dark to light, so that it reads without colours too."""

_DEEPEST = 0.75
"""How much of the image the strongest evidence covers."""

_PAPER = 150
"""The grey of an image that the scale shows its colours on."""


def describe_maps(maps: MistakeMaps | None) -> dict[str, Any]:
    """Return what the page shows of a part: maps by image and label, their scale, doubts, and what is left out."""
    if maps is None:
        return {"maps": {}, "left_out": "", "doubts": [], "scale": {}}
    strongest = find_strongest(maps)
    return {
        "maps": {(each.image, each.label): _describe_map(each, strongest) for each in maps.maps},
        "left_out": make_printable(maps.left_out),
        "doubts": [
            (make_printable(each.image), make_printable(" ".join(each.doubts))) for each in maps.maps if each.doubts
        ],
        "scale": {
            "unit": make_printable(" ".join(maps.unit.split())),
            "strongest": f"{strongest:.2g}",
            "colours": ",".join(f"rgb({red},{green},{blue})" for red, green, blue in _list_scale()),
        }
        if maps.maps
        else {},
    }


def find_strongest(maps: MistakeMaps) -> float:
    """Return the number of full colour: all maps of a page share it, so that a faint map is of weak evidence."""
    return max([maps.strong, *(float(each.map_HW.max()) for each in maps.maps)])


def _describe_map(found: MistakeMap, strongest: float) -> dict[str, Any]:
    x, y = found.peak
    where = f"most at {x:.0%} from the left, {y:.0%} from the top"
    return {
        "picture": embed_heat(found.picture_HWC, found.map_HW, strongest),
        "where": where,
        "text": f"What speaks for {make_printable(shorten(found.label, 30))}: {where}",
        "is_doubtful": bool(found.doubts),
    }


def embed_heat(picture_HWC: npt.NDArray[np.uint8], map_HW: npt.NDArray[np.float32], strongest: float) -> str:
    """Return the address of a JPEG that holds an image in grey, with colour where a map is above 0."""
    height_px, width_px = picture_HWC.shape[:2]
    stretched = Image.fromarray(np.asarray(map_HW, np.float32)).resize((width_px, height_px), Image.Resampling.BILINEAR)
    strength_HW = np.clip(np.asarray(stretched) / strongest, 0, 1)
    # Black becomes dark grey, so that the darkest colour can be told from it.
    grey_HW = (np.asarray(Image.fromarray(picture_HWC).convert("L"), np.float32) + 40) * (255 / 295)
    buffer = io.BytesIO()
    Image.fromarray(_cover(grey_HW, strength_HW)).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _cover(grey_HW: npt.NDArray[np.floating], strength_HW: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Return grey covered by the colour of each strength, the more the stronger it is."""
    steps = np.linspace(0, 1, len(_COLOURS))
    colour_HWC = np.stack([np.interp(strength_HW, steps, channel) for channel in zip(*_COLOURS, strict=True)], axis=-1)
    cover_HW1 = (_DEEPEST * np.sqrt(strength_HW))[..., np.newaxis]
    covered_HWC = np.round(grey_HW[..., np.newaxis] * (1 - cover_HW1) + colour_HWC * cover_HW1)
    return np.asarray(covered_HWC, np.uint8)


def _list_scale() -> list[tuple[int, int, int]]:
    strength_1W = np.linspace(0, 1, 13)[np.newaxis]
    return [tuple(map(int, colour)) for colour in _cover(np.full_like(strength_1W, _PAPER), strength_1W)[0]]  # type: ignore[misc]
