"""COCO instances: one JSON of images, categories and annotations with boxes, polygons and run-length masks.

The label set of an image are the categories of its annotations; the file speaks of every image and category, so
what is not annotated is absent. pycocotools, the reference reader, is not used: it has to be compiled, and what is
read here is a dictionary of lists.

Source: the data format page of cocodataset.org; compressed run lengths as in pycocotools' maskApi.c.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.formats.assemble import Row, assemble_rows
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.problems import Problems
from manylabel.data.formats.shapes import read_box, read_mask, read_polygons
from manylabel.data.formats.source import Source
from manylabel.data.images import ImageError, image_size_px
from manylabel.data.regions import Mask, Region
from manylabel.files import write_text_atomically
from manylabel.labels.space import LabelSpace

OWN_KEY = "manylabel"
"""Where an image keeps what COCO has no place for: labels without a region, unknown ones, group, part and extras."""


def find_coco(source: Source, options: ReadOptions) -> Evidence | None:  # noqa: ARG001 - the signature of a format
    """Return why a JSON file is COCO's: it has lists of images, categories and annotations."""
    if source.kind != "json":
        return None
    content = source.json
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "categories", "annotations")
    ):
        return None
    return (
        f"COCO: {len(content['annotations']):,} annotations of {len(content['images']):,} images "
        f"in {len(content['categories']):,} categories",
    )


def load_coco(source: Source, options: ReadOptions) -> Annotations:
    """Read COCO instances; every annotation becomes a region, every category a label, in the order of the file.

    Crowds count as present. Images are looked for below the folder of images, or in the one folder there that has
    them (`images`, `train2017`).

    Raises:
        DataError: entries that are no images, categories or annotations, ids that stand twice or nowhere, boxes or
            masks that are none (the first of them listed), or what `assemble_rows` raises.
    """
    problems = Problems()
    content = source.json if isinstance(source.json, dict) else {}
    where = str(source.path)
    images = _read_entries(where, content, "images", "file_name", problems)
    categories = _read_entries(where, content, "categories", "name", problems)
    regions_of: dict[Any, list[Region]] = {}
    entries = content.get("annotations", [])
    for number, entry in enumerate(entries if isinstance(entries, list) else []):
        place = f"{where} annotations[{number}]"
        region = _read_annotation(place, entry, images, categories, problems)
        if region is not None:
            regions_of.setdefault(entry["image_id"], []).append(region)
    names = [str(entry["name"]) for entry in categories.values()]
    if len(set(names)) < len(names):
        problems.add(where, "two categories have one name", expected="a name of its own for each")
    problems.stop_if_any()
    root = options.find_root(source)
    prefix = root.find_prefix([entry["file_name"] for entry in images.values()])
    rows = [
        _build_row(where, prefix, entry, regions_of.get(image_id, []), set(names), problems)
        for image_id, entry in images.items()
    ]
    problems.stop_if_any()
    return assemble_rows(where, root, rows, LabelSpace(tuple(names)) if names else None)


def save_coco(annotations: Annotations, path: Path) -> None:
    """Write COCO instances: what COCO has no place for goes under the key `manylabel` of an image, and is read back.

    A region without a box gets the one around its polygons or mask. Sizes are read from the images where they exist.

    Raises:
        RunError: the file cannot be written.
    """
    names = annotations.label_space.names
    category_of = {name: number for number, name in enumerate(names, start=1)}
    entries: list[dict[str, Any]] = []
    images = []
    for row, record in enumerate(annotations.records):
        images.append(_describe_image(annotations, row, record))
        for region in record.regions:
            if region.label in category_of:
                entries.append(_describe_region(region, len(entries) + 1, row + 1, category_of[region.label]))
    content = {
        "images": images,
        "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in category_of.items()],
        "annotations": entries,
    }
    write_text_atomically(path, json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")


# --- reading ------------------------------------------------------------------------------------------------------


def _read_entries(
    where: str, content: Mapping[str, Any], key: str, name_key: str, problems: Problems
) -> dict[Any, dict[str, Any]]:
    """Return the images or categories by id."""
    found: dict[Any, dict[str, Any]] = {}
    entries = content.get(key)
    if not isinstance(entries, list):
        problems.add(where, f"there is no list of {key}", expected=f'{{"{key}": [...]}}')
        return found
    for number, entry in enumerate(entries):
        place = f"{where} {key}[{number}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int | str):
            problems.add(place, "no entry with an id", got=entry, expected=f'{{"id": 1, "{name_key}": ...}}')
        elif not isinstance(entry.get(name_key), str) or not entry[name_key].strip():
            problems.add(place, f"no {name_key!r}", got=entry, expected="text")
        elif entry["id"] in found:
            problems.add(place, f"id {entry['id']!r} stands twice", expected="an id of its own")
        else:
            found[entry["id"]] = entry
    return found


def _read_annotation(
    place: str,
    entry: Any,
    images: Mapping[Any, Any],
    categories: Mapping[Any, Mapping[str, Any]],
    problems: Problems,
) -> Region | None:
    if not isinstance(entry, dict):
        problems.add(place, "no entry", got=entry, expected='{"image_id": 1, "category_id": 1, "bbox": [...]}')
        return None
    before = len(problems)
    for key, known in (("image_id", images), ("category_id", categories)):
        value = entry.get(key)
        if not isinstance(value, int | str) or value not in known:
            problems.add(place, f"{key} is none of the file's", got=value, expected=f"one of its {len(known)} ids")
    box = read_box(place, entry.get("bbox"), problems)
    polygons, mask = _read_segmentation(place, entry.get("segmentation"), problems)
    if len(problems) > before:
        return None
    return Region(str(categories[entry["category_id"]]["name"]), box, polygons, mask)


def _read_segmentation(place: str, value: Any, problems: Problems) -> tuple[tuple[tuple[float, ...], ...], Mask | None]:
    if isinstance(value, dict):
        return (), read_mask(place, value, problems)
    return read_polygons(place, value, problems), None


def _build_row(
    where: str,
    prefix: str,
    entry: Mapping[str, Any],
    regions: Sequence[Region],
    names: set[str],
    problems: Problems,
) -> Row:
    own = entry.get(OWN_KEY, {})
    own = own if isinstance(own, dict) else {}
    place = f"{where} image {entry['file_name']!r}"
    labels = {key: _read_names(place, key, own.get(key, []), names, problems) for key in ("labels", "unknown")}
    extras = own.get("extras", {})
    return Row(
        prefix + entry["file_name"],
        place,
        present=list(dict.fromkeys([*(region.label for region in regions), *labels["labels"]])),
        unknown=labels["unknown"],
        group=str(own["group"]) if own.get("group") else None,
        part=str(own["part"]) if own.get("part") else None,
        extras={str(key): str(value) for key, value in extras.items()} if isinstance(extras, dict) else {},
        regions=tuple(regions),
    )


def _read_names(place: str, key: str, values: Any, names: set[str], problems: Problems) -> list[str]:
    if isinstance(values, list) and all(isinstance(value, str) and value in names for value in values):
        return values
    problems.add(place, f"{OWN_KEY}.{key} is no list of categories", got=values, expected="names of categories")
    return []


# --- writing ------------------------------------------------------------------------------------------------------


def _describe_image(annotations: Annotations, row: int, record: ImageRecord) -> dict[str, Any]:
    names = annotations.label_space.names
    with_region = {region.label for region in record.regions}
    own = {
        "labels": [label for label in annotations.labels_of(row) if label not in with_region],
        "unknown": [names[column] for column in annotations.targets.unknown_columns(row)],
        "group": record.group,
        "part": record.part,
        "extras": {name: value for name, value in record.extras.items() if value},
    }
    kept = {key: value for key, value in own.items() if value}
    image: dict[str, Any] = {"id": row + 1, "file_name": record.id}
    with suppress(ImageError):
        image["width"], image["height"] = image_size_px(record.source)
    return image | ({OWN_KEY: kept} if kept else {})


def _describe_region(region: Region, number: int, image: int, category: int) -> dict[str, Any]:
    segmentation: Any = [list(points) for points in region.polygons_px]
    if region.mask is not None:
        segmentation = {"size": [region.mask.height_px, region.mask.width_px], "counts": list(region.mask.counts)}
    box = region.box_px if region.box_px is not None else region.find_bounds()
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(box) if box is not None else [],
        "area": region.area_px,
        "segmentation": segmentation,
        "iscrowd": 0 if region.mask is None else 1,
    }
