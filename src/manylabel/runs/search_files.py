"""What a search leaves in its folder beside the study: trials.csv, search.json and best.toml."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from manylabel.files import write_text_atomically
from manylabel.runs.study import Trial
from manylabel.training.config import TrainConfig


def save_trials(path: Path, trials: Sequence[Trial], knobs: Sequence[str]) -> None:
    """Write a row per trial."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    facts = ("number", "state", "value", "best_epoch", "num_epochs", "seconds")
    writer.writerow([*facts, *knobs, "error"])
    for trial in trials:
        row = [getattr(trial, name) for name in facts]
        writer.writerow([*row[:5], f"{trial.seconds:.2f}", *(trial.settings[knob] for knob in knobs), trial.error])
    write_text_atomically(path, text.getvalue())


def settings_to_toml(config: TrainConfig, names: Collection[str] = ()) -> str:
    """Return the settings that differ from the defaults, and those that are named, as a file for `--config`.

    Example:
        >>> print(settings_to_toml(TrainConfig(lr=0.003, backbone_args={"bn_eps": 0.001}), ["ema"]))
        lr = 0.003
        ema = 0.0
        <BLANKLINE>
        [backbone_args]
        bn_eps = 0.001
        <BLANKLINE>
    """
    default, lines = TrainConfig(), []
    for field in fields(TrainConfig):
        value = getattr(config, field.name)
        if field.name != "backbone_args" and (value != getattr(default, field.name) or field.name in names):
            lines.append(f"{field.name} = {_to_toml(value)}")
    if config.backbone_args:
        lines += ["", "[backbone_args]", *(f"{key} = {_to_toml(value)}" for key, value in config.backbone_args.items())]
    return "".join(f"{line}\n" for line in lines)


def _to_toml(value: Any) -> str:
    """Return a value as TOML; its texts are quoted as JSON's are."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
