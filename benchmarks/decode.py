"""How fast images are decoded and brought to 224 px on one core, beside Pillow's plain path, and how alike they are.

The photographs are those of coco128, and the same ones enlarged to 12 megapixels; both are read from memory.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from process import report

from manylabel import Preprocess, load_image
from manylabel.data.image_cache import ImageCache

PHOTOGRAPHS = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco128" / "images"
SIDE = 224
ROUNDS = 5
BIG_PX = (4000, 3000)


def run(given: argparse.Namespace) -> dict[str, Any]:  # noqa: ARG001 - the signature of a benchmark
    """Both paths in turns, round by round, so that a noisy machine is noisy for both."""
    files = [path.read_bytes() for path in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    small, big = compare(files), compare([enlarge(data) for data in files[:8]])
    return {
        **{f"coco_{name}": value for name, value in small.items()},
        **{f"big_{name}": value for name, value in big.items()},
        **time_cache(sorted(PHOTOGRAPHS.glob("*.jpg"))),
        "bars": {"coco_ratio": 1.5, "coco_mean_difference": 2, "big_ratio": 4, "big_mean_difference": 2},
    }


def compare(files: list[bytes]) -> dict[str, float]:
    """Return images per second of both paths (the best round), their ratio, and their mean difference of 255."""
    size = (SIDE, SIDE)
    preprocess = Preprocess(height_px=SIDE, width_px=SIDE, mean=(0, 0, 0), std=(1, 1, 1))
    bilinear = Preprocess(height_px=SIDE, width_px=SIDE, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bilinear")
    ways: dict[str, Callable[[bytes], Image.Image]] = {
        "plain": lambda data: Image.open(io.BytesIO(data)).convert("RGB").resize(size, Image.Resampling.BICUBIC),
        "ours": lambda data: preprocess.resize_image(load_image(data, min_size_px=size)),
        "ours_bilinear": lambda data: bilinear.resize_image(load_image(data, min_size_px=size)),
    }
    seconds = {name: min(time_once(way, files) for _ in range(ROUNDS)) for name, way in ways.items()}
    pairs = [(np.asarray(ways["ours"](data), int), np.asarray(ways["plain"](data), int)) for data in files]
    return {
        "plain_per_second": round(len(files) / seconds["plain"], 1),
        "ours_per_second": round(len(files) / seconds["ours"], 1),
        "ratio": round(seconds["plain"] / seconds["ours"], 2),
        "ratio_bilinear": round(seconds["plain"] / seconds["ours_bilinear"], 2),
        "mean_difference": round(float(np.mean([np.abs(one - two).mean() for one, two in pairs])), 2),
    }


def time_cache(paths: list[Path]) -> dict[str, float]:
    """Return how many images per second are decoded from files, and how many are read from the cache."""
    size = (SIDE, SIDE)
    with tempfile.TemporaryDirectory() as folder:
        cache = ImageCache(folder)
        for path in paths:
            cache.load(str(path), name=path.name, min_size_px=size)
        decoded, cached = [], []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            for path in paths:
                load_image(path, min_size_px=size)
            halfway = time.perf_counter()
            for path in paths:
                cache.load(str(path), name=path.name, min_size_px=size)
            decoded.append(halfway - started)
            cached.append(time.perf_counter() - halfway)
    return {
        "decoded_per_second": round(len(paths) / min(decoded)),
        "cached_per_second": round(len(paths) / min(cached)),
    }


def time_once(way: Callable[[bytes], Image.Image], files: list[bytes]) -> float:
    """Return the seconds that one pass takes."""
    started = time.perf_counter()
    for data in files:
        way(data)
    return time.perf_counter() - started


def enlarge(data: bytes) -> bytes:
    """Return a photograph of 12 megapixels, as a camera writes it."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").resize(BIG_PX, Image.Resampling.BICUBIC).save(
        stream, "JPEG", quality=90
    )
    return stream.getvalue()


if __name__ == "__main__":
    report("decode", run)
