"""From settings and tables to everything that the loop works on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.utils.data import DataLoader

from manylabel.augment.mixing import parse_mix
from manylabel.augment.presets import build_augmentation, parse_augment
from manylabel.data.annotations import Annotations
from manylabel.data.image_cache import ImageCache
from manylabel.data.preprocess import Preprocess
from manylabel.data.scan import find_cache_folder
from manylabel.errors import ConfigError, build_message
from manylabel.labels.statistics import prevalence
from manylabel.losses import Loss, build_loss, describe_loss
from manylabel.losses.counts import LabelCounts
from manylabel.models.backbones import Backbone, build_backbone
from manylabel.models.classifier import Classifier, build_classifier, find_feature_shape
from manylabel.training.budget import measure_checkpoint, plan_epochs
from manylabel.training.config import TrainConfig, parse_budget_seconds
from manylabel.training.ema import build_average
from manylabel.training.events import OnEvent
from manylabel.training.features import FeatureDataset, FeatureLoader, extract_features, identify_backbone
from manylabel.training.loading import EpochSampler, ImageDataset, Share, build_loader
from manylabel.training.loop import LoopParts
from manylabel.training.norms import share_norms_on_gpu
from manylabel.training.optim import build_optimiser
from manylabel.training.precision import PrecisionChoice, choose_precision
from manylabel.training.processes import ALONE, Processes, must_use_processor
from manylabel.training.samplers import describe_double_weighting, describe_sampling, parse_sampler, weigh_images

_FREE_ON_RESUME = (
    "resume", "workers", "checkpoint_minutes", "patience", "image_cache", "bad_images", "max_bad_images", "goal",
    "calibrate", "track",
)  # fmt: skip
"""Settings that may differ when a run goes on: they change nothing that was computed so far."""


_EXTRACTION_BATCH = 32
"""Of the same size whatever a run's own batches are: other sizes round otherwise."""


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
    processes: Processes = ALONE,
) -> Setup:
    """Put network, data, optimiser and device together; `precision` and `budget` are resolved here.

    Args:
        checkpoints: the folder that the loop writes to.
        loss: a function in place of the one that `config` names.
        resolved: the `precision` and `epochs` of the run that goes on; measuring again could choose otherwise.
        processes: those that share the work; from `join_processes`.
    """
    if config.batch_size < processes.count:
        problem = f"{processes.count} processes cannot share a batch of {config.batch_size}"
        raise ConfigError(build_message("batch_size", problem, do="Raise --batch-size, or start fewer processes"))
    if processes.count > 1:
        message = f"{processes.count} processes share every batch of {config.batch_size} images."
        tell("note", {"message": message})
    started = time.perf_counter()
    chosen_loss = loss if loss is not None else _build_loss(config.loss, train, tell)
    device = _reset_accelerator("no").device
    with processes.main_first():  # what it computes of a frozen backbone the others find on the disk
        sources = _build_sources(config, network, train, val, device, tell)
    model = sources.model.to(device)
    config, precision = _resolve(
        config,
        resolved,
        processes,
        lambda: _measure(
            config, sources, chosen_loss, device, tell,
            num_processes=processes.count, checkpoints=checkpoints, started=started,
        ),
    )  # fmt: skip
    if processes.count > 1 and device.type == "cuda":
        share_norms_on_gpu(model)
    is_images = len(sources.input_shape) == 3
    memory_format = precision.step_format.memory_format if is_images else torch.contiguous_format
    accelerator = _reset_accelerator(precision.step_format.mixed_precision)
    model = model.to(memory_format=memory_format)
    sampler = EpochSampler(len(train), config.seed, _weigh_images(config, train, tell))
    parts = LoopParts(
        config=config,
        accelerator=accelerator,
        model=model,
        average=build_average(model, config.ema),
        optimiser=build_optimiser(model, config, network.backbone.report.missing if network.backbone.report else ()),
        loss=chosen_loss,
        sampler=sampler,
        train_loader=_build_loader(sources.train, config, device, processes.share, sampler),
        val_loader=_build_loader(sources.val, config, device, processes.share),
        folder=checkpoints,
        identity={**_identify(config, train, val), **sources.identity},
        memory_format=memory_format,
        processes=processes,
    )
    processes.check_same(parts.identity)
    if not processes.is_main:
        torch.manual_seed(config.seed + processes.rank)  # dropout of its own; until here the seed made equal weights
    return Setup(parts, precision)


def _build_loss(text: str, train: Annotations, tell: OnEvent) -> Loss:
    """Build the loss for the labels of the training table, and say with which settings."""
    targets = train.targets
    counts = LabelCounts(targets.num_present_L.astype(np.float64), targets.num_known_L.astype(np.float64))
    loss = build_loss(text, counts)
    if text != "bce":
        tell("note", {"message": describe_loss(text, loss)})
    return loss


@dataclass(frozen=True)
class _Sources:
    """What is trained, and what it is shown: images, or the features of a frozen backbone."""

    model: Classifier
    train: ImageDataset | FeatureDataset
    val: ImageDataset | FeatureDataset
    input_shape: tuple[int, ...]
    identity: Mapping[str, str]


def _build_sources(
    config: TrainConfig, network: Network, train: Annotations, val: Annotations, device: torch.device, tell: OnEvent
) -> _Sources:
    """Prepare the images; with a frozen backbone its answers are computed once and only the head is trained on them."""
    preprocess, classifier = network.preprocess, network.classifier
    if config.freeze == "backbone":
        shape = find_feature_shape(network.backbone, classifier.takes)
        backbone = classifier.extractor.requires_grad_(False).to(device).to(memory_format=torch.channels_last)

        def extract(table: Annotations, part: str) -> FeatureDataset:
            return extract_features(
                backbone, table, preprocess, find_cache_folder(),
                name=part, batch_size=_EXTRACTION_BATCH, workers=config.workers, device=device, tell=tell,
            )  # fmt: skip

        train_set, val_set = extract(train, "train"), extract(val, "val")
        message = "Frozen: the head learns from unchanged images, without --augment and --mix."
        tell("note", {"message": message})
        # The head is the classifier's own: what it learns here the whole model knows.
        model = Classifier(nn.Identity(), classifier.head, config.dropout)
        identity = {"features of the backbone": identify_backbone(backbone, preprocess)}
        return _Sources(model, train_set, val_set, shape, identity)
    augmentation = build_augmentation(parse_augment(config.augment), preprocess)
    images = ImageCache(config.image_cache) if config.image_cache else None
    if images is not None:
        tell("note", {"message": images.prepare()})
    return _Sources(
        classifier,
        ImageDataset(train, preprocess, augmentation, images, parse_mix(config.mix)),
        ImageDataset(val, preprocess, cache=images),
        (3, preprocess.height_px, preprocess.width_px),
        {},
    )


def _build_loader(
    dataset: ImageDataset | FeatureDataset,
    config: TrainConfig,
    device: torch.device,
    share: Share,
    sampler: EpochSampler | None = None,
) -> DataLoader[Any] | FeatureLoader:
    if isinstance(dataset, FeatureDataset):
        return FeatureLoader(dataset, config.batch_size, sampler, share)
    is_cuda = device.type == "cuda"
    return build_loader(
        dataset, config.batch_size, sampler=sampler, workers=config.workers, pin_memory=is_cuda, share=share
    )


def _weigh_images(config: TrainConfig, train: Annotations, tell: OnEvent) -> npt.NDArray[np.float64] | None:
    """Return how often the sampler shows each image, and tell what that does to every label."""
    settings = parse_sampler(config.sampler)
    weights_N = weigh_images(settings, train.targets)
    if weights_N is not None:
        table = describe_sampling(weights_N, train.targets, train.label_space)
        tell("note", {"message": f"Sampler {config.sampler}:\n{table}"})
        tell("note", {"message": describe_double_weighting(settings, config.loss)})
    return weights_N


def _reset_accelerator(mixed_precision: str) -> Accelerator:
    """Return a new Accelerator; an earlier run of this process may have left one with another precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(mixed_precision=mixed_precision, cpu=must_use_processor())


def _resolve(
    config: TrainConfig,
    resolved: Mapping[str, Any] | None,
    processes: Processes,
    measure: Callable[[], dict[str, Any]],
) -> tuple[TrainConfig, PrecisionChoice]:
    """Turn `precision auto` and `budget` into what they come to on this machine, or came to when the run began."""
    if resolved is None:
        # One process measures for all: what differs from machine to machine must not decide differently.
        resolved = processes.ask_main(measure)
    epochs = int(resolved["epochs"]) if config.budget else config.epochs
    precision = PrecisionChoice(str(resolved["precision"]), resolved.get("measured_images_per_second", {}))
    return replace(config, epochs=epochs), precision


def _measure(
    config: TrainConfig,
    sources: _Sources,
    loss: Loss,
    device: torch.device,
    tell: OnEvent,
    *,
    num_processes: int,
    checkpoints: Path,
    started: float,
) -> dict[str, Any]:
    """Return what this machine suggests, as a run folder keeps it under `resolved`, and tell it.

    Args:
        started: when the data and the network began to be prepared, on the clock of `time.perf_counter`.
    """
    num_labels = len(sources.train.annotations.label_space)
    size = (sources.input_shape, -(-config.batch_size // num_processes), num_labels)
    must_measure = bool(config.budget)
    precision = choose_precision(config.precision, sources.model, loss, *size, device, must_measure=must_measure)
    tell("note", {"message": precision.describe()})
    epochs = config.epochs
    if config.budget:
        rate = precision.images_per_second[precision.precision]
        plan = plan_epochs(
            parse_budget_seconds(config.budget),
            sources.train,
            len(sources.val),
            rate,
            config.workers,
            num_processes,
            spent_seconds=time.perf_counter() - started,
            checkpoint_seconds=measure_checkpoint(checkpoints, sources.model, has_average=config.ema > 0),
        )
        tell("note", {"message": plan.describe(config.budget)})
        epochs = plan.epochs
    return {
        "precision": precision.precision,
        "epochs": epochs,
        "measured_images_per_second": dict(precision.images_per_second),
    }


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
