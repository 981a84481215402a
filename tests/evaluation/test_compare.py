"""Two models on the same images: aligned by name, compared in pairs, and called different only where it is sure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import false_discovery_control

from manylabel.decisions.policy import DecisionPolicy
from manylabel.errors import ConfigError, DataError
from manylabel.evaluation.compare import Comparison, Contender, compare_predictions, find_discoveries
from manylabel.evaluation.report.comparison import build_comparison, print_comparison, save_comparison
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

Make = Callable[..., Contender]


def build(name: str, separation: float, names: tuple[str, ...] | None = None, noise_seed: int = 0) -> Contender:
    """A model of 300 images and six labels; another separation is another model of the same images."""
    generator = np.random.default_rng(5)
    truth_NL = generator.random((300, 6)) < np.linspace(0.05, 0.4, 6)
    noise_NL = generator.normal(size=truth_NL.shape)
    noise_NL += 0.5 * np.random.default_rng(noise_seed).normal(size=truth_NL.shape)
    probs_NL = 1 / (1 + np.exp(-(separation * truth_NL + noise_NL - 1)))
    space = LabelSpace(names if names is not None else tuple("abcdef"))
    images = tuple(f"{row}.jpg" for row in range(300))
    predictions = Predictions(images, space, probs_NL, Targets.from_dense(truth_NL), data_digest="data-1")
    return Contender(name, predictions, DecisionPolicy(space, (0.5,) * 6))


def shuffle(side: Contender) -> Contender:
    """The same answers, images and labels in another order."""
    space = LabelSpace(side.predictions.label_space.names[::-1])
    mixed = side.predictions.select(side.predictions.images[::-1])
    assert mixed.targets is not None
    targets = mixed.targets.select_labels([5, 4, 3, 2, 1, 0])
    predictions = Predictions(mixed.images, space, mixed.probs_NL[:, ::-1], targets)
    return Contender(side.name, predictions, DecisionPolicy(space, side.policy.thresholds[::-1]))


def without_truth(side: Contender, num_images: int = 300) -> Contender:
    """The answers alone, of the first images."""
    found = side.predictions
    predictions = Predictions(found.images[:num_images], found.label_space, found.probs_NL[:num_images])
    return Contender(side.name, predictions, side.policy)


WORSE, BETTER = build("old", 1.0), build("new", 3.0, noise_seed=1)


def compare(first: Contender, second: Contender, **wanted: Any) -> Comparison:
    return compare_predictions(first, second, num_resamples=100, **wanted)


def test_a_better_model_is_called_better_and_the_sentence_says_by_how_much() -> None:
    found = compare(WORSE, BETTER)
    row = found.headline
    assert 0 < row.low < row.difference < row.high
    assert row.difference == pytest.approx(row.second - row.first)
    assert found.count("better") >= 4
    assert found.count("better") + found.count("worse") + found.count("undecided") == 6
    sentence = build_comparison(found)["sentence"]
    better, undecided = found.count("better"), found.count("undecided")
    assert sentence == (
        f"new beats old on macro average precision by {row.difference:.3f} (95% interval {row.low:.3f} to "
        f"{row.high:.3f}); better on {better} labels, worse on 0, undecided on {undecided}."
    )


def test_turned_round_every_difference_has_the_other_sign() -> None:
    there, back = compare(WORSE, BETTER), compare(BETTER, WORSE)
    assert back.headline.difference == pytest.approx(-there.headline.difference)
    assert back.headline.low == pytest.approx(-there.headline.high)
    assert (back.count("worse"), back.count("better")) == (there.count("better"), there.count("worse"))
    assert build_comparison(back)["sentence"].startswith("old is behind new on macro average precision by 0.")


def test_a_model_and_itself_cannot_be_told_apart() -> None:
    found = compare(WORSE, Contender("again", WORSE.predictions, WORSE.policy))
    assert (found.headline.difference, found.headline.low, found.headline.high) == (0, 0, 0)
    assert found.count("undecided") == 6
    assert "again and old cannot be told apart on macro average precision" in build_comparison(found)["sentence"]


def test_models_that_differ_by_noise_alone_are_hardly_ever_told_apart() -> None:
    found = [compare(build("a", 2.0, noise_seed=seed), build("b", 2.0, noise_seed=seed + 50)) for seed in range(12)]
    # 72 labels without a difference, of which the procedure lets at most a few through.
    assert sum(each.count("better") + each.count("worse") for each in found) <= 4


def test_images_and_labels_are_matched_by_name() -> None:
    plain, mixed = compare(WORSE, BETTER), compare(WORSE, shuffle(BETTER))
    assert mixed.to_dict() == plain.to_dict()


def test_what_only_one_side_has_is_refused_unless_the_common_part_is_asked_for() -> None:
    other = build("new", 3.0, names=("a", "b", "c", "d", "e", "x"), noise_seed=1)
    fewer = without_truth(other, 299)
    expected = (
        r"^old and new: only old has label f; only new has label x; only old has image 299\.jpg\. "
        r"Pass --common to compare what both have\.$"
    )
    with pytest.raises(DataError, match=expected):
        compare(WORSE, fewer)
    found = compare(WORSE, fewer, common=True)
    assert (found.num_images, found.num_labels) == (299, 5)
    assert found.left_out["labels_of_second"] == ["x"]
    assert found.left_out["images_of_first"] == ["299.jpg"]


def test_two_truths_none_and_nothing_in_common_are_refused() -> None:
    with pytest.raises(DataError, match="neither has the truth"):
        compare(without_truth(WORSE), without_truth(BETTER))
    assert BETTER.predictions.targets is not None
    turned = ~BETTER.predictions.targets.present_NL()
    found = BETTER.predictions
    other = Predictions(found.images, found.label_space, found.probs_NL, Targets.from_dense(turned))
    with pytest.raises(DataError, match=r"their truth differs in 1,800 cells\. Evaluate both"):
        compare(WORSE, Contender("new", other, BETTER.policy))
    strange = build("new", 3.0, names=tuple("uvwxyz"))
    with pytest.raises(DataError, match=r"they have no labels in common \('a' here, 'u' there\)"):
        compare(WORSE, strange, common=True)
    with pytest.raises(ConfigError, match="--by: unknown metric 'f2', expected average_precision"):
        compare(WORSE, BETTER, by="f2")


def test_a_cell_that_one_side_does_not_know_counts_for_neither() -> None:
    truth = BETTER.predictions.targets
    assert truth is not None
    known_NL = np.ones(truth.shape, np.bool_)
    known_NL[:, 0] = False
    found = BETTER.predictions
    blind = Predictions(
        found.images, found.label_space, found.probs_NL, Targets.from_dense(truth.present_NL(), known_NL)
    )
    row = compare(WORSE, Contender("new", blind, BETTER.policy)).labels[0]
    assert (row["num_known"], row["verdict"]) == (0, "undecided")
    assert math.isnan(row["difference"])


def test_images_that_a_model_learned_from_are_said() -> None:
    seen = Contender("new", BETTER.predictions, BETTER.policy, trained_on=frozenset({"0.jpg", "1.jpg", "z.jpg"}))
    assert compare(WORSE, seen).warnings == [
        "new was trained or tuned on 2 of these 300 images: it looks better here than it is."
    ]
    space = BETTER.predictions.label_space
    tuned = Contender("new", BETTER.predictions, DecisionPolicy(space, (0.5,) * 6, chosen_on="data-1"))
    assert "The thresholds of new were chosen on these very images" in compare(WORSE, tuned).warnings[0]


def test_groups_widen_the_interval_of_images_that_repeat_each_other() -> None:
    group_of = {f"{row}.jpg": str(row // 50) for row in range(300)}
    alone, together = compare(WORSE, BETTER), compare(WORSE, BETTER, group_of=group_of)
    assert together.headline.difference == alone.headline.difference
    assert together.headline.high - together.headline.low != alone.headline.high - alone.headline.low


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.sampled_from([0.01, 0.05, 0.2]))
@settings(max_examples=60, deadline=None)
def test_discoveries_are_those_of_benjamini_and_hochberg(p_values: list[float], share: float) -> None:
    expected = false_discovery_control(p_values) <= share
    found = find_discoveries(np.array(p_values), share)
    # scipy multiplies where we divide: on the very edge the last bit may differ.
    is_edge = np.isclose(false_discovery_control(p_values), share, rtol=1e-9)
    assert (found == expected)[~is_edge].all()


def test_one_image_and_rare_labels_give_an_answer_without_a_verdict() -> None:
    space = LabelSpace(("a", "b"))
    targets = Targets.from_dense(np.array([[True, False]]))
    policy = DecisionPolicy(space, (0.5, 0.5))
    sides = [Contender(n, Predictions(("x.jpg",), space, np.array([[p, 0.2]]), targets), policy) for n, p in (("m", 0.4), ("n", 0.9))]  # fmt: skip  # noqa: E501
    found = compare(*sides)
    assert found.count("undecided") == 2
    json.dumps(build_comparison(found), allow_nan=False)


def test_the_terminal_fits_80_columns_and_the_page_shows_names_as_text(tmp_path: Path) -> None:
    names = ("<script>alert(1)</script>", "x" * 300, "[red]c[/red]", "d", "e", "f")
    found = compare(build("old", 1.0, names), build("<b>new</b>", 3.0, names, noise_seed=1))
    console = Console(width=80, record=True, file=(tmp_path / "out.txt").open("w", encoding="utf-8"))
    print_comparison(found, console)
    text = console.export_text()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "undecided" in text
    assert "[red]c[/red]" in text
    save_comparison(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert(1)</script>" not in page
    assert "&lt;b&gt;new&lt;/b&gt; beats old" in page
    assert page.count('scope="row" class="name"') == 6
