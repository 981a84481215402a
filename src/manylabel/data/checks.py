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
    num_present_L, num_absent_L = targets.num_present_L, targets.num_absent_L
    num_unknown = int(targets.num_unknown_L.sum())
    never = tuple(name for name, count in zip(names, num_present_L, strict=True) if count == 0)
    if never:
        message = f"{len(never)} labels are on no image: {join_names(never)}. They cannot be learnt or judged."
        yield Finding("warning", "label-without-positive", message, never, "Add images or remove these labels")
    always = tuple(
        name for name, present, absent in zip(names, num_present_L, num_absent_L, strict=True) if present and not absent
    )
    if always and len(annotations) > 1:
        message = f"{len(always)} labels are on every image where they are known: {join_names(always)}."
        yield Finding("warning", "label-without-negative", message, always, "Add images without them")
    rare = tuple(
        f"{name} ({count})" for name, count in zip(names, num_present_L, strict=True) if 0 < count < FEW_POSITIVES
    )
    if rare:
        message = f"{len(rare)} labels are on fewer than {FEW_POSITIVES} images: {join_names(rare)}."
        rows = tuple(name for name, count in zip(names, num_present_L, strict=True) if 0 < count < FEW_POSITIVES)
        yield Finding("warning", "rare-label", message, rows, "Add images with them")
    bare = tuple(annotations.images[row] for row in (targets.num_present_N == 0).nonzero()[0])
    if bare:
        message = f"{len(bare)} images have no label: the empty set is an answer, if it is meant."
        yield Finding("note", "image-without-label", message, bare)
    if num_unknown:
        share = num_unknown / (len(annotations) * len(names))
        message = f"{num_unknown:,} cells ({share:.1%}) are unknown: they count neither in training nor in a metric."
        yield Finding("note", "unknown-cells", message)


def find_image_findings(annotations: Annotations, on_image: Callable[[], None] | None = None) -> Iterator[Finding]:
    """Yield findings about files: those that cannot be opened, by kind. Headers are read, pixels are not decoded."""
    by_kind: dict[str, list[tuple[str, str]]] = {}
    for record in annotations.records:
        try:
            image_size_px(record.source)
        except ImageError as error:
            # The reader has listed missing files already.
            if error.kind != "missing":
                by_kind.setdefault(error.kind, []).append((record.id, str(error)))
        if on_image is not None:
            on_image()
    for kind, images in by_kind.items():
        message = f"{len(images)} images cannot be opened ({kind.replace('_', ' ')}). The first: {images[0][1]}"
        fix = "Mend the files or remove the rows"
        yield Finding("error", f"image-{kind.replace('_', '-')}", message, tuple(image for image, _ in images), fix)
