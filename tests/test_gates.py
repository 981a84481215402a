"""The check, the fresh-clone run and the tested set fail when they should; nothing heavy runs here."""

from __future__ import annotations

import doctest
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent


def load_check() -> ModuleType:
    """Return check.py of the repository as a module."""
    spec = importlib.util.spec_from_file_location("manylabel_check", ROOT / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


check = load_check()


# ---------------------------------------------------------------------------------------------------------------------
# check.py
# ---------------------------------------------------------------------------------------------------------------------


def plant_gate(name: str, program: str) -> object:
    """Return a gate that runs a line of Python."""
    return check.Gate(name, (sys.executable, "-c", program))


PASSES = plant_gate("passes", "print('all is well')")
FAILS = plant_gate("fails", "import sys; print('this is wrong'); print('and why', file=sys.stderr); sys.exit(3)")


@pytest.mark.parametrize(
    ("gates", "exit_code", "last_line"),
    [
        pytest.param([PASSES, PASSES], 0, "all 2 gates passed", id="all pass"),
        pytest.param([FAILS, PASSES], 1, "1 of 2 gates failed: fails", id="the first fails"),
        pytest.param([PASSES, FAILS], 1, "1 of 2 gates failed: fails", id="the last fails"),
        pytest.param([FAILS, PASSES, FAILS], 1, "2 of 3 gates failed: fails, fails", id="two fail"),
    ],
)
def test_the_check_fails_when_any_gate_fails(
    gates: list[object], exit_code: int, last_line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.run_gates(gates) == exit_code
    assert capsys.readouterr().out.splitlines()[-1] == last_line


def test_gates_after_a_failed_one_still_run_and_each_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    check.run_gates([FAILS, PASSES])
    printed = capsys.readouterr().out
    heads = [re.sub(r"[\d.]+ s", "N s", line).split() for line in printed.splitlines()]
    assert heads[0] == ["FAILED", "fails", "N", "s", "exit", "code", "3"]
    assert ["ok", "passes", "N", "s", "all", "is", "well"] in heads


def test_what_a_failed_gate_printed_is_shown_from_both_streams(capsys: pytest.CaptureFixture[str]) -> None:
    check.run_gates([FAILS])
    assert {"this is wrong", "and why"} <= set(capsys.readouterr().out.splitlines())


def test_a_gate_whose_tool_is_missing_fails_with_its_name() -> None:
    outcome = check.run_gate(check.Gate("lint", ("no-such-tool-anywhere",)))
    assert outcome.exit_code == 127
    assert outcome.output.startswith("no-such-tool-anywhere cannot be started: ")


def test_a_gate_runs_in_the_folder_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "here.txt").touch()
    look = plant_gate("look", "import os; print(os.listdir('.'))")
    assert check.run_gate(look, tmp_path).output.strip() == "['here.txt']"


def test_the_gates_run_in_the_order_from_cheap_to_dear() -> None:
    assert [gate.name for gate in check.build_gates(fast=False)] == ["format", "lint", "types", "tests"]


def test_the_whole_check_has_scenarios_and_a_coverage_floor() -> None:
    command = check.build_gates(fast=False)[-1].command
    assert command[command.index("-m", 3) + 1] == "not slow and not gpu"
    assert f"--cov-fail-under={check.COVERAGE_FLOOR}" in command
    assert check.COVERAGE_FLOOR >= 85


def test_the_fast_check_leaves_the_scenarios_and_the_floor_out() -> None:
    command = check.build_gates(fast=True)[-1].command
    assert command[command.index("-m", 3) + 1] == "not scenario and not slow and not gpu"
    assert not [word for word in command if word.startswith("--cov-fail-under")]


@pytest.mark.parametrize(
    ("arguments", "is_fast"), [pytest.param([], False, id="whole"), pytest.param(["--fast"], True, id="fast")]
)
def test_the_command_line_chooses_the_gates_and_gives_their_exit_code(
    arguments: list[str], is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def build_planted(*, fast: bool) -> list[object]:
        seen.append(fast)
        return [FAILS]

    monkeypatch.setattr(check, "build_gates", build_planted)
    assert check.main(arguments) == 1
    assert seen == [is_fast]


def test_an_interrupted_check_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_gates: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "run_gates", interrupt)
    assert check.main([]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_examples_of_the_check_are_right() -> None:
    results = doctest.testmod(check)
    assert (results.attempted, results.failed) == (1, 0)


FAULTY_FILES = {
    "format": ("x = {  'a':1 }\n", "would be reformatted"),
    "lint": ("import os\n", "F401"),
}


@pytest.mark.parametrize("name", FAULTY_FILES)
def test_the_real_gate_finds_a_planted_file(name: str, tmp_path: Path) -> None:
    source, message = FAULTY_FILES[name]
    (gate,) = [gate for gate in check.build_gates(fast=False) if gate.name == name]
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert check.run_gate(gate, tmp_path).exit_code == 0
    (tmp_path / "planted.py").write_text(source, encoding="utf-8")
    outcome = check.run_gate(gate, tmp_path)
    assert outcome.exit_code == 1
    assert message.lower() in outcome.output.lower()


# ---------------------------------------------------------------------------------------------------------------------
# .ci/run
# ---------------------------------------------------------------------------------------------------------------------

needs_bash = pytest.mark.skipif(os.name == "nt", reason="the fresh-clone run is a bash script")

TEST_COMMAND = 'python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e ".[dev]" && .venv/bin/pytest'

FAKE_PYTHON = """#!/usr/bin/env bash
# Stands in for python3: `-m venv .venv` makes tools that write down their arguments and exit as they are told.
mkdir -p .venv/bin
for tool in pip pytest python; do
    {
        echo '#!/usr/bin/env bash'
        echo "echo \\"$tool \\$*\\" >> calls.txt"
        echo "exit \\${EXIT_OF_$tool:-0}"
    } > ".venv/bin/$tool"
    chmod +x ".venv/bin/$tool"
done
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with `.ci/run`, a README with the test command, and a python3 that installs nothing."""
    folder = tmp_path / "a clone"
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")
    (folder / "README.md").write_text(f"# Name\n\n```bash\n{TEST_COMMAND}\n```\n", encoding="utf-8")
    (tmp_path / "fake").mkdir()
    fake = tmp_path / "fake" / "python3"
    fake.write_text(FAKE_PYTHON, encoding="utf-8")
    fake.chmod(0o755)
    return folder


def run_ci(clone: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `.ci/run` of the clone from another folder, with the fake python3 first on the path."""
    path = f"{clone.parent / 'fake'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [str(clone / ".ci" / "run")],
        cwd=clone.parent,
        env={**os.environ, "PATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_bash
def test_the_fresh_run_does_what_the_readme_says_then_the_check_and_leaves_nothing(clone: Path) -> None:
    done = run_ci(clone)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"+ {TEST_COMMAND}"
    assert (clone / "calls.txt").read_text(encoding="utf-8").splitlines() == [
        "pip install -c constraints.txt -e .[dev]",
        "pytest ",
        "python check.py",
    ]
    assert not (clone / ".venv").exists()


@needs_bash
@pytest.mark.parametrize(
    ("tool", "calls"),
    [
        pytest.param("pip", 1, id="the install fails"),
        pytest.param("pytest", 2, id="the tests fail"),
        pytest.param("python", 3, id="the check fails"),
    ],
)
def test_the_fresh_run_fails_with_the_step_that_fails_and_leaves_nothing(clone: Path, tool: str, calls: int) -> None:
    assert run_ci(clone, **{f"EXIT_OF_{tool}": "7"}).returncode == 7
    assert len((clone / "calls.txt").read_text(encoding="utf-8").splitlines()) == calls
    assert not (clone / ".venv").exists()


@needs_bash
@pytest.mark.parametrize(
    ("readme", "message"),
    [
        pytest.param("# Name\n", "README.md has no test command", id="no command"),
        pytest.param(f"# Name\n\nRun `{TEST_COMMAND}`.\n", "README.md has no test command", id="not on its own line"),
        pytest.param(
            TEST_COMMAND.replace("[dev]", "[train]").replace("pytest", "manylabel demo"),
            "README.md has no test command",
            id="only the demo",
        ),
        pytest.param(
            f"{TEST_COMMAND}\n{TEST_COMMAND}\n", "README.md has more than one test command", id="two commands"
        ),
        pytest.param(None, "README.md", id="no README"),
    ],
)
def test_the_fresh_run_fails_clearly_when_the_readme_has_not_one_command(
    clone: Path, readme: str | None, message: str
) -> None:
    (clone / "README.md").unlink()
    if readme is not None:
        (clone / "README.md").write_text(readme, encoding="utf-8")
    done = run_ci(clone)
    assert done.returncode != 0
    assert message in done.stderr
    assert not (clone / "calls.txt").exists()


@needs_bash
def test_the_fresh_run_leaves_an_environment_alone_that_it_did_not_make(clone: Path) -> None:
    (clone / ".venv").mkdir()
    (clone / ".venv" / "mine").touch()
    done = run_ci(clone)
    assert done.returncode == 1
    assert ".venv is already here and was not made by this run" in done.stderr
    assert (clone / ".venv" / "mine").exists()


@needs_bash
def test_the_fresh_run_is_executable_as_it_stands() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


# ---------------------------------------------------------------------------------------------------------------------
# constraints.txt
# ---------------------------------------------------------------------------------------------------------------------


def find_constraint_faults(constraints: str, requirements: list[str]) -> list[str]:
    """Return the lines that pin nothing exactly, and the requirements without a pin or with one that they refuse."""
    faults, pins = [], {}
    for line in constraints.splitlines():
        if not line or line.startswith("#"):
            continue
        exact = re.fullmatch(r"([\w.-]+)==([\w.!+]+)", line)
        if exact is None:
            faults.append(f"{line}: not an exact pin")
        elif canonicalize_name(exact[1]) in pins:
            faults.append(f"{line}: pinned twice")
        else:
            pins[canonicalize_name(exact[1])] = Version(exact[2])
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        if name not in pins:
            faults.append(f"{name}: not pinned")
        elif pins[name] not in requirement.specifier:
            faults.append(f"{name}: {pins[name]} does not satisfy {requirement.specifier}")
    return faults


def test_the_tested_set_pins_every_requirement_within_its_floor() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    others = [line for line in asked if Requirement(line).name != project["name"]]
    assert find_constraint_faults((ROOT / "constraints.txt").read_text(encoding="utf-8"), others) == []


def test_the_tested_set_names_nothing_that_only_one_platform_has() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith(("nvidia-", "cuda-", "triton"))] == []


@pytest.mark.parametrize(
    ("constraints", "fault"),
    [
        pytest.param("# nothing\n", "numpy: not pinned", id="not pinned"),
        pytest.param("numpy==1.26.4\n", "numpy: 1.26.4 does not satisfy >=2.0", id="below the floor"),
        pytest.param("numpy==2.1\nNumPy==2.2\n", "NumPy==2.2: pinned twice", id="pinned twice"),
        pytest.param("numpy==2.1\ntorch>=2\n", "torch>=2: not an exact pin", id="not exact"),
    ],
)
def test_a_fault_of_the_tested_set_is_found(constraints: str, fault: str) -> None:
    assert find_constraint_faults(constraints, ["numpy>=2.0"]) == [fault]
