"""The model that is served, and its replacement by another one while requests go on."""

from __future__ import annotations

import logging
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.bundle.bundle import MANIFEST_NAME, ONNX_NAME
from manylabel.errors import BundleError, ManylabelError, build_message
from manylabel.inference.predictor import Predictor, load
from manylabel.server.counters import Counters

log = logging.getLogger("manylabel.server")

_NUM_TRIES = 20
_PAUSE_SECONDS = 0.1

_MODEL_FILES = ("", MANIFEST_NAME, ONNX_NAME, f"bundle/{MANIFEST_NAME}", f"bundle/{ONNX_NAME}")
"""What a model is read from, below its path: a file of its own, a bundle, or the bundle of a run."""


@dataclass(frozen=True)
class ServedModel:
    """A predictor that has answered once, and the thresholds of its labels."""

    predictor: Predictor
    thresholds: Mapping[str, float]

    @property
    def digest(self) -> str:
        """What stands in every answer of this model."""
        return self.predictor.bundle.digest

    def describe(self) -> dict[str, Any]:
        """Return what `/model` says."""
        manifest, preprocess = self.predictor.bundle.manifest, self.predictor.preprocess
        return {
            "model": self.digest,
            "num_labels": len(self.predictor.label_space),
            "image_width_px": preprocess.width_px,
            "image_height_px": preprocess.height_px,
            "resize": preprocess.resize,
            "backbone": str(manifest.backbone.get("name", "")),
            "head": str(manifest.head.get("name", "")),
        }

    def describe_labels(self) -> dict[str, Any]:
        """Return what `/labels` says."""
        labels = [{"label": label, "threshold": threshold} for label, threshold in self.thresholds.items()]
        return {"labels": labels, "model": self.digest}


def load_checked(path: str, engine: str = "onnxruntime") -> ServedModel:
    """Load a model and let it answer for one image, so that nothing is served that cannot answer.

    Each call of the network takes one thread: the server has several images in the works at once.

    Raises:
        BundleError: there is no bundle, it is damaged, or it gives no probabilities.
    """
    predictor = _load_patiently(path, engine)
    if predictor.engine_choice is not None:
        log.warning(predictor.engine_choice.describe())
    size = (predictor.preprocess.height_px, predictor.preprocess.width_px, 3)
    answer = predictor.predict(np.full(size, 127, np.uint8))
    probs = np.array(list(answer.probabilities.values()))
    if answer.labels is None or len(probs) == 0 or not ((probs >= 0) & (probs <= 1)).all():
        raise BundleError(
            build_message(path, "the model gives no probabilities for a grey image", do="Export the model again")
        )
    return ServedModel(predictor, dict(answer.thresholds))


def _load_patiently(path: str, engine: str) -> Predictor:
    """Load a model, again where that failed because its files were being replaced.

    Raises:
        BundleError: there is no bundle, it is damaged, or it is replaced again and again.
    """
    for _ in range(_NUM_TRIES):
        before = _identify_files(path)
        try:
            return load(path, num_threads=1, engine=engine)
        except (ManylabelError, OSError):
            if _identify_files(path) == before:
                raise
        time.sleep(_PAUSE_SECONDS)
    problem = "the model is replaced again and again while it is read"
    raise BundleError(build_message(path, problem, do="Load it when it stays as it is"))


def _identify_files(path: str) -> list[tuple[int, ...] | None]:
    """Return what tells each file of a model from one that takes its place; None where there is none."""
    return [_identify_file(Path(path, name)) for name in _MODEL_FILES]


def _identify_file(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    if stat.S_ISDIR(found.st_mode):  # other files may come and go there
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class ModelPlace:
    """The model of this moment; a request keeps the one it began with."""

    def __init__(self, path: str, counters: Counters, engine: str = "onnxruntime") -> None:
        self.path, self.engine = path, engine
        self.current = load_checked(path, engine)
        self._counters = counters

    def reload(self) -> bool:
        """Load the path again and, where the new model can answer, take it; else the old one stays, whatever failed."""
        try:
            loaded = load_checked(self.path, self.engine)
        except Exception as error:
            self._counters.reloads.add("failed")
            is_foreseen = isinstance(error, ManylabelError)
            log.error("The model stays as it was: %s", error, exc_info=None if is_foreseen else error)
            return False
        self._counters.reloads.add("done")
        if loaded.digest == self.current.digest:
            log.info("Serving model %s, loaded again, the same.", loaded.digest)
        else:
            log.info("Serving model %s now, before it was %s.", loaded.digest, self.current.digest)
        self.current = loaded
        return True
