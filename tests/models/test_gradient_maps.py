"""Gradient maps: the class activation map where there is one, the whole gain elsewhere, and refusals that say why."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from manylabel.errors import ConfigError
from manylabel.models.backbones import build_backbone
from manylabel.models.classifier import Classifier, build_classifier
from manylabel.models.gradient_maps import GradientMapper

Float32Array = npt.NDArray[np.float32]


class Plain(nn.Module):
    """A layer whose features of nothing are nothing; `pool` makes a vector of them."""

    def __init__(self, pool: str = "mean") -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(3, 5, 8, 8, bias=False), nn.ReLU())
        self.pool = pool

    def forward_features(self, images_BCHW: Tensor) -> Tensor:
        features: Tensor = self.layer(images_BCHW)
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        return features.mean((2, 3)) if self.pool == "mean" else features[:, :, -1, 0]

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images_BCHW))


class Beside(nn.Module):
    """Weighs features as a label less the mean of the others does."""

    def __init__(self, weights_D: Float32Array) -> None:
        super().__init__()
        self.weights_D1 = torch.from_numpy(weights_D)[:, None]

    def forward(self, features_BD: Tensor) -> Tensor:
        return features_BD @ self.weights_D1


def draw_image(height_px: int = 32, width_px: int = 32, seed: int = 0) -> Float32Array:
    return np.random.default_rng(seed).normal(size=(3, height_px, width_px)).astype(np.float32)


def contrast(logits_L: Float32Array) -> Float32Array:
    """Each label less the mean of all others, one by one."""
    return np.array([own - np.delete(logits_L, place).mean() for place, own in enumerate(logits_L)], np.float32)


def answer(classifier: Classifier, pixels_CHW: Float32Array) -> Float32Array:
    with torch.no_grad():
        logits_L: Float32Array = classifier.eval()(torch.from_numpy(pixels_CHW)[None])[0].numpy()
    return logits_L


def test_with_a_mean_and_a_linear_head_the_map_is_the_class_activation_map_and_that_of_grad_cam() -> None:
    torch.manual_seed(0)
    classifier = Classifier(Plain(), nn.Linear(5, 3))
    pixels_CHW = draw_image(24, 40)
    found = GradientMapper(classifier, 24, 40).map_labels(pixels_CHW, np.zeros_like(pixels_CHW), [0, 2])
    features_DHW = classifier.backbone.forward_features(torch.from_numpy(pixels_CHW)[None])[0].numpy()  # type: ignore[operator]
    weights_LD = classifier.head.weight.numpy()  # type: ignore[operator]
    for place, column in enumerate((0, 2)):
        beside_D = weights_LD[column] - np.delete(weights_LD, column, axis=0).mean(0)
        by_hand_RC = np.einsum("d,drc->rc", beside_D, features_DHW) / 15  # the mean of 3 x 5 places
        np.testing.assert_allclose(found.maps_KRC[place], by_hand_RC, atol=1e-5)
        asked = nn.Sequential(classifier.backbone, Beside(beside_D))
        images_BCHW = torch.from_numpy(pixels_CHW)[None].requires_grad_()
        cam = LayerGradCam(asked, classifier.backbone.layer).attribute(images_BCHW, target=0)
        np.testing.assert_allclose(found.maps_KRC[place], cam[0, 0].detach().numpy(), atol=1e-5)


def test_where_one_corner_decides_only_that_corner_is_credited() -> None:
    torch.manual_seed(0)
    mapper = GradientMapper(Classifier(Plain("lower left"), nn.Linear(5, 3)), 32, 32)
    (map_RC,) = mapper.map_labels(draw_image(), np.zeros((3, 32, 32), np.float32), [1]).maps_KRC
    assert map_RC.shape == (4, 4)
    assert abs(map_RC[3, 0]) > 1e-3
    map_RC[3, 0] = 0
    assert not map_RC.any()


NETWORKS = [
    pytest.param("test_resnet", 64, "linear", (2, 2), id="convolutions and a mean"),
    pytest.param("test_convnext", 64, "linear", (2, 2), id="a norm after the mean"),
    pytest.param("test_resnet", 64, "mlp", (2, 2), id="a hidden layer"),
    pytest.param("test_resnet", 96, "csra", (3, 3), id="attention of each label"),
    pytest.param("test_resnet", 64, "ml_decoder", (2, 2), id="a decoder of groups"),
    pytest.param("test_resnet", 64, "query2label", (2, 2), id="a decoder of labels"),
    pytest.param("test_vit", 64, "linear", (4, 4), id="a class token"),
    pytest.param("test_vit2", 64, "linear", (4, 4), id="the mean of tokens"),
    pytest.param("test_vit", 64, "csra", (4, 4), id="tokens without the class token"),
]


@pytest.mark.parametrize(("name", "size_px", "head", "places"), NETWORKS)
def test_places_add_up_to_what_the_label_gains(name: str, size_px: int, head: str, places: tuple[int, int]) -> None:
    torch.manual_seed(0)
    classifier = build_classifier(build_backbone(name, image_size_px=size_px), [0.2, 0.5, 0.4], head)
    pixels_CHW, hidden_CHW = draw_image(size_px, size_px), 0.1 * draw_image(size_px, size_px, 1)
    mapper = GradientMapper(classifier, size_px, size_px)
    assert mapper.places == places
    told: list[int] = []
    found = mapper.map_labels(pixels_CHW, hidden_CHW, [2, 0], lambda: told.append(1))
    assert len(told) == 2
    gained_L = contrast(answer(classifier, pixels_CHW)) - contrast(answer(classifier, hidden_CHW))
    np.testing.assert_allclose(found.gained_K, gained_L[[2, 0]], atol=1e-5)
    np.testing.assert_allclose(found.maps_KRC.sum((1, 2)), gained_L[[2, 0]], rtol=0.05, atol=1e-4)
    probs_L = 1 / (1 + np.exp(-answer(classifier, pixels_CHW)))
    np.testing.assert_allclose(mapper.answer(pixels_CHW), probs_L, atol=1e-6)


def test_a_network_with_a_class_token_credits_the_patch_that_differs() -> None:
    torch.manual_seed(0)
    mapper = GradientMapper(build_classifier(build_backbone("test_vit", image_size_px=64), [0.5] * 3), 64, 64)
    hidden_CHW = draw_image(64, 64)
    pixels_CHW = hidden_CHW.copy()
    pixels_CHW[:, 16:32, 48:64] += 2  # the second row and the fourth column of 16 px
    (map_RC,) = mapper.map_labels(pixels_CHW, hidden_CHW, [0]).maps_KRC
    assert np.argwhere(map_RC).tolist() == [[1, 3]]


def test_a_single_label_has_nothing_beside_it() -> None:
    torch.manual_seed(0)
    classifier = Classifier(Plain(), nn.Linear(5, 1))
    found = GradientMapper(classifier, 32, 32).map_labels(draw_image(), np.zeros((3, 32, 32), np.float32), [0])
    bias = float(classifier.head.bias[0])  # type: ignore[index]
    assert found.gained_K[0] == pytest.approx(answer(classifier, draw_image())[0] - bias, abs=1e-5)


class TokenOnly(nn.Module):
    """A class token and four positions, of which only the token is read; no patches to ask instead."""

    cls_token = nn.Parameter(torch.zeros(1, 1, 6))

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3 * 64, 5 * 6)

    def forward_features(self, images_BCHW: Tensor) -> Tensor:
        tokens: Tensor = self.mix(images_BCHW.flatten(1)).unflatten(1, (5, 6))
        return tokens

    def forward_head(self, features: Tensor) -> Tensor:
        return features[:, 0]

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images_BCHW))


class Beyond(Plain):
    """Answers by more than its features."""

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return super().forward(images_BCHW) + images_BCHW.mean((1, 2, 3))[:, None]


REFUSED = [
    pytest.param(Plain(), 8, "a single place before it answers", id="one place"),
    pytest.param(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), 8, "Sequential gives no single map", id="no features"),
    pytest.param(TokenOnly(), 8, "reads a class token, and has no patches", id="a class token alone"),
    pytest.param(Beyond(), 32, "answers by more than its last features", id="a way around"),
]


@pytest.mark.parametrize(("backbone", "size_px", "problem"), REFUSED)
def test_networks_without_places_are_refused_with_another_way(backbone: nn.Module, size_px: int, problem: str) -> None:
    width = 6 if isinstance(backbone, TokenOnly) else 5
    with pytest.raises(ConfigError, match=f"--method gradients: .*{problem}.* Use --method hiding"):
        GradientMapper(Classifier(backbone, nn.Linear(width, 3)), size_px, size_px)
