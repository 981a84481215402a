"""The contract of a head: logits that start at the prior, can go anywhere, and depend on their own image only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from manylabel.bundle.export import INPUT_NAME, MAX_PROBABILITY_DIFFERENCE, OUTPUT_NAME, check_parity, export_onnx
from manylabel.bundle.manifest import Manifest
from manylabel.data.preprocess import Preprocess
from manylabel.decisions.policy import DecisionPolicy
from manylabel.errors import BundleError
from manylabel.labels.space import LabelSpace
from manylabel.models.backbones import Backbone
from manylabel.models.classifier import Classifier, build_classifier
from manylabel.models.heads import HeadKind
from manylabel.models.scoring import logits_to_probs

_PREVALENCE_L = (0.02, 0.5, 0.97, 0.3, 0.1, 0.6, math.nan, 0.0, 1.0)
"""Rare, frequent, known in no image, never and always present."""

_NUM_FEATURES = 16
_MAX_DISTANCE_FROM_PRIOR = 1.0
_MAX_ROUNDING = 1e-5
_NUM_STEPS = 100


def check_head(
    kind: HeadKind, *, settings: Mapping[str, float] | None = None, onnx: Path | None = None, seed: int = 0
) -> None:
    """Build a head for nine labels and stop at the first promise that it breaks.

    Args:
        settings: settings that differ from the head's own.
        onnx: an empty folder, to export the head as well; that takes seconds.
        seed: of the weights and the features.

    Raises:
        AssertionError: the head breaks its promise; the message says which.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head, again = (_build(kind, settings) for _ in range(2))
        features = torch.randn(5, *_shape_of(kind))
        _check_shape(head, features)
        _check_start(head, features)
        _check_determinism(head, features)
        _check_independence(head, features)
        _check_gradients(head, features)
        _check_state(head, again, features)
        _check_reduced_precision(head, features)
        _check_range(_build(kind, settings), features)
        if onnx is not None:
            _check_export(kind, settings, onnx)


def _build(kind: HeadKind, settings: Mapping[str, float] | None) -> nn.Module:
    given = dict(settings) if settings is not None else {}
    return kind.build(_NUM_FEATURES, _PREVALENCE_L, **given).eval()


def _shape_of(kind: HeadKind) -> tuple[int, ...]:
    assert kind.takes in ("vector", "tokens"), f"takes is {kind.takes!r}, which is neither 'vector' nor 'tokens'"
    return (_NUM_FEATURES,) if kind.takes == "vector" else (6, _NUM_FEATURES)


def _check_shape(head: nn.Module, features: Tensor) -> None:
    batches = {"five images": features, "one image": features[:1]}
    if features.ndim == 3:
        batches |= {"one position": features[:, :1], "thirty positions": features.repeat(1, 5, 1)}
    for name, batch in batches.items():
        logits_BL = head(batch)
        expected = (len(batch), len(_PREVALENCE_L))
        assert logits_BL.shape == expected, f"{name}: the shape is {tuple(logits_BL.shape)} and not {expected}"
        assert logits_BL.dtype == torch.float32, f"{name}: the logits are {logits_BL.dtype} and not torch.float32"
        assert logits_BL.isfinite().all(), f"{name}: logits are not finite"


def _check_start(head: nn.Module, features: Tensor) -> None:
    """The known priors; a label that is never or always present, or known nowhere, only has to start finite."""
    logits_L = head(features).mean(0).tolist()
    for label, (logit, prevalence) in enumerate(zip(logits_L, _PREVALENCE_L, strict=True)):
        if 0 < prevalence < 1:
            prior = math.log(prevalence / (1 - prevalence))
            assert abs(logit - prior) < _MAX_DISTANCE_FROM_PRIOR, (
                f"label {label} starts at the logit {logit:.2f}, far from {prior:.2f}, that of its prevalence"
            )


def _check_determinism(head: nn.Module, features: Tensor) -> None:
    assert torch.equal(head(features), head(features)), "evaluation gives another answer the second time"


def _check_independence(head: nn.Module, features: Tensor) -> None:
    with torch.inference_mode():
        together_BL = head(features)
        alone_BL = torch.cat([head(features[[row]]) for row in range(len(features))])
    difference = float((together_BL - alone_BL).abs().max())
    assert difference < _MAX_ROUNDING, f"logits depend on the other images of the batch, by up to {difference:.2g}"


def _check_gradients(head: nn.Module, features: Tensor) -> None:
    given = features.clone().requires_grad_()
    logits_BL = head(given)
    for label in range(logits_BL.shape[1]):
        (gradient,) = torch.autograd.grad(logits_BL[:, label].sum(), given, retain_graph=True, allow_unused=True)
        depends = gradient is not None and bool(gradient.flatten(1).any(1).all())
        assert depends, f"the logit of label {label} does not depend on the features of every image"
        assert gradient.isfinite().all(), f"the gradient of label {label} is not finite"
    names, parameters = zip(*head.named_parameters(), strict=True)
    gradients = torch.autograd.grad(logits_BL.square().sum(), parameters, allow_unused=True)
    unused = [
        name
        for name, parameter, gradient in zip(names, parameters, gradients, strict=True)
        if parameter.requires_grad and gradient is None
    ]
    assert not unused, f"no logit depends on the weights {', '.join(unused)}"


def _check_state(head: nn.Module, again: nn.Module, features: Tensor) -> None:
    again.load_state_dict(head.state_dict())
    assert torch.equal(head(features), again(features)), "with its weights loaded, a new head gives other logits"


def _check_reduced_precision(head: nn.Module, features: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        logits_BL = head(features)
    assert logits_BL.isfinite().all(), "in bfloat16 logits are not finite"


def _check_range(head: nn.Module, features: Tensor) -> None:
    """Push every logit up on some images and down on the others: what is bounded by 0 and 1 cannot follow."""
    wanted_BL = torch.where(torch.arange(len(features)) % 2 == 0, 4.0, -4.0)[:, None]
    optimiser = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(_NUM_STEPS):
        optimiser.zero_grad()
        (head(features) - wanted_BL).square().mean().backward()
        optimiser.step()
    logits_BL = head(features).detach()
    for label in range(logits_BL.shape[1]):
        low, high = float(logits_BL[:, label].min()), float(logits_BL[:, label].max())
        problem = (
            f"label {label} stays between {low:.2f} and {high:.2f} whatever is learnt: probabilities are no logits"
        )
        assert low < 0, problem
        assert high > 1, problem


class _Pooling(nn.Module):
    """A backbone small enough to export in a second, with both kinds of features."""

    num_features = _NUM_FEATURES

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Conv2d(3, _NUM_FEATURES, 8, 8)

    def forward_features(self, images_BCHW: Tensor) -> Tensor:
        features_BDHW: Tensor = self.filter(images_BCHW)
        return features_BDHW

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.forward_features(images_BCHW).mean((2, 3))


def _check_export(kind: HeadKind, settings: Mapping[str, float] | None, folder: Path) -> None:
    size_px, mean = 32, (0.5, 0.5, 0.5)
    backbone = Backbone(_Pooling(), _NUM_FEATURES, mean, mean, "bicubic", None, size_px)
    classifier = build_classifier(backbone, _PREVALENCE_L, kind)
    classifier = Classifier(classifier.backbone, _build(kind, settings), takes=kind.takes).eval()
    space = LabelSpace(tuple(f"label {number}" for number in range(len(_PREVALENCE_L))))
    preprocess = Preprocess(height_px=size_px, width_px=size_px, mean=mean, std=mean)
    manifest = Manifest(space, preprocess, DecisionPolicy(space, (0.5,) * len(space)), {}, {}, {})
    images_BCHW = np.random.default_rng(0).normal(size=(3, 3, size_px, size_px)).astype(np.float32)
    path = folder / "head.onnx"
    try:
        export_onnx(classifier, path, manifest, images_BCHW[:1].shape)
        check_parity(classifier, path, images_BCHW)
    except BundleError as error:
        raise AssertionError(f"the head does not come through the export: {error}") from error
    with torch.inference_mode():
        expected_BL = logits_to_probs(classifier(torch.from_numpy(images_BCHW))).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given_BL,) = session.run([OUTPUT_NAME], {INPUT_NAME: images_BCHW})
    assert given_BL.shape == expected_BL.shape, f"the exported head gives {given_BL.shape} for three images"
    difference = float(np.abs(given_BL - expected_BL).max())
    assert difference <= MAX_PROBABILITY_DIFFERENCE, f"for three images the exported head differs by {difference:.2g}"
