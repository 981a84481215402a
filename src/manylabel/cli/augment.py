"""`manylabel augment`: a picture of what augmentation and mixing do to the images of a table."""

from __future__ import annotations

import sys
from pathlib import Path

from manylabel.cli.outputs import check_output, check_spares_images
from manylabel.cli.tables import Reading
from manylabel.errors import ConfigError, build_message, join_problems
from manylabel.files import write_bytes_atomically


def run_augment(
    data: str,
    reading: Reading,
    preview: Path,
    augment: str,
    mix: str,
    image_size: int,
    num_images: int,
    num_draws: int,
    seed: int,
    quiet: bool,
) -> int:
    """Write the picture; return 1 if some of the images drawn cannot be used."""
    if preview.suffix.lower() != ".png":
        raise ConfigError(build_message("--preview", "unknown kind of file", got=preview.name, expected="a .png"))
    check_output(preview, (data,), "--preview")
    from manylabel.runs.augment_preview import build_preview, check_preview_settings

    check_preview_settings(augment, mix)  # before a large table is read
    annotations = reading.load(data)
    check_spares_images(preview, annotations)
    drawn = build_preview(
        annotations,
        augment,
        mix,
        image_size_px=image_size,
        num_images=num_images,
        num_draws=num_draws,
        seed=seed,
    )
    write_bytes_atomically(preview, drawn.png)
    if drawn.unusable and not quiet:
        print(f"Images that cannot be used:\n{join_problems(drawn.unusable)}", file=sys.stderr)
    if not quiet:
        print(f"Written: {preview} ({len(drawn.images)} images, {num_draws} draws each)", file=sys.stderr)
    return 1 if drawn.unusable else 0
