"""Who imports whom, which libraries a package may use, and what never stands in the source.

Each gate is a function from a module's name and source text to a list of violations; it is run on every module of the
package, and on planted faults that show it can fail.
"""

from __future__ import annotations

import ast
import builtins
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"

# ---------------------------------------------------------------------------------------------------------------------
# The tables: what the house allows.
# ---------------------------------------------------------------------------------------------------------------------

LEVELS = (
    ("cli", "server", "client"),
    ("runs",),
    ("training", "inference", "evaluation"),
    ("bundle",),
    ("decisions", "losses", "models", "augment", "data"),
    ("metrics",),
    ("labels",),
    ("lock",),
    ("files",),
    ("cores", "errors"),
)
"""A package imports itself and packages of lower lines; those on one line do not import each other."""

FREE = ("", "__main__", "testing")
"""The root, its `__main__` and the contract checks may import anything; no other package imports them."""

ROOT_NAMES = ("__version__",)
"""What any module may take from the root itself."""

EXCEPTIONS: Mapping[tuple[str, str], str] = {
    ("manylabel.cli.serve", "server"): "the command starts the server; nothing else of either knows the other",
    ("manylabel.augment.presets", "data"): "a Preprocess is the argument that says which size an augmented image has",
}
"""(module, package it may import against the order): the reason. Each must be in use."""

_NUMERIC = {"numpy"}
_LEARNING = {"numpy", "PIL", "torch", "torchvision", "timm", "accelerate", "safetensors"}

LIBRARIES: Mapping[str, set[str]] = {
    "cli": {"typer", "rich"},
    "server": {"fastapi", "starlette", "pydantic", "uvicorn", "python_multipart", "numpy"},
    "client": set(),
    "runs": {"numpy", "rich", "jinja2"},
    "training": _LEARNING,
    "inference": {"numpy", "PIL", "onnxruntime", "openvino", "pyarrow", "matplotlib"},
    "evaluation": {"numpy", "matplotlib", "jinja2", "rich", "PIL"},
    "bundle": {"numpy", "onnxruntime"},
    "decisions": _NUMERIC,
    "losses": _LEARNING,
    "models": _LEARNING,
    "augment": _LEARNING,
    "data": {"numpy", "PIL", "pyarrow"},
    "metrics": _NUMERIC,
    "labels": _NUMERIC,
    "lock": set(),
    "files": set(),
    "cores": set(),
    "errors": set(),
}
"""The libraries outside the standard one that a whole package may import."""

MORE_LIBRARIES: Mapping[str, set[str]] = {
    "manylabel.bundle.reduced": {"onnx"},  # smaller numbers
    "manylabel.labels.predictions": {"pyarrow"},  # predictions on disk are Parquet
    "manylabel.labels.foreign_predictions": {"pyarrow"},  # so are those of other programs, or CSV
    "manylabel.data.demo": {"sklearn"},  # the handwritten digits
    "manylabel.models.gradient_maps": {"captum"},  # the one place that follows gradients for a picture
    "manylabel.runs.explain": {"PIL", "safetensors"},  # maps in the size of the image, and the weights of a bundle
    "manylabel.augment.preview": {"matplotlib"},  # the picture of what augmentation does
    "manylabel.training.tracking": {"mlflow"},  # told where its files go; Accelerate writes them
    "manylabel.runs.study": {"optuna"},  # the trials of a search
    "manylabel.bundle.export": {"torch", "onnx", "safetensors"},  # the one place that turns weights into a bundle
}
"""What one module may import beyond its package."""

LAZY_LIBRARIES: Mapping[str, set[str]] = {
    "labels": {"pyarrow"},  # importing the package stays cheap
    "evaluation": {"matplotlib"},  # imported when a picture is drawn
    "inference": {"matplotlib"},
    "augment": {"matplotlib"},
}
"""What a package imports inside functions only."""

CLI_PARSER = "manylabel.cli.main"
LIGHT_FOR_CLI = ("manylabel.errors", "manylabel.training.config")
"""What the parser may import at module level: messages, and the fields that become flags; a command's own file is
imported when the command runs, and may import what it needs."""

TORCH_PACKAGES = ("training", "losses", "models", "augment")
TORCH_MODULES = ("manylabel.bundle.export",)
TORCH_FREE = ("inference", "evaluation", "bundle", "decisions", "data", "metrics", "labels", "files", "cores", "errors")
"""Right of the two seams nothing imports torch, nor a package of ours that does."""

BANNED_MODULE_NAMES = {"utils", "util", "common", "core", "helpers", "helper", "misc"}

BANNED_IMPORTS = {
    "pickle": "runs code from files",
    "_pickle": "runs code from files",
    "cloudpickle": "runs code from files",
    "dill": "runs code from files",
    "joblib": "runs code from files",
    "marshal": "crashes on hostile files",
    "shelve": "is pickle underneath",
}

BANNED_NAMES = {
    "torch.load": "is pickle underneath; weights are safetensors",
    "torch.save": "is pickle underneath; weights are safetensors",
    "torch.hub": "runs code from the network",
    "torch.jit.load": "runs code from files",
    "yaml.load": "builds any object",
    "yaml.unsafe_load": "builds any object",
    "yaml.full_load": "builds more than data",
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "subprocess.getoutput": "runs a shell",
    "subprocess.getstatusoutput": "runs a shell",
    "builtins.eval": "runs text as code",
    "builtins.exec": "runs text as code",
}

BANNED_KEYWORDS = {
    "shell": "runs a shell",
    "allow_pickle": "runs code from files",
    "trust_remote_code": "runs code from the network",
}
"""Arguments that may only be given as the literal False."""


# ---------------------------------------------------------------------------------------------------------------------
# Reading a module.
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    """One imported dotted name, where it stands, and whether importing the module runs it."""

    name: str
    line: int
    is_at_module_level: bool


def find_package(module: str) -> str:
    """Return the package of ours that a dotted name belongs to: `data` for `manylabel.data.images`, "" for the root."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def find_imports(module: str, source: str, *, is_package: bool = False) -> list[Import]:
    """Return every import at any depth; relative ones and literal `import_module` calls resolved to dotted names."""
    found: list[Import] = []

    def visit(node: ast.AST, *, runs: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, runs) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _resolve_from(module, node, is_package=is_package)
            found.extend(Import(f"{base}.{alias.name}", node.lineno, runs) for alias in node.names)
        elif isinstance(node, ast.Call) and (name := _read_dynamic_import(node)) is not None:
            found.append(Import(name, node.lineno, runs))
        inner = runs and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            for statement in node.body:
                visit(statement, runs=False)
            for statement in node.orelse:
                visit(statement, runs=inner)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, runs=inner)

    visit(ast.parse(source), runs=True)
    return found


def _resolve_from(module: str, node: ast.ImportFrom, *, is_package: bool) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module.split(".")
    base = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*base, node.module] if node.module else base)


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _read_dynamic_import(call: ast.Call) -> str | None:
    """Return the name a call imports, "?" when it is not literal, None when the call imports nothing."""
    if ast.unparse(call.func).rsplit(".", 1)[-1] not in ("import_module", "__import__"):
        return None
    first = call.args[0] if call.args else None
    if isinstance(first, ast.Constant) and isinstance(first.value, str) and not first.value.startswith("."):
        return first.value
    return "?"


def find_dotted_uses(source: str) -> Iterator[tuple[str, int]]:
    """Yield every name and attribute chain that is read, aliases of imports spelt out, with its line."""
    tree = ast.parse(source)
    spelt = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                spelt[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                spelt[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            if first.isidentifier():
                known = spelt.get(first, f"builtins.{first}" if hasattr(builtins, first) else first)
                yield (f"{known}.{rest}" if rest else known), node.lineno


# ---------------------------------------------------------------------------------------------------------------------
# The gates.
# ---------------------------------------------------------------------------------------------------------------------


def find_order_violations(
    module: str,
    source: str,
    *,
    is_package: bool = False,
    exceptions: Mapping[tuple[str, str], str] = EXCEPTIONS,
) -> list[str]:
    """Return what breaks the order of the packages, imports inside functions and for types included."""
    package = find_package(module)
    if package in FREE:
        return []
    depth = {name: index for index, level in enumerate(LEVELS) for name in level}
    if package not in depth:
        return [f"{module}: package {package!r} stands on no level"]
    violations = []
    for found in find_imports(module, source, is_package=is_package):
        if found.name == "?":
            violations.append(f"{module}:{found.line}: imports a module by a name that is not literal")
        if found.name.split(".")[0] != "manylabel":
            continue
        target = find_package(found.name)
        if target == package or target in ROOT_NAMES or (module, target) in exceptions:
            continue
        if target not in depth:
            violations.append(f"{module}:{found.line}: imports {found.name}, which is above every level")
        elif depth[target] <= depth[package]:
            where = "beside" if depth[target] == depth[package] else "above"
            violations.append(f"{module}:{found.line}: imports {found.name}; {target} stands {where} {package}")
        elif package in TORCH_FREE and module not in TORCH_MODULES and _brings_torch(found.name):
            violations.append(f"{module}:{found.line}: imports {found.name}, which brings torch")
        elif module == CLI_PARSER and found.is_at_module_level and not _is_below(found.name, LIGHT_FOR_CLI):
            violations.append(f"{module}:{found.line}: imports {found.name} outside a function")
    return violations


def _brings_torch(name: str) -> bool:
    return find_package(name) in TORCH_PACKAGES or _is_below(name, TORCH_MODULES)


def _is_below(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def find_library_violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Return the imported libraries that the module's package may not use, or not at module level."""
    package = find_package(module)
    if package in FREE:
        return []
    allowed = LIBRARIES.get(package, set()) | MORE_LIBRARIES.get(module, set())
    lazy = LAZY_LIBRARIES.get(package, set())
    violations = []
    for found in find_imports(module, source, is_package=is_package):
        library = found.name.split(".")[0]
        if library in sys.stdlib_module_names or library in ("manylabel", "?"):
            continue
        if library not in allowed:
            violations.append(f"{module}:{found.line}: imports {library}, which {package} may not use")
        elif library in lazy and found.is_at_module_level:
            violations.append(f"{module}:{found.line}: imports {library} outside a function")
    return violations


def find_danger_violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Return what runs code or a shell from data, swallows every exception, or was left for later."""
    violations = []
    for found in find_imports(module, source, is_package=is_package):
        library = found.name.split(".")[0]
        if library in BANNED_IMPORTS:
            violations.append(f"{module}:{found.line}: imports {library}, which {BANNED_IMPORTS[library]}")
        violations.extend(_describe_banned_name(module, found.name, found.line))
    for name, line in find_dotted_uses(source):
        violations.extend(_describe_banned_name(module, name, line))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            violations.append(f"{module}:{node.lineno}: except without an exception")
        elif isinstance(node, ast.Call):
            violations.extend(_find_banned_keywords(module, node))
    for line, text in enumerate(source.splitlines(), start=1):
        if left := re.search(r"\b(TODO|FIXME)\b", text):
            violations.append(f"{module}:{line}: {left.group()}")
    return violations


def _describe_banned_name(module: str, name: str, line: int) -> list[str]:
    return [f"{module}:{line}: {name} {why}" for banned, why in BANNED_NAMES.items() if name == banned]


def _find_banned_keywords(module: str, call: ast.Call) -> list[str]:
    return [
        f"{module}:{call.lineno}: {keyword.arg}={ast.unparse(keyword.value)} {BANNED_KEYWORDS[keyword.arg]}"
        for keyword in call.keywords
        if keyword.arg in BANNED_KEYWORDS
        and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
    ]


def find_name_violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Return the parts of a module's name that say nothing about what is inside."""
    del source, is_package  # the name alone decides
    return [
        f"{module}: {part!r} names no noun, say what is inside"
        for part in module.split(".")
        if part.strip("_") in BANNED_MODULE_NAMES
    ]


GATES = {
    "order": find_order_violations,
    "libraries": find_library_violations,
    "danger": find_danger_violations,
    "names": find_name_violations,
}


# ---------------------------------------------------------------------------------------------------------------------
# The package passes its gates.
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    name: str
    source: str
    is_package: bool


def load_modules(root: Path) -> list[Module]:
    """Return every module below the folder, named as Python imports it."""
    modules = []
    for path in sorted((root / "manylabel").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules.append(Module(name, path.read_text(encoding="utf-8"), is_package))
    return modules


MODULES = load_modules(SOURCE)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_every_module_passes_every_gate(module: Module, gate: str) -> None:
    assert GATES[gate](module.name, module.source, is_package=module.is_package) == []


def test_the_gates_read_the_whole_package() -> None:
    names = {module.name for module in MODULES}
    assert {"manylabel", "manylabel.errors"} <= names
    folders = {path.parent.name for path in (SOURCE / "manylabel").glob("*/__init__.py")}
    assert folders <= {find_package(name) for name in names}
    assert len(folders) >= 12, "the folders of the package were not found"


def test_every_exception_has_a_reason_and_is_needed() -> None:
    assert find_stale_exceptions(EXCEPTIONS, MODULES) == []


def find_stale_exceptions(exceptions: Mapping[tuple[str, str], str], modules: list[Module]) -> list[str]:
    """Return the exceptions without a reason, and those that no import needs any more."""
    stale = []
    for (name, package), reason in exceptions.items():
        if not reason.strip():
            stale.append(f"{name} -> {package}: no reason")
        sources = [module for module in modules if module.name == name]
        if not any(
            f"; {package} stands" in violation
            for module in sources
            for violation in find_order_violations(name, module.source, is_package=module.is_package, exceptions={})
        ):
            stale.append(f"{name} -> {package}: not needed")
    return stale


def test_every_package_of_the_levels_says_which_libraries_it_may_use() -> None:
    assert set(LIBRARIES) == {package for level in LEVELS for package in level}


def find_order_in_record(record: str) -> tuple[tuple[str, ...], ...]:
    """Return the levels that a decision record draws in its text block."""
    block = record.split("```text\n")[1].split("```")[0]
    return tuple(tuple(line.split(" | ")) for line in block.splitlines())


def test_the_order_drawn_in_the_decision_record_is_the_enforced_one() -> None:
    record = SOURCE.parent / "docs" / "decisions" / "0008-runs-package.md"
    assert find_order_in_record(record.read_text(encoding="utf-8")) == LEVELS


def find_loaded(modules: list[str], unwanted: list[str]) -> list[str]:
    """Import the modules in a fresh Python and return which of the unwanted ones were loaded."""
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print('loaded:', *[name for name in {unwanted!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("loaded:")[-1].split()


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = [
        "torch",
        "torchvision",
        "timm",
        "pandas",
        "matplotlib",
        "pyarrow",
        "sklearn",
        "onnxruntime",
        "PIL",
        "numpy",
    ]
    assert find_loaded(["manylabel"], heavy) == []


def test_the_command_line_starts_without_anything_heavy() -> None:
    heavy = ["torch", "torchvision", "timm", "pandas", "matplotlib", "pyarrow", "sklearn", "onnxruntime"]
    assert find_loaded(["manylabel.cli.main"], heavy) == []


def test_what_runs_and_judges_a_model_loads_no_torch() -> None:
    names = [
        module.name
        for module in MODULES
        if find_package(module.name) in TORCH_FREE and module.name not in (*TORCH_MODULES, "manylabel.data.demo")
    ]
    assert find_loaded(names, ["torch", "torchvision", "timm", "accelerate", "sklearn", "pandas"]) == []


# ---------------------------------------------------------------------------------------------------------------------
# Each gate can fail.
# ---------------------------------------------------------------------------------------------------------------------


def plant(gate: str, module: str, source: str, expected: str, why: str) -> object:
    """Return one row: a gate, a module with a fault, and the violation that must be found."""
    return pytest.param(gate, module, source, expected, id=f"{gate}-{why}")


PLANTED = [
    plant(
        "order",
        "manylabel.labels.space",
        "import manylabel.data.images",
        "manylabel.labels.space:1: imports manylabel.data.images; data stands above labels",
        "a lower line imports a higher one",
    ),
    plant(
        "order",
        "manylabel.inference.batch",
        "from manylabel.training import loop",
        "manylabel.inference.batch:1: imports manylabel.training.loop; training stands beside inference",
        "siblings import each other",
    ),
    plant(
        "order",
        "manylabel.training.loop",
        "def end():\n    from manylabel.runs import train\n",
        "manylabel.training.loop:2: imports manylabel.runs.train; runs stands above training",
        "hidden inside a function",
    ),
    plant(
        "order",
        "manylabel.metrics.counts",
        "if TYPE_CHECKING:\n    from manylabel.decisions.policy import DecisionPolicy\n",
        "manylabel.metrics.counts:2: imports manylabel.decisions.policy.DecisionPolicy; decisions stands above metrics",
        "hidden behind TYPE_CHECKING",
    ),
    plant(
        "order",
        "manylabel.data.images",
        "from ..models import heads",
        "manylabel.data.images:1: imports manylabel.models.heads; models stands beside data",
        "hidden in a relative import",
    ),
    plant(
        "order",
        "manylabel.data.images",
        "from importlib import import_module\nheads = import_module('manylabel.models.heads')",
        "manylabel.data.images:2: imports manylabel.models.heads; models stands beside data",
        "hidden in import_module",
    ),
    plant(
        "order",
        "manylabel.data.images",
        "import importlib\ndef find(name): return importlib.import_module(name)",
        "manylabel.data.images:2: imports a module by a name that is not literal",
        "a name from outside is imported",
    ),
    plant(
        "order",
        "manylabel.data.images",
        "import manylabel as ml",
        "manylabel.data.images:1: imports manylabel, which is above every level",
        "around the order through the root",
    ),
    plant(
        "order",
        "manylabel.losses.focal",
        "from manylabel.testing import check_loss",
        "manylabel.losses.focal:1: imports manylabel.testing.check_loss, which is above every level",
        "the contract checks are for tests",
    ),
    plant(
        "order",
        "manylabel.plots.draw",
        "",
        "manylabel.plots.draw: package 'plots' stands on no level",
        "a new package without a level",
    ),
    plant(
        "order",
        "manylabel.evaluation.evaluate",
        "def run():\n    from manylabel.models.scoring import score\n",
        "manylabel.evaluation.evaluate:2: imports manylabel.models.scoring.score, which brings torch",
        "torch comes in through a package of ours",
    ),
    plant(
        "order",
        "manylabel.inference.predictor",
        "from manylabel.bundle import export",
        "manylabel.inference.predictor:1: imports manylabel.bundle.export, which brings torch",
        "torch comes in through the export",
    ),
    plant(
        "order",
        "manylabel.cli.main",
        "from manylabel.inference.predictor import Predictor",
        "manylabel.cli.main:1: imports manylabel.inference.predictor.Predictor outside a function",
        "a command is slow to start",
    ),
    plant(
        "libraries",
        "manylabel.evaluation.evaluate",
        "def run():\n    import torch\n",
        "manylabel.evaluation.evaluate:2: imports torch, which evaluation may not use",
        "evaluation uses torch",
    ),
    plant(
        "libraries",
        "manylabel.data.splits",
        "from sklearn.model_selection import KFold",
        "manylabel.data.splits:1: imports sklearn, which data may not use",
        "sklearn is for the demo",
    ),
    plant(
        "libraries",
        "manylabel.bundle.bundle",
        "import torch.nn",
        "manylabel.bundle.bundle:1: imports torch, which bundle may not use",
        "torch is for the export",
    ),
    plant(
        "libraries",
        "manylabel.labels.predictions",
        "import pyarrow.parquet as pq",
        "manylabel.labels.predictions:1: imports pyarrow outside a function",
        "pyarrow at module level",
    ),
    plant(
        "libraries",
        "manylabel.evaluation.mistakes",
        "try:\n    import matplotlib\nexcept ImportError:\n    matplotlib = None",
        "manylabel.evaluation.mistakes:2: imports matplotlib outside a function",
        "a try at module level is module level",
    ),
    plant(
        "libraries",
        "manylabel.cli.main",
        "import numpy as np",
        "manylabel.cli.main:1: imports numpy, which cli may not use",
        "a command computes",
    ),
    plant(
        "danger", "manylabel.a", "import pickle", "manylabel.a:1: imports pickle, which runs code from files", "pickle"
    ),
    plant(
        "danger",
        "manylabel.a",
        "def f():\n    from joblib import load",
        "manylabel.a:2: imports joblib, which runs code from files",
        "joblib",
    ),
    plant(
        "danger",
        "manylabel.a",
        "import torch\ntorch.load(path, weights_only=True)",
        "manylabel.a:2: torch.load is pickle underneath; weights are safetensors",
        "torch.load, restricted or not",
    ),
    plant(
        "danger",
        "manylabel.a",
        "from torch import save as keep",
        "manylabel.a:1: torch.save is pickle underneath; weights are safetensors",
        "torch.save under another name",
    ),
    plant(
        "danger",
        "manylabel.a",
        "import torch as t\nread = t.load",
        "manylabel.a:2: torch.load is pickle underneath; weights are safetensors",
        "torch.load without a call",
    ),
    plant(
        "danger",
        "manylabel.a",
        "import torch\ntorch.hub.load_state_dict_from_url(url)",
        "manylabel.a:2: torch.hub runs code from the network",
        "torch.hub",
    ),
    plant("danger", "manylabel.a", "eval('1')", "manylabel.a:1: builtins.eval runs text as code", "eval"),
    plant("danger", "manylabel.a", "exec('1')", "manylabel.a:1: builtins.exec runs text as code", "exec"),
    plant(
        "danger", "manylabel.a", "import yaml\nyaml.load(f)", "manylabel.a:2: yaml.load builds any object", "yaml.load"
    ),
    plant(
        "danger",
        "manylabel.a",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "manylabel.a:2: shell=True runs a shell",
        "shell",
    ),
    plant("danger", "manylabel.a", "import os\nos.system('ls')", "manylabel.a:2: os.system runs a shell", "os.system"),
    plant(
        "danger",
        "manylabel.a",
        "import numpy as np\nnp.load(path, allow_pickle=flag)",
        "manylabel.a:2: allow_pickle=flag runs code from files",
        "object arrays",
    ),
    plant(
        "danger",
        "manylabel.a",
        "try:\n    f()\nexcept:\n    pass",
        "manylabel.a:3: except without an exception",
        "a bare except",
    ),
    plant("danger", "manylabel.a", "x = 1  # TO" + "DO later", "manylabel.a:1: TO" + "DO", "left for later"),
    plant(
        "names",
        "manylabel.data.utils",
        "",
        "manylabel.data.utils: 'utils' names no noun, say what is inside",
        "a drawer for anything",
    ),
    plant(
        "names",
        "manylabel._common.paths",
        "",
        "manylabel._common.paths: '_common' names no noun, say what is inside",
        "a private drawer",
    ),
]


@pytest.mark.parametrize(("gate", "module", "source", "expected"), PLANTED)
def test_a_planted_fault_is_found(gate: str, module: str, source: str, expected: str) -> None:
    assert GATES[gate](module, source) == [expected]


ALLOWED = [
    pytest.param("manylabel.data.images", "import os\nimport numpy as np\nfrom PIL import Image", id="its libraries"),
    pytest.param("manylabel.runs.train", "from manylabel.training import loop", id="a line below"),
    pytest.param("manylabel.bundle.card", "from manylabel import __version__", id="the version"),
    pytest.param(
        "manylabel.bundle.export", "import torch\nfrom manylabel.models import heads", id="torch for the export"
    ),
    pytest.param("manylabel.training.loop", "model.eval()", id="eval of a model is a method"),
    pytest.param("manylabel.data.images", "import numpy as np\nnp.load(p, allow_pickle=False)", id="a literal False"),
    pytest.param("manylabel.labels.predictions", "def save():\n    import pyarrow", id="pyarrow inside a function"),
    pytest.param(
        "manylabel.cli.train", "from manylabel.training.config import TrainConfig", id="flags come from fields"
    ),
    pytest.param(
        "manylabel.cli.main", "from manylabel.errors import ManylabelError\nimport typer", id="a light command"
    ),
    pytest.param("manylabel.data.demo", "def make():\n    import sklearn.datasets", id="sklearn for the demo"),
    pytest.param(
        "manylabel.cli.main",
        "if TYPE_CHECKING:\n    from manylabel.runs.train import Run",
        id="a type costs nothing at start",
    ),
]


@pytest.mark.parametrize(("module", "source"), ALLOWED)
def test_what_is_allowed_is_not_reported(module: str, source: str) -> None:
    assert [violation for gate in GATES.values() for violation in gate(module, source)] == []


def test_relative_imports_count_from_the_package_in_an_init_file() -> None:
    (found,) = find_imports("manylabel.data", "from .formats import detect", is_package=True)
    assert found.name == "manylabel.data.formats.detect"
    (found,) = find_imports("manylabel.data.images", "from .formats import detect")
    assert found.name == "manylabel.data.formats.detect"


def test_an_exception_lets_one_import_pass() -> None:
    source = "from manylabel.models import heads"
    exceptions = {("manylabel.data.images", "models"): "worked example"}
    assert find_order_violations("manylabel.data.images", source, exceptions=exceptions) == []
    assert find_order_violations("manylabel.data.splits", source, exceptions=exceptions) != []


@pytest.mark.parametrize(
    ("source", "reason", "expected"),
    [
        pytest.param("from manylabel.models import heads", " ", ["no reason"], id="without a reason"),
        pytest.param("import numpy", "once needed", ["not needed"], id="the import is gone"),
        pytest.param("from manylabel.models import heads", "needed", [], id="in use"),
    ],
)
def test_an_exception_that_is_not_in_use_is_found(source: str, reason: str, expected: list[str]) -> None:
    modules = [Module("manylabel.data.images", source, is_package=False)]
    found = find_stale_exceptions({("manylabel.data.images", "models"): reason}, modules)
    assert found == [f"manylabel.data.images -> models: {why}" for why in expected]


def test_a_loaded_module_is_seen() -> None:
    assert find_loaded(["wave"], ["wave", "torch"]) == ["wave"]
