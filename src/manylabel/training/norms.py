"""Norms over a batch that several processes share: each sees its part, and normalises by the statistics of the whole.

On GPUs torch's SyncBatchNorm does this. It does not run on processors; there `SharedNorms` does the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from manylabel.training.exchange import notice_lost_process


def has_batch_norms(model: nn.Module) -> bool:
    """Return whether a model, as it is set now, normalises over the images of a batch."""
    batch_norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
    return any(isinstance(module, batch_norms) and module.training for module in model.modules())


def share_norms_on_gpu(model: nn.Module) -> None:
    """Put torch's SyncBatchNorm in the place of every norm over a batch below a model; weights and their names stay."""
    for name, child in model.named_children():
        setattr(model, name, convert_sync_batchnorm(child))  # type: ignore[no-untyped-call]


class SharedNorms(TorchFunctionMode):
    """A context in which `batch_norm` takes its statistics over the batches of all processes.

    Modules stay what they are. Every process has to run the same network in it, and backwards too.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run any function as it is, but `batch_norm` in training."""
        given = dict(kwargs) if kwargs is not None else {}
        if func is functional.batch_norm and given.get("training"):
            del given["training"]
            return normalise_over_all(*args, **given)
        return func(*args, **given)


def normalise_over_all(
    values: Tensor,
    running_mean_C: Tensor | None,
    running_var_C: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return what `batch_norm` in training gives for this process's part of a batch, and move the running statistics.

    Mean first and then squares around it: one pass over both would cancel digits.

    Shapes: values [B, C, ...], with a B of each process's own; all else [C].

    Source: Ioffe and Szegedy 2015, "Batch normalization", algorithm 1, over the batch of all processes.
    """
    axes = [axis for axis in range(values.ndim) if axis != 1]
    shape = [1, -1, *[1] * (values.ndim - 2)]
    exact = values if values.dtype == torch.float64 else values.float()
    num_own = values.numel() // values.shape[1]
    sums = _add_up(torch.cat([exact.sum(axes), exact.new_tensor([num_own])]))
    count = sums[-1].detach()
    mean_C = sums[:-1] / count
    centred = exact - mean_C.view(shape)
    var_C = _add_up(centred.square().sum(axes)) / count
    if running_mean_C is not None and running_var_C is not None:
        with torch.no_grad():
            running_mean_C.lerp_(mean_C.detach(), momentum)
            running_var_C.lerp_(var_C.detach() * count / (count - 1).clamp(min=1), momentum)
    normal: Tensor = centred * (var_C + eps).rsqrt().view(shape)
    if weight is not None:
        normal = normal * weight.view(shape)
    if bias is not None:
        normal = normal + bias.view(shape)
    return normal.to(values.dtype)


def _add_up(tensor: Tensor) -> Tensor:
    total: Tensor = _AddUp.apply(tensor)
    return total


class _AddUp(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(_: Any, tensor: Tensor) -> Tensor:
        return _exchange(tensor)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _exchange(gradient)


def _exchange(tensor: Tensor) -> Tensor:
    total = tensor.contiguous().clone()
    with notice_lost_process():
        distributed.all_reduce(total)
    return total
