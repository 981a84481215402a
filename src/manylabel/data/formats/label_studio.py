"""Label Studio: the JSON export of tasks with their annotations, and the smaller JSON-MIN.

Choices are labels of the whole image, rectangles and polygons are regions. Images are found by the last part of their
address, with or without the eight digits that an upload puts in front. The SDK is not used: it talks to a server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from manylabel.data.annotations import Annotations
from manylabel.data.findings import Finding, build_finding
from manylabel.data.formats.assemble import Row, assemble_rows
from manylabel.data.formats.columns import ImageRoot
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.problems import Problems
from manylabel.data.formats.shapes import are_numbers, read_box, read_polygons
from manylabel.data.formats.source import Source
from manylabel.data.images import IMAGE_EXTENSIONS, find_images
from manylabel.data.regions import Region
from manylabel.errors import join_names

LABEL_KEYS: Mapping[str, str] = {
    "labels": "labels",
    "choices": "choices",
    "rectanglelabels": "rectanglelabels",
    "polygonlabels": "polygonlabels",
}
"""The types of results that are read, and under which key their labels stand."""

NO_LABELS = ("rectangle", "polygon", "textarea", "number", "rating", "datetime", "pairwise", "ranker", "relation")
"""The types of results that give no label: bare shapes, whose labels stand in a result of type `labels`, and text."""

_BOOKKEEPING = ("id", "image", "annotator", "annotation_id", "created_at", "updated_at", "lead_time")
"""What a task of JSON-MIN has beside the answers."""

_UPLOAD = re.compile(r"[0-9a-f]{8}-(?P<name>.+)")


def find_label_studio(source: Source, options: ReadOptions) -> Evidence | None:  # noqa: ARG001 - the signature
    """Return why a JSON file is Label Studio's: tasks with `data` and `annotations`, or JSON-MIN's with choices."""
    if source.kind != "json" or not isinstance(source.json, list) or not source.json:
        return None
    first = source.json[0]
    if not isinstance(first, dict):
        return None
    if isinstance(first.get("data"), dict) and isinstance(first.get("annotations"), list):
        return (f"Label Studio: {len(source.json):,} tasks with annotations",)
    if {"annotator", "annotation_id"} <= first.keys():
        return (f"Label Studio JSON-MIN: {len(source.json):,} tasks",)
    return None


def load_label_studio(source: Source, options: ReadOptions) -> Annotations:
    """Read tasks: a label that an annotation of the task gives is present, any other absent.

    Annotations that were cancelled do not count; a task without any is unknown in every label. Where several annotators
    of one image differ about a label it is unknown, and a finding says so.

    Raises:
        DataError: tasks without an image, results that cannot be read (brushes), or images that fit no file or several.
    """
    where = str(source.path)
    root = options.find_root(source)
    files = _Files(root)
    problems = Problems()
    tasks: dict[str, list[_Answer | None]] = {}
    address_of: dict[str, PurePosixPath] = {}
    for number, task in enumerate(source.json if isinstance(source.json, list) else [], start=1):
        place = f"{where} task {number}"
        image = _find_image(place, task, problems)
        if image is None:
            continue
        found = files.find(image)
        if address_of.setdefault(found, image) != image:
            what = f"{str(image)!r} and {str(address_of[found])!r} are both the file {found!r}"
            problems.add(place, what, do="Give a folder with --images that has a file for each")
        tasks.setdefault(found, []).extend(_read_answers(place, task, problems) or [None])
    problems.stop_if_any()
    every = sorted({label for answers in tasks.values() for answer in answers if answer for label in answer.labels})
    rows, disputed = [], []
    for file, answers in tasks.items():
        given = [answer for answer in answers if answer is not None]
        counts = {label: sum(label in answer.labels for answer in given) for label in every}
        present = [label for label, count in counts.items() if given and count == len(given)]
        unknown = [label for label, count in counts.items() if not given or 0 < count < len(given)]
        if given and unknown:
            disputed.append(file)
        regions = tuple(region for answer in given for region in answer.regions if region.label in present)
        rows.append(Row(file, f"{where} image {file!r}", present, unknown, regions=regions))
    findings: list[Finding] = []
    if disputed:
        message = f"Images whose annotators differ: {join_names(disputed)}. What they differ about is unknown there."
        findings = [build_finding("contradicting-rows", message, disputed)]
    return assemble_rows(where, root, rows, is_exhaustive=True, findings=findings)


class _Answer:
    """What one annotator said of an image."""

    def __init__(self, labels: Sequence[str], regions: Sequence[Region]) -> None:
        self.labels = frozenset(labels)
        self.regions = tuple(regions)


class _Files:
    """The files below the folder of images, found by the end of an address."""

    def __init__(self, root: ImageRoot) -> None:
        self._paths_of: dict[str, list[PurePosixPath]] = {}
        for path in find_images(root.folder) if root.folder.is_dir() else []:
            relative = PurePosixPath(path.relative_to(root.folder).as_posix())
            self._paths_of.setdefault(relative.name, []).append(relative)

    def find(self, address: PurePosixPath) -> str:
        """Return the file whose path ends most like an address, also without an upload's digits; else the last part."""
        match = _UPLOAD.fullmatch(address.name)
        for name in (address.name, *([match["name"]] if match is not None else [])):
            paths = self._paths_of.get(name, [])
            lengths = [_count_shared_parts(path.with_name(address.name), address) for path in paths]
            if paths and lengths.count(max(lengths)) == 1:
                return str(paths[lengths.index(max(lengths))])
        return address.name


def _count_shared_parts(path: PurePosixPath, address: PurePosixPath) -> int:
    pairs = zip(reversed(path.parts), reversed(address.parts), strict=False)
    return next((number for number, (one, other) in enumerate(pairs) if one != other), len(path.parts))


def _find_image(place: str, task: Any, problems: Problems) -> PurePosixPath | None:
    """Return the path in the address of a task's image."""
    values = task.get("data", task) if isinstance(task, dict) else {}
    values = values if isinstance(values, dict) else {}
    for value in [values.get("image"), *values.values()]:
        if isinstance(value, str):
            path = _find_path(value)
            if path.name.lower().endswith(IMAGE_EXTENSIONS):
                return path
    problems.add(place, "no image", got=task, expected='{"data": {"image": "/data/upload/1/a.jpg"}, ...}')
    return None


def _find_path(address: str) -> PurePosixPath:
    try:
        parts = urlsplit(address.strip())
    except ValueError:
        return PurePosixPath()
    path = parse_qs(parts.query).get("d", [parts.path])[0] if "local-files" in parts.path else parts.path
    return PurePosixPath(unquote(path).replace("\\", "/"))


def _read_answers(place: str, task: Mapping[str, Any], problems: Problems) -> list[_Answer]:
    annotations = task.get("annotations")
    if annotations is None:
        return [_read_small(place, task, problems)]
    if not isinstance(annotations, list):
        problems.add(place, "annotations is no list", got=annotations, expected='[{"result": [...]}]')
        return []
    answers = []
    for annotation in annotations:
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
            problems.add(place, "an annotation without a list of results", got=annotation, expected='{"result": [...]}')
        elif not annotation.get("was_cancelled"):
            answers.append(_read_results(place, annotation["result"], problems))
    return answers


def _read_results(place: str, results: Sequence[Any], problems: Problems) -> _Answer:
    labels: list[str] = []
    regions: list[Region] = []
    for result in results:
        kind = str(result.get("type")) if isinstance(result, dict) else "none"
        value = result.get("value") if isinstance(result, dict) else None
        if kind in NO_LABELS:
            continue
        if kind not in LABEL_KEYS:
            problems.add(place, f"results of type {kind!r} are not read", do="Export them as COCO and read that")
            continue
        names = value.get(LABEL_KEYS[kind]) if isinstance(value, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
            problems.add(
                place, f"a result of type {kind!r} without labels", got=value, expected=f'{{"{kind}": ["dog"]}}'
            )
            continue
        labels += [name.strip() for name in names]
        if kind != "choices" and isinstance(value, dict) and ("points" in value or "x" in value):
            shape = _read_shape(place, result, problems)
            regions += [Region(name.strip(), *shape) for name in names] if shape is not None else []
    return _Answer(labels, regions)


def _read_shape(
    place: str, result: Mapping[str, Any], problems: Problems
) -> tuple[tuple[float, float, float, float] | None, tuple[tuple[float, ...], ...]] | None:
    """Return box and polygons in pixels; Label Studio writes them in per cent of the image's size."""
    value = result["value"]
    width: Any = result.get("original_width")
    height: Any = result.get("original_height")
    numbers = [value.get(key) for key in ("x", "y", "width", "height")]
    points = value.get("points")
    flat: list[Any] = (
        [*numbers] if points is None else [one for point in points for one in point] if _are_points(points) else [None]
    )
    if not are_numbers([width, height, *flat]) or min(width, height) <= 0 or value.get("rotation"):
        expected = "numbers in per cent with original_width and original_height, not rotated"
        problems.add(place, "a shape that cannot be read", got=value, expected=expected)
        return None
    scaled = [float(one) * float(width if index % 2 == 0 else height) / 100 for index, one in enumerate(flat)]
    before = len(problems)
    box = None if points is not None else read_box(place, scaled, problems)
    polygons = () if points is None else read_polygons(place, [scaled], problems)
    return None if len(problems) > before else (box, polygons)


def _are_points(points: Any) -> bool:
    return isinstance(points, list) and all(isinstance(point, list) and len(point) == 2 for point in points)


def _read_small(place: str, task: Mapping[str, Any], problems: Problems) -> _Answer:
    """Return what a task of JSON-MIN says: choices as text or a list, shapes by their labels alone."""
    labels: list[str] = []
    for key, value in task.items():
        if isinstance(value, dict) and isinstance(value.get("choices"), list):
            labels += [name for name in value["choices"] if isinstance(name, str)]
        elif isinstance(value, list):
            for shape in value:
                for kind in ("rectanglelabels", "polygonlabels", "labels"):
                    names = shape.get(kind) if isinstance(shape, dict) else None
                    labels += [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
        elif isinstance(value, str) and key in ("choice", "choices"):
            labels.append(value)
        elif isinstance(value, str) and key not in _BOOKKEEPING:
            do = "Export as JSON instead of JSON-MIN"
            problems.add(place, f"{key!r} may be an answer or part of the task", got=value, do=do)
    return _Answer([label.strip() for label in labels if label.strip()], [])
