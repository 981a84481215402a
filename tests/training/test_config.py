"""TrainConfig: every setting is checked at once, and its name is the same in Python, in files and as a flag."""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

from manylabel.cli.main import app
from manylabel.errors import ConfigError
from manylabel.training.config import TrainConfig, load_config, parse_arguments, parse_budget_seconds

NAMES = [field.name for field in fields(TrainConfig)]
PROMISED = {
    "backbone", "backbone_args", "weights", "allow_partial_weights", "image_size", "batch_size", "epochs",
    "budget", "lr", "weight_decay", "freeze", "head", "loss", "sampler", "augment", "mix", "ema", "precision",
    "workers", "patience", "monitor", "goal", "calibrate", "seed", "resume",
}  # fmt: skip
"""The settings that programs outside are written against."""


def flags_of_train() -> dict[str, Any]:
    command = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    return {option: parameter for parameter in command.params for option in parameter.opts}


def test_every_promised_setting_is_there() -> None:
    assert set(NAMES) >= PROMISED


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_a_flag_of_train_with_the_same_help_and_default(name: str) -> None:
    parameter = flags_of_train()[f"--{name.replace('_', '-')}"]
    (field,) = (field for field in fields(TrainConfig) if field.name == name)
    assert field.metadata["help"].split(".")[0][:40] in parameter.help
    assert field.metadata["help"].strip().endswith(".")


def test_every_flag_of_train_is_a_setting_or_says_where_things_are() -> None:
    places = {"out", "images", "val", "test", "config", "layout", "image-column", "label-column", "quiet", "help"}
    places |= {"blank", "uncertain", "soft"}
    surplus = {option for option in flags_of_train() if option.startswith("--") and not option.startswith("--no-")} - {
        f"--{name.replace('_', '-')}" for name in NAMES
    }
    assert surplus <= {f"--{name}" for name in places}


def test_the_defaults_make_sense() -> None:
    assert TrainConfig().to_dict()["backbone"] == "resnet18"


def test_all_problems_are_listed_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig(epochs=0, lr=math.nan, freeze="bakcbone", seed="one", budget="soon", backbone_args="x=1")  # type: ignore[arg-type]
    assert set(str(caught.value).splitlines()) == {
        "epochs: out of range, got 0, expected 1 to 100000.",
        "lr: out of range, got nan, expected 1e-09 to 1e+30.",
        "freeze: unknown choice 'bakcbone' (did you mean 'backbone'?), expected none, backbone.",
        "seed: wrong kind of value, got 'one', expected int.",
        "budget: not a time, got 'soon', expected a number and s, m or h, such as 20m.",
        "backbone_args: wrong kind of value, got 'x=1', expected a mapping.",
    }


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        pytest.param("batch_size", True, "wrong kind of value, got True, expected int", id="true is no number"),
        pytest.param("batch_size", 2.0, "wrong kind of value, got 2.0, expected int", id="no whole number"),
        pytest.param("lr", "0.1", "wrong kind of value, got '0.1', expected float", id="number in quotes"),
        pytest.param("resume", 1, "wrong kind of value, got 1, expected bool", id="one is not true"),
        pytest.param("weights", None, "wrong kind of value, expected str", id="null of a file"),
        pytest.param("image_size", 5000, "out of range, got 5000, expected 8 to 4096", id="too large"),
        pytest.param("dropout", -0.1, "out of range, got -0.1, expected 0 to 0.95", id="negative"),
        pytest.param("label_smoothing", 0.6, "out of range, got 0.6, expected 0 to 0.5", id="turns the truth round"),
        pytest.param("max_bad_images", 1.5, "out of range, got 1.5, expected 0 to 1", id="a share above all"),
        pytest.param("seed", -1, "out of range, got -1, expected 0 to 2.14748e+09", id="negative seed"),
        pytest.param(
            "precision",
            "bf61",
            "unknown choice 'bf61' (did you mean 'bf16'?), expected auto, fp32, fp32_channels_last, bf16, "
            "bf16_channels_last",
            id="misspelt choice",
        ),
        pytest.param("schedule", "x", "unknown choice 'x', expected cosine, one_cycle", id="unlike any choice"),
    ],
)
def test_a_value_that_makes_no_sense_is_one_sentence(name: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**{name: value})  # type: ignore[arg-type]
    assert str(caught.value) == f"{name}: {message}."


def test_a_whole_number_is_the_same_setting_as_its_fraction() -> None:
    assert TrainConfig(lr=1) == TrainConfig(lr=1.0)
    assert json.dumps(TrainConfig(lr=1).to_dict()) == json.dumps(TrainConfig(lr=1.0).to_dict())


def test_a_config_keeps_its_own_arguments() -> None:
    arguments = {"depth": 2}
    config = TrainConfig(backbone_args=arguments)
    arguments["depth"] = 3
    assert config.backbone_args == {"depth": 2}


def test_settings_survive_json(tmp_path: Path) -> None:
    config = TrainConfig(lr=3e-4, backbone_args={"depth": 2}, resume=True)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"versions": {}, "config": config.to_dict()}))
    assert TrainConfig(**load_config(path)) == config


def test_a_file_may_write_dashes(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('batch-size = 8\nimage_size = 64\n[backbone-args]\npad_type = "same"\n')
    assert load_config(path) == {"batch_size": 8, "image_size": 64, "backbone_args": {"pad_type": "same"}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        pytest.param(
            "s.toml",
            "batchsize = 8\nlearning = 1",
            r"s.toml: unknown setting 'batchsize' \(did you mean 'batch_size'\?\)\.\n"
            r".*s.toml: unknown setting 'learning'.*\nThe settings are: backbone, .*resume\.$",
            id="unknown keys, all of them",
        ),
        pytest.param(
            "s.toml", "lr = ", r"s.toml: not readable as settings \(.+\), expected TOML or JSON\.$", id="TOML"
        ),
        pytest.param("s.json", "{", r"s.json: not readable as settings \(.+\), expected TOML or JSON\.$", id="JSON"),
        pytest.param("s.json", "[1]", r"s.json: not a table of settings, got \[1\], expected keys", id="a list"),
        pytest.param("s.toml", b"\xff\xfe\x00", r"s.toml: not readable as settings \(.+\)", id="not UTF-8"),
    ],
)
def test_a_file_that_holds_no_settings_is_one_sentence(
    name: str, text: str | bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / name)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    with pytest.raises(ConfigError, match=re.escape(f"{path}: there is no such file of settings. Check --config.")):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", {}, id="nothing"),
        pytest.param("a=1, b = 2.5 ,", {"a": 1, "b": 2.5}, id="numbers, blanks, a comma at the end"),
        pytest.param("a=true,b=False,c=none", {"a": True, "b": False, "c": None}, id="words with a meaning"),
        pytest.param("a=same,b=1e-3,c=-2", {"a": "same", "b": 0.001, "c": -2}, id="text, exponents, negatives"),
        pytest.param("a=32x64x3,b=x", {"a": (32, 64, 3), "b": "x"}, id="several numbers"),
        pytest.param("a=b=c", {"a": "b=c"}, id="the first sign of equality parts"),
    ],
)
def test_arguments_become_what_they_look_like(text: str, expected: dict[str, Any]) -> None:
    values = parse_arguments(text)
    assert values == expected
    assert [type(value) for value in values.values()] == [type(value) for value in expected.values()]


@pytest.mark.parametrize("piece", ["a", "=1"])
def test_an_argument_without_name_or_value_is_one_sentence(piece: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_arguments(f"x=1,{piece}")
    assert str(caught.value) == f"--backbone-args: not a setting, got {piece!r}, expected key=value,key=value."


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("1.5h", 5400), (" 2 M ", 120), ("0.5s", 0.5)]
)
def test_a_budget_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_budget_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "m", "-5m", "0m", "1d", "1h30m", "infs", "nan m"])
def test_anything_else_is_no_budget(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^budget: not a time, got .*, expected a number and s, m or h"):
        parse_budget_seconds(text)
