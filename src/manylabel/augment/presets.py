"""Augmentation: crop, rotation, flips and colour jitter of torchvision.transforms v2, as named presets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

from PIL import Image
from torchvision.transforms import v2

from manylabel.data.preprocess import Preprocess
from manylabel.errors import ConfigError, build_message, join_names, suggest_name

Augmentation = Callable[[Image.Image], Image.Image]
"""Takes a decoded RGB image of any size, returns one of the size that the model sees."""


@dataclass(frozen=True)
class AugmentSettings:
    """What is done to a training image; 0 (or a crop of 1) leaves that part out.

    `crop` is the smallest share of the image's area that a random crop keeps: a small one cuts labels out of the
    image that the table still claims. `rotation_degrees` turns either way. Flips are probabilities. `brightness`,
    `contrast`, `saturation` and `hue` are torchvision's ColorJitter strengths.
    """

    crop: float = 1.0
    rotation_degrees: float = 0.0
    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        limits = {"crop": (0.01, 1.0), "rotation_degrees": (0.0, 180.0), "hue": (0.0, 0.5)}
        for field in fields(self):
            low, high = limits.get(field.name, (0.0, 1.0))
            value = getattr(self, field.name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
                raise ConfigError(
                    build_message(f"augment {field.name}", "out of range", got=value, expected=f"{low:g} to {high:g}")
                )


PRESETS: Mapping[str, AugmentSettings] = {
    "none": AugmentSettings(),
    "light": AugmentSettings(crop=0.6, horizontal_flip=0.5, brightness=0.1, contrast=0.1, saturation=0.1),
    "medium": AugmentSettings(
        crop=0.35, rotation_degrees=10, horizontal_flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02
    ),
}


def parse_augment(text: str) -> AugmentSettings:
    """Read `light`, or `light,vertical_flip=0.5,rotation_degrees=15`: a preset and what to change in it.

    Raises:
        ConfigError: no such preset or setting; the message suggests the nearest.

    Example:
        >>> parse_augment("none,rotation_degrees=8").rotation_degrees
        8.0
    """
    name, *changes = [piece.strip() for piece in text.split(",")]
    if name not in PRESETS:
        raise ConfigError(
            build_message(
                "augment", f"unknown preset {name!r}{suggest_name(name, PRESETS)}", expected=join_names(list(PRESETS))
            )
        )
    names = [field.name for field in fields(AugmentSettings)]
    values: dict[str, float] = {}
    for change in changes:
        key, _, value = (piece.strip() for piece in change.partition("="))
        if key not in names:
            raise ConfigError(
                build_message(
                    "augment", f"unknown setting {key!r}{suggest_name(key, names)}", expected=join_names(names)
                )
            )
        try:
            values[key] = float(value)
        except ValueError as error:
            raise ConfigError(build_message(f"augment {key}", "not a number", got=value)) from error
    return replace(PRESETS[name], **values)


def build_augmentation(settings: AugmentSettings, preprocess: Preprocess) -> Augmentation:
    """Return a function that changes an image at random and brings it to the size of `preprocess`.

    With nothing to change it is exactly `preprocess.resize_image`. Randomness comes from torch's global generator:
    the dataset seeds it for every image.
    """
    size = (preprocess.height_px, preprocess.width_px)
    interpolation = getattr(v2.InterpolationMode, preprocess.interpolation.upper())
    fill = [round(255 * value) for value in preprocess.mean]
    steps: list[Augmentation] = []
    if settings.crop < 1:
        steps.append(_RandomCrop(size, settings.crop, interpolation, is_relative=preprocess.resize == "squash"))
    else:
        steps.append(preprocess.resize_image)
    if settings.rotation_degrees > 0:
        steps.append(
            v2.RandomRotation(settings.rotation_degrees, interpolation=v2.InterpolationMode.BILINEAR, fill=fill)
        )
    if settings.horizontal_flip > 0:
        steps.append(v2.RandomHorizontalFlip(settings.horizontal_flip))
    if settings.vertical_flip > 0:
        steps.append(v2.RandomVerticalFlip(settings.vertical_flip))
    jitter = (settings.brightness, settings.contrast, settings.saturation, settings.hue)
    if any(jitter):
        steps.append(v2.ColorJitter(*jitter))
    return _chain(steps)


@dataclass(frozen=True)
class _RandomCrop:
    """torchvision's random resized crop, its shapes taken relative to the image where validation squashes the image.

    With torchvision's absolute shapes a tall poster would be seen stretched in validation only.
    """

    size: tuple[int, int]
    least_area: float
    interpolation: v2.InterpolationMode
    is_relative: bool

    def __call__(self, image: Image.Image) -> Image.Image:
        aspect = image.width / image.height if self.is_relative else 1.0
        crop = v2.RandomResizedCrop(
            self.size,
            scale=(self.least_area, 1.0),
            ratio=(aspect * 3 / 4, aspect * 4 / 3),
            interpolation=self.interpolation,
            antialias=True,
        )
        cropped: Image.Image = crop(image)
        return cropped


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
