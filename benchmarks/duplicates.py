"""How long near duplicates take to find among many hashes, and how many planted ones are found among real images."""

from __future__ import annotations

import argparse
import hashlib
import io
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from process import report

from manylabel import load_image
from manylabel.data.duplicates import find_near_pairs, find_relatives
from manylabel.data.images import find_images
from manylabel.data.perceptual_hash import hash_image
from manylabel.data.scan import ImageFacts

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
NUM_PLANTED = 500
CHANGES = (
    "exact", "half", "three quarters", "jpeg 50", "jpeg 70", "jpeg 90", "webp", "mirrored", "half, jpeg",
    "mirrored, jpeg",
)  # fmt: skip


def run(given: argparse.Namespace) -> dict[str, Any]:  # noqa: ARG001 - the signature of a benchmark
    """Search among random hashes, then plant."""
    rng = np.random.default_rng(0)
    seconds = {}
    for number in (10_000, 100_000, 1_000_000):
        hashes = rng.integers(0, 2**64, number, dtype=np.uint64)
        started = time.perf_counter()
        find_near_pairs(hashes)
        seconds[f"seconds_{number}"] = round(time.perf_counter() - started, 2)
    return {
        **seconds,
        **plant(),
        "bars": {"seconds_100000": 30, "found_exact": 1.0, "found_changed": 0.98, "false_alarms": 0.01},
    }


def plant() -> dict[str, Any]:
    """Return what share of the planted images are found, and what share of the others are taken for relatives."""
    files = [*find_images(DATA / "coco128"), *find_images(DATA / "posters")]
    facts = [look(path.read_bytes()) for path in files]
    chosen = random.Random(0).sample(range(len(files)), NUM_PLANTED)
    kinds = [CHANGES[number % len(CHANGES)] for number in range(NUM_PLANTED)]
    planted = [look(change(files[row].read_bytes(), kind)) for row, kind in zip(chosen, kinds, strict=True)]
    group_of = {row: number for number, group in enumerate(find_relatives([*facts, *planted])) for row in group.rows}
    is_found = [group_of.get(len(facts) + number, -1) == group_of.get(row, -2) for number, row in enumerate(chosen)]
    exact = [found for found, kind in zip(is_found, kinds, strict=True) if kind == "exact"]
    changed = [found for found, kind in zip(is_found, kinds, strict=True) if kind != "exact"]
    # The files of the two sets are different pictures but for those that are equal byte by byte.
    near = {row for group in find_relatives(facts) if group.kind == "near" for row in group.rows}
    return {
        "num_images": len(files),
        "found_exact": round(sum(exact) / len(exact), 4),
        "found_changed": round(sum(changed) / len(changed), 4),
        "false_alarms": round(len(near) / len(files), 4),
    }


def look(data: bytes) -> ImageFacts:
    """Return the facts that duplicates are found by."""
    seen = hash_image(load_image(data, min_size_px=(128, 128)))
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return ImageFacts("", digest=digest, hash_bits=seen.bits, mirror_bits=seen.mirror_bits, thumbnail=seen.thumbnail)


def change(data: bytes, kind: str) -> bytes:
    """Return the file of the changed image."""
    if kind == "exact":
        return data
    image = load_image(data)
    if "mirrored" in kind:
        image = ImageOps.mirror(image)
    if "half" in kind:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)
    if "quarters" in kind:
        image = image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    if "jpeg" in kind:
        image.save(stream, "JPEG", quality=int(kind.split()[-1]) if kind.split()[-1].isdigit() else 70)
    else:
        image.save(stream, "WEBP" if kind == "webp" else "PNG", quality=75)
    return stream.getvalue()


if __name__ == "__main__":
    report("duplicates", run)
