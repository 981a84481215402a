"""CVAT for images 1.1: one XML of all images with tags, boxes, polygons and masks.

A label is present where an image has a tag or a shape of it, else absent: the file lists every image and label of the
task. Attributes of shapes, their order and who drew them are not read. Tracks (CVAT for video) are refused.

Source: the page on the format "CVAT for images 1.1" of docs.cvat.ai.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from manylabel.data.annotations import Annotations
from manylabel.data.formats.assemble import Row, assemble_rows
from manylabel.data.formats.columns import ImageRoot
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.problems import Problems
from manylabel.data.formats.source import Source
from manylabel.data.formats.xml import XmlElement, find_root_name, load_xml
from manylabel.data.images import MAX_PIXELS
from manylabel.data.regions import Mask, Region
from manylabel.labels.space import LabelSpace

WITHOUT_REGION = ("tag", "points", "polyline", "ellipse", "cuboid", "skeleton")
"""What says that a label is there, in a shape that a region has no place for."""


def find_cvat(source: Source, options: ReadOptions) -> Evidence | None:  # noqa: ARG001 - the signature of a format
    """Return why a file of XML is CVAT's: its outermost element is `annotations` and has images."""
    if source.kind != "xml" or find_root_name(source.path) != "annotations":
        return None
    with source.path.open("rb") as stream:  # counted, not parsed: that is for reading it
        num_images = sum(line.count(b"<image ") for line in stream)
    return (f"CVAT: {num_images:,} images",)


def load_cvat(source: Source, options: ReadOptions) -> Annotations:
    """Read CVAT for images; labels are in the order of the task, subsets are the parts.

    Images are looked for by their name below the folder of images, in `images` there, and in `images/SUBSET`.

    Raises:
        DataError: no safe XML, tracks, images without a name, shapes without a label or with coordinates that are
            none, a label that the task does not have (the first of them listed), or what `assemble_rows` raises.
    """
    content = load_xml(source.path)
    problems = Problems()
    if content.name != "annotations":
        problems.add(f"{source.path} line {content.line}", "no CVAT", got=content.name, expected="<annotations>")
    for track in content.find_all("track"):
        do = "Export it as 'CVAT for images 1.1'"
        problems.add(f"{source.path} line {track.line}", "a track of a video, which is no image", do=do)
    names = _find_names(content.find("meta"))
    root = options.find_root(source)
    rows = [_read_image(source.path, element, root, problems) for element in content.find_all("image")]
    problems.stop_if_any()
    return assemble_rows(str(source.path), root, rows, LabelSpace(tuple(names)) if names else None)


def _find_names(element: XmlElement | None) -> list[str]:
    """Return the labels of the task, project or job in `meta`; those of the points of a skeleton are none."""
    if element is None:
        return []
    if element.name == "labels":
        found = [label.find_text("name") for label in element.find_all("label") if not label.find_text("parent")]
    else:
        found = [name for child in element.children for name in _find_names(child)]
    return [name for name in dict.fromkeys(found) if name]


def _read_image(path: Path, element: XmlElement, root: ImageRoot, problems: Problems) -> Row:
    place = f"{path} line {element.line}"
    name = element.attributes.get("name", "").strip()
    if not name:
        problems.add(place, "an image without a name", expected='<image name="a.jpg">')
    subset = element.attributes.get("subset", "").strip()
    regions: list[Region] = []
    present: list[str] = []
    for shape in element.children:
        region = _read_shape(path, shape, element, problems)
        if region is not None:
            present.append(region.label)
            if shape.name not in WITHOUT_REGION:
                regions.append(region)
    return Row(
        _find_image(root, name, subset),
        place,
        present=list(dict.fromkeys(present)),
        part=subset if subset and subset.lower() != "default" else None,  # CVAT calls it so where there are none
        regions=tuple(regions),
    )


def _find_image(root: ImageRoot, name: str, subset: str) -> str:
    candidates = [name, f"images/{name}", f"images/{subset}/{name}"] if name else []
    for candidate in candidates:
        if ".." not in PurePosixPath(candidate).parts and (root.folder / candidate).is_file():
            return candidate
    return name


def _read_shape(path: Path, shape: XmlElement, image: XmlElement, problems: Problems) -> Region | None:
    place = f"{path} line {shape.line}"
    if shape.name not in _READERS and shape.name not in WITHOUT_REGION:
        problems.add(place, "no shape of CVAT", got=shape.name, expected="tag, box, polygon or mask")
        return None
    label = shape.attributes.get("label", "").strip()
    if not label:
        problems.add(place, f"a {shape.name} without a label", expected='label="dog"')
        return None
    if shape.name in WITHOUT_REGION:
        return Region(label)
    try:
        return _READERS[shape.name](label, shape.attributes, image.attributes)
    except (KeyError, ValueError):
        problems.add(place, f"no {shape.name}", got=dict(shape.attributes), expected=_EXPECTED[shape.name])
        return None


def _to_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _to_whole(text: str) -> int:
    number = _to_number(text)
    if number != int(number) or number < 0:
        raise ValueError(text)
    return int(number)


def _read_box(label: str, box: Mapping[str, str], _image: Mapping[str, str]) -> Region:
    left, top, right, bottom = (_to_number(box[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
    if right < left or bottom < top:
        raise ValueError(box)
    return Region(label, (left, top, right - left, bottom - top))


def _read_polygon(label: str, polygon: Mapping[str, str], _image: Mapping[str, str]) -> Region:
    pairs = [pair.split(",") for pair in polygon["points"].split(";")]
    if len(pairs) < 3 or any(len(pair) != 2 for pair in pairs):
        raise ValueError(polygon)
    return Region(label, polygons_px=(tuple(_to_number(text) for pair in pairs for text in pair),))


def _read_mask(label: str, mask: Mapping[str, str], image: Mapping[str, str]) -> Region:
    """Return the region of run lengths that go row by row through a part of the image, beginning outside."""
    left, top, width, height = (_to_whole(mask[name]) for name in ("left", "top", "width", "height"))
    image_width, image_height = _to_whole(image["width"]), _to_whole(image["height"])
    counts = [_to_whole(text) for text in mask["rle"].split(",")]
    if left + width > image_width or top + height > image_height or image_width * image_height > MAX_PIXELS:
        raise ValueError(mask)
    if sum(counts) != width * height:
        raise ValueError(mask)
    pixels_HW = np.zeros((image_height, image_width), bool)
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
    pixels_HW[top : top + height, left : left + width] = inside
    return Region(label, (float(left), float(top), float(width), float(height)), mask=Mask.from_pixels(pixels_HW))


_READERS: Mapping[str, Callable[[str, Mapping[str, str], Mapping[str, str]], Region]] = {
    "box": _read_box,
    "polygon": _read_polygon,
    "mask": _read_mask,
}

_EXPECTED: Mapping[str, str] = {
    "box": "xtl, ytl, xbr and ybr, the largest last",
    "polygon": 'points="x,y;x,y;x,y"',
    "mask": "rle, left, top, width and height inside the image, the run lengths adding up to width x height",
}
