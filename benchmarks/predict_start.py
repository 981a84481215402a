"""How long `manylabel predict` takes for one image, from the start of the process to the answer, and what it loads."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from process import MANYLABEL, check, measure, measure_median, report

from manylabel.bundle.export import save_bundle
from manylabel.bundle.manifest import Manifest
from manylabel.data.preprocess import Preprocess
from manylabel.decisions.policy import DecisionPolicy
from manylabel.labels.space import LabelSpace
from manylabel.models.backbones import build_backbone
from manylabel.models.classifier import build_classifier

_LABELS = tuple(f"label {number}" for number in range(25))
_ASK_FOR_TORCH = """
import contextlib, sys
from manylabel.cli.main import run
sys.argv = ["manylabel", "predict", *sys.argv[1:]]
with contextlib.suppress(SystemExit):
    run()
print("torch" in sys.modules)
"""


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Time the command on an untrained bundle of 25 labels: weights do not change what it costs."""
    with tempfile.TemporaryDirectory() as folder:
        image, bundle = Path(folder) / "image.jpg", Path(folder) / "bundle"
        noise = np.random.default_rng(0).integers(0, 255, (445, 300, 3), np.uint8)
        Image.fromarray(noise).save(image)
        save_untrained(bundle, given.backbone, given.image_size)
        figures = measure_median([*MANYLABEL, "predict", str(bundle), str(image)], given.runs)
        asked = check(measure([sys.executable, "-c", _ASK_FOR_TORCH, str(bundle), str(image)]))
    return {
        **figures,
        "backbone": given.backbone,
        "image_size_px": given.image_size,
        "torch_loaded": asked.output.split()[-1] == "True",
        "bars": {"seconds": 0.6, "peak_mb": 250, "torch_loaded": False},
    }


def save_untrained(folder: Path, name: str, size_px: int) -> None:
    """Write the bundle of a backbone with random weights, a linear head and 25 labels."""
    backbone, space = build_backbone(name), LabelSpace(_LABELS)
    preprocess = Preprocess(height_px=size_px, width_px=size_px, mean=backbone.mean, std=backbone.std)
    policy = DecisionPolicy(space, (0.5,) * len(space))
    manifest = Manifest(space, preprocess, policy, {"name": name}, {"name": "linear"}, {})
    classifier = build_classifier(backbone, [0.1] * len(space))
    save_bundle(folder, classifier, manifest, np.zeros((1, 3, size_px, size_px), np.float32))


if __name__ == "__main__":
    report(
        "predict_start",
        run,
        ("--runs", {"type": int, "default": 9}),
        ("--backbone", {"default": "mobilenetv1_100"}),
        ("--image-size", {"type": int, "default": 160}),
    )
