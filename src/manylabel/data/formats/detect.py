"""Which layout a file or folder has, found by its content, with the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from manylabel.data.annotations import Annotations
from manylabel.data.formats.coco import find_coco, load_coco, save_coco
from manylabel.data.formats.cvat import find_cvat, load_cvat
from manylabel.data.formats.delimited import find_delimited, load_delimited, save_delimited
from manylabel.data.formats.folders import find_folders, load_folders
from manylabel.data.formats.format import Blank, Evidence, Format, ReadOptions, Uncertain
from manylabel.data.formats.hugging_face import find_hugging_face, load_hugging_face
from manylabel.data.formats.json_records import (
    find_json,
    find_json_lines,
    load_json,
    load_json_lines,
    save_json,
    save_json_lines,
)
from manylabel.data.formats.label_studio import find_label_studio, load_label_studio
from manylabel.data.formats.long import find_long, load_long, save_long
from manylabel.data.formats.masks import find_masks, load_masks
from manylabel.data.formats.mmpretrain import find_mmpretrain, load_mmpretrain, save_mmpretrain
from manylabel.data.formats.one_hot import find_one_hot, load_one_hot, save_one_hot
from manylabel.data.formats.paddlex import find_paddlex, load_paddlex, save_paddlex
from manylabel.data.formats.roboflow import find_roboflow, load_roboflow
from manylabel.data.formats.source import Source
from manylabel.data.formats.voc import find_voc, load_voc, save_voc
from manylabel.data.formats.yolo import find_yolo, load_yolo, save_yolo
from manylabel.errors import ConfigError, DataError, build_message, join_names, suggest_name

FORMATS: Mapping[str, Format] = {
    "coco": Format("COCO instances: boxes and masks in one JSON", find_coco, load_coco, save_coco, extension=".json"),
    "voc": Format("Pascal VOC: a file of objects per image", find_voc, load_voc, save_voc, is_folder=True),
    "cvat": Format("CVAT for images: tags, boxes and masks in one XML", find_cvat, load_cvat),
    "yolo": Format("YOLO: a text file of boxes per image", find_yolo, load_yolo, save_yolo, is_folder=True),
    "masks": Format("mask images and a table of their values", find_masks, load_masks, is_folder=True),
    "roboflow": Format(
        "Roboflow: part folders with _classes.csv or COCO", find_roboflow, load_roboflow, is_folder=True
    ),
    "paddlex": Format(
        "PaddleX: text lists of 0 and 1 per part", find_paddlex, load_paddlex, save_paddlex, is_folder=True
    ),
    "label-studio": Format("Label Studio: tasks with annotations", find_label_studio, load_label_studio),
    "mmpretrain": Format(
        "mmpretrain: classes and a data_list", find_mmpretrain, load_mmpretrain, save_mmpretrain, extension=".json"
    ),
    "hugging-face": Format(
        "Hugging Face image folder: metadata.jsonl", find_hugging_face, load_hugging_face, is_folder=True
    ),
    "json": Format("a JSON object per image", find_json, load_json, save_json, extension=".json"),
    "json-lines": Format(
        "a JSON object per line", find_json_lines, load_json_lines, save_json_lines, extension=".jsonl"
    ),
    "long": Format("a row per image and label", find_long, load_long, save_long, extension=".csv"),
    "one-hot": Format("a column per label", find_one_hot, load_one_hot, save_one_hot, extension=".csv"),
    "delimited": Format(
        "the labels of an image in one cell", find_delimited, load_delimited, save_delimited, extension=".csv"
    ),
    "folders": Format("folders named after labels", find_folders, load_folders, is_folder=True),
}
"""Every layout, the one with the strictest evidence first: detection takes the first that recognises its own."""

LAYOUTS = tuple(FORMATS)
"""Every layout that `--layout` accepts."""


@dataclass(frozen=True)
class Layout:
    """What was found: the layout's name, and the sentences that say why."""

    name: str
    evidence: Evidence


@dataclass(frozen=True)
class LoadedData:
    """Annotations together with the layout they were read in."""

    annotations: Annotations
    layout: Layout


def load_data(
    data: str | Path,
    images: str | Path | None = None,
    *,
    layout: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    blank: Blank = "unknown",
    uncertain: Uncertain = "unknown",
    soft: tuple[float, float] | None = None,
) -> LoadedData:
    """Read a file or folder of labels, and say what layout it had.

    Args:
        data: a file of labels, a folder in one of the layouts, or a folder that holds exactly one file of labels.
        images: the folder that relative paths start from; by default the folder of the file.
        layout: overrules what the content says; one of `LAYOUTS`.
        image_column, label_column, blank, uncertain, soft: see `ReadOptions`.

    Raises:
        DataError: nothing readable is there; the message says what was looked for.
        ConfigError: no such layout, or an option that makes no sense.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ConfigError(
            build_message(
                "--layout", f"unknown layout {layout!r}{suggest_name(layout, LAYOUTS)}", expected=join_names(LAYOUTS)
            )
        )
    if "://" in str(data):
        raise DataError(
            build_message(str(data), "this is an address, and nothing is ever downloaded", do="Download it first")
        )
    if images is not None and not Path(images).is_dir():
        raise DataError(build_message(images, "there is no such folder of images", do="Check --images"))
    options = ReadOptions(
        images=None if images is None else Path(images),
        image_column=image_column,
        label_column=label_column,
        blank=blank,
        uncertain=uncertain,
        soft=soft,
    )
    source, found = _find_layout(Source(Path(data)), options, layout)
    return LoadedData(FORMATS[found.name].load(source, options), found)


def load_annotations(
    data: str | Path,
    images: str | Path | None = None,
    *,
    layout: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    blank: Blank = "unknown",
    uncertain: Uncertain = "unknown",
    soft: tuple[float, float] | None = None,
) -> Annotations:
    """Read a file or folder of labels into Annotations; `load_data` also says what layout it had.

    Args and Raises: as `load_data`.
    """
    return load_data(
        data,
        images,
        layout=layout,
        image_column=image_column,
        label_column=label_column,
        blank=blank,
        uncertain=uncertain,
        soft=soft,
    ).annotations


def detect_layout(source: Source, options: ReadOptions) -> Layout | None:
    """Return the layout of a source and the evidence for it; None where no layout recognises it."""
    for name, layout in FORMATS.items():
        evidence = layout.find_evidence(source, options)
        if evidence is not None:
            return Layout(name, evidence)
    return None


def _find_layout(source: Source, options: ReadOptions, name: str | None) -> tuple[Source, Layout]:
    """Return what is to be read and as what: DATA itself, or the one file of labels in a folder without a layout."""
    if name is not None:
        if source.kind == "folder" and not FORMATS[name].is_folder:
            source = _find_file(source)
        evidence = FORMATS[name].find_evidence(source, options)
        return source, Layout(name, evidence if evidence is not None else (f"layout: {name}, as asked",))
    found = detect_layout(source, options)
    if found is None and source.kind == "folder":
        source = _find_file(source)
        found = detect_layout(source, options)
    if found is None:
        raise DataError(
            build_message(
                source.path,
                f"this {_KIND_NAMES[source.kind]} has none of the layouts that can be read",
                expected=join_names(LAYOUTS, limit=len(LAYOUTS)),
                do="Name the layout with --layout",
            )
        )
    return source, found


_KIND_NAMES = {"folder": "folder", "table": "table", "json": "JSON", "jsonl": "JSON Lines file", "xml": "XML"}


def _find_file(folder: Source) -> Source:
    """Return the one file of labels that lies in a folder.

    Raises:
        DataError: there is none, or there are several.
    """
    files = folder.data_files
    if len(files) != 1:
        found = f"the folder holds {len(files)} files of labels" + (
            f": {join_names([file.name for file in files])}" if files else ""
        )
        raise DataError(build_message(folder.path, found, expected="one", do="Name the file"))
    return Source(files[0])
