"""Gradient maps: how much each place of a network's features adds to a label beside the others.

Features are led in a straight line from those of a hidden image to those of the image itself, and what a label gains on
the way is credited to the places that it comes from, by gradients: all places together add what the label gains. Where
a linear head sits on the mean of all places this is the class activation map, less that of the hidden image. Where
attention or a norm reads the places, gradients at the end of the way alone, as Grad-CAM takes them, add up to nothing.

Source: Selvaraju et al. 2017, "Grad-CAM", of the gradients of the last features; Sundararajan, Taly and Yan 2017,
    "Axiomatic attribution for deep networks", of the way to them; Sattarzadeh et al. 2021, "Integrated Grad-CAM", of
    both together. By captum's IntegratedGradients and LayerIntegratedGradients. Taking the other labels off, starting
    at an image that is blurred, and keeping what is below 0 are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from captum.attr import IntegratedGradients, LayerIntegratedGradients
from torch import Tensor, nn

from manylabel.errors import ConfigError, build_message
from manylabel.models.classifier import Classifier
from manylabel.models.scoring import logits_to_probs
from manylabel.models.tokens import images_to_tokens

Float32Array = npt.NDArray[np.float32]

_STEPS_OF_HEAD, _STEPS_OF_NETWORK = 256, 32
"""Steps on the way: many where only what follows the features is computed, fewer where all of the network is."""

_BATCH_OF_HEAD, _BATCH_OF_NETWORK = 64, 8
_SAME = 1e-3


@dataclass(frozen=True)
class GradientMaps:
    """What each place adds to the log-odds of some labels, less what it adds to the others on average.

    Shapes: K labels, R rows and C columns of places.

    Args:
        maps_KRC: the maps.
        gained_K: what the labels gain from the hidden image to the image itself: what their maps should add up to.
    """

    maps_KRC: Float32Array
    gained_K: Float32Array


class GradientMapper:
    """A classifier that can be asked which places speak for a label.

    The places are those of the last features; a network that reads a class token, in which all places are mixed before,
    has those of its first ones: the patches.

    Args:
        classifier: the network; its weights are frozen.
        height_px: the height of its images.
        width_px: their width.

    Raises:
        ConfigError: the network has no places, or a single one.
    """

    def __init__(self, classifier: Classifier, height_px: int, width_px: int) -> None:
        self._network = _Opened(classifier.eval().requires_grad_(False))
        images_BCHW = torch.linspace(-1, 2, 3 * height_px * width_px).reshape(1, 3, height_px, width_px)
        self._attribute, self.places = self._choose_features(images_BCHW)

    def answer(self, pixels_CHW: Float32Array) -> Float32Array:
        """Return the probability of each label, [L]."""
        with torch.inference_mode():
            logits_BL: Tensor = self._network.classifier(_to_batch(pixels_CHW))
        return np.asarray(logits_to_probs(logits_BL)[0].numpy(), np.float32)

    def map_labels(
        self,
        pixels_CHW: Float32Array,
        hidden_CHW: Float32Array,
        columns: Sequence[int],
        on_label: Callable[[], None] | None = None,
    ) -> GradientMaps:
        """Return how much each place of an image adds to some labels.

        Args:
            pixels_CHW: the image as the network takes it.
            hidden_CHW: the same image with nothing to be seen on it.
            columns: the labels.
            on_label: called after each.
        """
        images_BCHW, hidden_BCHW = _to_batch(pixels_CHW), _to_batch(hidden_CHW)
        with torch.no_grad():
            gained_L = (self._network(images_BCHW) - self._network(hidden_BCHW))[0].numpy()
        maps = []
        for column in columns:
            added = self._attribute(images_BCHW, hidden_BCHW, int(column))
            maps.append(_sum_by_place(added, self.places).detach().numpy())
            if on_label is not None:
                on_label()
        return GradientMaps(np.stack(maps).astype(np.float32), gained_L[list(columns)].astype(np.float32))

    def _choose_features(self, images_BCHW: Tensor) -> tuple[Callable[[Tensor, Tensor, int], Tensor], tuple[int, int]]:
        """Return what credits features with what a label gains, and how many rows and columns of places they have."""
        network, backbone = self._network, self._network.classifier.backbone
        features = network.extract(images_BCHW)
        with torch.no_grad():
            is_whole = torch.allclose(
                network.contrast(network.classifier(images_BCHW)), network(images_BCHW), atol=_SAME
            )
        if not is_whole:
            raise refuse_gradients("the network answers by more than its last features")
        if features.ndim == 4:
            is_channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
            return self._credit_last, _check_places(*(features.shape[1:3] if is_channels_last else features.shape[2:]))
        places = _find_grid(images_to_tokens(backbone, images_BCHW).shape[1], images_BCHW.shape[2:])
        if network.reads_places(features, places[0] * places[1]):
            return self._credit_last, places
        embedding = getattr(backbone, "patch_embed", None)
        if not isinstance(embedding, nn.Module):
            raise refuse_gradients("the network reads a class token, and has no patches")
        return self._credit_patches, places

    def _credit_last(self, images_BCHW: Tensor, hidden_BCHW: Tensor, column: int) -> Tensor:
        with torch.no_grad():
            features, start = self._network.extract(images_BCHW), self._network.extract(hidden_BCHW)
        method = IntegratedGradients(self._network.judge)
        return _as_tensor(
            method.attribute(features, start, target=column, n_steps=_STEPS_OF_HEAD, internal_batch_size=_BATCH_OF_HEAD)
        )

    def _credit_patches(self, images_BCHW: Tensor, hidden_BCHW: Tensor, column: int) -> Tensor:
        method = LayerIntegratedGradients(self._network, self._network.classifier.backbone.patch_embed)
        # Weights ask for no gradients, so the images have to.
        return _as_tensor(
            method.attribute(
                images_BCHW.requires_grad_(),
                hidden_BCHW,
                target=column,
                n_steps=_STEPS_OF_NETWORK,
                internal_batch_size=_BATCH_OF_NETWORK,
            )
        )


class _Opened(nn.Module):
    """A classifier in two parts, which gives how far the log-odds of each label are above the mean of the others.

    Shapes: images [B, 3, H, W] to [B, L].
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.judge(self.extract(images_BCHW))

    def extract(self, images_BCHW: Tensor) -> Tensor:
        """Return the last features of places: tokens [B, T, D], or what the backbone pools."""
        if self.classifier.takes == "tokens":
            return images_to_tokens(self.classifier.backbone, images_BCHW)
        forward_features = getattr(self.classifier.backbone, "forward_features", None)
        features = None if forward_features is None else forward_features(images_BCHW)
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            raise refuse_gradients(f"{type(self.classifier.backbone).__name__} gives no single map before it pools")
        return features

    def judge(self, features: Tensor) -> Tensor:
        """Return the contrast [B, L] for what `extract` gave."""
        return self.contrast(self.classifier.answer(self._pool(features)))

    def contrast(self, logits_BL: Tensor) -> Tensor:
        """Take off each label the mean of all others; of a single label nothing."""
        others_BL = logits_BL.sum(1, keepdim=True) - logits_BL
        return logits_BL - others_BL / max(1, logits_BL.shape[1] - 1)

    def reads_places(self, features: Tensor, num_places: int) -> bool:
        """Return whether the answer depends on the places themselves, and not on a class token alone."""
        asked = features.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self._pool(asked)[0].reshape(-1)[0], asked)
        return bool(gradient[:, -num_places:].any())

    def _pool(self, features: Tensor) -> Tensor:
        if self.classifier.takes == "tokens":
            return features
        pooled_BD: Tensor = self.classifier.backbone.forward_head(features)  # type: ignore[operator]
        return pooled_BD


def refuse_gradients(problem: str) -> ConfigError:
    """Return the error of a model whose gradients cannot be followed."""
    return ConfigError(build_message("--method gradients", problem, do="Use --method hiding: it works for every model"))


def _to_batch(pixels_CHW: Float32Array) -> Tensor:
    return torch.from_numpy(np.array(pixels_CHW, np.float32))[None]


def _as_tensor(added: object) -> Tensor:
    assert isinstance(added, Tensor)
    return added


def _sum_by_place(added: Tensor, places: tuple[int, int]) -> Tensor:
    """Add up the features of each place of one image; tokens that stand for none come first and are left out."""
    if added.ndim == 4:
        return added[0].sum(2 if tuple(added.shape[1:3]) == places else 0)
    return added[0, -places[0] * places[1] :].sum(1).reshape(places)


def _find_grid(num_places: int, size_px: Sequence[int]) -> tuple[int, int]:
    """Return the rows and columns of tokens, as the shape of the image has it.

    Raises:
        ConfigError: there is no such grid.
    """
    rows = max(1, round((num_places * size_px[0] / size_px[1]) ** 0.5))
    if num_places == 0 or num_places % rows:
        raise refuse_gradients(f"the network has {num_places} places, which are no grid")
    return _check_places(rows, num_places // rows)


def _check_places(rows: int, columns: int) -> tuple[int, int]:
    if rows * columns < 2:
        raise refuse_gradients("the network has a single place before it answers")
    return int(rows), int(columns)
