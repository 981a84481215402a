"""JSON and JSON Lines: an object per image with its labels, its regions and whatever else was written down.

Read with the standard library; the readers of other tools expect one of the many shapes, these take what people have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from manylabel.data.annotations import Annotations
from manylabel.data.formats.assemble import Row, assemble_rows
from manylabel.data.formats.cells import ABSENT, EXPECTED_CELL, PRESENT, STRANGE, UNKNOWN, read_cell
from manylabel.data.formats.columns import IMAGE_COLUMN_NAMES, LABEL_COLUMN_NAMES
from manylabel.data.formats.delimited import SEPARATORS
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.problems import Problems
from manylabel.data.formats.shapes import read_box, read_mask, read_polygons
from manylabel.data.formats.source import Source
from manylabel.data.regions import Region
from manylabel.files import write_text_atomically
from manylabel.labels.space import LabelSpace

_PART_KEYS = ("part", "split")
_OWN_KEYS = ("unknown", "group", "extras", "regions", "objects", *_PART_KEYS)
_EXPECTED = '{"image": "a.jpg", "labels": ["dog"]}'

Item = tuple[str, Any]
"""Where an object stands, for messages, and the object."""


def find_json(source: Source, options: ReadOptions) -> Evidence | None:
    """Return why a JSON file has an object per image: a list of them, also under `images`, or a map to labels."""
    if source.kind != "json":
        return None
    items = _list_items(str(source.path), source.json)
    return _describe("JSON", items, options)


def find_json_lines(source: Source, options: ReadOptions) -> Evidence | None:
    """Return why a file has a JSON object per line, each of an image and its labels."""
    if source.kind != "jsonl":
        return None
    items = [(f"{source.path} line {line}", value) for line, value in source.json_lines]
    return _describe("JSON Lines", items, options)


def load_json(source: Source, options: ReadOptions) -> Annotations:
    """Read `[{"image": ..., "labels": ...}, ...]`, the same under `images` with `labels` as the names, or a map.

    Raises:
        DataError: as `read_items`.
    """
    where = str(source.path)
    content = source.json
    names = content.get("labels") if isinstance(content, dict) and "images" in content else None
    problems = Problems()
    space = None
    if names is not None:
        if _is_list_of_names(names) and names and len({str(name) for name in names}) == len(names):
            space = LabelSpace(tuple(str(name) for name in names))
        else:
            problems.add(where, "labels is no list of different names", got=names, expected='["dog", "sun"]')
    items = _list_items(where, content)
    return read_items(source, options, items if items is not None else [(where, content)], space, problems)


def load_json_lines(source: Source, options: ReadOptions) -> Annotations:
    """Read an object per line, as `load_json` reads those of a list.

    Raises:
        DataError: lines that are no object, or as `read_items`.
    """
    items = [(f"{source.path} line {line}", value) for line, value in source.json_lines]
    return read_items(source, options, items, None, Problems())


def save_json(annotations: Annotations, path: Path) -> None:
    """Write `{"labels": [...], "images": [...]}`: states, order of labels, group, part, extras and regions come back.

    Raises:
        RunError: the file cannot be written.
    """
    images = [_describe_record(annotations, row) for row in range(len(annotations))]
    lines = ",\n".join("  " + json.dumps(image, ensure_ascii=False) for image in images)
    names = json.dumps(list(annotations.label_space.names), ensure_ascii=False)
    write_text_atomically(path, f'{{"labels": {names},\n "images": [\n{lines}\n]}}\n')


def save_json_lines(annotations: Annotations, path: Path) -> None:
    """Write an object per line; labels come back in sorted order, and those that no line mentions do not.

    Raises:
        RunError: the file cannot be written.
    """
    images = [_describe_record(annotations, row) for row in range(len(annotations))]
    write_text_atomically(path, "".join(json.dumps(image, ensure_ascii=False) + "\n" for image in images))


def read_items(
    source: Source,
    options: ReadOptions,
    items: Sequence[Item],
    space: LabelSpace | None,
    problems: Problems,
) -> Annotations:
    """Return the Annotations of objects.

    A list of labels speaks of every label: the others are absent. A map `{label: state}` speaks of those it names, the
    others are unknown. `null` says that nobody looked.

    Raises:
        DataError: objects without an image, labels or states that are none (the first of them listed).
    """
    is_exhaustive = space is None
    read = [_read_item(where, item, options, problems) for where, item in items]
    problems.stop_if_any()
    entries = [entry for entry in read if entry is not None]
    if space is None:
        named = {name for row, states in entries for name in (*row.present, *row.unknown, *(states or {}))}
        space = LabelSpace(tuple(sorted(named))) if named else None
    rows = []
    for row, states in entries:
        if states is not None and space is not None:
            unnamed = [name for name in space if name not in states]
            row = replace(row, unknown=[*row.unknown, *unnamed])
            is_exhaustive = False
        rows.append(row)
    return assemble_rows(str(source.path), options.find_root(source), rows, space, is_exhaustive=is_exhaustive)


# --- reading ------------------------------------------------------------------------------------------------------


def _list_items(where: str, content: Any) -> list[Item] | None:
    """Return the objects of a JSON value with their places; None where it is none of the three shapes."""
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        return [(f"{where} images[{number}]", item) for number, item in enumerate(content["images"])]
    if isinstance(content, dict) and content and all(_are_labels(value) for value in content.values()):
        return [(f"{where} {key!r}", {"image": key, "labels": value}) for key, value in content.items()]
    if isinstance(content, list):
        return [(f"{where} item {number}", item) for number, item in enumerate(content, start=1)]
    return None


def _are_labels(value: Any) -> bool:
    return (
        isinstance(value, str)
        or _is_list_of_names(value)
        or (isinstance(value, dict) and all(isinstance(state, str | int | float | None) for state in value.values()))
    )


def _describe(what: str, items: Sequence[Item] | None, options: ReadOptions) -> Evidence | None:
    if not items or not all(isinstance(item, dict) for _, item in items[:_ITEMS_LOOKED_AT]):
        return None
    first = items[0][1]
    image = _find_key(first, options.image_column, IMAGE_COLUMN_NAMES)
    labels = _find_key(first, options.label_column, LABEL_COLUMN_NAMES)
    if image is None or (labels is None and "objects" not in first):
        return None
    return (f"{what}: {len(items):,} objects; images: {image!r}, labels: {labels if labels else 'objects'!r}",)


_ITEMS_LOOKED_AT = 100


def _find_key(item: Mapping[str, Any], wanted: str | None, known: Sequence[str]) -> str | None:
    if wanted is not None:
        return wanted
    by_folded = {key.casefold(): key for key in item if isinstance(key, str)}
    return next((by_folded[name] for name in known if name in by_folded), None)


def _read_item(
    where: str, item: Any, options: ReadOptions, problems: Problems
) -> tuple[Row, dict[str, int] | None] | None:
    """Return the row of an object, and the states of the labels it names where it says nothing of the others."""
    if not isinstance(item, dict):
        problems.add(where, "not an object", got=item, expected=_EXPECTED)
        return None
    image_key = _find_key(item, options.image_column, IMAGE_COLUMN_NAMES)
    image = item.get(image_key) if image_key is not None else None
    if not isinstance(image, str | int) or isinstance(image, bool) or not str(image).strip():
        problems.add(where, "no image is named", got=item, expected=_EXPECTED)
        return None
    label_key = _find_key(item, options.label_column, LABEL_COLUMN_NAMES)
    has_shapes = item.get("objects") is not None or "regions" in item
    # An object that says nothing of labels says nothing: nobody looked, or the key is misspelt.
    labels = item.get(label_key) if label_key is not None else [] if has_shapes else None
    present, states = _read_labels(where, labels, options, problems)
    regions = [*_read_regions(where, item.get("regions", []), problems), *_read_objects(where, item, problems)]
    unknown = [name for name, state in (states or {}).items() if state == UNKNOWN]
    unknown += _read_names(where, "unknown", item.get("unknown", []), problems)
    present = list(dict.fromkeys([*present, *(region.label for region in regions)]))
    own_part = next((item[key] for key in _PART_KEYS if item.get(key)), None)
    row = Row(
        str(image).strip(),
        where,
        [name for name in present if name not in unknown],
        unknown,
        group=None if item.get("group") is None else str(item["group"]),
        part=None if own_part is None else str(own_part),
        extras=_read_extras(item, {image_key, label_key}),
        regions=tuple(regions),
    )
    return row, states


def _read_labels(
    where: str, value: Any, options: ReadOptions, problems: Problems
) -> tuple[list[str], dict[str, int] | None]:
    """Return the present labels, and the states of all that are named where the others are unknown."""
    if value is None:
        return [], {}
    if isinstance(value, str):
        return _split_text(where, value, problems), None
    if not isinstance(value, dict):
        return _read_names(where, "labels", value, problems), None
    states = {}
    for name, cell in value.items():
        written = "" if cell is None else str(cell)
        state = read_cell(written, options) if isinstance(cell, int | float | str | None) else STRANGE
        if state == STRANGE or not name.strip():
            problems.add(
                where, f"label {name!r} has no state", got=cell, expected=EXPECTED_CELL.replace("empty", "null")
            )
        elif state in (PRESENT, ABSENT, UNKNOWN):
            states[name.strip()] = state
    return [name for name, state in states.items() if state == PRESENT], states


def _split_text(where: str, value: str, problems: Problems) -> list[str]:
    """Return the label of a text, or those that `|`, `;` or `,` join."""
    text = value.strip()
    if text.startswith("["):
        problems.add(where, "labels is a list written as text", got=value, expected='a list: ["dog", "sun"]')
        return []
    mark = next((separator for separator in SEPARATORS if separator in text), None)
    return list(dict.fromkeys(name.strip() for name in (text.split(mark) if mark else [text]) if name.strip()))


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(name, str | int) and not isinstance(name, bool) and str(name).strip() for name in value
    )


def _read_names(where: str, key: str, value: Any, problems: Problems) -> list[str]:
    if _is_list_of_names(value):
        return list(dict.fromkeys(str(name).strip() for name in value))
    problems.add(where, f"{key} is no list of names", got=value, expected='["dog", "sun"]')
    return []


def _read_extras(item: Mapping[str, Any], used: set[str | None]) -> dict[str, str]:
    """Return what else stands in an object as text; lists and objects as JSON."""
    extras = {key: value for key, value in item.items() if key not in used and key not in _OWN_KEYS}
    own = item.get("extras")
    extras |= own if isinstance(own, dict) else {}
    return {
        str(key): value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in extras.items()
        if value is not None
    }


def _read_objects(where: str, item: Mapping[str, Any], problems: Problems) -> list[Region]:
    """Return the regions of Hugging Face's `objects`: boxes and as many categories."""
    objects = item.get("objects")
    if objects is None:
        return []
    boxes = objects.get("bbox") if isinstance(objects, dict) else None
    names = objects.get("categories", objects.get("category")) if isinstance(objects, dict) else None
    if not isinstance(boxes, list) or not isinstance(names, list) or len(boxes) != len(names):
        problems.add(where, "objects are no boxes with categories", got=objects, expected="as many bbox as categories")
        return []
    if not _is_list_of_names(names):
        problems.add(where, "categories are no list of names", got=names, expected='["dog", "sun"]')
        return []
    return [
        Region(str(name), box)
        for name, value in zip(names, boxes, strict=True)
        if (box := read_box(where, value, problems)) is not None
    ]


def _read_regions(where: str, values: Any, problems: Problems) -> list[Region]:
    if not isinstance(values, list):
        problems.add(where, "regions is no list", got=values, expected='[{"label": "dog", "box": [...]}]')
        return []
    regions = []
    for value in values:
        label = value.get("label") if isinstance(value, dict) else None
        if not isinstance(label, str) or not label.strip():
            problems.add(where, "a region without a label", got=value, expected='{"label": "dog", "box": [...]}')
            continue
        box = read_box(where, value.get("box"), problems)
        polygons = read_polygons(where, value.get("polygons"), problems)
        regions.append(Region(label, box, polygons, read_mask(where, value.get("mask"), problems)))
    return regions


# --- writing ------------------------------------------------------------------------------------------------------


def _describe_record(annotations: Annotations, row: int) -> dict[str, Any]:
    record, names = annotations.records[row], annotations.label_space.names
    described: dict[str, Any] = {"image": record.id, "labels": annotations.labels_of(row)}
    beside = {
        "unknown": [names[column] for column in annotations.targets.unknown_columns(row)],
        "group": record.group,
        "part": record.part,
        "extras": {name: value for name, value in record.extras.items() if value},
        "regions": [_describe_region(region) for region in record.regions],
    }
    return described | {key: value for key, value in beside.items() if value}


def _describe_region(region: Region) -> dict[str, Any]:
    described: dict[str, Any] = {"label": region.label}
    if region.box_px is not None:
        described["box"] = list(region.box_px)
    if region.polygons_px:
        described["polygons"] = [list(points) for points in region.polygons_px]
    if region.mask is not None:
        size = [region.mask.height_px, region.mask.width_px]
        described["mask"] = {"size": size, "counts": list(region.mask.counts)}
    return described
