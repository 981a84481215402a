"""Heads: the first answer is how frequent each label is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from manylabel.errors import ConfigError
from manylabel.models.backbones import Backbone
from manylabel.models.classifier import build_classifier
from manylabel.models.heads import HEADS
from manylabel.models.scoring import logits_to_probs


class MeanColour(nn.Module):
    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return images_BCHW.mean((2, 3))


BACKBONE = Backbone(MeanColour(), 3, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", None)


@pytest.mark.parametrize("name", list(HEADS))
def test_a_new_head_answers_with_the_prevalence_of_each_label(name: str) -> None:
    prevalence = [0.5, 0.01, 0.9]
    head = HEADS[name](8, prevalence)
    probs_BL = logits_to_probs(head(torch.zeros(2, 8)))
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
    probs = logits_to_probs(HEADS[name](4, [prevalence])(torch.zeros(1, 4)))
    assert probs.item() == pytest.approx(expected, abs=1e-6)


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


def test_an_unknown_head_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"^head: unknown head 'liner' \(did you mean 'linear'\?\), expected linear"):
        build_classifier(BACKBONE, [0.5], head="liner")
