"""What damaged, dangerous and endless image files cost: a folder of them through the commands, and bombs one by one.

The folder is not part of this repository. Pillow's own test images do, good and damaged files of every kind; they come
with its source:

    pip download --no-deps --no-binary pillow pillow==13.0.0 && tar xf pillow-13.0.0.tar.gz
    python benchmarks/hostile_images.py --files pillow-13.0.0/Tests
"""

from __future__ import annotations

import argparse
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from predict_start import save_untrained
from process import MANYLABEL, measure, report

from manylabel.data.images import ImageError, load_image

OURS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"]
OTHERS = (".fli", ".flc", ".eps", ".psd", ".dds", ".jp2", ".j2k")

ONE_IMAGE = """
import sys, time
from manylabel.data.images import ImageError, load_image
def peak_kb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
load_image(open(sys.argv[2], "rb").read())
before, started = peak_kb(), time.perf_counter()
try:
    load_image(sys.argv[1])
    kind = "decoded"
except ImageError as error:
    kind = error.kind
print(kind, time.perf_counter() - started, (peak_kb() - before) / 1024)
"""
"""Decodes one small image first, so that what is measured is the second one and not the imports."""


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measure all of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = copy_files(given.files, folder / "files")
        whole = compare_with_pillow(files)
        damaged = damage_files([path for path in files if is_decoded(path)], folder / "damaged")
        save_untrained(folder / "bundle", "mobilenetv1_100", 160)
        answers = answer_all([*files, *damaged], folder)
        bombs = measure_bombs(folder)
        return {
            **whole,
            **answers,
            **look_at_frames(files),
            **refuse_renamed(files, folder / "renamed"),
            **bombs,
            "bars": {
                "not_as_pillow": 0,
                "rows_lacking": 0,
                "tracebacks": 0,
                "filled_with_grey": 0,
                "scan_seconds": 60,
                "scan_peak_mb": 1024,
                "frames_slowest_ms": 100,
                "renamed_not_refused": 0,
                "renamed_processes": 0,
                "size_bomb_slowest_ms": 50,
                "size_bomb_extra_mb": 20,
                "scan_bomb_slowest_ms": 1000,
                "most_scans_slowest_ms": 1000,
            },
        }


def copy_files(source: Path, folder: Path) -> list[Path]:
    """Copy every regular file below the source under a name of its own that keeps its extension."""
    folder.mkdir()
    paths = sorted(path for path in source.rglob("*") if path.is_file() and "images" in path.parts)
    if not paths:
        raise SystemExit(f"{source} holds no folder named images")
    copies = [folder / f"{number:04}{path.suffix}" for number, path in enumerate(paths)]
    for path, copy in zip(paths, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    return copies


def is_decoded(path: Path) -> bool:
    """Tell whether the product can use the file."""
    try:
        load_image(path)
    except ImageError:
        return False
    return True


def compare_with_pillow(paths: list[Path]) -> dict[str, Any]:
    """Return how many files there are, how many are decoded, and on how many Pillow, told our formats, disagrees."""
    kinds: Counter[str] = Counter()
    disagreed, odd = 0, 0
    for path in paths:
        try:
            pixels_HWC = np.asarray(load_image(path))
            odd += pixels_HWC.ndim != 3 or pixels_HWC.shape[2] != 3 or pixels_HWC.dtype != np.uint8
            kinds["decoded"] += 1
        except ImageError as error:
            kinds[error.kind] += 1
            disagreed += error.kind != "too_large" and pillow_decodes(path)
            continue
        disagreed += not pillow_decodes(path)
    return {"num_files": len(paths), "answers": dict(kinds), "not_as_pillow": disagreed, "not_three_channels": odd}


def pillow_decodes(path: Path) -> bool:
    """Tell whether Pillow alone reads the first frame."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=OURS) as image:
            warnings.simplefilter("ignore")
            image.load()
    except Exception:
        return False
    return True


def damage_files(paths: list[Path], folder: Path) -> list[Path]:
    """Write each file cut off at a random place, with zeros from there on, and with a few bytes changed."""
    folder.mkdir()
    random = np.random.default_rng(0)
    written = []
    for path in paths:
        data = path.read_bytes()
        place = int(random.integers(1, max(len(data) - 1, 2)))
        changed = bytearray(data)
        for at in random.integers(0, len(data), 5):
            changed[at] = int(random.integers(256))
        for way, damaged in enumerate((data[:place], data[:place] + bytes(len(data) - place), bytes(changed))):
            written.append(folder / f"{path.stem}-{way}{path.suffix}")
            written[-1].write_bytes(damaged)
    return written


def answer_all(paths: list[Path], folder: Path) -> dict[str, Any]:
    """Return what `predict` says of all files, what that costs, and how many cut files were taken for whole ones."""
    (folder / "list.txt").write_text("\n".join(map(str, paths)), "utf-8")
    with (folder / "list.txt").open() as names, (folder / "told.txt").open("w") as told:
        command = [*MANYLABEL, "predict", str(folder / "bundle"), "-", "--json"]
        done = subprocess.run(command, stdin=names, stdout=subprocess.PIPE, stderr=told, text=True, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    scan = measure([sys.executable, __file__, "--scan", str(folder / "list.txt")])
    return {
        "num_with_damaged": len(paths),
        "rows_lacking": len(paths) - len({row["image"] for row in rows}) + len(rows) - len(paths),
        "rows_with_an_error": sum(row["error"] is not None for row in rows),
        "tracebacks": (folder / "told.txt").read_text("utf-8").count("Traceback") + scan.output.count("Traceback"),
        "filled_with_grey": count_grey({row["image"] for row in rows if row["error"] is None}),
        "scan_seconds": round(scan.seconds, 1),
        "scan_peak_mb": round(scan.peak_mb),
    }


def count_grey(usable: set[str]) -> int:
    """Return how many files that were cut off are used and look otherwise than the whole file."""
    num = 0
    for name in usable:
        path = Path(name)
        if path.stem.endswith("-0"):
            whole = path.parent.parent / "files" / f"{path.stem[:-2]}{path.suffix}"
            num += load_image(path).tobytes() != load_image(whole).tobytes()
    return num


def scan_listed(names: Path) -> None:
    """Look at every listed file as `inspect` does: a process of its own, so that it can be measured."""
    from manylabel.data.annotations import Annotations, ImageRecord
    from manylabel.data.scan import scan_images
    from manylabel.labels.space import LabelSpace
    from manylabel.labels.targets import Targets

    records = tuple(ImageRecord(line, line) for line in names.read_text("utf-8").splitlines())
    table = Annotations(records, Targets.from_columns([[0]] * len(records), 1), LabelSpace(("label",)))
    print(len(scan_images(table)))


def look_at_frames(paths: list[Path]) -> dict[str, Any]:
    """Return how many usable files have several frames, and the longest that one took."""
    slowest, num = 0.0, 0
    for path in paths:
        try:
            with Image.open(path, formats=OURS) as image:
                if getattr(image, "n_frames", 1) < 2:
                    continue
            seconds = min(_time(path) for _ in range(3))
        except Exception:  # files that cannot be used are counted elsewhere
            continue
        slowest = max(slowest, seconds)
        num += 1
    return {"num_with_frames": num, "frames_slowest_ms": round(1000 * slowest, 1)}


def _time(path: Path) -> float:
    started = time.perf_counter()
    load_image(path)
    return time.perf_counter() - started


def refuse_renamed(paths: list[Path], folder: Path) -> dict[str, Any]:
    """Return how many files of dangerous formats are not refused as `.jpg`, and how many processes were started."""
    folder.mkdir()
    started: list[str] = []
    sys.addaudithook(lambda event, _: started.append(event) if event in _STARTS_A_PROCESS else None)
    renamed = [path for path in paths if path.suffix.lower() in OTHERS]
    refused = 0
    for path in renamed:
        copy = folder / f"{path.stem}.jpg"
        copy.write_bytes(path.read_bytes())
        refused += not is_decoded(copy)
    return {
        "num_renamed": len(renamed),
        "renamed_not_refused": len(renamed) - refused,
        "renamed_processes": len(started),
    }


_STARTS_A_PROCESS = ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.fork", "os.system")


def measure_bombs(folder: Path) -> dict[str, Any]:
    """Return the worst of the size bombs and scan bombs, each in a process of its own."""
    small = folder / "small.png"
    Image.new("RGB", (8, 8)).save(small)
    size = [load_alone(path, small) for path in write_size_bombs(folder)]
    scan = [load_alone(path, small) for path in write_scan_bombs(folder)]
    allowed = [load_alone(path, small) for path in write_most_scans(folder)]
    return {
        "size_bombs": dict(Counter(kind for kind, _, _ in size)),
        "size_bomb_slowest_ms": round(max(ms for _, ms, _ in size), 1),
        "size_bomb_extra_mb": round(max(mb for _, _, mb in size), 1),
        "scan_bombs": dict(Counter(kind for kind, _, _ in scan)),
        "scan_bomb_slowest_ms": round(max(ms for _, ms, _ in scan), 1),
        "most_scans": dict(Counter(kind for kind, _, _ in allowed)),
        "most_scans_slowest_ms": round(max(ms for _, ms, _ in allowed), 1),
    }


def load_alone(path: Path, small: Path) -> tuple[str, float, float]:
    """Return what became of a file in a process of its own: kind, milliseconds, megabytes beyond what stood there."""
    command = [sys.executable, "-c", ONE_IMAGE, str(path), str(small)]
    kind, seconds, mb = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return kind, 1000 * float(seconds), float(mb)


def write_size_bombs(folder: Path) -> list[Path]:
    """Write files of little weight and many pixels: one that Pillow's own limit lets pass, and others far above it."""
    bombs = {
        "inside_pillows_limit.png": _build_png(9_450, 9_450),
        "far.png": _build_png(60_000, 60_000, num_rows=100),
        "wide.bmp": _overwrite(_save("BMP"), 18, struct.pack("<ii", 20_000, 20_000)),
        "wide.gif": _overwrite(_save("GIF"), 6, struct.pack("<HH", 60_000, 60_000)),
    }
    for name, data in bombs.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in bombs]


def _build_png(width_px: int, height_px: int, num_rows: int | None = None) -> bytes:
    """Return a PNG of transparent black."""
    compressor, parts = zlib.compressobj(9), []
    row = b"\0" + bytes(4 * width_px)
    for _ in range(height_px if num_rows is None else num_rows):
        parts.append(compressor.compress(row))
    pixels = b"".join([*parts, compressor.flush()])
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, 8, 6, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _save(format_name: str, size_px: int = 32, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((size_px, size_px), 60).convert("RGB").save(buffer, format_name, **options)
    return buffer.getvalue()


def _overwrite(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def write_scan_bombs(folder: Path) -> list[Path]:
    """Write JPEGs of 2,000 pixels square that repeat their last scan: 10,010 of them, and 10 MB of them."""
    head, scan = _split_last_scan(2_000)
    paths = []
    for name, num in (("scans", 10_010), ("more", 10_000_000 // len(scan))):
        paths.append(folder / f"{name}.jpg")
        paths[-1].write_bytes(head + scan * num + b"\xff\xd9")
    return paths


def write_most_scans(folder: Path) -> list[Path]:
    """Write the dearest JPEGs that are allowed: 50 million pixels with 20 scans, 3.9 million with 256."""
    paths = []
    for size_px, num in ((7_071, 20), (1_976, 256)):
        head, scan = _split_last_scan(size_px)
        paths.append(folder / f"allowed-{num}.jpg")
        paths[-1].write_bytes(head + scan * (num - head.count(b"\xff\xda")) + b"\xff\xd9")
    return paths


def _split_last_scan(size_px: int) -> tuple[bytes, bytes]:
    buffer = io.BytesIO()
    Image.new("L", (size_px, size_px), 128).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last], data[last:-2]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--scan"]:
        scan_listed(Path(sys.argv[2]))
    else:
        os.environ["PYTHONWARNINGS"] = "ignore"
        warnings.simplefilter("ignore")
        report("hostile_images", run, ("--files", {"type": Path, "required": True, "help": "a folder of image files"}))
