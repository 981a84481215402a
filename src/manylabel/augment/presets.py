"""Augmentation: random changes of torchvision.transforms v2, as named presets with settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from manylabel.augment.crops import RandomCrop, RegionAugmentation
from manylabel.data.preprocess import Preprocess
from manylabel.errors import ConfigError, build_message, join_names, join_problems, suggest_name

Augmentation = Callable[[Image.Image], Image.Image]
"""Takes a decoded RGB image of any size, returns one of the size that the model sees."""


@dataclass(frozen=True)
class AugmentSettings:
    """What is done to a training image; 0 (or a crop of 1) leaves that part out.

    `crop` is the smallest share of the image's area that a random crop keeps: a small one cuts labels out of the
    image that the table still claims. `rotation_degrees` turns either way. Flips are probabilities. `brightness`,
    `contrast`, `saturation` and `hue` are torchvision's ColorJitter strengths. `randaugment` is the number of
    operations of RandAugment, each at `magnitude` of 30; `trivialaugment` and `erasing` are probabilities. `regions`
    says what becomes of crops that would cut out a label whose place is known: "keep" avoids them, "drop" no longer
    claims the label, "ignore" does nothing.
    """

    crop: float = 1.0
    rotation_degrees: float = 0.0
    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    randaugment: float = 0.0
    magnitude: float = 9.0
    trivialaugment: float = 0.0
    erasing: float = 0.0
    regions: str = "keep"

    def __post_init__(self) -> None:
        problems = [
            problem for field in fields(self) if (problem := _find_problem(field.name, getattr(self, field.name)))
        ]
        if problems:
            raise ConfigError(join_problems(problems))


REGIONS = ("keep", "drop", "ignore")

_LIMITS: Mapping[str, tuple[float, float]] = {
    "crop": (0.01, 1.0), "rotation_degrees": (0.0, 180.0), "hue": (0.0, 0.5),
    "randaugment": (0, 16), "magnitude": (0, 30),
}  # fmt: skip
_WHOLE_NUMBERS = ("randaugment", "magnitude")


def _find_problem(name: str, value: object) -> str:
    where = f"augment {name}"
    if name == "regions":
        if value in REGIONS:
            return ""
        return build_message(
            where, f"unknown choice {value!r}{suggest_name(str(value), REGIONS)}", expected=join_names(REGIONS)
        )
    low, high = _LIMITS.get(name, (0.0, 1.0))
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        return build_message(where, "out of range", got=value, expected=f"{low:g} to {high:g}")
    if name in _WHOLE_NUMBERS and value != int(value):
        return build_message(where, "not a whole number", got=value, expected=f"{low:g} to {high:g}")
    return ""


PRESETS: Mapping[str, AugmentSettings] = {
    "none": AugmentSettings(),
    "light": AugmentSettings(crop=0.6, horizontal_flip=0.5, brightness=0.1, contrast=0.1, saturation=0.1),
    "medium": AugmentSettings(
        crop=0.35, rotation_degrees=10, horizontal_flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02
    ),
    "strong": AugmentSettings(
        crop=0.25,
        rotation_degrees=15,
        horizontal_flip=0.5,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.05,
        erasing=0.25,
    ),
    "randaugment": AugmentSettings(crop=0.5, horizontal_flip=0.5, randaugment=2),
    "trivialaugment": AugmentSettings(crop=0.5, horizontal_flip=0.5, trivialaugment=1),
}


def parse_augment(text: str) -> AugmentSettings:
    """Read `light`, or `light,vertical_flip=0.5,rotation_degrees=15`: a preset and what to change in it.

    Raises:
        ConfigError: no such preset or setting, or a value that makes no sense; all are listed, with the nearest names.

    Example:
        >>> parse_augment("none,rotation_degrees=8").rotation_degrees
        8.0
    """
    name, *changes = [piece.strip() for piece in text.split(",")]
    problems = []
    if name not in PRESETS:
        problem = f"unknown preset {name!r}{suggest_name(name, PRESETS)}"
        problems.append(build_message("augment", problem, expected=join_names(list(PRESETS))))
    names = [field.name for field in fields(AugmentSettings)]
    values: dict[str, Any] = {}
    for change in changes:
        key, _, value = (piece.strip() for piece in change.partition("="))
        if key not in names:
            problem = f"unknown setting {key!r}{suggest_name(key, names)}"
            problems.append(build_message("augment", problem, expected=join_names(names, len(names))))
            continue
        try:
            values[key] = value if key == "regions" else float(value)
        except ValueError:
            problems.append(build_message(f"augment {key}", "not a number", got=value))
            continue
        if problem := _find_problem(key, values[key]):
            problems.append(problem)
    if problems:
        raise ConfigError(join_problems(problems))
    return replace(PRESETS[name], **values)


def build_augmentation(settings: AugmentSettings, preprocess: Preprocess) -> Augmentation:
    """Return a function that changes an image at random and brings it to the size of `preprocess`.

    With nothing to change it is exactly `preprocess.resize_image`. Randomness comes from torch's global generator:
    the dataset seeds it for every image.
    """
    steps = _build_steps(settings, preprocess)
    if settings.crop == 1:
        return _chain([preprocess.resize_image, *steps])
    crop = RandomCrop(
        (preprocess.height_px, preprocess.width_px),
        settings.crop,
        getattr(v2.InterpolationMode, preprocess.interpolation.upper()),
        is_relative=preprocess.resize == "squash",
    )
    if settings.regions == "ignore":
        return _chain([crop, *steps])
    return RegionAugmentation(crop, _Chain(tuple(steps)), settings.regions)


def _build_steps(settings: AugmentSettings, preprocess: Preprocess) -> list[Augmentation]:
    """Return what happens to an image that has the size of the model."""
    fill = [round(255 * value) for value in preprocess.mean]
    steps: list[Augmentation] = []
    if settings.rotation_degrees > 0:
        steps.append(
            v2.RandomRotation(settings.rotation_degrees, interpolation=v2.InterpolationMode.BILINEAR, fill=fill)
        )
    if settings.horizontal_flip > 0:
        steps.append(v2.RandomHorizontalFlip(settings.horizontal_flip))
    if settings.vertical_flip > 0:
        steps.append(v2.RandomVerticalFlip(settings.vertical_flip))
    if settings.randaugment > 0:
        steps.append(v2.RandAugment(int(settings.randaugment), int(settings.magnitude), fill=fill))
    if settings.trivialaugment > 0:
        steps.append(v2.RandomApply([v2.TrivialAugmentWide(fill=fill)], p=settings.trivialaugment))
    jitter = (settings.brightness, settings.contrast, settings.saturation, settings.hue)
    if any(jitter):
        steps.append(v2.ColorJitter(*jitter))
    if settings.erasing > 0:
        steps.append(_Erasing(v2.RandomErasing(settings.erasing, value=fill)))
    return steps


@dataclass(frozen=True)
class _Erasing:
    """torchvision's random erasing, which knows tensors only; what it erases gets the mean colour."""

    erase: v2.RandomErasing

    def __call__(self, image: Image.Image) -> Image.Image:
        pixels_CHW = self.erase(torch.from_numpy(np.array(image).transpose(2, 0, 1)))
        return Image.fromarray(np.ascontiguousarray(pixels_CHW.numpy().transpose(1, 2, 0)))


def _chain(steps: list[Augmentation]) -> Augmentation:
    return steps[0] if len(steps) == 1 else _Chain(tuple(steps))


@dataclass(frozen=True)
class _Chain:
    """Steps one after another; a class, since workers receive it by pickling where there is no fork."""

    steps: tuple[Augmentation, ...]

    def __call__(self, image: Image.Image) -> Image.Image:
        for step in self.steps:
            image = step(image)
        return image
