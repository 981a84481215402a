"""Backbones: any timm model by name, with downloaded weights, weights from a file, or none."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from manylabel.errors import ConfigError, build_message, join_names, suggest_name


@dataclass(frozen=True)
class WeightsReport:
    """Which tensors of a weights file went where; a backbone whose `missing` is not empty is only partly trained."""

    path: str
    num_loaded: int
    missing: tuple[str, ...]
    unused: tuple[str, ...]


@dataclass(frozen=True)
class Backbone:
    """A timm model without its classifier, what it expects of images, and where its weights came from."""

    module: nn.Module
    num_features: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    report: WeightsReport | None
    input_size_px: int = 224


def build_backbone(
    name: str,
    weights: str = "none",
    args: Mapping[str, Any] | None = None,
    *,
    allow_partial_weights: bool = False,
    drop_path: float = 0.0,
    image_size_px: int | None = None,
) -> Backbone:
    """Build a timm model that gives a vector of features per image.

    A model that is made for one size of image, as most transformers are, is built for `image_size_px`.

    Args:
        name: a timm model, such as `resnet18`.
        weights: `none`, `pretrained` (downloaded by timm), or the path of a safetensors file.
        args: more arguments for timm's constructor, such as `{"pad_type": "same"}`.
        allow_partial_weights: whether a file that leaves tensors of the backbone unset is good enough.
        drop_path: the rate of stochastic depth; 0 leaves the model's own.
        image_size_px: height and width of the images it will see; None takes the size the model was made for.

    Raises:
        ConfigError: no such model or argument, a size of image that the model cannot take, weights that cannot be
            downloaded, or a file that is missing, is not safetensors, has tensors of other shapes or numbers that are
            not finite, or does not fill the backbone; the message lists what is missing.
    """
    _check_name(name)
    arguments = dict(args) if args is not None else {}
    if drop_path > 0:
        arguments["drop_path_rate"] = drop_path
    if image_size_px is not None and _is_made_for_one_size(name):
        arguments.setdefault("img_size", image_size_px)
    module = _create(name, weights == "pretrained", arguments)
    report = None
    if weights not in ("none", "pretrained"):
        report = _load_weights(module, Path(weights), allow_partial_weights)
    data_config = resolve_model_data_config(module)  # type: ignore[no-untyped-call]
    size_px = image_size_px if image_size_px is not None else int(data_config["input_size"][-1])
    return Backbone(
        module,
        _count_features(name, module, size_px),
        tuple(data_config["mean"]),
        tuple(data_config["std"]),
        data_config["interpolation"],
        report,
        size_px,
    )


def _check_name(name: str) -> None:
    if not timm.is_model(name.split(".")[0]):
        raise ConfigError(
            build_message(
                "backbone",
                f"unknown backbone {name!r}{suggest_name(name, timm.list_models())}",
                expected="a timm model such as 'resnet18' or 'mobilenetv3_large_100'",
            )
        )


def _is_made_for_one_size(name: str) -> bool:
    settings = timm.get_pretrained_cfg(name.split(".")[0])
    return settings is not None and bool(settings.fixed_input_size)


def _create(name: str, is_pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    try:
        with _quiet_hub():
            module: nn.Module = timm.create_model(name, pretrained=is_pretrained, num_classes=0, **arguments)
    except Exception as error:
        # timm, huggingface_hub and the network raise whatever they like: what builds without weights lacks only them.
        if is_pretrained:
            _create(name, False, arguments)
            raise ConfigError(
                build_message(
                    "weights",
                    f"the pretrained weights of {name} cannot be had ({type(error).__name__})",
                    do="Connect to a network, give a file with --weights FILE.safetensors, "
                    "or train from scratch with --weights none",
                )
            ) from error
        given = f" with {', '.join(f'{key}={value}' for key, value in arguments.items())}" if arguments else ""
        raise ConfigError(
            build_message(
                "backbone",
                f"timm cannot build {name}{given} ({_describe(error)})",
                do="Check --backbone, --backbone-args, --drop-path and --image-size",
            )
        ) from error
    return module


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Keep the lines of each try of a download from the terminal: what came of all is said once."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "timm")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _load_weights(module: nn.Module, path: Path, allow_partial: bool) -> WeightsReport:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ConfigError(
            build_message("weights", f"there is no file {path}", expected="'pretrained', 'none' or a safetensors file")
        )
    try:
        given = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            build_message(
                "weights",
                f"{path} is not a safetensors file ({error})",
                do="Convert it with safetensors.torch.save_file",
            )
        ) from error
    own = module.state_dict()
    misshapen = [key for key, tensor in given.items() if key in own and tensor.shape != own[key].shape]
    if misshapen:
        key = misshapen[0]
        raise ConfigError(
            build_message(
                "weights",
                f"{len(misshapen)} tensors of {path} have another shape, the first is {key!r}",
                got=tuple(given[key].shape),
                expected=str(tuple(own[key].shape)),
                do="Check --backbone, --backbone-args and --image-size",
            )
        )
    broken = [key for key, tensor in given.items() if key in own and not tensor.isfinite().all()]
    if broken:
        raise ConfigError(
            build_message(
                "weights",
                f"{path} has numbers that are not finite, the first in {broken[0]!r}",
                do="Take another file",
            )
        )
    # A counter that old files lack and that no forward pass reads.
    missing = tuple(key for key in own if key not in given and not key.endswith("num_batches_tracked"))
    unused = tuple(key for key in given if key not in own)
    usable = {key: tensor for key, tensor in given.items() if key in own}
    if not usable or (missing and not allow_partial):
        raise ConfigError(
            build_message(
                "weights",
                f"{path} fills {len(usable)} of {len(usable) + len(missing)} tensors of the backbone; "
                f"missing: {join_names(missing)}",
                do="Check --backbone, or accept new values for the missing ones with --allow-partial-weights"
                if usable
                else "Check that the file belongs to this backbone",
            )
        )
    module.load_state_dict(usable, strict=False)
    return WeightsReport(str(path), len(usable), missing, unused)


def _count_features(name: str, module: nn.Module, size_px: int) -> int:
    """Ask the module itself: timm's `num_features` leaves out what some heads put on top."""
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            features_BD: Tensor = module(torch.zeros(1, 3, size_px, size_px))
    except Exception as error:
        # Each architecture objects to a size in its own way.
        raise ConfigError(
            build_message(
                "image_size",
                f"{name} cannot take images of {size_px} x {size_px} px ({_describe(error)})",
                do="Choose another --image-size",
            )
        ) from error
    module.train(was_training)
    if features_BD.ndim != 2:
        raise ConfigError(
            build_message(
                "backbone_args",
                f"{name} gives features of {features_BD.ndim} axes with these",
                expected="one vector per image",
                do="Leave out what changes its pooling",
            )
        )
    return int(features_BD.shape[1])
