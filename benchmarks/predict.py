"""How many posters `manylabel predict` answers for in a second, beside fastai, and what memory many more take.

The command is measured as a whole process: start, decoding, network, file. fastai (`--peer PYTHON`) has its network and
its loader ready and is measured without its start.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from predict_start import save_untrained
from process import MANYLABEL, Measured, check, measure, report

POSTERS = Path(__file__).resolve().parents[2] / "shared" / "data" / "posters" / "images"

_ASK_FASTAI = """
import json, sys, time
import torch
from fastai.vision.all import *
files = sorted(get_image_files(sys.argv[1]))[: int(sys.argv[2])]
block = DataBlock(blocks=(ImageBlock, MultiCategoryBlock(encoded=True, vocab=[str(n) for n in range(25)])),
    get_y=lambda _: [0.0] * 25, item_tfms=Resize(160), batch_tfms=[Normalize.from_stats(*imagenet_stats)])
dls = block.dataloaders(files, bs=32, num_workers=2)
learner = vision_learner(dls, "mobilenetv1_100", pretrained=False, normalize=False, loss_func=BCEWithLogitsLossFlat())
loader = dls.test_dl(files)
with learner.no_bar(), learner.no_logging():
    learner.get_preds(dl=dls.test_dl(files[:64]))
    started = time.perf_counter()
    learner.get_preds(dl=loader)
print(json.dumps({"images_per_second": len(files) / (time.perf_counter() - started)}))
"""


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Answer for all posters with each engine, then for links to them, few and many."""
    files = sorted(POSTERS.glob("*.jpg"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_untrained(folder / "bundle", "mobilenetv1_100", 160)
        figures: dict[str, Any] = {"num_images": len(files)}
        for engine in given.engines:
            seconds = [predict(folder, POSTERS, engine).seconds for _ in range(given.rounds)]
            figures[f"images_per_second_{engine}"] = round(len(files) / min(seconds), 1)
            if given.peer:
                figures["images_per_second_fastai"] = max(
                    figures.get("images_per_second_fastai", 0.0), ask_fastai(given.peer, len(files))
                )
        for number in given.memory:
            many = link(files, folder / str(number), number)
            figures[f"peak_mb_{number}"] = round(predict(folder, many, "onnxruntime").peak_mb, 1)
    if given.peer:
        best = max(figures[f"images_per_second_{engine}"] for engine in given.engines)
        figures["ratio"] = round(figures["images_per_second_onnxruntime"] / figures["images_per_second_fastai"], 2)
        figures["ratio_best_engine"] = round(best / figures["images_per_second_fastai"], 2)
    peaks = [figures[f"peak_mb_{number}"] for number in given.memory]
    bars: dict[str, float] = {f"peak_mb_{number}": 500 for number in given.memory[-1:]}
    if len(peaks) > 1:
        figures["growth"] = round(peaks[-1] / peaks[0], 2)
        bars["growth"] = 1.1
    return {**figures, "bars": bars | ({"ratio": 3} if given.peer else {})}


def predict(folder: Path, images: Path, engine: str) -> Measured:
    """Return what the command came to."""
    command = [*MANYLABEL, "predict", str(folder / "bundle"), str(images), "--out", str(folder / "answers.parquet")]
    return check(measure([*command, "--engine", engine, "--quiet"]))


def link(files: list[Path], folder: Path, number: int) -> Path:
    """Return a folder with links to files, over and over."""
    folder.mkdir()
    for place in range(number):
        (folder / f"{place:06}.jpg").symlink_to(files[place % len(files)])
    return folder


def ask_fastai(python: str, num_images: int) -> float:
    """Return fastai's images per second."""
    command = [python, "-c", _ASK_FASTAI, str(POSTERS), str(num_images)]
    told = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if told.returncode:
        raise SystemExit(told.stderr)
    return round(float(json.loads(told.stdout.splitlines()[-1])["images_per_second"]), 1)


if __name__ == "__main__":
    report(
        "predict",
        run,
        ("--engines", {"nargs": "+", "default": ["onnxruntime", "openvino", "openvino_bf16"]}),
        ("--rounds", {"type": int, "default": 2}),
        ("--memory", {"nargs": "*", "type": int, "default": [1000, 100_000]}),
        ("--peer", {"metavar": "PYTHON", "help": "the Python of an environment in which fastai is installed"}),
    )
