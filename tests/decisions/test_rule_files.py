"""Files of rules: what is read, and each way a file can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from manylabel.decisions.rule_files import load_rules, read_rules
from manylabel.decisions.rules import RULES, Rule
from manylabel.errors import ConfigError
from manylabel.labels.space import LabelSpace

SPACE = LabelSpace(("animal", "dog", "cat", "day", "night"))

FILE = """
[[rule]]
kind = "at_most"
count = 3

[[rule]]
kind = "exclusive"
labels = ["day", "night"]

[[rule]]
kind = "implies"
if = "dog"
then = ["animal"]

[[rule]]
kind = "hierarchy"
parent = "animal"
children = ["cat"]
"""
READ = (
    Rule("at_most", count=3),
    Rule("exclusive", ("day", "night")),
    Rule("implies", ("dog",), ("animal",)),
    Rule("hierarchy", ("animal",), ("cat",)),
)


def test_a_file_of_rules_is_read_and_what_is_written_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(FILE, "utf-8")
    assert load_rules(path, SPACE) == READ
    assert read_rules([rule.to_dict() for rule in READ], "here") == READ


@pytest.mark.parametrize("kind", RULES)
def test_every_kind_of_rule_goes_through_a_table_and_has_words(kind: str) -> None:
    others = ("cat",) if RULES[kind].others_key else ()
    rule = Rule(kind, ("dog",) if RULES[kind].min_labels == 1 else ("dog", "day"), others, 1)
    assert read_rules([rule.to_dict()], "here") == (rule,)
    assert str(rule)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({}, "here: not a list of rules, expected tables [[rule]] with a kind.", id="no list"),
        pytest.param(
            [{"kind": "imply"}],
            "here rule 1: unknown kind 'imply' (did you mean 'implies'?), expected at_most, at_least, exclusive, "
            "required, implies, forbids, hierarchy.",
            id="unknown kind",
        ),
        pytest.param(
            [{"kind": "implies", "if": "dog", "than": "cat"}],
            "here rule 1: unknown key 'than' (did you mean 'then'?) of implies, expected kind, if, then.\n"
            "here rule 1: implies lacks 'then'.",
            id="all problems at once",
        ),
        pytest.param([{"kind": "at_most"}], "here rule 1: at_most lacks 'count'.", id="no count"),
        pytest.param(
            [{"kind": "at_most", "count": 0}],
            "here rule 1: 'count' is no number of labels, got 0, expected 1 or more.",
            id="a count of 0",
        ),
        pytest.param(
            [{"kind": "exclusive", "labels": [1, 2]}],
            "here rule 1: 'labels' is no label and no list of labels, got [1, 2].",
            id="numbers",
        ),
    ],
)
def test_a_list_that_holds_no_rules_is_refused(values: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_rules(values, "here")
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("[[rule]\n", "not readable as rules (", id="no TOML"),
        pytest.param("x = 1", "not a list of rules", id="no rules"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as error:
        load_rules(path, SPACE)
    assert message in str(error.value)
    with pytest.raises(ConfigError, match="there is no such file of rules"):
        load_rules(tmp_path / "gone.toml", SPACE)
