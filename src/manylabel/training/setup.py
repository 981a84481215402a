"""From settings and tables to everything that the loop works on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from manylabel.augment.presets import build_augmentation, parse_augment
from manylabel.data.annotations import Annotations
from manylabel.data.image_cache import ImageCache
from manylabel.data.preprocess import Preprocess
from manylabel.errors import ConfigError, build_message
from manylabel.labels.statistics import prevalence
from manylabel.losses import Loss, find_loss
from manylabel.models.backbones import Backbone, build_backbone
from manylabel.models.classifier import Classifier, build_classifier
from manylabel.training.budget import plan_epochs
from manylabel.training.config import TrainConfig, parse_budget_seconds
from manylabel.training.ema import build_average
from manylabel.training.events import OnEvent
from manylabel.training.loading import EpochSampler, ImageDataset, build_loader
from manylabel.training.loop import LoopParts
from manylabel.training.optim import build_optimiser
from manylabel.training.precision import PrecisionChoice, choose_precision

_FREE_ON_RESUME = ("resume", "workers", "patience", "image_cache", "bad_images", "max_bad_images", "goal", "calibrate")
"""Settings that may differ when a run goes on: they change nothing that was computed so far."""


@dataclass(frozen=True)
class Network:
    """A classifier that is ready to train, and what an image has to become for it."""

    classifier: Classifier
    backbone: Backbone
    preprocess: Preprocess
    prevalence_L: npt.NDArray[np.float64]

    @property
    def num_bytes(self) -> int:
        """The bytes of its weights in 32 bits."""
        return sum(4 * parameter.numel() for parameter in self.classifier.parameters())


@dataclass(frozen=True)
class Setup:
    """What the loop works on, with what was measured to choose it."""

    parts: LoopParts
    precision: PrecisionChoice


def build_network(config: TrainConfig, train: Annotations) -> Network:
    """Build the classifier that a run starts from; the seed decides its new weights.

    Raises:
        ConfigError: a backbone, a head or weights that cannot be had.
    """
    torch.manual_seed(config.seed)
    backbone = build_backbone(
        config.backbone,
        config.weights,
        config.backbone_args,
        allow_partial_weights=config.allow_partial_weights,
        drop_path=config.drop_path,
        image_size_px=config.image_size,
    )
    prevalence_L = prevalence(train.targets)
    classifier = build_classifier(backbone, prevalence_L.tolist(), config.head, config.dropout)
    preprocess = Preprocess(
        height_px=config.image_size,
        width_px=config.image_size,
        interpolation="bilinear" if backbone.interpolation == "bilinear" else "bicubic",
        mean=backbone.mean,
        std=backbone.std,
    )
    return Network(classifier, backbone, preprocess, prevalence_L)


def build_setup(
    config: TrainConfig,
    network: Network,
    train: Annotations,
    val: Annotations,
    checkpoints: Path,
    tell: OnEvent,
    *,
    loss: Loss | None = None,
    resolved: Mapping[str, Any] | None = None,
) -> Setup:
    """Put network, data, optimiser and device together; `precision` and `budget` are resolved here.

    Args:
        checkpoints: the folder that the loop writes to.
        loss: a function in place of the one that `config` names.
        resolved: the `precision` and `epochs` of the run that goes on; measuring again could choose otherwise.
    """
    chosen_loss = loss if loss is not None else find_loss(config.loss)
    device = _reset_accelerator("no").device
    if AcceleratorState().num_processes > 1:
        problem = f"{AcceleratorState().num_processes} processes were started, and a run uses one"
        raise ConfigError(build_message("train", problem, do="Start it without torchrun or accelerate launch"))
    model = network.classifier.to(device)
    if config.freeze == "backbone":
        model.backbone.requires_grad_(False)
    augmentation = build_augmentation(parse_augment(config.augment), network.preprocess)
    cache = ImageCache(config.image_cache) if config.image_cache else None
    train_set = ImageDataset(train, network.preprocess, augmentation, cache)
    config, precision = _resolve(config, model, chosen_loss, device, train_set, len(val), tell, resolved)
    memory_format = precision.step_format.memory_format
    model = model.to(memory_format=memory_format)
    accelerator = _reset_accelerator(precision.step_format.mixed_precision)
    sampler = EpochSampler(len(train), config.seed)
    loading = {"workers": config.workers, "pin_memory": device.type == "cuda"}
    parts = LoopParts(
        config=config,
        accelerator=accelerator,
        model=model,
        average=build_average(model, config.ema),
        optimiser=build_optimiser(model, config),
        loss=chosen_loss,
        sampler=sampler,
        train_loader=build_loader(train_set, config.batch_size, sampler=sampler, **loading),
        val_loader=build_loader(ImageDataset(val, network.preprocess, cache=cache), config.batch_size, **loading),
        folder=checkpoints,
        identity=_identify(config, train, val),
        memory_format=memory_format,
    )
    return Setup(parts, precision)


def _reset_accelerator(mixed_precision: str) -> Accelerator:
    """Return a new Accelerator; an earlier run of this process may have left one with another precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(mixed_precision=mixed_precision)


def _resolve(
    config: TrainConfig,
    model: Classifier,
    loss: Loss,
    device: torch.device,
    train_set: ImageDataset,
    num_val: int,
    tell: OnEvent,
    resolved: Mapping[str, Any] | None,
) -> tuple[TrainConfig, PrecisionChoice]:
    """Turn `precision auto` and `budget` into what they come to on this machine, or came to when the run began."""
    if resolved is not None:
        epochs = int(resolved["epochs"]) if config.budget else config.epochs
        return replace(config, epochs=epochs), PrecisionChoice(str(resolved["precision"]), {})
    num_labels = len(train_set.annotations.label_space)
    size = (config.image_size, config.batch_size)
    precision = choose_precision(
        config.precision, model, loss, *size, num_labels, device, must_measure=bool(config.budget)
    )
    tell("note", {"message": precision.describe()})
    if config.budget:
        rate = precision.images_per_second[precision.precision]
        epochs = plan_epochs(parse_budget_seconds(config.budget), train_set, num_val, rate, config.workers)
        tell("note", {"message": f"Budget {config.budget}: {epochs} epochs fit."})
        config = replace(config, epochs=epochs)
    return config, precision


def _identify(config: TrainConfig, train: Annotations, val: Annotations) -> dict[str, str]:
    """Return what has to be the same when a run goes on."""
    return {
        "set of labels": train.label_space.digest,
        "training table": train.digest,
        "order of the training table": sha256("\n".join(train.images).encode()).hexdigest()[:16],
        "validation table": val.digest,
        **{key: _as_text(value) for key, value in config.to_dict().items() if key not in _FREE_ON_RESUME},
    }


def _as_text(value: Any) -> str:
    """Return a setting as text that is the same when it comes back from a file: there a tuple is a list."""
    return json.dumps(value) if isinstance(value, Mapping) else str(value)
