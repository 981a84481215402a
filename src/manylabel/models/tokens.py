"""Tokens: the features of every position of an image, as heads with attention take them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from manylabel.errors import ConfigError, build_message
from manylabel.models.backbones import Backbone


def images_to_tokens(backbone: nn.Module, images_BCHW: Tensor) -> Tensor:
    """Return the features of every position of a timm model's last map, before pooling and what follows it.

    Class tokens and registers are left out: they stand for no position.

    Shapes: images [B, 3, H, W] to tokens [B, T, D].
    """
    features: Tensor = backbone.forward_features(images_BCHW)  # type: ignore[operator]
    if features.ndim == 4:
        is_channels_last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
        return features.flatten(1, 2) if is_channels_last else features.flatten(2).transpose(1, 2)
    return features[:, _count_prefix_tokens(backbone) :]


def _count_prefix_tokens(backbone: nn.Module) -> int:
    has_class_token = getattr(backbone, "cls_token", None) is not None
    return int(getattr(backbone, "num_prefix_tokens", 1 if has_class_token else 0))


class TokenExtractor(nn.Module):
    """A backbone that gives tokens in place of a vector."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return tokens [B, T, D]."""
        return images_to_tokens(self.backbone, images_BCHW)


def count_tokens(backbone: Backbone) -> tuple[int, int]:
    """Return the number of tokens of an image, and their width: it can be another than that of the pooled features.

    Raises:
        ConfigError: the backbone gives no features per position.
    """
    _, num_tokens, num_features = _compute_tokens(backbone).shape
    return num_tokens, num_features


def hold_unused_weights(backbone: Backbone) -> None:
    """Take from training what the tokens do not depend on, such as layers between pooling and the classifier."""
    learning = [parameter for parameter in backbone.module.parameters() if parameter.requires_grad]
    if not learning:
        return
    gradients = torch.autograd.grad(_compute_tokens(backbone).sum(), learning, allow_unused=True)
    for parameter, gradient in zip(learning, gradients, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)


def _compute_tokens(backbone: Backbone) -> Tensor:
    """Return the tokens of an empty image; statistics of norms stay as they are."""
    module = backbone.module
    if not hasattr(module, "forward_features"):
        raise _refuse(module, "it has no forward_features")
    device = next((parameter.device for parameter in module.parameters()), None)
    images_BCHW = torch.zeros(1, 3, backbone.input_size_px, backbone.input_size_px, device=device)
    was_training = module.training
    module.eval()
    try:
        tokens = images_to_tokens(module, images_BCHW)
    except (AttributeError, TypeError) as error:
        # Some families return a list of maps of several sizes.
        raise _refuse(module, "it returns several maps") from error
    finally:
        module.train(was_training)
    width = getattr(module, "num_features", tokens.shape[-1])
    if tokens.ndim != 3 or tokens.shape[1] == 0 or tokens.shape[2] != width:
        raise _refuse(module, f"what it returns has the shape {tuple(tokens.shape)}")
    return tokens


def _refuse(module: nn.Module, reason: str) -> ConfigError:
    return ConfigError(
        build_message(
            "head",
            f"this head looks at every position of an image, and {type(module).__name__} gives none ({reason})",
            do="Take --head linear or --head mlp, or another --backbone",
        )
    )
