"""Heads: the first answer is how frequent each label is, every head fits every backbone, and a text says which."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from manylabel.bundle.export import save_bundle
from manylabel.bundle.manifest import Manifest
from manylabel.data.preprocess import Preprocess
from manylabel.decisions.policy import DecisionPolicy
from manylabel.errors import ConfigError
from manylabel.labels.space import LabelSpace
from manylabel.models.backbones import Backbone, build_backbone
from manylabel.models.classifier import build_classifier
from manylabel.models.heads import HEADS, HeadKind, parse_head
from manylabel.models.scoring import logits_to_probs

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "losses_heads_goals.md"


class MeanColour(nn.Module):
    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return images_BCHW.mean((2, 3))


BACKBONE = Backbone(MeanColour(), 3, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", None)


def draw_features(kind: HeadKind, num_features: int, num_images: int = 2) -> torch.Tensor:
    shape = (num_images, num_features) if kind.takes == "vector" else (num_images, 4, num_features)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


# ---------------------------------------------------------------------------------------------------------------------
# Starting at the prior.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(HEADS))
def test_a_new_head_answers_with_the_prevalence_of_each_label(name: str) -> None:
    torch.manual_seed(0)
    prevalence = [0.5, 0.01, 0.9]
    head = HEADS[name].build(8, prevalence).eval()
    probs_BL = logits_to_probs(head(draw_features(HEADS[name], 8)))
    assert probs_BL.detach().numpy() == pytest.approx(np.tile(prevalence, (2, 1)), abs=0.1)
    with torch.no_grad():
        [parameter.zero_() for name, parameter in head.named_parameters() if "bias" not in name]
    probs_BL = logits_to_probs(head(draw_features(HEADS[name], 8)))
    assert probs_BL.detach().numpy() == pytest.approx(np.tile(prevalence, (2, 1)), abs=1e-6)


@pytest.mark.parametrize("name", list(HEADS))
@pytest.mark.parametrize(
    ("prevalence", "expected"),
    [
        pytest.param(0.0, 0.001, id="never present"),
        pytest.param(1.0, 0.999, id="always present"),
        pytest.param(math.nan, 0.5, id="known in no image"),
    ],
)
def test_a_label_that_the_training_images_do_not_show_starts_finite(
    name: str, prevalence: float, expected: float
) -> None:
    torch.manual_seed(0)
    probs = logits_to_probs(HEADS[name].build(4, [prevalence]).eval()(draw_features(HEADS[name], 4, 1)))
    assert probs.item() == pytest.approx(expected, abs=0.1)


# ---------------------------------------------------------------------------------------------------------------------
# On a backbone.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_labels", [1, 2, 500])
def test_a_classifier_gives_a_logit_per_image_and_label(num_labels: int) -> None:
    classifier = build_classifier(BACKBONE, [0.2] * num_labels)
    assert classifier(torch.zeros(4, 3, 8, 8)).shape == (4, num_labels)


def test_a_classifier_gives_logits_and_no_probabilities() -> None:
    classifier = build_classifier(BACKBONE, [0.01, 0.99])
    logits = classifier(torch.zeros(1, 3, 8, 8))[0]
    assert logits.tolist() == pytest.approx([-math.log(99), math.log(99)], rel=1e-5)


def test_dropout_leaves_features_out_in_training_only() -> None:
    classifier = build_classifier(BACKBONE, [0.5], dropout=0.9)
    nn.init.ones_(classifier.head.weight)  # type: ignore[arg-type]
    images = torch.ones(200, 3, 4, 4)
    torch.manual_seed(0)
    assert len(classifier.train()(images).unique()) > 1
    assert classifier.eval()(images).unique().tolist() == pytest.approx([3.0])


@pytest.mark.parametrize("head", list(HEADS))
@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit", "test_mambaout"])
def test_what_is_extracted_is_what_the_head_answers(name: str, head: str) -> None:
    backbone = build_backbone(name, image_size_px=64)
    classifier = build_classifier(backbone, [0.1, 0.2, 0.3], head).eval()
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(classifier.answer(classifier.extract(images)), classifier(images))
    assert classifier(images).shape == (2, 3)


@pytest.mark.parametrize("head", list(HEADS))
@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "test_convnext", "test_vit"])
def test_every_weight_that_is_trained_has_a_gradient(name: str, head: str) -> None:
    # mobilenetv3 has a convolution and convnext a norm after pooling, which tokens do not pass.
    classifier = build_classifier(build_backbone(name, image_size_px=64), [0.1, 0.2, 0.3], head)
    classifier(torch.randn(2, 3, 64, 64)).square().sum().backward()
    learning = {name: parameter for name, parameter in classifier.named_parameters() if parameter.requires_grad}
    assert [name for name, parameter in learning.items() if parameter.grad is None] == []
    assert any(name.startswith("backbone.") for name in learning)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        pytest.param("test_resnet", "csra,num_heads=3", id="convolutional"),
        pytest.param("test_vit", "query2label", id="transformer"),
        *[
            pytest.param(name, head, marks=pytest.mark.slow)
            for name in ("resnet10t", "mobilenetv1_100", "test_convnext", "test_vit")
            for head in ("mlp", "csra,num_heads=3", "ml_decoder,num_groups=2,hidden=32", "query2label")
            if (name, head) != ("test_vit", "query2label")
        ],
    ],
)
def test_every_head_leaves_as_a_bundle_that_answers_like_torch(
    name: str, head: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, image_size_px=64)
    classifier = build_classifier(backbone, [0.2, 0.5, 0.9], head).eval()
    with torch.no_grad():  # away from the priors, where all images get the same answer
        [parameter.add_(0.05 * torch.randn_like(parameter)) for parameter in classifier.head.parameters()]
    space = LabelSpace(("a", "b", "c"))
    preprocess = Preprocess(height_px=64, width_px=64, mean=backbone.mean, std=backbone.std)
    provenance = {"name": "x", "num_train": 1, "num_val": 1, "monitor": "loss", "monitor_value": 1.0, "created": ""}
    facts = {"name": name, "args": {}, "weights": "none"}
    policy = DecisionPolicy(space, (0.5,) * 3, "f1", ("global",) * 3, "x")
    manifest = Manifest(space, preprocess, policy, facts, {"name": head}, provenance)
    images_BCHW = np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)
    bundle, parity = save_bundle(tmp_path / "bundle", classifier, manifest, images_BCHW)
    assert parity.max_difference < 1e-5
    (probs_BL,) = onnxruntime.InferenceSession(str(bundle.onnx_path)).run(None, {"images": images_BCHW})
    expected_BL = logits_to_probs(classifier(torch.from_numpy(images_BCHW))).detach().numpy()
    assert probs_BL == pytest.approx(expected_BL, abs=1e-5)
    assert np.ptp(probs_BL, axis=0).min() > 1e-4
    assert capfd.readouterr() == ("", "")


def test_a_head_of_ones_own_takes_the_place_of_a_name() -> None:
    own = HeadKind(lambda num_features, prevalence_L: nn.Linear(num_features, len(prevalence_L)), "vector")
    assert build_classifier(BACKBONE, [0.5, 0.5], own)(torch.zeros(1, 3, 8, 8)).shape == (1, 2)


def test_a_head_that_looks_at_positions_refuses_a_backbone_without_any() -> None:
    with pytest.raises(ConfigError) as caught:
        build_classifier(BACKBONE, [0.5], "csra")
    assert str(caught.value) == (
        "head: this head looks at every position of an image, and MeanColour gives none (it has no forward_features). "
        "Take --head linear or --head mlp, or another --backbone."
    )


# ---------------------------------------------------------------------------------------------------------------------
# The text.
# ---------------------------------------------------------------------------------------------------------------------


def test_an_unknown_head_suggests_the_nearest() -> None:
    message = r"^head: unknown head 'liner' \(did you mean 'linear'\?\), expected linear, mlp, csra, ml_decoder"
    with pytest.raises(ConfigError, match=message):
        build_classifier(BACKBONE, [0.5], head="liner")


def test_a_text_sets_what_it_names() -> None:
    head = build_classifier(BACKBONE, [0.5], "mlp, hidden=16, dropout=0").head
    assert head[0].out_features == 16  # type: ignore[index,union-attr]
    assert parse_head("csra,num_heads=2,residual=1") == ("csra", {"num_heads": 2, "residual": 1.0})


def test_all_problems_of_a_text_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_head("ml_decoder,hiden=4,hidden=4.5,num_groups=0,dropout=nan,dropout=x,dropout=0.1,dropout=0.2")
    assert str(caught.value).splitlines() == [
        "head: unknown setting 'hiden' (did you mean 'hidden'?) of ml_decoder, expected num_groups, hidden, dropout.",
        "head hidden: not a whole number, got '4.5'.",
        "head num_groups: out of range, got '0', expected 1 to 100000.",
        "head dropout: out of range, got 'nan', expected 0 to 0.95.",
        "head dropout: not a number, got 'x'.",
        "head dropout: given twice, got '0.2'.",
    ]


def test_a_head_without_settings_says_so() -> None:
    with pytest.raises(ConfigError, match=r"^head: unknown setting 'hidden' of linear, expected none\.$"):
        parse_head("linear,hidden=4")


@pytest.mark.parametrize("name", list(HEADS))
def test_the_settings_of_a_head_are_the_keywords_of_its_function(name: str) -> None:
    parameters = inspect.signature(HEADS[name].build).parameters.values()
    keywords = {knob.name: knob.default for knob in parameters if knob.kind is knob.KEYWORD_ONLY}
    assert list(keywords) == list(HEADS[name].limits)
    for key, default in keywords.items():
        low, high = HEADS[name].limits[key]
        assert default is None or low <= default <= high
        assert default is None or isinstance(default, int) == isinstance(low, int)


# ---------------------------------------------------------------------------------------------------------------------
# Size, and the page.
# ---------------------------------------------------------------------------------------------------------------------


def count_weights(name: str, num_labels: int, settings: Mapping[str, float] | None = None) -> int:
    given = settings if settings is not None else {}
    return sum(parameter.numel() for parameter in HEADS[name].build(512, [0.1] * num_labels, **given).parameters())


def test_the_page_says_how_many_weights_a_head_has() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([\d,]+) \| ([\d,]+) \|[^|]*\|$", PAGE.read_text("utf-8"), re.MULTILINE)
    shown = {name: (few, many) for name, few, many in rows if name in HEADS}
    assert shown == {name: (f"{count_weights(name, 25):,}", f"{count_weights(name, 1000):,}") for name in HEADS}


@pytest.mark.parametrize("name", list(HEADS))
def test_the_page_gives_every_setting_with_its_default(name: str) -> None:
    (row,) = re.findall(rf"^\| `{name}` \|.*$", PAGE.read_text("utf-8"), re.MULTILINE)
    for key, knob in inspect.signature(HEADS[name].build).parameters.items():
        if knob.kind is knob.KEYWORD_ONLY:
            assert f"`{key}{'' if knob.default is None else f'={knob.default:g}'}`" in row


@pytest.mark.parametrize("text", ["linear", "mlp", "csra", "ml_decoder", "query2label,num_layers=1"])
def test_five_thousand_labels_cost_no_more_than_a_network_has(text: str) -> None:
    name, settings = parse_head(text)
    assert count_weights(name, 5000, settings) < 5_000_000
    head = HEADS[name].build(512, [0.1] * 5000, **settings).eval()
    assert head(draw_features(HEADS[name], 512)).shape == (2, 5000)
