"""The optimiser and its schedule, both in fractions of the run: 100 steps behave like 100,000."""

from __future__ import annotations

import math

import torch
from torch import nn

from manylabel.models.classifier import Classifier
from manylabel.training.config import TrainConfig

_FINAL_SHARE = 0.01
"""The learning rate at the end of a run, as a share of the largest."""


def build_optimiser(model: Classifier, config: TrainConfig) -> torch.optim.AdamW:
    """Build AdamW with parameter groups: backbone and head, with decay for matrices and none for norms and biases.

    A backbone with loaded weights learns at `lr * backbone_lr_ratio`: its weights are nearly right, the head's are new.
    A frozen backbone is in no group.

    Source: Loshchilov and Hutter 2019, "Decoupled weight decay regularization".
    """
    backbone_lr = config.lr * (config.backbone_lr_ratio if config.weights != "none" else 1.0)
    groups = _split_by_decay(model.head, config.lr, config.weight_decay)
    if config.freeze == "none":
        groups += _split_by_decay(model.backbone, backbone_lr, config.weight_decay)
    # One kernel for the whole step: 20 ms instead of 63 for ResNet-18 on two cores.
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)


def _split_by_decay(module: nn.Module, lr: float, weight_decay: float) -> list[dict[str, object]]:
    decayed = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
    return [
        {"params": decayed, "lr": lr, "initial_lr": lr, "weight_decay": weight_decay},
        {"params": others, "lr": lr, "initial_lr": lr, "weight_decay": 0.0},
    ]


def schedule_share(progress: float, warmup: float) -> float:
    """Return the learning rate as a share of the largest, `progress` of the way (0 to 1) through a run.

    Rises in a straight line for the first `warmup` of the run, then falls along half a cosine.

    Source: Loshchilov and Hutter 2017, "SGDR", eq. 5 without restarts; Goyal et al. 2017, section 2.2, for warm-up.

    Example:
        >>> schedule_share(0.05, warmup=0.1), schedule_share(0.1, warmup=0.1), schedule_share(1.0, warmup=0.1)
        (0.5, 1.0, 0.01)
    """
    if progress < warmup:
        return max(progress / warmup, _FINAL_SHARE)
    fallen = min((progress - warmup) / (1 - warmup), 1.0)
    return _FINAL_SHARE + (1 - _FINAL_SHARE) * (1 + math.cos(math.pi * fallen)) / 2


def set_learning_rate(optimiser: torch.optim.Optimizer, share: float) -> None:
    """Give every group this share of its own largest learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"] * share
