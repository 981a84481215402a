"""The contract of a loss: logits in, one number out, unknown cells without weight, and a scale that stays."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from manylabel.losses import Loss

_NUM_IMAGES, _NUM_LABELS = 12, 10
_COPIES = 4
_LARGEST_GROWTH = 1.75
"""A loss over four times as many cells may grow with their logarithm; a sum grows four times."""


def check_loss(build: Callable[[int], Loss], *, seed: int = 0) -> None:
    """Try a loss on random batches, and stop at the first promise that it breaks.

    Args:
        build: from a number of labels to the loss; `lambda _: my_loss` for one that takes any number.
        seed: of the random batches.

    Raises:
        AssertionError: the message says which promise is broken and by what.
    """
    batch = _draw(seed)
    loss = build(_NUM_LABELS)
    _check_value(loss, *batch)
    _check_mask(loss, *batch)
    _check_logits(loss)
    _check_scale(build, *batch)
    _check_order(loss, *batch)
    _check_bfloat16(loss, *batch)
    _check_extremes(loss)


def _draw(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(_NUM_IMAGES, _NUM_LABELS, generator=generator)
    truth = (torch.rand(logits.shape, generator=generator) < 0.4).float()
    return logits, truth, torch.rand(logits.shape, generator=generator) < 0.8


def _differentiate(loss: Loss, logits: Tensor, truth: Tensor, known: Tensor) -> tuple[float, Tensor]:
    leaf = logits.clone().requires_grad_(True)
    try:
        value = loss(leaf, truth, known)
    except Exception as error:
        raise AssertionError(f"it fails on logits from {logits.min():g} to {logits.max():g}: {error}") from error
    assert isinstance(value, Tensor), f"it returns a {type(value).__name__}, not a tensor"
    assert value.shape == (), f"it returns a tensor of shape {tuple(value.shape)}, not one number"
    value.backward()  # type: ignore[no-untyped-call]
    gradient = leaf.grad
    assert gradient is not None, "no gradient reaches the logits"
    return float(value.detach()), gradient


def _check_value(loss: Loss, logits: Tensor, truth: Tensor, known: Tensor) -> None:
    value, gradient = _differentiate(loss, logits, truth, known)
    assert math.isfinite(value), f"the loss of ordinary logits is {value}"
    assert gradient.isfinite().all(), "the gradient of ordinary logits is not finite"
    assert gradient.abs().sum() > 0, "the gradient of ordinary logits is zero"
    assert _differentiate(loss, logits, truth, known)[0] == value, "the same batch gives another value the second time"


def _check_mask(loss: Loss, logits: Tensor, truth: Tensor, known: Tensor) -> None:
    value, gradient = _differentiate(loss, logits, truth, known)
    assert (gradient[~known] == 0).all(), "a gradient reaches unknown cells"
    for filler in (0.0, 1.0, math.nan):
        other, other_gradient = _differentiate(loss, logits, torch.where(known, truth, filler), known)
        assert other == value, f"a truth of {filler} in unknown cells changes the loss from {value} to {other}"
        assert torch.equal(other_gradient, gradient), f"a truth of {filler} in unknown cells changes the gradient"
    for filler in (1e4, math.inf, math.nan):
        other, _ = _differentiate(loss, torch.where(known, logits, filler), truth, known)
        assert other == value, f"logits of {filler} in unknown cells change the loss from {value} to {other}"
    nothing, no_gradient = _differentiate(loss, logits, truth, torch.zeros_like(known))
    assert nothing == 0, f"a batch without a known cell costs {nothing}, not 0"
    assert (no_gradient == 0).all(), "a batch without a known cell has a gradient"


def _check_logits(loss: Loss) -> None:
    """Right answers get cheaper beyond the range of probabilities, wrong ones dearer."""
    truth = torch.tensor([[1.0, 0.0] * (_NUM_LABELS // 2), [0.0, 1.0] * (_NUM_LABELS // 2)])
    known, right = torch.ones_like(truth).bool(), 2 * truth - 1
    costs = [_differentiate(loss, scale * right, truth, known)[0] for scale in (3.0, 1.0, 0.0, -1.0)]
    assert costs == sorted(costs), (
        f"logits right by 3 and by 1, undecided, and wrong by 1 cost {', '.join(f'{cost:.3g}' for cost in costs)}:"
        " not in that order, as if logits were taken for probabilities"
    )


def _check_scale(build: Callable[[int], Loss], logits: Tensor, truth: Tensor, known: Tensor) -> None:
    value = _differentiate(build(_NUM_LABELS), logits, truth, known)[0]
    for images, labels, of in ((_COPIES, 1, "images"), (1, _COPIES, "labels")):
        many = [cells.repeat(images, labels) for cells in (logits, truth, known)]
        growth = _differentiate(build(_NUM_LABELS * labels), *many)[0] / value
        assert 1 / _LARGEST_GROWTH < growth < _LARGEST_GROWTH, (
            f"{_COPIES} times as many {of} change the loss {growth:.2f} times: it is no mean"
        )


def _check_order(loss: Loss, logits: Tensor, truth: Tensor, known: Tensor) -> None:
    value = _differentiate(loss, logits, truth, known)[0]
    turned = _differentiate(loss, logits.flip(0), truth.flip(0), known.flip(0))[0]
    assert math.isclose(value, turned, rel_tol=1e-5), f"the order of the images changes it from {value} to {turned}"


def _check_bfloat16(loss: Loss, logits: Tensor, truth: Tensor, known: Tensor) -> None:
    coarse = logits.bfloat16()
    value, expected = (_differentiate(loss, cells, truth, known)[0] for cells in (coarse, coarse.float()))
    assert math.isclose(value, expected, rel_tol=1e-5), f"it computes in 16 bits: {value} in place of {expected}"


def _check_extremes(loss: Loss) -> None:
    for size in (50.0, 1e4):
        logits = torch.tensor([[size, -size] * (_NUM_LABELS // 2), [-size, size] * (_NUM_LABELS // 2)])
        for truth in (torch.zeros_like(logits), torch.ones_like(logits), (logits > 0).float(), (logits < 0).float()):
            value, gradient = _differentiate(loss, logits, truth, torch.ones_like(logits).bool())
            assert math.isfinite(value), f"logits of {size:g} cost {value}"
            assert gradient.isfinite().all(), f"logits of {size:g} have a gradient that is not finite"
