"""Runs fastai in its own environment on the same images: `python -m venv`, then `pip install fastai==2.8.12 timm`."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from posters import BACKBONES, Parts

DRIVER = Path(__file__).resolve().parent / "fastai_peer.py"
PEER_FLAG: tuple[str, dict[str, Any]] = (
    "--peer",
    {"required": True, "help": "the Python of an environment in which fastai is installed", "metavar": "PYTHON"},
)


@dataclass(frozen=True)
class PeerRun:
    """What fastai came to: seconds of training, images/s of every epoch, and its probabilities by part."""

    seconds: float
    images_per_second: tuple[float, ...]
    versions: Mapping[str, str]
    probs_by_part: Mapping[str, npt.NDArray[np.float32]]


def check_peer(python: str) -> None:
    """Stop where fastai is not there: a figure beside nothing says nothing."""
    asked = subprocess.run([python, "-c", "import fastai, timm"], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        last = asked.stderr.strip().splitlines()[-1:]
        raise SystemExit(f"{python} has no fastai and timm ({' '.join(last)}): make an environment for it, see peer.py")


def run_peer(
    python: str,
    parts: Parts,
    *,
    backbone: str = "mobilenetv1_100",
    recipe: str = "fit_one_cycle",
    epochs: int = 2,
    should_augment: bool = True,
    seed: int = 0,
    answer_for: tuple[str, ...] = (),
) -> PeerRun:
    """Train with fastai in a process of its own and return what it came to."""
    settings = BACKBONES[backbone]
    has_weights = settings["weights"] != "none"
    rows, start = {}, 0
    for name, table in parts.items():
        rows[name] = list(range(start, start + len(table)))
        start += len(table)
    job = {
        "images": [record.path for table in parts.values() for record in table.records],
        "truth": np.concatenate([table.targets.present_NL() for table in parts.values()]).astype(int).tolist(),
        "labels": list(parts["train"].label_space.names),
        "rows": rows,
        "backbone": backbone,
        "backbone_args": settings.get("backbone_args", {}),
        "weights": settings["weights"] if has_weights else "",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "image_size": settings["image_size"],
        "batch_size": 32,
        "augment": should_augment,
        "recipe": recipe,
        "epochs": epochs,
        "seed": seed,
        "answer_for": list(answer_for),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(job | {"answers": folder}), "utf-8")
        ended = subprocess.run([python, str(DRIVER), str(path)], capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            raise SystemExit(f"fastai failed with exit code {ended.returncode}:\n{ended.stderr}")
        told = json.loads(ended.stdout.strip().splitlines()[-1])
        probs = {name: np.load(Path(folder) / f"{name}.npy", allow_pickle=False) for name in answer_for}
    return PeerRun(told["seconds"], tuple(told["images_per_second"]), told["versions"], probs)
