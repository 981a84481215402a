"""YOLO: a text file per image with a line per box or polygon, and a data.yaml that names the labels.

An image without a file, or with an empty one, has no label, as in the training code of Ultralytics. Coordinates in
the files are fractions of the image, so the header of every image with a region is read for its size.

Source: the pages on detection and segmentation datasets of docs.ultralytics.com.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.formats.assemble import Row, assemble_rows
from manylabel.data.formats.columns import PART_NAME_OF, ImageRoot
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.problems import Problems
from manylabel.data.formats.source import Source
from manylabel.data.images import IMAGE_EXTENSIONS, ImageError, find_images, image_size_px
from manylabel.data.regions import Region
from manylabel.errors import DataError, build_message, join_names
from manylabel.files import write_text_atomically
from manylabel.labels.space import LabelSpace

YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
"""How the file of settings is called in a folder; one that is named may be called otherwise."""

NAME_LISTS = ("classes.txt", "obj.names", "labels/classes.txt")
"""Where the labels stand, a line each, if there are no settings."""

PART_KEYS = ("train", "val", "test", "other")
"""The keys of data.yaml that list images; `other` is our own, for images in no part."""

_READ_KEYS = (*PART_KEYS, "valid", "names", "path")

_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class YoloSettings:
    """What data.yaml says, as far as it is read: the names by number, and folders or lists of images by part."""

    names: Mapping[int, str]
    path: str = ""
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)


def find_yolo(source: Source, options: ReadOptions) -> Evidence | None:  # noqa: ARG001 - the signature of a format
    """Return why a folder is YOLO's: a data.yaml with names, or a list of names beside a folder `labels`."""
    try:
        settings_file = _find_settings_file(source)
        names_file = settings_file if settings_file is not None else _find_names_file(source)
        settings = None if names_file is None else _load_settings(names_file)
    except DataError:
        return None
    if names_file is None or settings is None:
        return None
    return (f"YOLO: {len(settings.names):,} names in {names_file.name}",)


def load_yolo(source: Source, options: ReadOptions) -> Annotations:
    """Read a folder of YOLO, or its data.yaml; labels are in the order of their numbers.

    The images are those that data.yaml lists for `train`, `val` and `test`; without these, all images below the
    folder, in the part whose name a folder above them has.

    Raises:
        DataError: names that cannot be read, a line that is no box and no polygon, a number without a name, a
            coordinate outside the image (the first of them listed), or what `assemble_rows` raises.
    """
    names_file = _find_settings_file(source)
    names_file = names_file if names_file is not None else _find_names_file(source)
    if names_file is None:
        expected = "data.yaml, or classes.txt beside a folder 'labels'"
        raise DataError(build_message(source.path, "there are no names of labels", expected=expected))
    settings = _load_settings(names_file)
    root = options.find_root(source)
    problems = Problems()
    rows = [
        _build_row(source.folder, root, image, part, settings.names, problems)
        for image, part in _list_images(names_file, settings, root)
    ]
    problems.stop_if_any()
    return assemble_rows(str(source.path), root, rows, LabelSpace(tuple(settings.names.values())))


def save_yolo(annotations: Annotations, path: Path) -> None:
    """Write a folder of YOLO: data.yaml, `labels` and a list of the images of each part.

    The images stay where they are. A region of several polygons becomes one of each, a mask the box around it;
    groups and extra columns are not written.

    Raises:
        DataError: a cell is unknown, a label has no region, an image has no size, a part is none of YOLO's, or
            images would share a file (the first of them listed).
        RunError: the files cannot be written.
    """
    problems = Problems()
    texts: dict[str, str] = {}
    for row, record in enumerate(annotations.records):
        _check_writable(annotations, row, record, problems)
        name = _name_labels_file(record.id)
        if name in texts:
            problems.add(f"image {record.id!r}", "another image would have its file", got=name, do="Rename it")
        texts[name] = _describe_regions(annotations, record, problems)
    problems.stop_if_any()
    names = annotations.label_space.names
    settings = ["path: ."]
    for key in PART_KEYS:
        inside = [record.id for record in annotations.records if (record.part if record.part else "other") == key]
        if inside:
            settings.append(f"{key}: {key}.txt")
            write_text_atomically(path / f"{key}.txt", "".join(f"./{image}\n" for image in inside))
    settings += [
        "names:",
        *(f"  {number}: {json.dumps(name, ensure_ascii=False)}" for number, name in enumerate(names)),
    ]
    for name, text in texts.items():
        write_text_atomically(path / name, text)
    write_text_atomically(path / "data.yaml", "\n".join([*settings, ""]))


# --- names and parts ----------------------------------------------------------------------------------------------


def _find_settings_file(source: Source) -> Path | None:
    if source.path.suffix.lower() in (".yaml", ".yml") and source.path.is_file():
        return source.path
    if source.kind != "folder":
        return None
    return next((source.path / name for name in YAML_NAMES if (source.path / name).is_file()), None)


def _find_names_file(source: Source) -> Path | None:
    if source.kind != "folder" or not (source.path / "labels").is_dir():
        return None
    return next((source.path / name for name in NAME_LISTS if (source.path / name).is_file()), None)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        reason = error.strerror if error.strerror else type(error).__name__
        raise DataError(build_message(path, f"the file cannot be read: {reason}", do="Check the file")) from error
    except UnicodeDecodeError as error:
        raise DataError(build_message(path, "the file is not UTF-8", do="Save it as UTF-8")) from error


def _load_settings(path: Path) -> YoloSettings:
    text = _read_text(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        return read_settings(text, str(path))
    return YoloSettings(_check_names(str(path), [line.strip() for line in text.splitlines() if line.strip()]))


def read_settings(text: str, where: str = "data.yaml") -> YoloSettings:
    """Return what a data.yaml says, by a reader of this file and not of YAML.

    It knows `key: value` and lists and mappings in a line or in the lines below, with or without quotes; that is what
    these files hold, and a reader of all YAML would be one more dependency. Other keys are passed over.

    Raises:
        DataError: there are no names, they are not numbered from 0, or one stands twice.

    Example:
        >>> read_settings("train: images/train\\nnames:\\n  0: dog\\n  1: 'sun'\\n").names
        {0: 'dog', 1: 'sun'}
    """
    values: dict[str, list[str]] = {}
    pending = ""
    key = ""
    for line in text.splitlines():
        line = _strip_comment(line)
        if not line.strip() or line.startswith(("---", "%")):
            continue
        match = re.match(r"([A-Za-z_]\w*)\s*:(?:\s+(.*))?$", line) if not pending else None
        if match is not None:
            key = match[1]
            values[key] = []
            line = match[2] if match[2] else ""
        if key not in _READ_KEYS:
            continue  # such as `download: |` with a program below it
        pending = f"{pending} {line.strip()}".strip()
        if pending[:1] in ("[", "{") and pending[-1] not in "]}":
            continue
        values[key] += _split_flow(pending)
        pending = ""
    if not values.get("names"):
        raise DataError(build_message(where, "there are no names of labels", expected="names: [dog, sun]"))
    parts = {
        PART_NAME_OF.get(key, key): [_unquote(value) for value in values[key] if _unquote(value)]
        for key in (*PART_KEYS, "valid")
        if values.get(key)
    }
    path = _unquote(values["path"][0]) if values.get("path") else ""
    return YoloSettings(_check_names(where, values["names"]), path, parts)


def _strip_comment(line: str) -> str:
    """Return a line up to the ` #` that stands in no quotes."""
    quote = ""
    for at, character in enumerate(line):
        if quote:
            if character == quote and (quote == "'" or line[at - 1] != "\\"):
                quote = ""
        elif character in "'\"" and (at == 0 or line[at - 1] in " \t,[{:"):
            quote = character
        elif character == "#" and (at == 0 or line[at - 1] in " \t"):
            return line[:at].rstrip()
    return line.rstrip()


_FLOW_ITEM = re.compile(r"""\s*((?:(?:\d+\s*:\s*)?(?:"(?:\\.|[^"\\])*"|'(?:''|[^'])*'))|[^,]*?)\s*(?:,|$)""")


def _split_flow(value: str) -> list[str]:
    """Return the items of `[a, b]`, of `{0: a}` or of `- a`, else the value itself."""
    if value[:1] in ("[", "{"):
        inside = value[1:-1].strip().removesuffix(",")
        return [match[1] for match in _FLOW_ITEM.finditer(inside) if match[1]] if inside else []
    value = value[1:].strip() if value == "-" or value.startswith("- ") else value
    return [value] if value else []


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == "'":
        return value[1:-1].replace("''", "'")
    if len(value) >= 2 and value[0] == value[-1] == '"':
        try:
            text = json.loads(value)
        except ValueError:
            return value[1:-1]
        return str(text)
    return value


def _check_names(where: str, items: Sequence[str]) -> dict[int, str]:
    problems = Problems()
    names: dict[int, str] = {}
    for at, item in enumerate(items):
        match = re.fullmatch(r"""['"]?(\d{1,9})['"]?\s*:\s+(.+)""", item)
        number = at if match is None else int(match[1])
        name = _unquote(item if match is None else match[2]).strip()
        if number in names or name in names.values():
            problems.add(where, "a name or its number stands twice", got=item, expected="each label once")
        elif name:
            names[number] = name
    if sorted(names) != list(range(len(names))):
        problems.add(where, "the numbers of the labels have a gap", got=sorted(names)[:5], expected="0, 1, 2, ...")
    if not names:
        problems.add(where, "there are no names of labels", expected="names: [dog, sun]")
    problems.stop_if_any()
    return dict(sorted(names.items()))


def _list_images(names_file: Path, settings: YoloSettings, root: ImageRoot) -> Iterator[tuple[str, str | None]]:
    """Yield (path below the root, part) of every image, each image once per part."""
    if not settings.parts:
        yield from ((image, _find_part(image)) for image in _find_below(root, ""))
        return
    for part, entries in settings.parts.items():
        for entry in entries:
            yield from (
                (image, None if part == "other" else part)
                for image in _expand_entry(entry, names_file.parent, settings.path, root)
            )


def _expand_entry(entry: str, folder: Path, path: str, root: ImageRoot) -> list[str]:
    """Return the images of a folder, or those that a text file lists, `./` standing for the folder of the images."""
    plain = re.sub(r"^(\.\.?/)+", "", entry.replace("\\", "/"))  # Roboflow writes ../train/images for train/images
    bases = [base for base in (path, "") if not PurePosixPath(base).is_absolute() and ".." not in base]
    for base in bases:
        relative = (PurePosixPath(base) / plain).as_posix()
        if ".." in PurePosixPath(relative).parts or PurePosixPath(relative).is_absolute():
            break
        if relative.endswith(".txt") and (folder / relative).is_file():
            lines = _read_text(folder / relative).splitlines()
            return [line.strip().removeprefix("./") for line in lines if line.strip()]
        if (root.folder / relative).is_dir():
            return _find_below(root, relative)
    do = "Give the folder that it starts from with --images, or correct data.yaml"
    raise DataError(build_message(folder, f"there is no folder and no list {entry!r} of images", do=do))


def _find_below(root: ImageRoot, relative: str) -> list[str]:
    return [path.relative_to(root.folder).as_posix() for path in find_images(root.folder / relative)]


def _find_part(image: str) -> str | None:
    folders = PurePosixPath(image).parts[:-1]
    return next((part for name in folders if (part := PART_NAME_OF.get(name.lower()))), None)


# --- labels of an image -------------------------------------------------------------------------------------------


def _name_labels_file(image: str) -> str:
    """Return where the labels of an image stand: the last folder `images` becomes `labels`, else below `labels`.

    Example:
        >>> _name_labels_file("images/train/a.jpg"), _name_labels_file("a.jpg")
        ('labels/train/a.txt', 'labels/a.txt')
    """
    parts = list(PurePosixPath(image).with_suffix(".txt").parts)
    folders = [at for at, name in enumerate(parts[:-1]) if name == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    else:
        parts.insert(0, "labels")
    return PurePosixPath(*parts).as_posix()


def _build_row(
    folder: Path, root: ImageRoot, image: str, part: str | None, names: Mapping[int, str], problems: Problems
) -> Row:
    lines: list[tuple[str, str, list[float]]] = []
    plain = PurePosixPath(image)
    if plain.name and not plain.is_absolute() and ".." not in plain.parts:
        path = folder / _name_labels_file(image)
        path = path if path.is_file() else folder / plain.with_suffix(".txt")
        lines = _read_labels(path, names, problems) if path.is_file() else []
    labels = list(dict.fromkeys(label for _, label, _ in lines))
    return Row(image, f"{folder} image {image}", labels, part=part, regions=_build_regions(root, image, lines))


def _read_labels(path: Path, names: Mapping[int, str], problems: Problems) -> list[tuple[str, str, list[float]]]:
    """Return (place, label, numbers) of every line."""
    found = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        cells = line.split()
        if not cells:
            continue
        place = f"{path} line {number}"
        label = names.get(int(cells[0])) if re.fullmatch(r"\d{1,9}", cells[0]) else None
        try:
            values = [float(cell) for cell in cells[1:]]
        except ValueError:
            values = []
        is_box, is_polygon = len(values) == 4, len(values) >= 6 and len(values) % 2 == 0
        if label is None:
            problems.add(place, "no label has this number", got=cells[0], expected=f"0 to {len(names) - 1}")
        elif not is_box and not is_polygon:
            problems.add(place, "neither a box nor a polygon", got=line, expected="number x y width height")
        elif not all(math.isfinite(value) and -0.01 <= value <= 1.01 for value in values):  # rounding goes past 1
            problems.add(place, "coordinates outside the image", got=line, expected="fractions from 0 to 1")
        else:
            found.append((place, label, values))
    return found


def _build_regions(root: ImageRoot, image: str, lines: Sequence[tuple[str, str, list[float]]]) -> tuple[Region, ...]:
    if not lines:
        return ()
    try:
        width, height = image_size_px(root.locate(image)[1])
    except (ImageError, DataError):
        return ()  # without a size there are no pixels; what is wrong with the image is a finding of its own
    return tuple(_build_region(label, values, width, height) for _, label, values in lines)


def _build_region(label: str, values: list[float], width: int, height: int) -> Region:
    if len(values) == 4:
        x, y, box_width, box_height = (value * side for value, side in zip(values, (width, height) * 2, strict=True))
        box = (x - box_width / 2, y - box_height / 2, box_width, box_height)
        left, top, across, down = (_round(value) for value in box)
        return Region(label, (left, top, across, down))
    points = tuple(_round(value * (width, height)[at % 2]) for at, value in enumerate(values))
    return Region(label, polygons_px=(points,))


def _round(value: float) -> float:
    return round(value, 4)  # a box of whole pixels comes back as one


# --- writing ------------------------------------------------------------------------------------------------------


def _check_writable(annotations: Annotations, row: int, record: ImageRecord, problems: Problems) -> None:
    place = f"image {record.id!r}"
    unknown = [annotations.label_space.names[column] for column in annotations.targets.unknown_columns(row)]
    if unknown:
        problems.add(place, f"YOLO has no place for unknown labels: {join_names(unknown)}", do="Write coco or a table")
    present = annotations.labels_of(row)
    located = {region.label for region in record.regions if region.polygons_px or _find_box(region) is not None}
    bare = [label for label in present if label not in located]
    if bare:
        problems.add(place, f"YOLO needs a box for each label: {join_names(bare)}", do="Write coco or a table")
    surplus = sorted({region.label for region in record.regions} - set(present))
    if surplus:
        problems.add(place, f"regions of labels that are not present: {join_names(surplus)}")
    if record.part is not None and record.part not in PART_KEYS[:3]:
        problems.add(place, "YOLO has no such part", got=record.part, expected=join_names(PART_KEYS[:3]))
    is_listable = record.id.splitlines() == [record.id.strip()] and record.id.lower().endswith(IMAGE_EXTENSIONS)
    if not is_listable:
        problems.add(place, "the name cannot stand in a list of images", do="Rename the image")


def _find_box(region: Region) -> _Box | None:
    return region.box_px if region.box_px is not None else region.find_bounds()


def _describe_regions(annotations: Annotations, record: ImageRecord, problems: Problems) -> str:
    if not record.regions:
        return ""
    try:
        width, height = image_size_px(record.source)
    except ImageError as error:
        problems.add(f"image {record.id!r}", f"without its size no region can be written ({error})")
        return ""
    lines = []
    for region in record.regions:
        if region.label not in annotations.label_space:
            continue  # said by _check_writable
        number = annotations.label_space.index(region.label)
        for values in _list_fractions(region, width, height):
            if not all(-0.01 <= value <= 1.01 for value in values):
                problems.add(f"image {record.id!r}", f"a region of {region.label!r} lies outside it", got=values)
            lines.append(" ".join([str(number), *(f"{value:.10g}" for value in values)]))
    return "".join(f"{line}\n" for line in lines)


def _list_fractions(region: Region, width: int, height: int) -> list[list[float]]:
    if region.polygons_px:
        return [[value / (width, height)[at % 2] for at, value in enumerate(points)] for points in region.polygons_px]
    box = _find_box(region)
    if box is None:
        return []
    left, top, across, down = box
    return [[(left + across / 2) / width, (top + down / 2) / height, across / width, down / height]]
