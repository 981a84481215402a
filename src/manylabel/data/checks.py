"""The doctor: what a person should know about a table before an epoch is spent on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from manylabel.data.annotations import Annotations
from manylabel.data.findings import Finding
from manylabel.data.images import ImageError, image_size_px
from manylabel.errors import join_names

FEW_POSITIVES = 5
"""With fewer images of a label a share of them in each part is not to be had."""


def find_findings(annotations: Annotations) -> list[Finding]:
    """Return what the reader noticed and what the labels alone tell; no image is opened."""
    return [*annotations.findings, *find_label_findings(annotations)]


def find_label_findings(annotations: Annotations) -> Iterator[Finding]:
    """Yield findings about labels: never or always present, rare, unknown, and images without any."""
    targets, names = annotations.targets, annotations.label_space.names
    present_of = dict(zip(names, targets.num_present_L.tolist(), strict=True))
    absent_of = dict(zip(names, targets.num_absent_L.tolist(), strict=True))
    never = tuple(name for name in names if not present_of[name])
    if never:
        message = f"Labels that no image has: {join_names(never)}. They cannot be learnt or judged."
        yield Finding("warning", "label-without-positive", message, never, "Add images or remove these labels")
    always = tuple(name for name in names if present_of[name] and not absent_of[name])
    if always and len(annotations) > 1:
        message = f"Labels that every image has for which they are known: {join_names(always)}."
        yield Finding("warning", "label-without-negative", message, always, "Add images without them")
    rare = tuple(name for name in names if 0 < present_of[name] < FEW_POSITIVES)
    if rare:
        shown = join_names([f"{name} ({present_of[name]})" for name in rare])
        message = f"Labels that fewer than {FEW_POSITIVES} images have: {shown}."
        yield Finding("warning", "rare-label", message, rare, "Add images with them")
    is_bare_N = (targets.num_present_N == 0) & (targets.num_known_N == len(names))
    bare = tuple(annotations.records[row].id for row in is_bare_N.nonzero()[0])
    if bare:
        message = f"Images without any label: {len(bare):,}. The empty set is an answer, if it is meant."
        yield Finding("note", "image-without-label", message, bare)
    num_unknown = int(targets.num_unknown_L.sum())
    if num_unknown:
        share = num_unknown / (len(annotations) * len(names))
        message = f"{num_unknown:,} cells ({share:.1%}) are unknown: they count neither in training nor in a metric."
        yield Finding("note", "unknown-cells", message)


def find_image_findings(annotations: Annotations, on_image: Callable[[], None] | None = None) -> Iterator[Finding]:
    """Yield findings about files: those that cannot be opened, by kind. Headers are read, pixels are not decoded."""
    listed_as_missing = {
        image for finding in annotations.findings if finding.kind == "missing-image" for image in finding.rows
    }
    images_of: dict[str, list[str]] = {}
    first_error_of: dict[str, str] = {}
    for record in annotations.records:
        try:
            if record.id not in listed_as_missing:
                image_size_px(record.source)
        except ImageError as error:
            images_of.setdefault(error.kind, []).append(record.id)
            first_error_of.setdefault(error.kind, str(error))
        if on_image is not None:
            on_image()
    for kind, images in images_of.items():
        message = f"Images that cannot be opened: {join_names(images)}. {first_error_of[kind]}"
        fix = "Mend the files or remove the rows"
        yield Finding("error", f"image-{kind.replace('_', '-')}", message, tuple(images), fix)
