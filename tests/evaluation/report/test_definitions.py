"""Definitions: none is missing, none is left over."""

from __future__ import annotations

from manylabel.decisions import GOALS
from manylabel.evaluation.report.definitions import DEFINITIONS, GOALS_IN_WORDS, HEADLINES
from manylabel.metrics.summary import LOWER_IS_BETTER, SUMMARY_NAMES


def test_every_metric_has_a_definition_of_its_own() -> None:
    assert tuple(DEFINITIONS) == SUMMARY_NAMES
    assert len({definition.title for definition in DEFINITIONS.values()}) == len(DEFINITIONS)
    assert set(HEADLINES) <= set(DEFINITIONS)


def test_every_goal_is_put_in_words() -> None:
    assert set(GOALS_IN_WORDS) == set(GOALS)


def test_what_is_better_when_lower_is_what_measures_errors() -> None:
    lower = {name for name, definition in DEFINITIONS.items() if definition.is_lower_better}
    assert lower == LOWER_IS_BETTER
