"""The reference pages name everything that can be chosen: settings, commands, flags, metrics, losses, heads, goals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest

from manylabel.augment.mixing import MIXES, MixSettings, find_mix_keys
from manylabel.augment.presets import PRESETS, AugmentSettings
from manylabel.data.cures import CURES, DECIDED_BY_READING
from manylabel.data.findings import FINDING_KINDS
from manylabel.decisions import CALIBRATIONS, GOALS
from manylabel.decisions.rules import RULES
from manylabel.losses import LOSSES
from manylabel.metrics.summary import SUMMARY_NAMES
from manylabel.models.heads import HEADS
from manylabel.runs.search_spaces import SPACES
from manylabel.training.config import (
    FREEZE_CHOICES,
    PRECISION_CHOICES,
    SAMPLERS,
    SCHEDULES,
    TrainConfig,
)
from manylabel.training.tracking import TRACKERS

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"

CHOICES = {
    "calibrate": CALIBRATIONS,
    "freeze": FREEZE_CHOICES,
    "precision": PRECISION_CHOICES,
    "sampler": SAMPLERS,
    "schedule": SCHEDULES,
    "track": TRACKERS,
}


def read_page(name: str) -> str:
    """Return the text of a reference page."""
    return (REFERENCE / name).read_text(encoding="utf-8")


def read_rows(page: str) -> dict[str, list[str]]:
    """Return the rows of the tables of a page by the first word in backticks, so that a flag loses its value."""
    rows = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.split("|")][1:-1]
        if cells and (name := re.match(r"`([^` ]+)", cells[0])):
            rows[name[1]] = cells
    return rows


def read_section(page: str, heading: str) -> str:
    """Return what stands below a second-level heading; empty where there is no such heading."""
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True)).get(heading, "")


# ---------------------------------------------------------------------------------------------------------------------
# Settings.
# ---------------------------------------------------------------------------------------------------------------------


def show_default(field: Field[Any]) -> str:
    """Return a default as the page writes it."""
    default = field.default if field.default is not MISSING else None
    if default in (None, ""):
        return "(none)"
    return f"`{str(default).lower()}`" if isinstance(default, bool) else f"`{default}`"


def find_setting_faults(page: str, choices: Mapping[str, Iterable[str]]) -> list[str]:
    """Return which settings the page lacks or invents, and which defaults or choices are not those of TrainConfig."""
    rows = read_rows(page)
    knobs = {field.name: field for field in fields(TrainConfig)}
    faults = [f"{name} is missing" for name in knobs if name not in rows]
    faults += [f"{name} is no setting" for name in rows if name not in knobs]
    for name in knobs.keys() & rows.keys():
        if rows[name][1] != show_default(knobs[name]):
            faults.append(f"{name}: the default is {show_default(knobs[name])}, the page says {rows[name][1]}")
        faults += [
            f"{name}: no choice `{choice}`" for choice in choices.get(name, ()) if f"`{choice}`" not in rows[name][2]
        ]
    return sorted(faults)


def test_the_page_of_settings_has_every_field_with_its_default_and_choices() -> None:
    assert find_setting_faults(read_page("settings.md"), CHOICES) == []


def test_a_setting_that_is_missing_or_wrong_is_found() -> None:
    page = read_page("settings.md")
    page = page.replace("| `epochs` | `10` |", "| `epochs` | `11` |").replace("| `seed` |", "| `seeds` |")
    assert find_setting_faults(page, {"freeze": ("none", "head")}) == [
        "epochs: the default is `10`, the page says `11`",
        "freeze: no choice `head`",
        "seed is missing",
        "seeds is no setting",
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Commands.
# ---------------------------------------------------------------------------------------------------------------------


def find_command_faults(page: str, commands: Mapping[str, Any]) -> list[str]:
    """Return commands without a section, and flags that only the page or the command has; settings are left out."""
    faults = [f"no section on {name}" for name in commands if not read_section(page, name)]
    settings = {f"--{field.name.replace('_', '-')}" for field in fields(TrainConfig)}
    for name, command in commands.items():
        flags = {option.opts[0] for option in command.params if option.opts[0].startswith("--")} - {"--help"}
        if name in ("train", "cross-validate", "find-lr", "find-errors"):
            flags -= settings
        elif name == "search":  # there --budget is the time of the whole search
            flags -= settings - {"--budget"}
        shown = {row for row in read_rows(read_section(page, name)) if row.startswith("--")}
        faults += [f"{name}: {flag} is missing" for flag in sorted(flags - shown)]
        faults += [f"{name}: {flag} is no flag" for flag in sorted(shown - flags)]
    return faults


def read_commands() -> dict[str, Any]:
    """Return the commands of the program by name."""
    import typer

    from manylabel.cli.main import app

    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def test_the_page_of_commands_has_every_command_with_its_flags() -> None:
    assert find_command_faults(read_page("commands.md"), read_commands()) == []


def test_a_command_or_flag_that_is_missing_or_gone_is_found() -> None:
    page = read_page("commands.md").replace("## demo", "## demonstration").replace("`--folds K`", "`--piles K`")
    faults = find_command_faults(page, read_commands())
    assert faults == [
        "no section on demo",
        "demo: --out is missing",
        "demo: --quiet is missing",
        "split: --folds is missing",
        "split: --piles is no flag",
        "find-errors: --folds is missing",
        "find-errors: --piles is no flag",
        "cross-validate: --folds is missing",
        "cross-validate: --piles is no flag",
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Names in tables.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        pytest.param("Losses", LOSSES, id="losses"),
        pytest.param("Heads", HEADS, id="heads"),
        pytest.param("Goals", GOALS, id="goals"),
        pytest.param("Calibrations", CALIBRATIONS, id="calibrations"),
        pytest.param("Rules", RULES, id="rules"),
        pytest.param("Mixes", MIXES, id="mixes"),
        pytest.param("Presets of augment", [field.name for field in fields(AugmentSettings)], id="augment settings"),
    ],
)
def test_every_name_of_a_table_has_a_row_and_no_row_is_left_over(heading: str, names: Iterable[str]) -> None:
    assert list(read_rows(read_section(read_page("losses_heads_goals.md"), heading))) == list(names)


def read_presets(section: str) -> dict[str, dict[str, Any]]:
    """Return the presets of the page: a column each, a row per setting."""
    header = next(line for line in section.splitlines() if line.startswith("| setting |"))
    names = re.findall(r"`(\w+)`", header)
    rows = read_rows(section)
    return {
        name: {
            setting: cells[2 + column].strip("`") if setting == "regions" else float(cells[2 + column])
            for setting, cells in rows.items()
        }
        for column, name in enumerate(names)
    }


def test_every_preset_has_a_column_with_its_values() -> None:
    shown = read_presets(read_section(read_page("losses_heads_goals.md"), "Presets of augment"))
    assert {name: AugmentSettings(**values) for name, values in shown.items()} == PRESETS


def find_mix_faults(section: str) -> list[str]:
    """Return the mixes whose row gives another default than MIXES; a dash stands where a mix has no such setting."""
    faults = []
    for name, cells in read_rows(section).items():
        shown = dict(zip(("share", "alpha", "truth"), (cell.strip("`") for cell in cells[2:5]), strict=True))
        defaults = {
            key: f"{value:g}" if isinstance(value := getattr(MIXES[name], key), float) else value for key in shown
        }
        expected = {key: defaults[key] if key in find_mix_keys(name) else "-" for key in shown}
        if shown != expected:
            faults.append(f"{name}: the page says {shown}, expected {expected}")
    return faults


def test_every_mix_has_a_row_with_its_defaults() -> None:
    section = read_section(read_page("losses_heads_goals.md"), "Mixes")
    assert find_mix_faults(section) == []
    assert len(find_mix_faults(section.replace("| `union` |", "| `weighted` |"))) == 1
    assert [field.name for field in fields(MixSettings)] == ["name", "share", "alpha", "truth"]


def test_every_space_of_search_has_a_table_with_its_values() -> None:
    section = read_section(read_page("losses_heads_goals.md"), "Spaces")
    shown = {name: [cell.strip("`") for cell in cells[1:]] for name, cells in read_rows(section).items()}
    names = list(dict.fromkeys(name for knobs in SPACES.values() for name in knobs))
    assert shown == {
        name: [knobs[name].describe() if name in knobs else "-" for knobs in SPACES.values()] for name in names
    }


def test_every_metric_has_a_row_and_no_row_is_left_over() -> None:
    page = read_page("metrics.md")
    rows = read_rows(page.split("## Baselines")[0])
    assert sorted(rows) == sorted(SUMMARY_NAMES)


def test_every_kind_of_finding_has_a_row_with_its_severity_and_cure_and_no_row_is_left_over() -> None:
    rows = read_rows(read_page("findings.md"))
    assert list(rows) == list(FINDING_KINDS)
    for name, (_, severity, meaning, about, cure, fix) in rows.items():
        kind = FINDING_KINDS[name]
        assert (severity, about, cure) == (kind.severity, kind.rows, kind.cure)
        assert meaning
        assert bool(fix) == (name in CURES or name in DECIDED_BY_READING), f"{name}: does --fix cure it?"
