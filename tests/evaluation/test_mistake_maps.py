"""Mistakes to be explained: those that the page shows, both kinds in turn, with what else is on the image."""

from __future__ import annotations

from collections.abc import Callable

from manylabel.evaluation.evaluate import Report
from manylabel.evaluation.mistake_maps import MAX_MAPS, list_worst_mistakes
from manylabel.evaluation.report.facts import MAX_OVERALL_MISTAKES, describe_report


def test_wrongly_given_and_missed_labels_come_in_turn(make_report: Callable[..., Report]) -> None:
    report = make_report(num_labels=12)
    shown = describe_report(report)["mistakes"]
    assert len(shown) == 2 * MAX_OVERALL_MISTAKES
    given, missed = ([each for each in shown if each["kind"] == kind] for kind in ("wrongly given", "missed"))
    expected = [each for pair in zip(given, missed, strict=True) for each in pair]
    found = list_worst_mistakes(report)
    assert [(each.image, each.label) for each in found] == [(e["image"], e["label"]) for e in expected[:MAX_MAPS]]


def test_the_other_labels_are_those_that_are_there_or_were_given(make_report: Callable[..., Report]) -> None:
    report = make_report(num_labels=4)
    names = [row["label"] for row in report.labels]
    on_image = {
        shown.image: {names[each] for each in (*shown.true, *shown.given)} for shown in report.details.worst.images
    }
    found = list_worst_mistakes(report)
    assert found
    for mistake in found:
        assert {mistake.label, *mistake.others} == on_image[mistake.image]
        assert mistake.label not in mistake.others
        assert len(set(mistake.others)) == len(mistake.others)


def test_a_report_without_mistakes_has_none(make_report: Callable[..., Report]) -> None:
    assert list_worst_mistakes(make_report(share_unknown=1.0)) == []
