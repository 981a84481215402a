"""`manylabel convert`: the same annotations in another layout, and what that layout could not hold."""

from __future__ import annotations

from pathlib import Path

from manylabel.cli.console import build_results_console
from manylabel.cli.tables import Reading
from manylabel.data.formats.saving import choose_layout, find_image_folder, save_annotations
from manylabel.data.patch import apply_patch, load_patch


def run_convert(data: str, out: Path, reading: Reading, to: str | None, apply: Path | None, quiet: bool) -> int:
    """Read DATA, write it to OUT in another layout, and say how it is read again."""
    layout = choose_layout(out, to)
    changes = [] if apply is None else load_patch(apply)
    annotations, applied = apply_patch(reading.load(data), changes)
    losses = save_annotations(annotations, out, layout)
    if quiet:
        return 0
    console = build_results_console()

    def say(sentence: str) -> None:
        console.print(sentence, markup=False, soft_wrap=True)

    if apply is not None:
        say(f"Applied {apply}: {applied.describe()}.")
    say(f"Written: {out} ({layout}, {len(annotations):,} images, {len(annotations.label_space)} labels)")
    for loss in losses:
        say(f"Not kept by this layout: {loss}.")
    folder = find_image_folder(annotations)
    if folder.resolve() != (out if out.is_dir() else out.parent).resolve():
        say(f"The images stay in {folder}: read it with --images {folder}")
    return 0
