"""Mixing: pixels that tell where they came from, and truths in three states worked out by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from manylabel.augment.mixing import (
    MIXERS,
    MIXES,
    MixSettings,
    cut_mix,
    mix_images,
    mix_up,
    parse_mix,
    plan_mix,
    tile_mosaic,
    unite_truth,
    weigh_truth,
)
from manylabel.errors import ConfigError

H, W = 20, 30

STATES = {"P": (1.0, True), "A": (0.0, True), "U": (0.0, False)}


def read_states(rows: Sequence[str]) -> tuple[Any, Any]:
    """Return truth and known from texts such as "PAU": present, absent, unknown."""
    cells = [[STATES[state] for state in row] for row in rows]
    return np.array([[c[0] for c in row] for row in cells], np.float32), np.array(
        [[c[1] for c in row] for row in cells]
    )


def write_states(truth_L: Any, known_L: Any) -> list[float | str]:
    """Return the cells of a mix: a share, or U."""
    return [float(value) if is_known else "U" for value, is_known in zip(truth_L, known_L, strict=True)]


def blank(value: int) -> Any:
    return np.full((H, W, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("rows", "weights", "united", "weighed"),
    [
        # All nine pairs of states, a quarter of the first image and three quarters of the second.
        pytest.param(
            ("PPPAAAUUU", "PAUPAUPAU"), (0.25, 0.75),
            [1, 1, 1, 1, 0, "U", 1, "U", "U"],
            [1, 0.25, "U", 0.75, 0, "U", "U", "U", "U"],
            id="two images",
        ),
        pytest.param(
            ("PPPAAAUUU", "PAUPAUPAU"), (1.0, 0.0),
            [1, 1, 1, 0, 0, 0, "U", "U", "U"], [1, 1, 1, 0, 0, 0, "U", "U", "U"],
            id="an image of weight 0 is not there",
        ),
        pytest.param(
            ("PAAA", "AAUA", "AAPA", "PAAU"), (0.1, 0.2, 0.3, 0.4),
            [1, 0, 1, "U"], [0.5, 0, "U", "U"],
            id="four images",
        ),
    ],
)  # fmt: skip
def test_the_truth_of_a_mix_in_three_states(rows: Any, weights: Any, united: Any, weighed: Any) -> None:
    truth_KL, known_KL = read_states(rows)
    assert write_states(*unite_truth(truth_KL, known_KL, weights)) == united
    assert write_states(*weigh_truth(truth_KL, known_KL, weights)) == pytest.approx(weighed)


@pytest.mark.parametrize("combine", [unite_truth, weigh_truth])
def test_what_stands_in_an_unknown_cell_never_matters(combine: Any) -> None:
    truth_KL, known_KL = read_states(("PAU", "AUU"))
    other = np.where(known_KL, truth_KL, 1).astype(np.float32)
    first, second = combine(truth_KL, known_KL, (0.5, 0.5)), combine(other, known_KL, (0.5, 0.5))
    assert write_states(*first) == write_states(*second)
    assert first[0].tolist() == second[0].tolist()  # an unknown cell holds 0


@pytest.mark.parametrize("combine", [unite_truth, weigh_truth])
def test_truth_is_what_a_batch_holds(combine: Any) -> None:
    truth_L, known_L = combine(*read_states(("PA", "AA")), (0.5, 0.5))
    assert (truth_L.dtype, known_L.dtype) == (np.float32, np.bool_)


def test_mixup_lays_images_over_each_other_by_their_weights() -> None:
    for seed in range(10):
        mixed, (first, second) = mix_up([blank(200), blank(100)], 1.0, np.random.default_rng(seed))
        assert first + second == pytest.approx(1)
        assert np.abs(mixed - (200 * first + 100 * second)).max() <= 0.5
        assert mixed.dtype == np.uint8


def test_cutmix_pastes_a_rectangle_from_the_same_place_and_weighs_by_its_area() -> None:
    first = np.arange(H * W, dtype=np.uint16).reshape(H, W, 1).repeat(3, 2)
    for seed in range(30):
        images = [(first % 251).astype(np.uint8), blank(255)]
        mixed, weights = cut_mix(images, 1.0, np.random.default_rng(seed))
        is_pasted = (mixed == 255).all(axis=2)
        assert weights == pytest.approx((1 - is_pasted.mean(), is_pasted.mean()))
        assert np.array_equal(mixed[~is_pasted], images[0][~is_pasted])
        if is_pasted.any():
            rows, columns = np.nonzero(is_pasted)
            assert is_pasted.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            swapped, _ = cut_mix(images[::-1], 1.0, np.random.default_rng(seed))
            assert np.array_equal(swapped[is_pasted], images[0][is_pasted])


def test_mosaic_shows_four_whole_images() -> None:
    for seed in range(10):
        images = [blank(value) for value in (10, 20, 30, 40)]
        mixed, weights = tile_mosaic(images, 1.0, np.random.default_rng(seed))
        assert [float((mixed[..., 0] == value).mean()) for value in (10, 20, 30, 40)] == pytest.approx(list(weights))
        assert sum(weights) == pytest.approx(1)
        assert min(weights) >= 0.3 * 0.3 - 0.05  # the point lies at 0.3 to 0.7, rounded to pixels
        assert [int(mixed[y, x, 0]) for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1))] == [10, 20, 30, 40]
    marked = blank(0)
    marked[:, -6:] = 255  # the right edge of the first image is still there, at the right of its quarter
    mixed, weights = tile_mosaic([marked, blank(1), blank(1), blank(1)], 1.0, np.random.default_rng(0))
    assert mixed[..., 0].max() > 200


def test_one_pixel_can_be_mixed() -> None:
    for name, mixer in MIXERS.items():
        images = [np.full((2, 2, 3), value, np.uint8) for value in range(mixer.num_images)]
        mixed, weights = mixer.mix(images, 1.0, np.random.default_rng(0))
        assert mixed.shape == (2, 2, 3), name
        assert sum(weights) == pytest.approx(1)


def test_weights_follow_the_beta_distribution_of_alpha() -> None:
    """Beta(alpha, alpha) has the mean 1/2 and the variance 1 / (4 (2 alpha + 1))."""

    def measure(alpha: float) -> Any:
        return [mix_up([blank(0), blank(0)], alpha, np.random.default_rng(seed))[1][0] for seed in range(500)]

    assert np.mean(measure(1.0)) == pytest.approx(0.5, abs=0.04)
    assert np.std(measure(1.0)) == pytest.approx(np.sqrt(1 / 12), abs=0.02)
    assert np.std(measure(8.0)) == pytest.approx(np.sqrt(1 / 68), abs=0.02)


@pytest.mark.parametrize("name", list(MIXERS))
def test_partners_are_other_rows_each_as_likely_and_not_twice(name: str) -> None:
    settings = MixSettings(name, share=1.0)
    counts: Counter[int] = Counter()
    for seed in range(3000):
        plan = plan_mix(settings, 2, 6, seed)
        assert plan is not None
        rows = [row for row, _ in plan.partners]
        assert len(rows) == len(set(rows)) == settings.num_partners
        counts.update(rows)
    assert set(counts) == {0, 1, 3, 4, 5}
    mean = 3000 * settings.num_partners / 5
    assert all(abs(count - mean) < 0.12 * mean for count in counts.values())


def test_a_plan_depends_on_the_images_own_seed_alone() -> None:
    np.random.seed(1)
    first, again, other = (plan_mix(MixSettings("mosaic", share=1.0), 4, 50, seed) for seed in (7, 7, 8))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.partners == again.partners
    assert first.rng.random() == again.rng.random()
    assert first.partners != other.partners


def test_as_many_images_are_mixed_as_share_says() -> None:
    num_mixed = sum(plan_mix(MixSettings("cutmix", share=0.3), 0, 9, seed) is not None for seed in range(1000))
    assert 260 <= num_mixed <= 340
    assert all(plan_mix(MIXES["none"], 0, 9, seed) is None for seed in range(50))
    assert plan_mix(MixSettings("cutmix", share=0.0), 0, 9, 0) is None


def test_a_table_with_few_images_repeats_a_partner_and_one_image_is_never_mixed() -> None:
    plan = plan_mix(MixSettings("mosaic", share=1.0), 0, 2, 3)
    assert plan is not None
    assert [row for row, _ in plan.partners] == [1, 1, 1]
    assert plan_mix(MixSettings("mosaic", share=1.0), 0, 1, 3) is None


def test_a_mix_has_pixels_and_truth_of_one_draw() -> None:
    truth_KL, known_KL = read_states(("PA", "AP"))
    settings = MixSettings("cutmix", share=1.0)
    pixels, truth_L, known_L = mix_images(
        settings, [blank(0), blank(255)], truth_KL, known_KL, np.random.default_rng(4)
    )
    share = float((pixels[..., 0] == 255).mean())
    assert 0 < share < 1
    assert truth_L.tolist() == pytest.approx([1 - share, share])
    assert known_L.all()


@pytest.mark.parametrize("name", list(MIXES))
def test_a_mix_is_read_by_its_name(name: str) -> None:
    assert parse_mix(name) == MIXES[name]


def test_settings_after_a_comma_change_a_mix() -> None:
    assert parse_mix(" cutmix , alpha = 2, share=0.25,truth=union") == MixSettings("cutmix", 0.25, 2.0, "union")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "cutmx",
            "mix: unknown mix 'cutmx' (did you mean 'cutmix'?), expected none, mixup, cutmix, mosaic.",
            id="misspelt mix",
        ),
        pytest.param("", "mix: unknown mix '', expected none, mixup, cutmix, mosaic.", id="nothing"),
        pytest.param(
            "mosaic,alpha=1", "mix: mosaic has no setting 'alpha', expected share, truth.", id="not of this mix"
        ),
        pytest.param(
            "none,share=1", "mix: none has no setting 'share', expected nothing after the name.", id="none has none"
        ),
        pytest.param(
            "cutmix,aplha=1,share=2,alpha=0,truth=unoin,share=half",
            "mix: cutmix has no setting 'aplha' (did you mean 'alpha'?), expected share, alpha, truth.\n"
            "mix share: out of range, got 2.0, expected 0 to 1.\n"
            "mix alpha: out of range, got 0.0, expected 0.01 to 100.\n"
            "mix truth: unknown choice 'unoin' (did you mean 'union'?), expected union, weighted.\n"
            "mix share: not a number, got 'half'.",
            id="all at once",
        ),
    ],
)
def test_a_mistake_in_a_mix_is_said_with_its_cure(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_mix(text)
    assert str(caught.value) == message


def test_settings_that_make_no_sense_are_refused_in_python_too() -> None:
    with pytest.raises(ConfigError) as caught:
        MixSettings("cutmix", share=-1, alpha=True, truth="either")
    assert str(caught.value) == (
        "mix share: out of range, got -1, expected 0 to 1.\n"
        "mix alpha: out of range, got True, expected 0.01 to 100.\n"
        "mix truth: unknown choice 'either', expected union, weighted."
    )
