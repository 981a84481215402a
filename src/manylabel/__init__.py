"""Multi-label image classification: from a table and a folder of images to a model that decides, reports and ships.

Every public name is loaded when it is first used: importing the package imports neither torch nor pandas.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manylabel.augment.presets import AugmentSettings as AugmentSettings
    from manylabel.bundle.bundle import Bundle as Bundle
    from manylabel.bundle.bundle import load_bundle as load_bundle
    from manylabel.data.annotations import Annotations as Annotations
    from manylabel.data.annotations import ImageRecord as ImageRecord
    from manylabel.data.annotations import annotations_from_arrays as annotations_from_arrays
    from manylabel.data.demo import write_demo as write_demo
    from manylabel.data.formats.delimited import save_delimited as save_delimited
    from manylabel.data.formats.detect import load_annotations as load_annotations
    from manylabel.data.formats.saving import save_annotations as save_annotations
    from manylabel.data.images import load_image as load_image
    from manylabel.data.preprocess import Preprocess as Preprocess
    from manylabel.data.splits import split as split
    from manylabel.data.splits import split_folds as split_folds
    from manylabel.decisions.policy import DecisionPolicy as DecisionPolicy
    from manylabel.errors import ManylabelError as ManylabelError
    from manylabel.evaluation.evaluate import Report as Report
    from manylabel.evaluation.evaluate import evaluate_predictions as evaluate_predictions
    from manylabel.inference.picture import draw_prediction as draw_prediction
    from manylabel.inference.prediction import Prediction as Prediction
    from manylabel.inference.predictor import Predictor as Predictor
    from manylabel.inference.predictor import load as load
    from manylabel.labels.predictions import Predictions as Predictions
    from manylabel.labels.predictions import load_predictions as load_predictions
    from manylabel.labels.space import LabelSpace as LabelSpace
    from manylabel.labels.targets import Targets as Targets
    from manylabel.models.backbones import build_backbone as build_backbone
    from manylabel.models.classifier import build_classifier as build_classifier
    from manylabel.runs.compare import compare as compare
    from manylabel.runs.cross_validate import CrossValidation as CrossValidation
    from manylabel.runs.cross_validate import cross_validate as cross_validate
    from manylabel.runs.evaluate import evaluate as evaluate
    from manylabel.runs.find_errors import find_errors as find_errors
    from manylabel.runs.find_lr import find_lr as find_lr
    from manylabel.runs.search import search as search
    from manylabel.runs.train import Run as Run
    from manylabel.runs.train import train as train
    from manylabel.runs.tune import tune as tune
    from manylabel.training.config import TrainConfig as TrainConfig
    from manylabel.training.loading import ImageDataset as ImageDataset
    from manylabel.training.loading import build_loader as build_loader

__version__ = "0.1.0"

# ONNX Runtime's builds send what is run to their makers, under a number that they keep in the home folder, unless this
# is set before it is loaded. Nothing leaves the machine here; whoever sets it has chosen.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_MODULE_OF = {
    "Annotations": "data.annotations",
    "AugmentSettings": "augment.presets",
    "Bundle": "bundle.bundle",
    "CrossValidation": "runs.cross_validate",
    "DecisionPolicy": "decisions.policy",
    "ImageDataset": "training.loading",
    "ImageRecord": "data.annotations",
    "LabelSpace": "labels.space",
    "ManylabelError": "errors",
    "Prediction": "inference.prediction",
    "Predictions": "labels.predictions",
    "Predictor": "inference.predictor",
    "Preprocess": "data.preprocess",
    "Report": "evaluation.evaluate",
    "Run": "runs.train",
    "Targets": "labels.targets",
    "TrainConfig": "training.config",
    "annotations_from_arrays": "data.annotations",
    "build_backbone": "models.backbones",
    "build_classifier": "models.classifier",
    "build_loader": "training.loading",
    "compare": "runs.compare",
    "cross_validate": "runs.cross_validate",
    "draw_prediction": "inference.picture",
    "evaluate": "runs.evaluate",
    "evaluate_predictions": "evaluation.evaluate",
    "find_errors": "runs.find_errors",
    "find_lr": "runs.find_lr",
    "load": "inference.predictor",
    "load_annotations": "data.formats.detect",
    "load_bundle": "bundle.bundle",
    "load_image": "data.images",
    "load_predictions": "labels.predictions",
    "save_annotations": "data.formats.saving",
    "save_delimited": "data.formats.delimited",
    "search": "runs.search",
    "split": "data.splits",
    "split_folds": "data.splits",
    "train": "runs.train",
    "tune": "runs.tune",
    "write_demo": "data.demo",
}

__all__ = ["__version__", *_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        from manylabel.errors import suggest_name

        raise AttributeError(f"manylabel has no {name!r}{suggest_name(name, _MODULE_OF)}")
    try:
        value = getattr(importlib.import_module(f"manylabel.{_MODULE_OF[name]}"), name)
    except ModuleNotFoundError as error:
        from manylabel.errors import explain_missing_module

        raise explain_missing_module(error) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
