"""Parts of a report's images, by a column of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from manylabel.decisions.policy import DecisionPolicy
from manylabel.errors import DataError
from manylabel.evaluation.evaluate import evaluate_predictions
from manylabel.evaluation.report.html import render_html
from manylabel.evaluation.report.slices import print_slices
from manylabel.evaluation.slices import SLICED_METRICS, slice_predictions
from manylabel.labels.predictions import Predictions


def test_a_slice_scores_as_its_images_alone(make_random: Callable[..., Predictions]) -> None:
    predictions = make_random(share_unknown=0.1)
    policy = DecisionPolicy(predictions.label_space, (0.4,) * 4)
    value_of = {image: "night" if row % 3 == 0 else "day" for row, image in enumerate(predictions.images)}
    day, night = slice_predictions(predictions, policy, "light", value_of, num_resamples=20)
    assert (day.value, day.num_images, night.value, night.num_images) == ("day", 40, "night", 20)
    alone = evaluate_predictions(
        predictions.select([image for image in predictions.images if value_of[image] == "night"]),
        policy,
        num_resamples=20,
    )
    assert {name: night.metrics[name] for name in SLICED_METRICS} == {
        name: alone.metrics[name] for name in SLICED_METRICS
    }


def test_the_parts_are_in_metrics_json_and_in_80_columns(make_random: Callable[..., Predictions]) -> None:
    predictions = make_random()
    policy = DecisionPolicy(predictions.label_space, (0.4,) * 4)
    report = evaluate_predictions(predictions, policy, num_resamples=10)
    assert "slices" not in report.to_dict()
    value_of = {predictions.images[0]: "[red]" + "x" * 90}
    slices = slice_predictions(predictions, policy, "place", value_of, num_resamples=10)
    report = replace(report, slices=slices)
    assert [part["num_images"] for part in report.to_dict()["slices"]] == [59, 1]
    page = render_html([report], title="Parts")
    assert "Parts of the images, by <bdi>place</bdi>" in page
    assert f'<bdi>[red]{"x" * 90}</bdi></th><td class="number">1</td>' in page
    assert '<bdi>all images</bdi></th><td class="number">60</td>' in page
    assert "Parts of the images" not in render_html([replace(report, slices=())], title="Whole")
    console = Console(width=80, record=True)
    print_slices(report, console)
    text = console.export_text()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "(none)" in text
    assert "[red]" in text


def test_a_column_that_names_images_is_refused(make_random: Callable[..., Predictions]) -> None:
    predictions = make_random(num_images=120)
    policy = DecisionPolicy(predictions.label_space, (0.4,) * 4)
    with pytest.raises(DataError, match=r"--slice id: the column has 120 values, expected at most 100"):
        slice_predictions(predictions, policy, "id", {image: image for image in predictions.images})
