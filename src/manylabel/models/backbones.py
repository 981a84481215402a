"""Backbones: any timm model by name, with downloaded weights, weights from a file, or none."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
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
    """A timm model without its classifier, the statistics it expects of images, and where its weights came from."""

    module: nn.Module
    num_features: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    report: WeightsReport | None


def build_backbone(
    name: str,
    weights: str = "none",
    args: Mapping[str, Any] | None = None,
    *,
    allow_partial_weights: bool = False,
    drop_path: float = 0.0,
) -> Backbone:
    """Build a timm model that gives a vector of features per image.

    Args:
        name: a timm model, such as `resnet18`.
        weights: `none`, `pretrained` (downloaded by timm), or the path of a safetensors file.
        args: more arguments for timm's constructor, such as `{"pad_type": "same"}`.
        allow_partial_weights: whether a file that leaves tensors of the backbone unset is good enough.
        drop_path: the rate of stochastic depth, where the model has it.

    Raises:
        ConfigError: no such model or argument, weights that cannot be downloaded, or a file that is missing, is not
            safetensors, has tensors of other shapes, or does not fill the backbone; the message lists what is missing.
    """
    _check_name(name)
    arguments = dict(args) if args is not None else {}
    if drop_path > 0:
        arguments["drop_path_rate"] = drop_path
    module = _create(name, weights == "pretrained", arguments)
    report = None
    if weights not in ("none", "pretrained"):
        report = _load_weights(module, Path(weights), allow_partial_weights)
    data_config = timm.data.resolve_model_data_config(module)
    return Backbone(
        module,
        _count_features(module, data_config["input_size"]),
        tuple(data_config["mean"]),
        tuple(data_config["std"]),
        data_config["interpolation"],
        report,
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


def _create(name: str, is_pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    try:
        module: nn.Module = timm.create_model(name, pretrained=is_pretrained, num_classes=0, **arguments)
    except TypeError as error:
        raise ConfigError(
            build_message(
                "backbone_args", f"{name} does not take these arguments ({error})", do="Check --backbone-args"
            )
        ) from error
    except Exception as error:
        # timm, huggingface_hub and the network raise whatever they like; without a download it is our bug.
        if not is_pretrained:
            raise
        raise ConfigError(
            build_message(
                "weights",
                f"the pretrained weights of {name} cannot be had ({type(error).__name__})",
                do="Connect to a network, give a file with --weights FILE.safetensors, or train from scratch with --weights none",
            )
        ) from error
    return module


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
                do="Check --backbone and --backbone-args",
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


def _count_features(module: nn.Module, input_size: tuple[int, int, int]) -> int:
    """Ask the module itself: timm's `num_features` leaves out what some heads put on top."""
    was_training = module.training
    module.eval()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        features_BD: Tensor = module(torch.zeros(1, *input_size))
    module.train(was_training)
    assert features_BD.ndim == 2, f"a backbone gave features of shape {tuple(features_BD.shape)}"
    return int(features_BD.shape[1])
