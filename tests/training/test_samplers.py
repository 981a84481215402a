"""Samplers for label sets: weights worked by hand, draws that keep to them, and what is said about them."""

from __future__ import annotations

import numpy as np
import pytest

from manylabel.errors import ConfigError
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets
from manylabel.training.loading import EpochSampler
from manylabel.training.samplers import (
    SamplerSettings,
    describe_double_weighting,
    describe_sampling,
    draw_rows,
    parse_sampler,
    weigh_images,
)

# Of 16 images the first has the rare label (1/16), the first eight the common one (1/2), and the others none.
TRUTH_NL = np.array([[row == 0, row < 8] for row in range(16)])
TARGETS = Targets.from_dense(TRUTH_NL)


def test_an_image_is_repeated_for_its_rarest_label() -> None:
    weights_N = weigh_images(SamplerSettings("repeat", 0.25), TARGETS)
    assert weights_N is not None
    # sqrt((1/4) / (1/16)) = 2 for the first image, 1 for the 15 others, scaled from 17 to 16 images.
    np.testing.assert_allclose(weights_N, np.array([2.0] + [1.0] * 15) * 16 / 17)


def test_balance_draws_labels_evenly_and_leaves_bare_images_their_share() -> None:
    weights_N = weigh_images(SamplerSettings("balanced"), TARGETS)
    assert weights_N is not None
    # Half of 8 draws go to the one image of the rare label, half to the eight of the common one.
    np.testing.assert_allclose(weights_N, [4.5] + [0.5] * 7 + [1.0] * 8)


@pytest.mark.parametrize("name", ["repeat", "balanced"])
def test_an_unknown_cell_counts_as_if_its_image_had_no_say_in_the_label(name: str) -> None:
    known_NL = np.ones_like(TRUTH_NL)
    known_NL[8:, 0] = False  # the rare label now stands on 1 of 8 images where it is known
    weights = weigh_images(SamplerSettings(name, 0.5), Targets.from_dense(TRUTH_NL, known_NL))
    other_truth_NL = TRUTH_NL | ~known_NL
    same = weigh_images(SamplerSettings(name, 0.5), Targets.from_dense(other_truth_NL, known_NL))
    np.testing.assert_array_equal(weights, same)
    if name == "repeat":
        np.testing.assert_allclose(weights, np.array([2.0] + [1.0] * 15) * 16 / 17)  # sqrt((1/2) / (1/8))


def test_each_row_is_drawn_its_weight_rounded_up_or_down_and_right_on_average() -> None:
    weights_N = np.array([2.3, 0.4, 0.3, 1.0])
    counts = np.array(
        [np.bincount(draw_rows(weights_N, np.random.default_rng(seed)), minlength=4) for seed in range(3000)]
    )
    assert (counts.sum(axis=1) == 4).all()
    assert (counts >= np.floor(weights_N)).all()
    assert (counts <= np.ceil(weights_N)).all()
    np.testing.assert_allclose(counts.mean(axis=0), weights_N, atol=0.04)


@pytest.mark.parametrize("start", [1, 7, 16])
def test_a_weighted_epoch_goes_on_where_it_left_and_depends_on_seed_and_epoch(start: int) -> None:
    weights_N = weigh_images(SamplerSettings("balanced"), TARGETS)
    sampler, again = EpochSampler(16, 3, weights_N), EpochSampler(16, 3, weights_N)
    sampler.start_epoch(2)
    whole = list(sampler)
    again.start_epoch(2, start=start)
    assert list(again) == whole[start:]
    assert len(whole) == 16
    again.start_epoch(1)
    assert list(again) != whole


def test_an_image_that_comes_again_is_changed_in_another_way() -> None:
    drawn = list(EpochSampler(16, 0, weigh_images(SamplerSettings("balanced"), TARGETS)))
    assert len({row for row, _ in drawn}) < len(drawn) == len(set(drawn))


def test_what_is_shown_of_each_label_is_told_with_the_largest_change_first() -> None:
    weights_N = weigh_images(SamplerSettings("balanced"), TARGETS)
    assert weights_N is not None
    text = describe_sampling(weights_N, TARGETS, LabelSpace(("rare", "common")))
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["rare", "6.25%", "28.12%"],  # 4.5 of 16
        ["common", "50.00%", "50.00%"],
    ]


def test_of_many_labels_ten_are_told_and_no_line_is_wider_than_a_terminal() -> None:
    truth_NL = np.random.default_rng(0).random((50, 30)) < 0.2
    targets = Targets.from_dense(truth_NL)
    weights_N = weigh_images(SamplerSettings("repeat", 0.5), targets)
    assert weights_N is not None
    lines = describe_sampling(weights_N, targets, LabelSpace(tuple("x" * 90 + str(i) for i in range(30)))).splitlines()
    assert len(lines) == 12
    assert lines[-1] == "and 20 labels that change less"
    assert max(map(len, lines)) <= 80


def test_sampler_and_weights_together_are_warned_of() -> None:
    assert describe_double_weighting(parse_sampler("balanced"), "weighted_bce,cap=10") == (
        "Warning: the sampler balanced shows rare labels more and the loss weighted_bce weighs them more, so they "
        "count twice. Use --sampler shuffle, or --loss bce."
    )
    assert describe_double_weighting(parse_sampler("shuffle"), "weighted_bce") == ""
    assert describe_double_weighting(parse_sampler("balanced"), "bce") == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("repet", "sampler: unknown sampler 'repet' (did you mean 'repeat'?)"),
        ("repeat,treshold=0.1", "sampler: repeat has no setting 'treshold' (did you mean 'threshold'?)"),
        ("balanced,threshold=0.1", "sampler: balanced has no setting 'threshold'"),
        ("repeat,threshold=x", "sampler threshold: not a number"),
        ("repeat,threshold=0", "sampler threshold: out of range"),
    ],
)
def test_a_sampler_that_does_not_exist_is_refused_with_the_nearest(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_sampler(text)
    assert str(caught.value).startswith(message)
