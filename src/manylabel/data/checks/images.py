"""What the files tell: those that cannot be opened, by kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from manylabel.data.annotations import Annotations
from manylabel.data.findings import Finding, build_finding
from manylabel.data.images import ImageError, image_size_px
from manylabel.errors import join_names


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
        yield build_finding(f"image-{kind.replace('_', '-')}", message, images)
