"""Pascal VOC: one XML of objects with boxes per image, or one list of images per label with 1, -1 or 0.

A file of objects speaks of its whole image: what it does not name is absent. Objects marked `difficult` or `truncated`
are present. In the lists 0 means that only difficult ones are there, so the label is unknown; the lists are read
only where there are no files of objects, because these say more.

Source: the PASCAL Visual Object Classes Challenge 2012 development kit, sections 3 and 8. Boxes count from 1 and
include their last pixel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.formats.assemble import Row, assemble_rows
from manylabel.data.formats.columns import PART_NAME_OF, ImageRoot
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.problems import Problems
from manylabel.data.formats.source import Source
from manylabel.data.formats.xml import XmlElement, find_root_name, load_xml
from manylabel.data.images import IMAGE_EXTENSIONS, ImageError, image_size_px
from manylabel.data.regions import Region
from manylabel.errors import DataError, build_message, join_names, join_problems
from manylabel.files import write_text_atomically
from manylabel.labels.space import LabelSpace

IMAGE_FOLDERS = ("JPEGImages", "images", "")
"""Where the images of a folder `Annotations` lie beside it, the first that has them."""

_LIST_NAME = re.compile(r"(.+)_(train|val|test|trainval)\.txt")
_LIST_LINE = re.compile(r"(\S.*?)\s+(-1|0|1)\s*")
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def find_voc(source: Source, options: ReadOptions) -> Evidence | None:  # noqa: ARG001 - the signature of a format
    """Return why a folder is VOC's: it has files of objects, or lists called after labels in ImageSets/Main."""
    if source.kind == "xml":
        is_own = find_root_name(source.path) == "annotation"
        return ("Pascal VOC: one file of objects",) if is_own else None
    if source.kind != "folder":
        return None
    files = _find_object_files(source)
    if files:
        return (f"Pascal VOC: {len(files):,} files of objects",)
    lists = _find_lists(source.path)
    if lists:
        names = sorted({label for label, _, _ in lists})
        return (f"Pascal VOC: {len(lists):,} lists of {len(names):,} labels ({join_names(names)})",)
    return None


def load_voc(source: Source, options: ReadOptions) -> Annotations:
    """Read a folder of VOC, or one file of objects; labels are sorted by name, as VOC has no list of them.

    The parts are those of ImageSets/Main (`train.txt`, `val.txt`, `test.txt`), else the folders `train`, `val` and
    `test` that the files lie in.

    Raises:
        DataError: files that are no XML, objects without a name or with a box that is none, lines of lists that say
            nothing (the first of them listed), or what `assemble_rows` raises.
    """
    root = options.find_root(source)
    files = (source.path,) if source.kind == "xml" else _find_object_files(source)
    if files:
        rows = _read_object_files(source, files, root)
        return assemble_rows(str(source.path), root, rows)
    lists = _find_lists(source.path)
    rows = _read_lists(source.folder, lists, root)
    space = LabelSpace(tuple(sorted({label for label, _, _ in lists}))) if lists else None
    return assemble_rows(str(source.path), root, rows, space, is_exhaustive=False)


def save_voc(annotations: Annotations, path: Path) -> None:
    """Write a folder of VOC: `Annotations` with a file of objects per image, and ImageSets/Main for the parts.

    `filename` is the id of the image. Polygons and masks become the box around them; groups, extra columns and labels
    that no image has are not written.

    Raises:
        DataError: a cell is unknown, a label has no region, an id or a label cannot stand in XML or in a list, or
            images would share a file, or a box lies outside its image (the first of them listed).
        RunError: the files cannot be written.
    """
    problems = Problems()
    stems = _choose_stems(annotations.images)
    texts = {}
    for row, record in enumerate(annotations.records):
        size = _find_size(record)
        _check_writable(annotations, row, record, problems)
        for region in record.regions:
            box = _find_box(region)
            if box is not None and size is not None and _is_outside(box, size):
                problems.add(f"image {record.id!r}", f"a box of {region.label!r} lies outside it", got=box)
        texts[stems[row]] = _describe_image(record, size)
    if len(texts) < len(stems):
        problems.add(annotations.name, "two images would have one file", do="Rename one of the images")
    problems.stop_if_any()
    for stem, text in texts.items():
        write_text_atomically(path / "Annotations" / f"{stem}.xml", text)
    for part in dict.fromkeys(record.part for record in annotations.records if record.part):
        inside = [stem for stem, record in zip(stems, annotations.records, strict=True) if record.part == part]
        write_text_atomically(path / "ImageSets" / "Main" / f"{part}.txt", "".join(f"{stem}\n" for stem in inside))


# --- files of objects ---------------------------------------------------------------------------------------------


def _find_object_files(source: Source) -> tuple[Path, ...]:
    """Return the files of XML below `Annotations`, else right in the folder and those below it.

    () if the first of them is no file of objects.
    """
    own = source.path / "Annotations"
    files = own.rglob("*.xml") if own.is_dir() else (*source.path.glob("*.xml"), *source.path.glob("*/*.xml"))
    files = tuple(sorted(files))
    return files if files and find_root_name(files[0]) == "annotation" else ()


def _read_object_files(source: Source, files: Sequence[Path], root: ImageRoot) -> list[Row]:
    problems: list[str] = []
    rows = []
    parts = _read_parts(source.folder)
    for path in files:
        try:
            rows.append(_read_object_file(path, source.folder, root, parts))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError(join_problems(problems))
    return rows


def _read_object_file(path: Path, folder: Path, root: ImageRoot, parts: Mapping[str, str]) -> Row:
    problems = Problems()
    content = load_xml(path)
    if content.name != "annotation":
        problems.add(f"{path} line {content.line}", "no file of objects", got=content.name, expected="<annotation>")
    size = _read_size(content)
    regions = [
        region
        for element in content.find_all("object")
        if (region := _read_object(path, element, size, problems)) is not None
    ]
    problems.stop_if_any()
    relative = PurePosixPath(path.relative_to(folder).as_posix())
    stem = _strip_annotations(relative).with_suffix("").as_posix()
    image = _find_image(root, relative, content.find_text("filename"))
    return Row(
        image,
        str(path),
        present=list(dict.fromkeys(region.label for region in regions)),
        part=parts.get(stem, _find_part(relative)),
        regions=tuple(regions),
    )


def _read_size(content: XmlElement) -> tuple[float, float] | None:
    width, height = (_to_number(content.find_text("size", name)) for name in ("width", "height"))
    return (width, height) if width and height and width > 0 and height > 0 else None


def _to_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _read_object(
    path: Path, element: XmlElement, size: tuple[float, float] | None, problems: Problems
) -> Region | None:
    place = f"{path} line {element.line}"
    label = element.find_text("name")
    if not label:
        problems.add(place, "an object without a name", expected="<name>dog</name>")
    box = element.find("bndbox")
    if box is None:
        return Region(label)
    texts = [box.find_text(name) for name in ("xmin", "ymin", "xmax", "ymax")]
    numbers = [number for number in map(_to_number, texts) if number is not None]
    if len(numbers) < 4 or numbers[2] < numbers[0] - 1 or numbers[3] < numbers[1] - 1:
        expected = "xmin, ymin, xmax and ymax, the largest last"
        problems.add(f"{path} line {box.line}", "bndbox is no box", got=", ".join(texts), expected=expected)
        return None
    left, top = max(numbers[0] - 1, 0.0), max(numbers[1] - 1, 0.0)
    right, bottom = numbers[2:]
    found = (left, top, max(right - left, 0.0), max(bottom - top, 0.0))
    if size is not None and _is_outside(found, size):
        expected = f"one inside {size[0]:g} x {size[1]:g} px"
        problems.add(
            f"{path} line {box.line}", "the box lies outside the image", got=", ".join(texts), expected=expected
        )
        return None
    return Region(label, found)


def _is_outside(box: tuple[float, float, float, float], size: tuple[float, float]) -> bool:
    left, top, width, height = box
    return left >= size[0] or top >= size[1] or left + width < 0 or top + height < 0


def _find_image(root: ImageRoot, relative: PurePosixPath, name: str) -> str:
    """Return the path of the image that a file of objects is about: by `filename`, else by the name of the file."""
    base = _strip_folder(relative)
    inside = _strip_annotations(relative)
    stem = inside.with_suffix("").as_posix()
    names = [name] if name.lower().endswith(IMAGE_EXTENSIONS) else []
    names += [(inside.parent / name).as_posix()] if names else []
    names += [stem + extension for extension in IMAGE_EXTENSIONS]
    candidates = [str(base / folder / one) for folder in IMAGE_FOLDERS for one in names]
    candidates += names
    for candidate in candidates:
        if ".." not in PurePosixPath(candidate).parts and (root.folder / candidate).is_file():
            return candidate
    return names[0]


def _strip_folder(relative: PurePosixPath) -> PurePosixPath:
    """Return the folder that holds `Annotations`, else the one that holds the file."""
    if "Annotations" in relative.parts:
        return PurePosixPath(*relative.parts[: relative.parts.index("Annotations")])
    return relative.parent


def _strip_annotations(relative: PurePosixPath) -> PurePosixPath:
    """Return the path of a file below `Annotations`, else its name."""
    if "Annotations" in relative.parts:
        return PurePosixPath(*relative.parts[relative.parts.index("Annotations") + 1 :])
    return PurePosixPath(relative.name)


def _find_part(relative: PurePosixPath) -> str | None:
    return next((part for name in relative.parts[:-1] if (part := PART_NAME_OF.get(name.lower()))), None)


# --- ImageSets/Main -----------------------------------------------------------------------------------------------


def _find_main(folder: Path) -> Path:
    return folder / "ImageSets" / "Main"


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(build_message(path, "the list cannot be read as UTF-8", do="Check the file")) from error


def _read_parts(folder: Path) -> dict[str, str]:
    """Return the part of each name that a list without a label names; `trainval` is no part of its own."""
    parts: dict[str, str] = {}
    main = _find_main(folder)
    for path in sorted(main.glob("*.txt")) if main.is_dir() else []:
        if path.stem == "trainval" or _LIST_NAME.fullmatch(path.name):
            continue
        parts |= {line.strip(): path.stem for line in _read_lines(path) if line.strip()}
    return parts


def _find_lists(folder: Path) -> list[tuple[str, str, Path]]:
    """Return (label, part, path) of every list of a label."""
    main = _find_main(folder)
    return [
        (match[1], match[2], path)
        for path in (sorted(main.iterdir()) if main.is_dir() else [])
        if (match := _LIST_NAME.fullmatch(path.name)) is not None and path.is_file()
    ]


def _read_lists(folder: Path, lists: Sequence[tuple[str, str, Path]], root: ImageRoot) -> list[Row]:
    problems = Problems()
    labels = sorted({label for label, _, _ in lists})
    states: dict[str, dict[str, str]] = {}
    parts = _read_parts(folder)
    for label, part, path in lists:
        for number, line in enumerate(_read_lines(path), start=1):
            match = _LIST_LINE.fullmatch(line)
            if match is not None:
                name, state = match[1], match[2]
                if states.setdefault(name, {}).setdefault(label, state) != state:
                    problems.add(f"{path} line {number}", "another list says otherwise", got=line)
                if part != "trainval":
                    parts.setdefault(name, part)
            elif line.strip():
                problems.add(f"{path} line {number}", "not an image and its state", got=line, expected="2008_000001 -1")
    problems.stop_if_any()
    return [
        Row(
            _find_image(root, PurePosixPath("Annotations", f"{name}.xml"), name),
            f"{folder} image {name}",
            present=[label for label in labels if state_of.get(label) == "1"],
            unknown=[label for label in labels if state_of.get(label, "0") == "0"],
            part=parts.get(name),
        )
        for name, state_of in states.items()
    ]


# --- writing ------------------------------------------------------------------------------------------------------


def _choose_stems(images: Sequence[str]) -> list[str]:
    """Return the id of each image without its extension, with it where two would have one."""
    stems = [PurePosixPath(image).with_suffix("").as_posix() for image in images]
    repeated = {stem for stem in stems if stems.count(stem) > 1} if len(set(stems)) < len(stems) else set()
    return [image if stem in repeated else stem for image, stem in zip(images, stems, strict=True)]


def _check_writable(annotations: Annotations, row: int, record: ImageRecord, problems: Problems) -> None:
    place = f"image {record.id!r}"
    unknown = [annotations.label_space.names[column] for column in annotations.targets.unknown_columns(row)]
    if unknown:
        problems.add(place, f"VOC has no place for unknown labels: {join_names(unknown)}", do="Write coco or a table")
    present = annotations.labels_of(row)
    located = {region.label for region in record.regions if _find_box(region) is not None}
    bare = [label for label in present if label not in located]
    if bare:
        problems.add(place, f"VOC needs a box for each label: {join_names(bare)}", do="Write coco or a table")
    surplus = sorted({region.label for region in record.regions} - set(present))
    if surplus:
        problems.add(place, f"regions of labels that are not present: {join_names(surplus)}")
    texts = [record.id, *present, record.part if record.part else ""]
    if any(text != text.strip() or "\n" in text or _NOT_IN_XML.search(text) for text in texts):
        problems.add(place, "a name with white space around it or control characters", do="Rename it")
    if record.part and ("/" in record.part or record.part == "trainval" or _LIST_NAME.fullmatch(f"{record.part}.txt")):
        problems.add(place, "VOC has no part of that name", got=record.part, expected="train, val or test")


def _find_size(record: ImageRecord) -> tuple[int, int] | None:
    try:
        return image_size_px(record.source)
    except ImageError:
        return None  # an image that is missing or damaged has no size; nothing here needs one


def _find_box(region: Region) -> tuple[float, float, float, float] | None:
    return region.box_px if region.box_px is not None else region.find_bounds()


def _describe_image(record: ImageRecord, size: tuple[int, int] | None) -> str:
    lines = ["<annotation>", f"  <filename>{escape(record.id)}</filename>"]
    if size is not None:
        lines.append(f"  <size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>")
    for region in record.regions:
        box = _find_box(region)
        if box is None:
            continue
        left, top, width_px, height_px = box
        corners = {"xmin": left + 1, "ymin": top + 1, "xmax": left + width_px, "ymax": top + height_px}
        inside = "".join(f"<{name}>{_show(value)}</{name}>" for name, value in corners.items())
        lines += ["  <object>", f"    <name>{escape(region.label)}</name>", f"    <bndbox>{inside}</bndbox>"]
        lines += ["    <difficult>0</difficult>", "  </object>"]
    return "\n".join([*lines, "</annotation>", ""])


def _show(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
