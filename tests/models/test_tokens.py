"""Tokens: each position of the last map, whatever order a family keeps it in, without class tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from manylabel.errors import ConfigError
from manylabel.models.backbones import Backbone, build_backbone
from manylabel.models.tokens import count_tokens, hold_unused_weights, images_to_tokens

GREY = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "num_positions"),
    [
        pytest.param("test_resnet", 4, id="channels before positions"),
        pytest.param("test_mambaout", 4, id="channels after positions"),
        pytest.param("test_vit", 16, id="a class token before the positions"),
        pytest.param("test_vit2", 16, id="registers before the positions"),
        pytest.param("test_vit_relpos", 16, id="positions alone"),
    ],
)
def test_there_is_a_token_for_every_position(name: str, num_positions: int) -> None:
    backbone = build_backbone(name, image_size_px=64)
    tokens = images_to_tokens(backbone.module.eval(), torch.zeros(2, 3, 64, 64))
    assert tokens.shape == (2, num_positions, backbone.module.num_features)
    assert count_tokens(backbone) == (num_positions, backbone.module.num_features)


@pytest.mark.parametrize("name", ["test_resnet", "test_mambaout"])
def test_a_token_holds_the_channels_of_one_position(name: str) -> None:
    # The mean over positions is what these families pool; mambaout does so before a norm.
    backbone = build_backbone(name, image_size_px=64).module.eval()
    images = torch.randn(2, 3, 64, 64)
    pooled = backbone.forward_features(images).mean((2, 3) if name == "test_resnet" else (1, 2))  # type: ignore[operator]
    assert images_to_tokens(backbone, images).mean(1).detach().numpy() == pytest.approx(
        pooled.detach().numpy(), abs=1e-5
    )


def test_a_family_that_counts_no_prefix_has_its_class_token_left_out() -> None:
    class ClassTokenFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cls_token = nn.Parameter(torch.full((1, 1, 3), 9.0))

        def forward_features(self, images_BCHW: Tensor) -> Tensor:
            positions = images_BCHW.flatten(2).transpose(1, 2)
            return torch.cat([self.cls_token.expand(len(images_BCHW), -1, -1), positions], dim=1)

    assert images_to_tokens(ClassTokenFirst(), torch.zeros(2, 3, 2, 2)).tolist() == torch.zeros(2, 4, 3).tolist()


def test_tokens_can_be_narrower_than_the_pooled_features() -> None:
    backbone = build_backbone("mobilenetv3_small_050", image_size_px=64)
    assert (count_tokens(backbone), backbone.num_features) == ((4, 288), 1024)


def test_weights_after_the_tokens_are_held_and_all_others_are_not() -> None:
    backbone = build_backbone("mobilenetv3_small_050", image_size_px=64)
    before = {key: tensor.clone() for key, tensor in backbone.module.state_dict().items()}
    hold_unused_weights(backbone)
    held = [name for name, parameter in backbone.module.named_parameters() if not parameter.requires_grad]
    assert held == ["conv_head.weight", "conv_head.bias"]
    assert all(torch.equal(tensor, before[key]) for key, tensor in backbone.module.state_dict().items())
    assert all(parameter.grad is None for parameter in backbone.module.parameters())


class Returning(nn.Module):
    """A backbone that returns whatever it is given."""

    def __init__(self, features: object) -> None:
        super().__init__()
        self.features = features

    def forward_features(self, images_BCHW: Tensor) -> object:  # noqa: ARG002 - the signature
        return self.features


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        pytest.param([torch.zeros(1, 4, 2, 2)], "it returns several maps", id="a list, as crossvit"),
        pytest.param(torch.zeros(1, 4), "what it returns has the shape (1, 4)", id="already pooled"),
        pytest.param(torch.zeros(1, 0, 4), "what it returns has the shape (1, 0, 4)", id="a class token alone, as pit"),
    ],
)
def test_a_backbone_without_positions_is_refused(features: object, reason: str) -> None:
    backbone = Backbone(Returning(features), 4, GREY, GREY, "bicubic", None)
    with pytest.raises(ConfigError) as caught:
        count_tokens(backbone)
    assert str(caught.value) == (
        f"head: this head looks at every position of an image, and Returning gives none ({reason}). "
        "Take --head linear or --head mlp, or another --backbone."
    )


def test_a_map_of_another_width_than_the_backbone_claims_is_refused() -> None:
    module = Returning(torch.zeros(1, 5, 5, 4))
    module.num_features = 4  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"what it returns has the shape \(1, 20, 5\)"):
        count_tokens(Backbone(module, 4, GREY, GREY, "bicubic", None))
