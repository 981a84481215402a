"""Kernels that are slower in bf16 than in fp32: they compute in fp32 while everything around them stays in bf16."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class ExactStrides(TorchFunctionMode):
    """A context in which convolutions in groups with a stride compute in fp32, under autocast to bf16 on a processor.

    Their backward pass in bf16 has no kernel of its own there and takes ten times as long
    (docs/experiments.md, 2026-11-27). Modules and weights stay what they are.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run any function as it is, but such convolutions."""
        given = dict(kwargs) if kwargs is not None else {}
        if func is functional.conv2d and _is_slow(*args, **given):
            images, *others = args
            with torch.autocast("cpu", enabled=False):
                return func(images.float(), *others, **given)
        return func(*args, **given)


def avoid_slow_kernels(device: torch.device, mixed_precision: str) -> AbstractContextManager[Any]:
    """Return the context that a step needs beside autocast; one that does nothing where all kernels are fast."""
    return ExactStrides() if device.type == "cpu" and mixed_precision == "bf16" else nullcontext()


def _is_slow(
    images: Tensor,  # noqa: ARG001 - the signature of conv2d
    weight: Tensor,  # noqa: ARG001
    bias: Tensor | None = None,  # noqa: ARG001
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,  # noqa: ARG001
    dilation: int | Sequence[int] = 1,  # noqa: ARG001
    groups: int = 1,
) -> bool:
    steps = (stride,) if isinstance(stride, int) else stride
    return groups > 1 and max(steps) > 1
