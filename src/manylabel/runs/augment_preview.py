"""What training would show of a table: some images, each as it is and as several epochs would see it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.augment.mixing import parse_mix
from manylabel.augment.presets import build_augmentation, parse_augment
from manylabel.augment.preview import PreviewCell, describe_truth, draw_preview
from manylabel.data.annotations import Annotations
from manylabel.data.preprocess import Preprocess
from manylabel.errors import ConfigError, DataError, build_message, join_problems
from manylabel.training.loading import EpochSampler, Example, ImageDataset

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, as most backbones have it; the mean fills what a change leaves empty."""


@dataclass(frozen=True)
class Preview:
    """A PNG, the images that it shows, and why others that were drawn are not there."""

    png: bytes
    images: tuple[str, ...]
    unusable: tuple[str, ...]


def check_preview_settings(augment: str, mix: str) -> None:
    """Refuse settings of augment and mix that make no sense.

    Raises:
        ConfigError: all that is wrong with both.
    """
    problems = []
    for text, parse in ((augment, parse_augment), (mix, parse_mix)):
        try:
            parse(text)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(join_problems(problems))


def build_preview(
    annotations: Annotations,
    augment: str,
    mix: str,
    *,
    image_size_px: int,
    num_images: int,
    num_draws: int,
    seed: int,
) -> Preview:
    """Draw images of a table at random: a row each, first as validation sees it, then as each epoch of training does.

    Raises:
        ConfigError: settings that make no sense.
        DataError: none of the images can be read.
    """
    check_preview_settings(augment, mix)
    preprocess = Preprocess(height_px=image_size_px, width_px=image_size_px, mean=MEAN, std=STD)
    augmentation = build_augmentation(parse_augment(augment), preprocess)
    dataset = ImageDataset(annotations, preprocess, augmentation, mix=parse_mix(mix))
    names = annotations.label_space.names
    draw_seeds = [_find_draw_seeds(len(annotations), seed, epoch) for epoch in range(num_draws)]
    rows: list[list[PreviewCell]] = []
    images: list[str] = []
    unusable: list[str] = []
    for row in np.random.default_rng(seed).permutation(len(annotations)).tolist():
        if len(rows) == num_images:
            break
        examples = [dataset[row]]
        if examples[0].error:
            unusable.append(examples[0].error)
            continue
        examples += [dataset[row, seeds[row]] for seeds in draw_seeds]
        rows.append([_build_cell(example, names, preprocess) for example in examples])
        images.append(annotations.images[row])
    if not rows:
        problem = f"none of its {len(annotations)} images can be used"
        raise DataError(build_message(annotations.name, problem, do="Check them with 'manylabel inspect'"))
    titles = ["original", *(f"epoch {epoch + 1}" for epoch in range(num_draws))]
    return Preview(draw_preview(rows, titles), tuple(images), tuple(unusable))


def _find_draw_seeds(num_images: int, seed: int, epoch: int) -> dict[int, int]:
    """Return the seed of every row in an epoch of a run with this seed."""
    sampler = EpochSampler(num_images, seed)
    sampler.start_epoch(epoch)
    return dict(sampler)


def _build_cell(example: Example, names: tuple[str, ...], preprocess: Preprocess) -> PreviewCell:
    assert example.pixels_CHW is not None
    caption = describe_truth(names, example.truth_L.tolist(), example.known_L.tolist())
    return PreviewCell(_restore_pixels(example.pixels_CHW.numpy(), preprocess), caption)


def _restore_pixels(pixels_CHW: npt.NDArray[np.float32], preprocess: Preprocess) -> npt.NDArray[np.uint8]:
    """Return the bytes that were normalised."""
    shares_HWC = pixels_CHW.transpose(1, 2, 0) * np.array(preprocess.std) + np.array(preprocess.mean)
    return np.asarray(np.clip(np.rint(255 * shares_HWC), 0, 255), np.uint8)
