"""Preprocess: from an upright RGB image to the array a model is given; the one way in training, export and server."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from manylabel.data.images import ImageSource, load_image
from manylabel.errors import ConfigError, build_message, join_names, join_problems, suggest_name

ResizeMode = Literal["squash", "crop", "pad"]
"""How an image of another shape becomes the size of the model; see `Preprocess.resize`."""

Interpolation = Literal["bilinear", "bicubic"]
"""The resampling filter; both average over all the pixels they cover when an image is made smaller."""

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

# An image more than six times too large is first made smaller by whole pixels, then resampled. Measured at 224 px with
# bicubic: a 12-megapixel photograph takes a quarter of the time and differs by 0.2 of 255 on average, 7 at most;
# images below six times the size (most data sets) take the same path as without it. It also bounds memory: the
# filter's weights for an image of 1 by 50 million pixels would take 1.6 GB.
_REDUCING_GAP = 3.0

# Far wider than any model needs, and narrow enough that no pixel overflows float32.
_COLOUR_BOUNDS = {"mean": (-1e6, 1e6), "std": (1e-6, 1e6)}


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How images become arrays: resized to one size, scaled, normalised. Equal objects give equal arrays.

    `resize` is "squash" (the whole image, its shape changed: nothing at the border is lost), "crop" (the largest
    centred part of the right shape) or "pad" (the whole image, its shape kept, on the mean colour). `mean` and `std`
    are of pixels in [0, 1], in the order red, green, blue.

    Shapes: H and W are `height_px` and `width_px`.
    Raises:
        ConfigError: a size that is no whole number from 1, an unknown mode, or a mean or std that is not three
            numbers of a sensible size, std above 0. All problems are listed.

    Example:
        >>> preprocess = Preprocess(height_px=2, width_px=4, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> pixels_CHW = preprocess(Image.new("RGB", (640, 480), (255, 0, 0)))
        >>> pixels_CHW.shape, pixels_CHW[:, 0, 0].tolist()
        ((3, 2, 4), [1.0, -1.0, -1.0])
    """

    height_px: int
    width_px: int
    resize: ResizeMode = "squash"
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        problems = [*_find_size_problems(self), *_find_mode_problems(self), *_find_colour_problems(self)]
        if problems:
            raise ConfigError(join_problems(problems))
        # One representation, so that objects are equal and hash alike whether they were written by hand or read.
        object.__setattr__(self, "height_px", operator.index(self.height_px))
        object.__setattr__(self, "width_px", operator.index(self.width_px))
        object.__setattr__(self, "mean", tuple(map(float, self.mean)))
        object.__setattr__(self, "std", tuple(map(float, self.std)))

    def load(self, source: ImageSource, *, name: str | None = None) -> npt.NDArray[np.float32]:
        """Read an image and return it as the model is given it, CHW: one way for validation, export and inference.

        Args and Raises: as `load_image`.
        """
        return self(load_image(source, name=name, min_size_px=(self.width_px, self.height_px)))

    def __call__(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """Return the image as the model is given it, CHW.

        Args:
            image: mode RGB and upright, as `load_image` returns it.
        Raises:
            ValueError: the image is not in mode RGB.
        """
        return self.normalise(np.asarray(self.resize_image(image)))

    def resize_image(self, image: Image.Image) -> Image.Image:
        """Return the image at exactly `width_px` x `height_px`.

        Args:
            image: mode RGB and upright, as `load_image` returns it.
        Raises:
            ValueError: the image is not in mode RGB.
        """
        if image.mode != "RGB":
            raise ValueError(f"an image of mode {image.mode} cannot be resized here: call load_image first")
        size = (self.width_px, self.height_px)
        if self.resize == "pad":
            return self._pad(image)
        box = _find_centred_box(image.size, size) if self.resize == "crop" else None
        return image.resize(size, _FILTERS[self.interpolation], box, _REDUCING_GAP)

    def normalise(self, pixels_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return (pixels / 255 - mean) / std as contiguous float32, channels first.

        Args:
            pixels_HWC: RGB bytes of any height and width.
        Raises:
            ValueError: another type or shape; floats in [0, 1] would come out almost black without a word.

        Example:
            >>> preprocess = Preprocess(height_px=1, width_px=1, mean=(0, 0, 0), std=(1, 1, 1))
            >>> preprocess.normalise(np.full((1, 1, 3), 255, np.uint8)).ravel().tolist()
            [1.0, 1.0, 1.0]
        """
        if pixels_HWC.dtype != np.uint8 or pixels_HWC.ndim != 3 or pixels_HWC.shape[2] != 3:
            raise ValueError(f"expected uint8 of shape HxWx3, got {pixels_HWC.dtype} of shape {pixels_HWC.shape}")
        # x / 255 / std - mean / std: one multiplication and one addition per value, constants rounded once.
        std = np.array(self.std)
        scale_C11 = (1 / (255 * std)).astype(np.float32)[:, None, None]
        shift_C11 = (-np.array(self.mean) / std).astype(np.float32)[:, None, None]
        height, width = pixels_HWC.shape[:2]
        pixels_CHW = np.empty((3, height, width), np.float32)
        np.multiply(pixels_HWC.transpose(2, 0, 1), scale_C11, out=pixels_CHW)
        pixels_CHW += shift_C11
        return pixels_CHW

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values that JSON can hold; `from_dict` reads them back to an equal object."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "preprocess") -> Preprocess:
        """Return the object that `to_dict` wrote, with nothing missing and nothing left over.

        Args:
            values: the fields by name; all of them, since a default that changes would change a saved model.
            where: what messages call the place, such as `manifest.json: preprocess`.
        Raises:
            ConfigError: no mapping, a missing or unknown field, or a value that makes no sense.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(build_message(where, "this is no table of fields", got=values))
        known = [field.name for field in fields(cls)]
        unknown = [name for name in values if name not in known]
        missing = [name for name in known if name not in values]
        problems = [
            build_message(where, f"unknown field {str(name)!r}{suggest_name(str(name), missing)}") for name in unknown
        ]
        if missing:
            problems.append(build_message(where, f"missing: {join_names(missing)}"))
        if problems:
            raise ConfigError(join_problems(problems))
        try:
            return cls(**values)
        except ConfigError as error:
            raise ConfigError("\n".join(f"{where}: {line}" for line in str(error).splitlines())) from None

    def _pad(self, image: Image.Image) -> Image.Image:
        # The side that is relatively longer fills its direction; no side goes below one pixel.
        shrink = max(image.width / self.width_px, image.height / self.height_px)
        width = min(self.width_px, max(1, round(image.width / shrink)))
        height = min(self.height_px, max(1, round(image.height / shrink)))
        inner = image.resize((width, height), _FILTERS[self.interpolation], None, _REDUCING_GAP)
        red, green, blue = (min(255, max(0, round(255 * value))) for value in self.mean)
        canvas = Image.new("RGB", (self.width_px, self.height_px), (red, green, blue))
        canvas.paste(inner, ((self.width_px - width) // 2, (self.height_px - height) // 2))
        return canvas


def _find_centred_box(image_size: tuple[int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the largest centred part of an image with the shape of `size`, in fractions of pixels."""
    shrink = min(image_size[0] / size[0], image_size[1] / size[1])
    # Rounding in the last digit must not put the box outside the image.
    width, height = min(image_size[0], size[0] * shrink), min(image_size[1], size[1] * shrink)
    left, top = (image_size[0] - width) / 2, (image_size[1] - height) / 2
    return left, top, left + width, top + height


def _find_size_problems(preprocess: Preprocess) -> list[str]:
    return [
        build_message(name, "not a size in pixels", got=value, expected="a whole number from 1")
        for name in ("height_px", "width_px")
        for value in [getattr(preprocess, name)]
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1
    ]


def _find_mode_problems(preprocess: Preprocess) -> list[str]:
    return [
        build_message(name, f"unknown mode{suggest_name(str(value), allowed)}", got=value, expected=join_names(allowed))
        for name, allowed in (("resize", get_args(ResizeMode)), ("interpolation", get_args(Interpolation)))
        for value in [getattr(preprocess, name)]
        if value not in allowed
    ]


def _find_colour_problems(preprocess: Preprocess) -> list[str]:
    problems = []
    for name, (lowest, highest) in _COLOUR_BOUNDS.items():
        values = getattr(preprocess, name)
        if not _are_three_numbers(values, lowest, highest):
            expected = f"three numbers from {lowest:g} to {highest:g}, for red, green and blue"
            problems.append(build_message(name, "not a colour", got=values, expected=expected))
    return problems


def _are_three_numbers(values: object, lowest: float, highest: float) -> bool:
    return (
        isinstance(values, Sequence)
        and len(values) == 3
        and all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in values)
        and all(lowest <= value <= highest for value in values)  # NaN fails both
    )
