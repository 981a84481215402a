"""Files of rules, in TOML or JSON: every mistake is named with its place."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manylabel.decisions.rules import RULES, Rule, RuleSet
from manylabel.errors import ConfigError, build_message, join_names, join_problems, suggest_name
from manylabel.labels.space import LabelSpace


def load_rules(path: str | os.PathLike[str], label_space: LabelSpace) -> tuple[Rule, ...]:
    """Read a TOML or JSON file of rules and check them against the labels of a model.

    Raises:
        ConfigError: the file cannot be read, or rules that `RuleSet` refuses.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(build_message(file, "there is no such file of rules", do="Check --rules"))
    import tomllib

    try:
        text = file.read_text("utf-8-sig")
        values = json.loads(text) if file.suffix.lower() == ".json" else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(build_message(file, f"not readable as rules ({error})", expected="TOML or JSON")) from error
    rules = read_rules(values.get("rule") if isinstance(values, dict) else values, str(file))
    RuleSet(label_space, rules)
    return rules


def read_rules(values: Any, where: str) -> tuple[Rule, ...]:
    """Return rules from a list of tables.

    Raises:
        ConfigError: an unknown kind or key, a key that is missing, or a value of the wrong kind; all are listed.
    """
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ConfigError(build_message(where, "not a list of rules", expected="tables [[rule]] with a kind"))
    problems: list[str] = []
    rules = []
    for number, value in enumerate(values, 1):
        found = _read_rule(value, f"{where} rule {number}")
        if isinstance(found, Rule):
            rules.append(found)
        else:
            problems += found
    if problems:
        raise ConfigError(join_problems(problems))
    return tuple(rules)


def _read_rule(values: Mapping[str, Any], where: str) -> Rule | list[str]:
    """Return a rule, or what is wrong with it."""
    name = values.get("kind")
    if not isinstance(name, str) or name not in RULES:
        shown = suggest_name(name, RULES) if isinstance(name, str) else ""
        return [build_message(where, f"unknown kind {name!r}{shown}", expected=join_names(list(RULES)))]
    kind = RULES[name]
    keys = ["kind", kind.labels_key, *([kind.others_key] if kind.others_key else [])]
    keys += ["count"] if kind.has_count else []
    problems = [
        build_message(where, f"unknown key {key!r}{suggest_name(key, keys)} of {name}", expected=join_names(keys))
        for key in values
        if key not in keys
    ]
    needed = [key for key in keys if not (key == kind.labels_key and kind.is_about_all)]
    problems += [build_message(where, f"{name} lacks {key!r}") for key in needed if key not in values]
    lists = {}
    for key in (kind.labels_key, kind.others_key):
        value = values.get(key, [])
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(label, str) for label in names):
            problems.append(build_message(where, f"{key!r} is no label and no list of labels", got=value))
            names = []
        lists[key] = tuple(names)
    count = values.get("count", 1)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        problems.append(build_message(where, "'count' is no number of labels", got=count, expected="1 or more"))
    if problems:
        return problems
    return Rule(name, lists[kind.labels_key], lists[kind.others_key] if kind.others_key else (), count)
