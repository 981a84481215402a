"""Every shipped choice and every documented recipe trains, offline, on 20 images.

The tables are walked, so that a new row is covered by itself. The values of all tables are tried side by side: run
number n has value number n of each table, counted around where a table is shorter.
"""

from __future__ import annotations

import functools
import json
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.runs.conftest import ignore
from tests.test_docs import PAGES, ROOT, Block, find_blocks, find_commands, name_page, run_python_blocks
from typer.main import get_command

import manylabel as ml
from manylabel.augment.mixing import MIXES
from manylabel.augment.presets import PRESETS
from manylabel.cli.main import app
from manylabel.data.annotations import Annotations
from manylabel.data.demo import write_demo
from manylabel.decisions import CALIBRATIONS, GOALS
from manylabel.decisions.rules import RULES
from manylabel.losses import LOSSES
from manylabel.models.heads import HEADS
from manylabel.runs.folder import RunFolder
from manylabel.runs.train import train
from manylabel.training.checkpoints import Progress
from manylabel.training.config import (
    BAD_IMAGES_CHOICES,
    FREEZE_CHOICES,
    PRECISION_CHOICES,
    SAMPLERS,
    SCHEDULES,
    TrainConfig,
)
from manylabel.training.loop import run_loop
from manylabel.training.setup import build_network, build_setup

TINY: Mapping[str, Any] = {
    "backbone": "test_resnet", "backbone_args": {}, "weights": "none", "image_size": 32, "epochs": 1, "batch_size": 5,
    "workers": 0, "precision": "fp32",
}  # fmt: skip
"""What makes a recipe offline and quick; everything else of it stays as it is written."""

TABLES: Mapping[str, Sequence[Any]] = {
    "head": tuple(HEADS),
    "loss": tuple(LOSSES),
    "sampler": SAMPLERS,
    "augment": tuple(PRESETS),
    "mix": tuple(MIXES),
    "schedule": SCHEDULES,
    "precision": PRECISION_CHOICES,
    "bad_images": BAD_IMAGES_CHOICES,
    "ema": (0.0, 0.9),
    "head_epochs": (0, 1),
    "accumulate": (1, 2),
    "layer_decay": (1.0, 0.75),
    "label_smoothing": (0.0, 0.1),
}
REQUIRED = {"at_least": "0.5", "at_most": "0.5", "k": "1"}
"""What a goal asks for beside its name."""

AT_THE_END: Mapping[str, Sequence[Any]] = {
    "head": tuple(HEADS),
    "goal": tuple(
        ",".join([name, *(f"{key}={REQUIRED[key]}" for key in kind.required)]) for name, kind in GOALS.items()
    ),
    "calibrate": CALIBRATIONS,
    "freeze": FREEZE_CHOICES,
}
"""What a whole run does with a model that has learnt: export, calibration, thresholds."""


def lay_side_by_side(tables: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return as many settings as the longest table has values, with every value of every table in some of them."""
    num_runs = max(map(len, tables.values()))
    return [{name: values[number % len(values)] for name, values in tables.items()} for number in range(num_runs)]


def name_recipe(settings: Mapping[str, Any]) -> str:
    return "-".join(str(settings[name]) for name in list(settings)[:3])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 composed digits with parts: `photos/` and `labels.csv`."""
    folder = tmp_path_factory.mktemp("recipes")
    written = write_demo(folder / "photos", num_images={"train": 10, "val": 6, "test": 4})
    return Path(shutil.copy(written, folder / "labels.csv"))


@pytest.fixture(scope="module")
def parts(table: Path) -> dict[str, Annotations]:
    return ml.load_annotations(table, images=table.parent / "photos").parts()


def test_no_value_of_a_table_is_left_out() -> None:
    for tables in (TABLES, AT_THE_END):
        recipes = lay_side_by_side(tables)
        for name, values in tables.items():
            assert {recipe[name] for recipe in recipes} == set(values)


@pytest.mark.parametrize("recipe", lay_side_by_side(TABLES), ids=name_recipe)
def test_every_choice_of_training_trains(recipe: dict[str, Any], parts: dict[str, Annotations], tmp_path: Path) -> None:
    learn(TrainConfig(**{**TINY, **recipe}), parts, tmp_path)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("freeze", [choice for choice in FREEZE_CHOICES if choice != "none"])
def test_every_head_trains_on_what_is_frozen(
    freeze: str, head: str, parts: dict[str, Annotations], tmp_path: Path
) -> None:
    learn(TrainConfig(**{**TINY, "freeze": freeze, "head": head}), parts, tmp_path)


def learn(config: TrainConfig, parts: Mapping[str, Annotations], folder: Path) -> None:
    """Train one epoch and check that it was kept."""
    network = build_network(config, parts["train"])
    setup = build_setup(config, network, parts["train"], parts["val"], folder / "checkpoints", ignore)
    progress = Progress()
    assert run_loop(setup.parts, progress, ignore, lambda: False) == "finished"
    assert len(progress.history) == 1
    assert (folder / "checkpoints" / "best.safetensors").is_file()


@pytest.mark.scenario
@pytest.mark.parametrize("recipe", lay_side_by_side(AT_THE_END), ids=name_recipe)
def test_every_choice_that_ends_a_run_comes_out_whole(
    recipe: dict[str, Any], parts: dict[str, Annotations], tmp_path: Path
) -> None:
    if recipe["goal"].startswith("miss_rate"):
        recipe = recipe | {"calibrate": "auto"}  # what is guaranteed takes no calibration that was asked for
    config = TrainConfig(**{**TINY, **recipe})
    train(parts["train"], parts["val"], config, out=tmp_path / "run", test=parts["test"], on_event=ignore)
    check_whole(RunFolder(tmp_path / "run"))
    model = ml.load(tmp_path / "run")
    for record in parts["test"].records:
        answer = model.predict(record.source)
        assert answer.labels is not None
        assert set(answer.labels) <= set(parts["train"].label_space.names)


def check_whole(folder: RunFolder) -> None:
    files = (
        folder.config, folder.data, folder.history, folder.metrics, folder.report, folder.last_checkpoint,
        folder.best_weights, folder.predictions("val"), folder.predictions("test"), folder.bundle / "manifest.json",
        folder.bundle / "model.onnx", folder.bundle / "model.safetensors", folder.bundle / "README.md",
    )  # fmt: skip
    assert [path.name for path in files if not path.is_file() or not path.stat().st_size] == []


# ---------------------------------------------------------------------------------------------------------------------
# What README and the pages show.
# ---------------------------------------------------------------------------------------------------------------------

RECIPES = ("train", "cross-validate", "find-lr", "search", "augment")
"""The commands that train, or show what training sees; the others have tests of their own."""


def find_recipes(page: Path) -> list[list[str]]:
    """Return the recipes of a page in order, and one for each block of settings."""
    text = page.read_text(encoding="utf-8")
    recipes = [list(command.words) for command in find_commands(text) if command.words[0] in RECIPES]
    recipes = [words for words in recipes if "--help" not in words]
    for number, block in enumerate(block for block in find_blocks(text) if is_settings(block)):
        recipes.append(["train", "split.csv", "--images", "photos/", "--out", f"toml{number}", "--config", block.text])
    return recipes


def is_settings(block: Block) -> bool:
    return block.language == "toml" and "rule" not in tomllib.loads(block.text)


def test_rules_of_pages_are_of_kinds_that_exist() -> None:
    blocks = [block for page in PAGES for block in find_blocks(page.read_text(encoding="utf-8"))]
    pages = [tomllib.loads(block.text) for block in blocks if block.language == "toml" and not is_settings(block)]
    kinds = {rule["kind"] for rules in pages for rule in rules["rule"]}
    assert kinds
    assert kinds <= set(RULES)


def make_quick(words: list[str]) -> list[str]:
    """Return a command that does the same offline in a second: of a flag that is given twice the last counts."""
    quick = [*words, "--image-size", "32"]
    if words[0] != "augment":
        quick += [
            word
            for key, value in TINY.items()
            if key != "backbone_args"
            for word in (f"--{key}".replace("_", "-"), str(value))
        ]
        quick += ["--backbone-args", ""]
    if words[0] == "search":
        quick += ["--trials", "1", "--repeats", "1", "--budget", ""]
    if words[0] == "cross-validate":
        quick += ["--folds", "2"]
    return quick


@pytest.fixture
def reader(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody who follows a page: images, and whatever table or settings it names."""
    for name in ("photos", "flags"):
        shutil.copytree(table.parent / "photos", tmp_path / name)
    shutil.copy(next((tmp_path / "photos").rglob("*.png")), tmp_path / "cat.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def place_files(words: list[str], table: Path) -> list[str]:
    """Write the table and the settings that a command reads, where it does not find them yet."""
    placed = list(words)
    if not Path(words[1]).exists():
        Path(words[1]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(table, words[1])
    if "--config" in words:
        at = words.index("--config") + 1
        if "=" in words[at]:  # the settings themselves
            placed[at] = "settings.toml"
            Path("settings.toml").write_text(words[at], encoding="utf-8")
        elif not Path(words[at]).exists():
            Path(words[at]).parent.mkdir(parents=True, exist_ok=True)
            is_json = words[at].endswith(".json")
            text = json.dumps({"config": TrainConfig(lr=0.002).to_dict()}) if is_json else "lr = 0.002\n"
            Path(words[at]).write_text(text, encoding="utf-8")
    return placed


def run_recipe(words: list[str], table: Path) -> None:
    command: Any = get_command(app)
    code = command.main(make_quick(place_files(words, table)), standalone_mode=False)
    assert code in (0, None), words
    if words[0] == "train":
        out = Path(words[words.index("--out") + 1])
        assert (out / "bundle" / "model.onnx").is_file()
        answer = ml.load(out).predict("cat.jpg")
        assert answer.labels is not None


PAGES_WITH_RECIPES = [name_page(page) for page in PAGES if find_recipes(page)]


@pytest.mark.scenario
@pytest.mark.usefixtures("_quick", "reader")
@pytest.mark.parametrize("page", PAGES_WITH_RECIPES)
def test_every_recipe_of_a_page_runs_on_20_images(page: str, table: Path) -> None:
    for words in find_recipes(ROOT / page):
        run_recipe(words, table)


def find_own_image_blocks(page: Path) -> list[Block]:
    """Return the Python of a page that is not run elsewhere because it needs the reader's images."""
    blocks = find_blocks(page.read_text(encoding="utf-8"))
    return [block for block in blocks if block.comment == "not executed: needs your images"]


@pytest.mark.scenario
@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("page", [name_page(page) for page in PAGES if find_own_image_blocks(page)])
def test_python_that_needs_images_of_one_s_own_runs_on_20(
    page: str, table: Path, reader: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("labels.csv", "split.csv"):
        shutil.copy(table, reader / name)

    def build_tiny(**given: Any) -> TrainConfig:
        return TrainConfig(**{**given, **TINY})

    monkeypatch.setattr(ml, "TrainConfig", build_tiny)
    if "search" in page:
        monkeypatch.setattr(ml, "search", limit_trials(ml.search))
    run_python_blocks(find_own_image_blocks(ROOT / page), page)


def limit_trials(search: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(search)
    def limited(*tables: Any, **given: Any) -> Any:
        return search(*tables, **{**given, "num_trials": 2, "num_repeats": 1})

    return limited


def test_the_pages_have_recipes_to_run() -> None:
    assert {"README.md", "docs/tutorials/first_model.md", "docs/how_to/search_settings.md"} <= set(PAGES_WITH_RECIPES)
    assert len([words for page in PAGES for words in find_recipes(page)]) > 15
