"""TrainConfig: every knob of a training run, with the names that the command line and files use too."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from manylabel.errors import ConfigError, build_message, join_names, join_problems, suggest_name

FREEZE_CHOICES = ("none", "backbone")
SCHEDULES = ("cosine", "one_cycle")
PRECISION_CHOICES = ("auto", "fp32", "fp32_channels_last", "bf16", "bf16_channels_last")
BAD_IMAGES_CHOICES = ("skip", "stop")
SAMPLERS = ("shuffle", "repeat", "balanced")


def _knob(default: Any, help_text: str) -> Any:
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata={"help": help_text})
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a run; each is a flag of `manylabel train` and a key of `--config`: `image_size`, `--image-size`.

    Raises:
        ConfigError: a value that makes no sense; all such values are listed at once.
    """

    backbone: str = _knob("resnet18", "A timm model by name.")
    backbone_args: Mapping[str, Any] = _knob(
        {}, "More arguments for the timm model, such as pad_type=same,bn_eps=0.001."
    )
    weights: str = _knob(
        "pretrained", "Where the backbone starts: 'pretrained' (downloaded), 'none', or a safetensors file."
    )
    allow_partial_weights: bool = _knob(
        False, "Accept a weights file that leaves tensors of the backbone unset; they are listed."
    )
    image_size: int = _knob(224, "Height and width in pixels that the model sees.")
    batch_size: int = _knob(32, "Images in one batch; several processes share it.")
    accumulate: int = _knob(
        1, "Batches that one step learns from: 4 batches of 8 images learn as one of 32 does, in the memory of 8."
    )
    epochs: int = _knob(10, "Passes over the training images.")
    budget: str = _knob("", "Time for training, such as 20m or 1.5h, instead of --epochs: as many epochs as fit.")
    lr: float = _knob(1e-3, "The largest learning rate, reached after warm-up.")
    backbone_lr_ratio: float = _knob(0.3, "The learning rate of loaded backbone weights as a share of --lr.")
    layer_decay: float = _knob(
        1.0, "Each layer of the backbone learns this much slower than the one after it, such as 0.75. 1 is off."
    )
    weight_decay: float = _knob(0.02, "AdamW's decay of weights; norms and biases are left out.")
    schedule: str = _knob(
        "cosine",
        "How the learning rate moves: 'cosine' rises in a line and falls along a cosine, 'one_cycle' does both along "
        "a cosine and ends lower.",
    )
    warmup: float = _knob(0.1, "The share of all steps in which the learning rate rises.")
    clip_norm: float = _knob(1.0, "The largest norm of a gradient; larger ones are scaled down. 0 switches it off.")
    dropout: float = _knob(0.0, "The share of features that a training step leaves out before the head.")
    drop_path: float = _knob(0.0, "The rate of stochastic depth, for backbones that have it.")
    label_smoothing: float = _knob(0.0, "Moves the truth of every known cell this far towards one half.")
    freeze: str = _knob("none", "What is not trained: 'none' or 'backbone'.")
    head_epochs: int = _knob(0, "Epochs at the start in which the head alone learns, before the backbone joins in.")
    head: str = _knob(
        "linear",
        "What stands on the backbone's features: a head, and settings after a comma (ml_decoder,num_groups=50).",
    )
    loss: str = _knob("bce", "What training minimises: a loss, and settings after a comma (asl,gamma_negative=3).")
    sampler: str = _knob(
        "shuffle",
        "Which images an epoch shows: 'shuffle' is each once; 'repeat' (repeat,threshold=0.1) and 'balanced' show "
        "those with rare labels more.",
    )
    augment: str = _knob(
        "light", "Random changes of training images: a preset, and settings after a comma (none,vertical_flip=0.5)."
    )
    mix: str = _knob(
        "none",
        "Mixing of training images: none, mixup, cutmix or mosaic, and settings after a comma (cutmix,share=0.3).",
    )
    ema: float = _knob(
        0.0,
        "Decay of a moving average of the weights (such as 0.999), which is then what is judged and kept. 0 is off.",
    )
    precision: str = _knob(
        "auto",
        "Numbers and memory order of a step; 'auto' measures all and takes what is clearly fastest on this machine.",
    )
    workers: int = _knob(2, "Processes that decode images beside training; 0 decodes in the training process.")
    image_cache: str = _knob(
        "", "A folder that keeps decoded images, so that later epochs and runs need not decode. Empty keeps none."
    )
    checkpoint_minutes: float = _knob(
        10.0,
        "The most minutes that a killed run loses in a long epoch; a checkpoint is written at its end in any case.",
    )
    patience: int = _knob(0, "Epochs without a better --monitor before training stops. 0 never stops early.")
    monitor: str = _knob("average_precision_macro", "The validation metric that chooses the best epoch.")
    goal: str = _knob(
        "f1",
        "What the thresholds are chosen for on the validation images: a goal, and settings after a comma "
        "(precision,at_least=0.9).",
    )
    calibrate: str = _knob(
        "none",
        "How probabilities are calibrated on the validation images: none, temperature, platt, beta, isotonic, or auto "
        "for what is seen to help.",
    )
    bad_images: str = _knob(
        "skip",
        "What to do with images that cannot be used: 'skip' them, up to --max-bad-images, or 'stop' at the first.",
    )
    max_bad_images: float = _knob(
        0.01, "The share of images that may be unusable; they are skipped, counted and named. More stops the run."
    )
    track: str = _knob(
        "",
        "Trackers to tell besides: tensorboard, mlflow, wandb, joined by commas; their files go into the run folder.",
    )
    seed: int = _knob(0, "The same seed, data and machine give the same weights.")
    resume: bool = _knob(False, "Go on with the run in --out from its last checkpoint.")

    def __post_init__(self) -> None:
        problems = _find_problems(self)
        if problems:
            raise ConfigError("\n".join(problems))
        object.__setattr__(self, "backbone_args", dict(self.backbone_args))
        for name, expected in get_type_hints(TrainConfig).items():
            if expected is float:  # 1 and 1.0 are one setting, also in files
                object.__setattr__(self, name, float(getattr(self, name)))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return asdict(self)


def load_config(path: str | Path) -> dict[str, Any]:
    """Read the keys of a TOML or JSON file of settings; the keys are the fields of TrainConfig.

    Raises:
        ConfigError: the file cannot be read, or has a key that is no setting; the message suggests the nearest.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(build_message(file, "there is no such file of settings", do="Check --config"))
    import tomllib  # every command builds the flags of train, few read a file of settings

    try:
        text = file.read_text("utf-8-sig")
        values = json.loads(text) if file.suffix.lower() == ".json" else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            build_message(file, f"not readable as settings ({error})", expected="TOML or JSON")
        ) from error
    # A run's own config.json holds the settings beside other facts.
    values = values.get("config", values) if isinstance(values, dict) else values
    if not isinstance(values, dict):
        raise ConfigError(build_message(file, "not a table of settings", got=values, expected="keys with values"))
    return check_keys(values, str(file))


def check_keys(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the values with dashes in keys turned to underscores.

    Raises:
        ConfigError: keys that are no settings; all are listed, each with the nearest that is one.
    """
    known = [knob.name for knob in fields(TrainConfig)]
    checked = {key.replace("-", "_"): value for key, value in values.items()}
    unknown = [key for key in checked if key not in known]
    if unknown:
        problems = [build_message(where, f"unknown setting {key!r}{suggest_name(key, known)}") for key in unknown]
        raise ConfigError(f"{join_problems(problems)}\nThe settings are: {join_names(known, len(known))}.")
    return checked


def parse_arguments(text: str) -> dict[str, Any]:
    """Read `pad_type=same,bn_eps=0.001`: numbers, true, false and none become what they look like, `32x64` a tuple.

    Raises:
        ConfigError: a piece without `=`.

    Example:
        >>> parse_arguments("pad_type=same,bn_eps=0.001,channels=32x64")
        {'pad_type': 'same', 'bn_eps': 0.001, 'channels': (32, 64)}
    """
    values: dict[str, Any] = {}
    for piece in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = (part.strip() for part in piece.partition("="))
        if not equals or not key:
            raise ConfigError(
                build_message("--backbone-args", "not a setting", got=piece, expected="key=value,key=value")
            )
        values[key] = _parse_value(value)
    return values


def parse_budget_seconds(text: str) -> float:
    """Return the seconds that `20m`, `90s` or `1.5h` stand for.

    Raises:
        ConfigError: anything else.

    Example:
        >>> parse_budget_seconds("1.5h")
        5400.0
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip().lower())
    if match is None or float(match[1]) == 0:
        raise ConfigError(
            build_message("budget", "not a time", got=text, expected="a number and s, m or h, such as 20m")
        )
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _parse_value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    if re.fullmatch(r"\d+(x\d+)+", text):
        return tuple(int(number) for number in text.split("x"))
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


_LIMITS: Mapping[str, tuple[float, float]] = {
    "accumulate": (1, 4096), "layer_decay": (0.01, 1), "head_epochs": (0, 100_000),
    "image_size": (8, 4096), "batch_size": (1, 65_536), "epochs": (1, 100_000), "lr": (1e-9, 1e30), "workers": (0, 512),
    "backbone_lr_ratio": (0, 100), "weight_decay": (0, 10), "warmup": (0, 0.9), "clip_norm": (0, 1e6),
    "dropout": (0, 0.95), "drop_path": (0, 0.95), "label_smoothing": (0, 0.5), "ema": (0, 0.99999),
    "checkpoint_minutes": (0, 100_000), "patience": (0, 100_000), "max_bad_images": (0, 1), "seed": (0, 2**31 - 1),
}  # fmt: skip

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "freeze": FREEZE_CHOICES,
    "schedule": SCHEDULES,
    "precision": PRECISION_CHOICES,
    "bad_images": BAD_IMAGES_CHOICES,
}


def _find_problems(config: TrainConfig) -> list[str]:
    problems = []
    for name, expected in get_type_hints(TrainConfig).items():
        value = getattr(config, name)
        if expected in (int, float, str, bool) and not _has_type(value, expected):
            problems.append(build_message(name, "wrong kind of value", got=value, expected=expected.__name__))
        elif name in _LIMITS and not _LIMITS[name][0] <= value <= _LIMITS[name][1]:
            low, high = _LIMITS[name]
            problems.append(build_message(name, "out of range", got=value, expected=f"{low:g} to {high:g}"))
        elif name in _CHOICES and value not in _CHOICES[name]:
            choices = _CHOICES[name]
            problems.append(
                build_message(
                    name, f"unknown choice {value!r}{suggest_name(value, choices)}", expected=join_names(choices)
                )
            )
    if not isinstance(config.backbone_args, Mapping):
        problems.append(
            build_message("backbone_args", "wrong kind of value", got=config.backbone_args, expected="a mapping")
        )
    if isinstance(config.budget, str) and config.budget:
        try:
            parse_budget_seconds(config.budget)
        except ConfigError as error:
            problems.append(str(error))
    return problems


def _has_type(value: Any, expected: type) -> bool:
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, expected)
