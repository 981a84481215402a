from __future__ import annotations

import ast
from pathlib import Path

import manylabel
from manylabel.data.findings import FINDING_KINDS, Finding, build_finding

SOURCE = Path(manylabel.__file__).parent


def find_kinds(source: str) -> set[tuple[str | None, str]]:
    """Return (severity, kind) of each finding that a module builds by name; the severity may be left to the kind."""
    found: set[tuple[str | None, str]] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            words = [argument.value for argument in node.args[:2] if isinstance(argument, ast.Constant)]
            if node.func.id == "Finding" and len(words) == 2:
                found.add((str(words[0]), str(words[1])))
            elif node.func.id == "build_finding" and words:
                found.add((None, str(words[0])))
    return found


def test_a_finding_is_a_dictionary_of_the_interface() -> None:
    assert Finding("error", "missing-image", "a is missing.", ("a",), "Add it").to_dict() == {
        "severity": "error",
        "kind": "missing-image",
        "message": "a is missing.",
        "rows": ["a"],
        "fix": "Add it",
    }


def test_a_finding_has_the_severity_and_the_cure_of_its_kind() -> None:
    assert build_finding("rare-label", "a is rare.", ["a"]) == Finding(
        "warning", "rare-label", "a is rare.", ("a",), "Add images with them"
    )


def test_every_finding_in_the_source_is_of_a_known_kind_and_severity() -> None:
    found = {pair for path in SOURCE.rglob("*.py") for pair in find_kinds(path.read_text(encoding="utf-8"))}
    assert len(found) > 20
    assert {kind for _, kind in found} <= set(FINDING_KINDS)
    assert {kind for severity, kind in found if severity not in (None, FINDING_KINDS[kind].severity)} == set()


def test_a_finding_in_the_source_is_seen() -> None:
    source = "Finding('error', 'a', text)\nbuild_finding('b', text)\nFinding(severity, kind, text)\nother('c', 'd')\n"
    assert find_kinds(source) == {("error", "a"), (None, "b")}
