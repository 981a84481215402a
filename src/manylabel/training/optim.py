"""The optimiser and its schedule, both in fractions of the run: 100 steps behave like 100,000."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any

import torch
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from torch import nn

from manylabel.models.classifier import Classifier
from manylabel.training.config import TrainConfig

_FINAL_SHARE = 0.01
"""The learning rate at the end of a run, as a share of the largest."""

_CYCLE_START, _CYCLE_END = 1 / 25, 1 / 250_000
"""The same at the start and at the end of one cycle."""


def build_optimiser(model: Classifier, config: TrainConfig, new: Collection[str] = ()) -> torch.optim.AdamW:
    """Build AdamW with parameter groups: backbone and head, with decay for matrices and none for norms and biases.

    A backbone with loaded weights learns at `lr * backbone_lr_ratio`: its weights are nearly right, the head's are new.
    With `layer_decay` its layers, as timm counts them, learn slower the nearer they stand to the pixels. A frozen
    backbone is in no group, nor are weights that a backbone never trains.

    Args:
        new: the backbone's parameters that its file of weights left unset; without `layer_decay` they learn as the
            head does, since they are as new.

    Source: Loshchilov and Hutter 2019, "Decoupled weight decay regularization"; Bao et al. 2022, "BEiT", for the decay
        by layer.
    """
    backbone_lr = config.lr * (config.backbone_lr_ratio if config.weights != "none" else 1.0)
    fresh = list(model.head.parameters())
    if config.freeze == "none" and config.layer_decay == 1:
        fresh += [parameter for name, parameter in model.backbone.named_parameters() if name in new]
        loaded = [parameter for name, parameter in model.backbone.named_parameters() if name not in new]
        groups = _split_by_decay(loaded, backbone_lr, config.weight_decay, "backbone")
    elif config.freeze == "none":
        groups = _split_by_layer(model.backbone, backbone_lr, config.weight_decay, config.layer_decay)
    else:
        groups = []
    groups = _split_by_decay(fresh, config.lr, config.weight_decay, "head") + groups
    # One kernel for the whole step: 20 ms instead of 63 for ResNet-18 on two cores.
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)


def _split_by_decay(
    parameters: Iterable[nn.Parameter], lr: float, weight_decay: float, part: str
) -> list[dict[str, Any]]:
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    decayed = [parameter for parameter in learning if parameter.ndim > 1]
    others = [parameter for parameter in learning if parameter.ndim <= 1]
    return [
        {"params": decayed, "lr": lr, "initial_lr": lr, "weight_decay": weight_decay, "part": part},
        {"params": others, "lr": lr, "initial_lr": lr, "weight_decay": 0.0, "part": part},
    ]


def _split_by_layer(backbone: nn.Module, lr: float, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    groups = param_groups_layer_decay(backbone, weight_decay, layer_decay=layer_decay)
    return [
        {"params": group["params"], "weight_decay": group["weight_decay"], "part": "backbone",
         "lr": lr * group["lr_scale"], "initial_lr": lr * group["lr_scale"]}
        for group in groups
    ]  # fmt: skip


def set_backbone_learning(optimiser: torch.optim.Optimizer, is_learning: bool) -> None:
    """Let the backbone's weights learn, or hold them: without a gradient the optimiser leaves them as they are."""
    for group in optimiser.param_groups:
        if group["part"] == "backbone":
            for parameter in group["params"]:
                parameter.requires_grad_(is_learning)


def schedule_share(progress: float, warmup: float, schedule: str = "cosine") -> float:
    """Return the learning rate as a share of the largest, `progress` of the way (0 to 1) through a run.

    `cosine` rises in a straight line for the first `warmup` of the run, then falls along half a cosine; `one_cycle`
    rises along one too, from a 25th, and falls to nearly nothing.

    Source: Loshchilov and Hutter 2017, "SGDR", eq. 5 without restarts; Goyal et al. 2017, section 2.2, for warm-up;
        Smith and Topin 2019, "Super-convergence", for one cycle, with the shape of torch's OneCycleLR and without its
        cycle of momentum.

    Example:
        >>> schedule_share(0.05, warmup=0.1), schedule_share(0.1, warmup=0.1), schedule_share(1.0, warmup=0.1)
        (0.5, 1.0, 0.01)
    """
    if schedule == "one_cycle":
        if progress < warmup:
            return _move_along_cosine(_CYCLE_START, 1.0, progress / warmup)
        return _move_along_cosine(1.0, _CYCLE_END, min((progress - warmup) / (1 - warmup), 1.0))
    if progress < warmup:
        return max(progress / warmup, _FINAL_SHARE)
    return _move_along_cosine(1.0, _FINAL_SHARE, min((progress - warmup) / (1 - warmup), 1.0))


def _move_along_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def set_learning_rate(optimiser: torch.optim.Optimizer, share: float) -> None:
    """Give every group this share of its own largest learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"] * share
