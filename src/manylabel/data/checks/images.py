"""What the files tell: images that cannot be used, by kind, and those that can be but look odd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

from manylabel.data.annotations import Annotations
from manylabel.data.findings import Finding, build_finding
from manylabel.data.scan import ImageFacts
from manylabel.errors import join_names

TINY_PX = 32
"""An image with a shorter side is no photograph: an icon, a thumbnail, or what is left of a file."""

HUGE_PIXELS = 12_000_000
"""From here on reading a file takes longer than everything else that is done with it."""

FORMAT_OF_EXTENSION: Mapping[str, str] = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP",
    ".tif": "TIFF", ".tiff": "TIFF", ".avif": "AVIF",
}  # fmt: skip
"""The format that the name of a file promises."""


def find_file_findings(annotations: Annotations, facts: Sequence[ImageFacts]) -> Iterator[Finding]:
    """Yield images that cannot be used, by kind, then tiny, huge, wrongly named and turned ones."""
    told = {image for finding in annotations.findings if finding.kind == "missing-image" for image in finding.rows}
    broken: dict[str, list[ImageFacts]] = {}
    for fact in facts:
        if fact.error_kind and fact.image not in told:
            broken.setdefault(fact.error_kind, []).append(fact)
    for kind, few in broken.items():
        images = [fact.image for fact in few]
        message = f"Images that cannot be used: {len(images):,} ({join_names(images)}). {few[0].error}"
        yield build_finding(f"image-{kind.replace('_', '-')}", message, images)
    usable = [fact for fact in facts if not fact.error_kind]
    yield from _find_odd_sizes(usable)
    yield from _find_misnamed(annotations, usable)
    turned = [fact.image for fact in usable if fact.orientation > 1]
    if turned:
        message = f"Images with a tag that says how they have to be turned: {len(turned):,} ({join_names(turned, 3)})."
        yield build_finding("image-turned", message, turned)


def _find_odd_sizes(usable: Sequence[ImageFacts]) -> Iterator[Finding]:
    tiny = [fact for fact in usable if min(fact.width_px, fact.height_px) < TINY_PX]
    if tiny:
        message = f"Images with a side of less than {TINY_PX} px: {len(tiny):,} ({_join_sizes(tiny)})."
        yield build_finding("image-tiny", message, [fact.image for fact in tiny])
    huge = [fact for fact in usable if fact.width_px * fact.height_px >= HUGE_PIXELS]
    if huge:
        message = f"Images of {HUGE_PIXELS // 10**6} million pixels or more: {len(huge):,} ({_join_sizes(huge)})."
        yield build_finding("image-huge", message, [fact.image for fact in huge])


def _join_sizes(few: Sequence[ImageFacts]) -> str:
    return join_names([f"{fact.image} is {fact.width_px} x {fact.height_px}" for fact in few], 3)


def _find_misnamed(annotations: Annotations, usable: Sequence[ImageFacts]) -> Iterator[Finding]:
    path_of = {record.id: record.path for record in annotations.records if record.pixels is None}
    misnamed = [
        fact
        for fact in usable
        if fact.image in path_of
        and FORMAT_OF_EXTENSION.get(PurePath(path_of[fact.image]).suffix.lower(), fact.format) != fact.format
    ]
    if misnamed:
        shown = join_names([f"{fact.image} is {fact.format}" for fact in misnamed], 3)
        message = f"Images whose name says another format than their content: {len(misnamed):,} ({shown})."
        yield build_finding("image-misnamed", message, [fact.image for fact in misnamed])
