"""Backbones: timm models by name, and weights from a file that fit, fit in part, or do not fit at all."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from manylabel.errors import ConfigError
from manylabel.models.backbones import WeightsReport, build_backbone
from manylabel.models.classifier import build_classifier

NAME = "test_resnet"


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """The weights of a model with another start than any that a test builds."""
    torch.manual_seed(1234)
    return dict(timm.create_model(NAME, num_classes=0).state_dict())


@pytest.fixture
def write_weights(tmp_path: Path) -> Any:
    def write(tensors: dict[str, Tensor]) -> str:
        save_file(tensors, tmp_path / "weights.safetensors")
        return str(tmp_path / "weights.safetensors")

    return write


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("test_resnet", id="convolutions with batch norms"),
        pytest.param("test_convnext", id="convolutions with layer norms"),
        pytest.param("test_vit", id="transformer"),
    ],
)
def test_a_timm_model_becomes_a_classifier_of_small_images(name: str) -> None:
    backbone = build_backbone(name, image_size_px=32)
    features = backbone.module.eval()(torch.zeros(2, 3, 32, 32))
    assert features.shape == (2, backbone.num_features)
    assert build_classifier(backbone, [0.1, 0.2, 0.3])(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    assert backbone.report is None


def test_a_model_that_is_made_for_one_size_is_built_for_the_size_asked_for() -> None:
    # vit_tiny refuses any but its own size unless it is told when it is built; one of its twelve blocks is enough.
    backbone = build_backbone("vit_tiny_patch16_224", args={"depth": 1}, image_size_px=32)
    assert backbone.module.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, backbone.num_features)


def test_a_size_that_the_model_cannot_take_is_one_sentence() -> None:
    with pytest.raises(ConfigError) as caught:
        build_backbone("vit_tiny_patch16_224", args={"depth": 1, "img_size": 64}, image_size_px=32)
    assert str(caught.value).startswith("image_size: vit_tiny_patch16_224 cannot take images of 32 x 32 px (")
    assert str(caught.value).endswith("Choose another --image-size.")


def test_features_are_counted_by_asking_not_by_believing() -> None:
    # timm's num_features of this model is the width before its last layers.
    backbone = build_backbone("test_byobnet", args={"global_pool": "catavgmax"}, image_size_px=32)
    assert backbone.num_features == backbone.module.eval()(torch.zeros(1, 3, 32, 32)).shape[1]


def test_the_statistics_are_the_models_own() -> None:
    expected = timm.get_pretrained_cfg(NAME)
    assert expected is not None
    backbone = build_backbone(NAME)
    assert (backbone.mean, backbone.std) == (expected.mean, expected.std)
    assert backbone.interpolation == expected.interpolation


def test_drop_path_reaches_the_model() -> None:
    module = build_backbone("test_vit", drop_path=0.3).module
    assert any(getattr(part, "drop_prob", 0) for part in module.modules())


def test_arguments_reach_the_model() -> None:
    module = build_backbone(NAME, args={"in_chans": 3, "norm_layer": nn.Identity}).module
    assert not any(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        pytest.param(
            "test_resnett",
            {},
            "backbone: unknown backbone 'test_resnett' (did you mean 'test_resnet'?), "
            "expected a timm model such as 'resnet18' or 'mobilenetv3_large_100'.",
            id="misspelt name",
        ),
        pytest.param(
            "test_resnet.nonsense",
            {},
            "backbone: timm cannot build test_resnet.nonsense (RuntimeError: Invalid pretrained tag",
            id="unknown set of weights in the name",
        ),
        pytest.param(
            NAME,
            {"args": {"colour": "red"}},
            "backbone: timm cannot build test_resnet with colour=red (TypeError",
            id="argument that does not exist",
        ),
        pytest.param(
            NAME,
            {"args": {"output_stride": 7}},
            "backbone: timm cannot build test_resnet with output_stride=7 (AssertionError).",
            id="value that an assertion of timm's refuses",
        ),
        pytest.param(
            "vgg11",
            {"drop_path": 0.1},
            "backbone: timm cannot build vgg11 with drop_path_rate=0.1 (TypeError",
            id="stochastic depth where there is none",
        ),
        pytest.param(
            NAME,
            {"args": {"global_pool": ""}},
            "backbone_args: test_resnet gives features of 4 axes with these, expected one vector per image.",
            id="no pooling",
        ),
        pytest.param(
            NAME,
            {"args": {"output_stride": 7}, "weights": "pretrained"},
            "backbone: timm cannot build test_resnet with output_stride=7",
            id="arguments are blamed before the network",
        ),
    ],
)
def test_a_model_that_cannot_be_built_is_one_sentence(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_backbone(name, **options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ConnectionError("no route"), id="no network"),
        pytest.param(RuntimeError("No pretrained weights exist"), id="no such weights"),
        pytest.param(OSError(28, "No space left on device"), id="no space for them"),
    ],
)
def test_weights_that_cannot_be_downloaded_are_one_sentence(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def create_offline(name: str, pretrained: bool = False, **arguments: Any) -> nn.Module:
        if pretrained:
            raise error
        return create(name, **arguments)

    monkeypatch.setattr(timm, "create_model", create_offline)
    with pytest.raises(ConfigError) as caught:
        build_backbone(NAME, weights="pretrained")
    assert str(caught.value) == (
        f"weights: the pretrained weights of test_resnet cannot be had ({type(error).__name__}). Connect to a network, "
        "give a file with --weights FILE.safetensors, or train from scratch with --weights none."
    )
    assert "\n" not in str(caught.value)


def test_a_file_that_fills_the_backbone_is_loaded_whole(write_weights: Any, tensors: dict[str, Tensor]) -> None:
    path = write_weights(tensors)
    backbone = build_backbone(NAME, weights=path)
    assert all(torch.equal(own, tensors[key]) for key, own in backbone.module.state_dict().items())
    assert backbone.report == WeightsReport(path, len(tensors), (), ())


def test_what_the_backbone_has_no_use_for_is_reported(write_weights: Any, tensors: dict[str, Tensor]) -> None:
    path = write_weights({**tensors, "fc.weight": torch.zeros(10, 96)})
    report = build_backbone(NAME, weights=path).report
    assert report is not None
    assert report.unused == ("fc.weight",)


def test_counters_that_old_files_lack_are_not_missed(write_weights: Any, tensors: dict[str, Tensor]) -> None:
    old = {key: tensor for key, tensor in tensors.items() if not key.endswith("num_batches_tracked")}
    assert len(old) < len(tensors)
    report = build_backbone(NAME, weights=write_weights(old)).report
    assert report is not None
    assert report.missing == ()


def test_a_file_that_fills_a_part_is_refused_with_what_is_missing(
    write_weights: Any, tensors: dict[str, Tensor]
) -> None:
    path = write_weights({key: tensor for key, tensor in tensors.items() if key != "layer4.0.conv1.weight"})
    with pytest.raises(ConfigError) as caught:
        build_backbone(NAME, weights=path)
    message = str(caught.value)
    assert message.startswith(f"weights: {path} fills ")
    assert "missing: layer4.0.conv1.weight." in message
    assert message.endswith("accept new values for the missing ones with --allow-partial-weights.")


def test_a_file_that_fills_a_part_is_enough_if_told_so(write_weights: Any, tensors: dict[str, Tensor]) -> None:
    missing = "layer4.0.conv1.weight"
    path = write_weights({key: tensor for key, tensor in tensors.items() if key != missing})
    backbone = build_backbone(NAME, weights=path, allow_partial_weights=True)
    assert backbone.report == WeightsReport(path, len(tensors) - 1, (missing,), ())
    state = backbone.module.state_dict()
    assert torch.equal(state["conv1.0.weight"], tensors["conv1.0.weight"])
    assert not torch.equal(state[missing], tensors[missing])


@pytest.mark.parametrize("allow_partial", [False, True])
def test_a_file_of_another_model_is_refused_even_if_a_part_is_enough(write_weights: Any, allow_partial: bool) -> None:
    path = write_weights(dict(timm.create_model("test_vit", num_classes=0).state_dict()))
    with pytest.raises(ConfigError, match=r"fills 0 of \d+ tensors of the backbone; missing: conv1\.0\.weight, ") as e:
        build_backbone(NAME, weights=path, allow_partial_weights=allow_partial)
    assert str(e.value).endswith("Check that the file belongs to this backbone.")


@pytest.mark.parametrize("allow_partial", [False, True])
def test_tensors_of_other_shapes_are_refused_even_if_a_part_is_enough(
    write_weights: Any, tensors: dict[str, Tensor], allow_partial: bool
) -> None:
    path = write_weights({**tensors, "conv1.0.weight": torch.zeros(2, 3, 5, 5)})
    with pytest.raises(ConfigError) as caught:
        build_backbone(NAME, weights=path, allow_partial_weights=allow_partial)
    own = tuple(tensors["conv1.0.weight"].shape)
    assert str(caught.value) == (
        f"weights: 1 tensors of {path} have another shape, the first is 'conv1.0.weight', got (2, 3, 5, 5), "
        f"expected {own}. Check --backbone, --backbone-args and --image-size."
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(write_weights: Any, tensors: dict[str, Tensor], value: float) -> None:
    broken = tensors["conv1.0.weight"].clone()
    broken[0, 0, 0, 0] = value
    path = write_weights({**tensors, "conv1.0.weight": broken})
    with pytest.raises(ConfigError, match=r"numbers that are not finite, the first in 'conv1\.0\.weight'"):
        build_backbone(NAME, weights=path)


class Canary:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


HEADER = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PK\x03\x04" + bytes(100), id="zip, as torch.save writes"),
        pytest.param(b"\xff" * 64, id="header longer than the file"),
        pytest.param(len(HEADER).to_bytes(8, "little") + HEADER, id="numbers cut off"),
        pytest.param(len(HEADER).to_bytes(8, "little") + HEADER + bytes(8), id="numbers left over"),
        pytest.param((2).to_bytes(8, "little") + b"{]", id="header that is no JSON"),
    ],
)
def test_a_file_that_is_not_safetensors_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        build_backbone(NAME, weights=str(path))
    assert str(caught.value).startswith(f"weights: {path} is not a safetensors file (")
    assert str(caught.value).endswith("Convert it with safetensors.torch.save_file.")


def test_a_pickle_is_refused_without_being_opened(tmp_path: Path) -> None:
    path, canary = tmp_path / "weights.safetensors", tmp_path / "canary"
    path.write_bytes(pickle.dumps(Canary(canary)))
    pickle.loads(path.read_bytes())  # the canary works
    assert canary.exists()
    canary.unlink()
    with pytest.raises(ConfigError, match="is not a safetensors file"):
        build_backbone(NAME, weights=str(path))
    assert not canary.exists()


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "none.safetensors"
    with pytest.raises(ConfigError, match=re.escape(f"weights: there is no file {path}, expected 'pretrained', ")):
        build_backbone(NAME, weights=str(path))
