"""mmpretrain's MultiLabelDataset: a JSON with the classes and, per image, the numbers of those it has.

mmengine's own reader is not used: it brings OpenCV for a file of lists.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from manylabel.data.annotations import Annotations
from manylabel.data.formats.assemble import Row, assemble_rows
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.problems import Problems
from manylabel.data.formats.source import Source
from manylabel.errors import DataError, build_message
from manylabel.files import write_text_atomically
from manylabel.labels.space import LabelSpace


def find_mmpretrain(source: Source, options: ReadOptions) -> Evidence | None:  # noqa: ARG001 - the signature of a format
    """Return why a JSON file is mmpretrain's: `metainfo` with classes, and a `data_list`."""
    if source.kind != "json" or not isinstance(source.json, dict):
        return None
    names, items = _find_classes(source.json), source.json.get("data_list")
    if not isinstance(names, list) or not isinstance(items, list):
        return None
    return (f"mmpretrain: {len(items):,} entries of data_list, {len(names):,} classes",)


def load_mmpretrain(source: Source, options: ReadOptions) -> Annotations:
    """Read the entries of `data_list`: the classes whose numbers stand in `gt_label` are present, the others absent.

    Raises:
        DataError: no classes, entries without an image, numbers that are no class (the first of them listed).
    """
    where = str(source.path)
    content = source.json if isinstance(source.json, dict) else {}
    names, items = _find_classes(content), content.get("data_list")
    problems = Problems()
    if not _are_different_names(names):
        problems.add(where, "metainfo.classes is no list of different names", got=names, expected='["dog", "sun"]')
    if not isinstance(items, list):
        problems.add(where, "there is no data_list", expected='[{"img_path": "a.jpg", "gt_label": [0]}]')
    problems.stop_if_any()
    rows = []
    for number, item in enumerate(items if isinstance(items, list) else []):
        place = f"{where} data_list[{number}]"
        image = item.get("img_path") if isinstance(item, dict) else None
        if not isinstance(image, str) or not image.strip():
            problems.add(place, "no img_path", got=item, expected='{"img_path": "a.jpg", "gt_label": [0]}')
            continue
        numbers = item.get("gt_label")
        numbers = [numbers] if isinstance(numbers, int) else numbers
        if not isinstance(numbers, list) or any(
            not isinstance(one, int) or isinstance(one, bool) or not 0 <= one < len(names) for one in numbers
        ):
            problems.add(place, "gt_label holds no numbers of classes", got=numbers, expected=f"0 to {len(names) - 1}")
            continue
        rows.append(Row(image.strip(), place, [str(names[one]) for one in dict.fromkeys(numbers)]))
    problems.stop_if_any()
    return assemble_rows(where, options.find_root(source), rows, LabelSpace(tuple(map(str, names))))


def save_mmpretrain(annotations: Annotations, path: Path) -> None:
    """Write `metainfo` and `data_list`; groups, parts, extras and regions have no place there.

    Raises:
        DataError: the table has unknown cells, which would become absent.
        RunError: the file cannot be written.
    """
    if annotations.targets.num_unknown_L.any():
        problem = (
            f"{int(annotations.targets.num_unknown_L.sum()):,} cells are unknown, and mmpretrain has no such state"
        )
        raise DataError(build_message(path, problem, do="Write another layout, or read with --blank absent"))
    content: dict[str, Any] = {
        "metainfo": {"classes": list(annotations.label_space.names)},
        "data_list": [
            {"img_path": record.id, "gt_label": annotations.targets.present_columns(row)}
            for row, record in enumerate(annotations.records)
        ],
    }
    write_text_atomically(path, json.dumps(content, ensure_ascii=False) + "\n")


def _find_classes(content: dict[str, Any]) -> Any:
    metainfo = content.get("metainfo")
    return metainfo.get("classes", metainfo.get("CLASSES")) if isinstance(metainfo, dict) else None


def _are_different_names(names: Any) -> bool:
    return (
        isinstance(names, list)
        and bool(names)
        and all(isinstance(name, str) and name.strip() for name in names)
        and len(set(names)) == len(names)
    )
