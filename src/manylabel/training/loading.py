"""From Annotations to batches: a Dataset and a DataLoader that are usable in anybody's loop.

What an image looks like in an epoch depends on the seed, the epoch and its row only: not on the number of workers, nor
on which images stand around it or cannot be read (but those that it is mixed with).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from manylabel.augment.crops import RegionAugmentation, drop_cut_labels
from manylabel.augment.mixing import MixSettings, mix_images, plan_mix
from manylabel.augment.presets import Augmentation
from manylabel.data.annotations import Annotations
from manylabel.data.image_cache import ImageCache
from manylabel.data.images import ImageError, load_image
from manylabel.data.preprocess import Preprocess
from manylabel.training.places import RegionPlaces
from manylabel.training.samplers import draw_rows
from manylabel.training.workers import end_with_parent

_NOTABLE_SHARE = 0.2
_NOTABLE_SECONDS = 2.0
"""Processes that decode take a moment to start: less than this is not told."""


@dataclass(frozen=True)
class Example:
    """One image as the model sees it, or the reason why it cannot be seen.

    Shapes: `pixels_CHW` float32 [3, H, W], normalised; `truth_L` float32 [L]; `known_L` bool [L].
    """

    row: int
    pixels_CHW: Tensor | None
    truth_L: Tensor
    known_L: Tensor
    error: str = ""


@dataclass(frozen=True)
class Share:
    """What one of several processes takes of every batch: each `count`-th image, from its own `rank` on."""

    rank: int = 0
    count: int = 1


WHOLE = Share()
"""What a process takes that is alone."""


@dataclass(frozen=True)
class Others:
    """What other processes hold of a batch: usable images, known cells of these, and how many of them hold none."""

    num_usable: int = 0
    num_known: int = 0
    num_idle: int = 0


@dataclass(frozen=True)
class Batch:
    """The usable images of a batch, and the rows that were not usable with the reasons.

    Where several processes share a batch, the tensors are the part of one of them.

    Shapes: B usable images; `images_BCHW` float32, `truth_BL` float32, `known_BL` bool, `rows_B` int64.
    """

    images_BCHW: Tensor
    truth_BL: Tensor
    known_BL: Tensor
    rows_B: Tensor
    bad_rows: tuple[tuple[int, str], ...] = ()
    others: Others = Others()

    def __len__(self) -> int:
        return len(self.rows_B)

    @property
    def num_usable(self) -> int:
        """The usable images of the whole batch, over all processes."""
        return len(self) + self.others.num_usable

    @property
    def num_known(self) -> int:
        """The known cells of the whole batch, over all processes."""
        return int(self.known_BL.sum()) + self.others.num_known

    @property
    def is_everywhere(self) -> bool:
        """Whether every process has a usable image of the batch."""
        return len(self) > 0 and self.others.num_idle == 0

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format) -> Batch:
        """Return the batch on a device, its images in a memory order such as `torch.channels_last`."""
        return Batch(
            self.images_BCHW.to(device, memory_format=memory_format, non_blocking=True),
            self.truth_BL.to(device, non_blocking=True),
            self.known_BL.to(device, non_blocking=True),
            self.rows_B,
            self.bad_rows,
            self.others,
        )

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, as a DataLoader with `pin_memory=True` asks for."""
        return Batch(
            self.images_BCHW.pin_memory(),
            self.truth_BL.pin_memory(),
            self.known_BL.pin_memory(),
            self.rows_B,
            self.bad_rows,
            self.others,
        )


_Shown = tuple[npt.NDArray[np.uint8], Tensor, Tensor]
"""An image at the size of the model, uint8 [H, W, 3], its truth [L] and which of it is known [L]."""


class ImageDataset(Dataset[Example]):
    """The images of a table as the model sees them.

    `dataset[row]` is the image as in validation and export; `dataset[row, draw_seed]` is changed at random, the same
    seed always in the same way. An image that cannot be read gives an Example with `error` set: never another image.

    Args:
        annotations: the images and their truth.
        preprocess: brings an image to the size and scale that the model expects.
        augmentation: changes training images; None leaves them as they are.
        cache: keeps decoded images between epochs; what the model sees is the same.
        mix: mixes training images with others of the table; the others are drawn from the image's own seed. Where one
            of them cannot be read, the image is shown as it is without mixing.
    """

    def __init__(
        self,
        annotations: Annotations,
        preprocess: Preprocess,
        augmentation: Augmentation | None = None,
        cache: ImageCache | None = None,
        mix: MixSettings | None = None,
    ) -> None:
        self.annotations = annotations
        self.preprocess = preprocess
        self.augmentation = augmentation
        self.cache = cache
        self.mix = mix
        looks = isinstance(augmentation, RegionAugmentation) and any(record.regions for record in annotations.records)
        self.places = RegionPlaces(annotations) if looks else None

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, key: int | tuple[int, int]) -> Example:
        row, draw_seed = key if isinstance(key, tuple) else (key, None)
        try:
            pixels, truth_L, known_L = self._show(row, draw_seed)
        except ImageError as error:
            return Example(row, None, *self._read_truth(row), str(error))
        if draw_seed is not None and self.mix is not None:
            pixels, truth_L, known_L = self._mix(self.mix, row, draw_seed, (pixels, truth_L, known_L))
        return Example(row, torch.from_numpy(self.preprocess.normalise(pixels)), truth_L, known_L)

    def _read_truth(self, row: int) -> tuple[Tensor, Tensor]:
        truth_L = torch.from_numpy(self.annotations.targets.present_NL([row])[0].astype(np.float32))
        return truth_L, torch.from_numpy(self.annotations.targets.known_NL([row])[0])

    def _show(self, row: int, draw_seed: int | None) -> _Shown:
        """Return one image at the size of the model, not mixed, and the truth of what is seen of it.

        Raises:
            ImageError: it cannot be read.
        """
        record = self.annotations.records[row]
        truth_L, known_L = self._read_truth(row)
        size = (self.preprocess.width_px, self.preprocess.height_px)
        if self.cache is None or record.pixels is not None:
            image = load_image(record.source, name=record.id, min_size_px=size)
        else:
            image = self.cache.load(record.path, name=record.id, min_size_px=size)
        if draw_seed is None or self.augmentation is None:
            return np.asarray(self.preprocess.resize_image(image)), truth_L, known_L
        # The generator is put back, so that reading an image in the training process leaves dropout alone.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(draw_seed)
            if self.places is None or not isinstance(self.augmentation, RegionAugmentation):
                return np.asarray(self.augmentation(image)), truth_L, known_L
            places = self.places.find(row, truth_L)
            shown, window = self.augmentation.show(image, places)
        if self.augmentation.regions == "drop":
            truth_L, known_L = drop_cut_labels(truth_L, known_L, places, window, self.places.can_drop_L)
        return np.asarray(shown), truth_L, known_L

    def _mix(self, mix: MixSettings, row: int, draw_seed: int, own: _Shown) -> _Shown:
        """Return an image mixed with others, each changed at random as well; as it is where one cannot be read."""
        plan = plan_mix(mix, row, len(self), draw_seed)
        if plan is None:
            return own
        try:
            shown = [own, *(self._show(partner, seed) for partner, seed in plan.partners)]
        except ImageError:
            return own
        images, truths, knowns = zip(*shown, strict=True)
        pixels, truth_L, known_L = mix_images(
            mix, images, torch.stack(truths).numpy(), torch.stack(knowns).numpy(), plan.rng
        )
        return pixels, torch.from_numpy(truth_L), torch.from_numpy(known_L)


class EpochSampler(Sampler[tuple[int, int]]):
    """The rows of an epoch in random order, each with the seed of its random changes: every row once, or by weight.

    Call `start_epoch` before each epoch; `start` skips rows at its beginning, for going on in the middle of one. (It is
    not called `set_epoch`: Accelerate would call that too, and forget `start`.)
    """

    def __init__(self, num_images: int, seed: int, weights_N: npt.NDArray[np.float64] | None = None) -> None:
        self.num_images = num_images
        self.weights_N = weights_N
        self.seed = seed
        self.epoch = 0
        self.start = 0

    def start_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose which epoch's order comes next, and how many of its rows are already done."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return self.num_images - self.start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self.num_images) if self.weights_N is None else draw_rows(self.weights_N, rng)
        draw_seeds = rng.integers(0, 2**63 - 1, self.num_images)  # by row, so that the order does not matter
        times_N = np.zeros(self.num_images, dtype=np.int64)
        for place, row in enumerate(order):
            draw_seed = int(draw_seeds[row]) + int(times_N[row])  # a row that comes again is changed in another way
            times_N[row] += 1
            if place >= self.start:
                yield int(row), draw_seed


class BatchShares(Sampler[list[Any]]):
    """The batches of an epoch, of each the share of one process; a last batch may leave some without an image.

    Args:
        keys: the images of an epoch in order: an `EpochSampler`, or rows.
        batch_size: images of a whole batch, over all processes.
    """

    def __init__(self, keys: Sequence[int] | EpochSampler, batch_size: int, share: Share) -> None:
        self.keys, self.batch_size, self.share = keys, batch_size, share

    def __len__(self) -> int:
        return -(-len(self.keys) // self.batch_size)

    def __iter__(self) -> Iterator[list[Any]]:
        keys = iter(self.keys)
        while batch := list(islice(keys, self.batch_size)):
            yield batch[self.share.rank :: self.share.count]


def build_batch(examples: Sequence[Example]) -> Batch:
    """Put examples together; those with an error are listed beside the usable ones."""
    usable = [example for example in examples if example.pixels_CHW is not None]
    bad_rows = tuple((example.row, example.error) for example in examples if example.pixels_CHW is None)
    num_labels = len(examples[0].truth_L) if examples else 0
    pixels = [example.pixels_CHW for example in usable if example.pixels_CHW is not None]
    return Batch(
        torch.stack(pixels) if pixels else torch.zeros(0, 3, 1, 1),
        torch.stack([example.truth_L for example in usable]) if usable else torch.zeros(0, num_labels),
        torch.stack([example.known_L for example in usable])
        if usable
        else torch.zeros(0, num_labels, dtype=torch.bool),
        torch.tensor([example.row for example in usable], dtype=torch.int64),
        bad_rows,
    )


def _build_shared_batch(examples: Sequence[Example]) -> Batch:
    """Put examples together in memory that the training process sees.

    Torch would do it later, in a thread of the worker: where it fails there, the batch is lost and training waits for
    ever.
    """
    batch = build_batch(examples)
    for tensor in (batch.images_BCHW, batch.truth_BL, batch.known_BL, batch.rows_B):
        tensor.share_memory_()  # type: ignore[no-untyped-call]
    return batch


def build_loader(
    dataset: ImageDataset,
    batch_size: int,
    *,
    sampler: EpochSampler | None = None,
    workers: int = 0,
    pin_memory: bool = False,
    share: Share = WHOLE,
) -> DataLoader[Any]:
    """Build a DataLoader that yields `Batch`: in the order of the table, or in a sampler's.

    Args:
        workers: processes that decode images; 0 decodes in this one. More never changes a batch.
        share: the part of every batch that this process takes, where several learn together.
    """
    is_parallel = workers > 0
    keys = sampler if sampler is not None else range(len(dataset))
    return DataLoader(
        dataset,
        batch_sampler=BatchShares(keys, batch_size, share),
        num_workers=workers,
        collate_fn=_build_shared_batch if is_parallel else build_batch,
        pin_memory=pin_memory,
        # A generator of its own: torch draws a seed from it for every pass, which must not move the global one.
        generator=torch.Generator().manual_seed(0),
        persistent_workers=is_parallel,
        prefetch_factor=4 if is_parallel else None,
        worker_init_fn=_start_worker if is_parallel else None,
    )


class Waiting:
    """The batches of a loader, with the seconds that were spent waiting for them."""

    def __init__(self, loader: Iterable[Batch]) -> None:
        self.loader = loader
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Batch]:
        started = time.perf_counter()
        for batch in self.loader:
            self.seconds += time.perf_counter() - started
            yield batch
            started = time.perf_counter()


def describe_waiting(seconds: float, epoch_seconds: float, workers: int) -> str:
    """Return what a person can do about an epoch that waited long for its images; "" where it did not.

    Example:
        >>> describe_waiting(5.0, 10.0, workers=2)
        'Training waited for images 50 % of the time: raise --workers (2), or keep them with --image-cache FOLDER.'
        >>> describe_waiting(1.0, 10.0, workers=2)
        ''
    """
    if seconds < _NOTABLE_SECONDS or seconds < _NOTABLE_SHARE * epoch_seconds:
        return ""
    return (
        f"Training waited for images {seconds / epoch_seconds:.0%} of the time".replace("%", " %")
        + f": raise --workers ({workers}), or keep them with --image-cache FOLDER."
    )


def _start_worker(worker: int) -> None:  # noqa: ARG001 - torch passes the worker's number
    """Leave the cores and Ctrl-C, which a terminal sends to every process, to the training process.

    SIGTERM stays with the handler that torch has put in: from the training process it is no death that has to be told.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):  # a launcher ends a whole group: the training process has to hear of it first
        os.setpgid(0, 0)
    end_with_parent()
