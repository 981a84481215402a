"""Features of a frozen backbone: computed once per image, kept on disk, and learnt from in seconds.

A frozen backbone in evaluation mode answers the same for an image every time, so heads, losses, folds and seeds can
share its answers. They are kept per image, by what the backbone is and what the file is: another split of the same
images finds them too.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.preprocess import Preprocess
from manylabel.training.events import OnEvent
from manylabel.training.loading import (
    WHOLE,
    Batch,
    BatchShares,
    EpochSampler,
    Example,
    ImageDataset,
    Share,
    build_loader,
)

_BLOCK_IMAGES = 2048
"""Images in one file: what an interruption can lose."""

_KEY_BYTES = 16

Place = tuple[int, int]
"""Where the features of an image are: the number of a block, and the row in it."""


@dataclass(frozen=True)
class FeatureStore:
    """The features of one backbone in a folder: blocks of rows, and for each row the key of its image.

    A block is written beside its place and counts once its keys are there, so several runs may use one folder and none
    sees half a block. Where nothing can be written the blocks stay in memory.
    """

    folder: Path
    blocks: list[npt.NDArray[np.float32]]
    places: dict[bytes, Place]

    @classmethod
    def open(cls, folder: Path) -> FeatureStore:
        """Map every whole block of a folder into memory; a damaged one is left out, and its images computed again."""
        store = cls(folder, [], {})
        for path in sorted(folder.glob("*.keys.npy")):
            features_path = path.with_name(path.name.replace(".keys.npy", ".features.npy"))
            try:
                keys = np.load(path, allow_pickle=False)
                features_ND = np.load(features_path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError):
                continue
            if len(keys) == len(features_ND) and keys.shape[1:] == (_KEY_BYTES,) and features_ND.dtype == np.float32:
                store._take(keys, features_ND)
        return store

    def add(self, keys: Sequence[bytes], features_ND: npt.NDArray[np.float32]) -> None:
        """Keep a block of features, on disk where that is possible."""
        key_rows = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, _KEY_BYTES)
        name = secrets.token_hex(8)
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            _write_array(self.folder / f"{name}.features.npy", features_ND)
            _write_array(self.folder / f"{name}.keys.npy", key_rows)
            features_ND = np.load(self.folder / f"{name}.features.npy", mmap_mode="r", allow_pickle=False)
        self._take(key_rows, features_ND)

    def read(self, places: Sequence[Place]) -> npt.NDArray[np.float32]:
        """Return the features at some places, one row each."""
        rows = np.array(places, np.int64).reshape(-1, 2)
        found = np.empty((len(rows), *self.blocks[0].shape[1:]), np.float32)
        for block in np.unique(rows[:, 0]):
            is_here = rows[:, 0] == block
            found[is_here] = self.blocks[block][rows[is_here, 1]]
        return found

    def _take(self, keys: npt.NDArray[np.uint8], features_ND: npt.NDArray[np.float32]) -> None:
        number = len(self.blocks)
        self.blocks.append(features_ND)
        self.places.update((key.tobytes(), (number, row)) for row, key in enumerate(keys))


class FeatureDataset(Dataset[Example]):
    """The images of a table as a frozen backbone answered for them; like `ImageDataset`, without random changes.

    Shapes: the pixels of an Example and of a Batch are features here, [D] and [B, D].
    """

    def __init__(
        self, annotations: Annotations, store: FeatureStore, keys: Sequence[bytes], bad: Mapping[int, str]
    ) -> None:
        self.annotations = annotations
        self.store = store
        self.bad_rows = dict(bad)
        self._places = [store.places[key] if row not in self.bad_rows else (0, 0) for row, key in enumerate(keys)]

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, key: int | tuple[int, int]) -> Example:
        row = key[0] if isinstance(key, tuple) else key
        features = None if row in self.bad_rows else self.load_batch([row]).images_BCHW[0]
        targets = self.annotations.targets
        truth_L = torch.from_numpy(targets.present_NL([row])[0].astype(np.float32))
        return Example(row, features, truth_L, torch.from_numpy(targets.known_NL([row])[0]), self.bad_rows.get(row, ""))

    def load_batch(self, rows: Sequence[int]) -> Batch:
        """Return what `build_batch` makes of these rows, read at once."""
        bad_rows = tuple((row, self.bad_rows[row]) for row in rows if row in self.bad_rows)
        usable = [row for row in rows if row not in self.bad_rows]
        if not usable:
            return _build_empty(len(self.annotations.label_space), bad_rows)
        targets = self.annotations.targets
        return Batch(
            torch.from_numpy(self.store.read([self._places[row] for row in usable])),
            torch.from_numpy(targets.present_NL(usable).astype(np.float32)),
            torch.from_numpy(targets.known_NL(usable)),
            torch.tensor(usable, dtype=torch.int64),
            bad_rows,
        )


@dataclass(frozen=True)
class FeatureLoader:
    """Batches of features, in the order of the table or of a sampler: what a DataLoader is for images."""

    dataset: FeatureDataset
    batch_size: int
    sampler: EpochSampler | None = None
    share: Share = WHOLE

    def __len__(self) -> int:
        num_images = len(self.dataset) if self.sampler is None else len(self.sampler)
        return -(-num_images // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        rows = list(range(len(self.dataset))) if self.sampler is None else [row for row, _ in self.sampler]
        for batch in BatchShares(rows, self.batch_size, self.share):
            yield self.dataset.load_batch(batch)


def extract_features(
    backbone: nn.Module,
    table: Annotations,
    preprocess: Preprocess,
    cache: Path,
    *,
    name: str = "images",
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | None = None,
    tell: OnEvent | None = None,
) -> FeatureDataset:
    """Return the table as features, computing those that the cache does not hold; images are not changed at random.

    Args:
        backbone: from images [B, 3, H, W] to features [B, D], or to tokens [B, T, D]; it is put into evaluation mode.
        cache: the folder in which features of all backbones are kept.
        name: what the images are called in the progress.
        tell: told the progress.
    """
    store = FeatureStore.open(cache / "features" / identify_backbone(backbone, preprocess))
    keys = [_identify_image(record) for record in table.records]
    missing = [row for row, key in enumerate(keys) if key not in store.places]
    bad: dict[int, str] = {}
    if missing and tell is not None:
        tell("stage", {"name": f"Features of {name}", "total": len(missing)})
    for start in range(0, len(missing), _BLOCK_IMAGES):
        block = missing[start : start + _BLOCK_IMAGES]
        features_ND, usable, failed = _compute(
            backbone.eval(), table.select(block), preprocess, batch_size, workers, device, tell
        )
        bad |= {block[row]: reason for row, reason in failed}
        if usable:
            store.add([keys[block[row]] for row in usable], features_ND)
    return FeatureDataset(table, store, keys, bad)


def identify_backbone(backbone: nn.Module, preprocess: Preprocess) -> str:
    """Return a digest of everything that the features of an image depend on beside the image."""
    digest = hashlib.blake2b(digest_size=_KEY_BYTES)
    digest.update(f"{torch.__version__}\n{backbone}\n{preprocess}\n".encode())
    for key, tensor in backbone.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@torch.inference_mode()
def _compute(
    backbone: nn.Module,
    table: Annotations,
    preprocess: Preprocess,
    batch_size: int,
    workers: int,
    device: torch.device | None,
    tell: OnEvent | None,
) -> tuple[npt.NDArray[np.float32], list[int], list[tuple[int, str]]]:
    """Return features [N, D], the rows they belong to, and the rows that cannot be used with the reasons."""
    where = device if device is not None else torch.device("cpu")
    features: list[npt.NDArray[np.float32]] = []
    usable: list[int] = []
    bad: list[tuple[int, str]] = []
    for batch in build_loader(ImageDataset(table, preprocess), batch_size, workers=workers):
        bad += batch.bad_rows
        if len(batch):
            images_BCHW = _fill_up(batch.images_BCHW, batch_size).to(where, memory_format=torch.channels_last)
            features.append(backbone(images_BCHW)[: len(batch)].float().cpu().numpy())
            usable += batch.rows_B.tolist()
        for _ in range(len(batch) + len(batch.bad_rows)):
            if tell is not None:
                tell("progress", {})
    return np.concatenate(features) if features else np.zeros((0, 0), np.float32), usable, bad


def _fill_up(images_BCHW: Tensor, batch_size: int) -> Tensor:
    """Return the images with zeros behind: kernels are chosen by the size of a batch, and each rounds in its own way.

    So the features of an image are the same bits in every split of the table.
    """
    num_missing = batch_size - len(images_BCHW)
    return torch.cat([images_BCHW, images_BCHW.new_zeros(num_missing, *images_BCHW.shape[1:])])


def _identify_image(record: ImageRecord) -> bytes:
    """Return a key of the file by path, size and time, or of the pixels where they are at hand."""
    if record.pixels is not None:
        facts = f"{record.pixels.shape}\n".encode() + record.pixels.tobytes()
    else:
        try:
            info = os.stat(record.path)  # noqa: PTH116 - once per image
            found = f"{info.st_size}\n{info.st_mtime_ns}"
        except (OSError, ValueError):
            found = "none"
        whole = os.path.abspath(record.path)  # noqa: PTH100
        facts = f"{whole}\n{found}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(facts, digest_size=_KEY_BYTES).digest()


def _write_array(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Write an array whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def _build_empty(num_labels: int, bad_rows: tuple[tuple[int, str], ...]) -> Batch:
    truth_BL = torch.zeros(0, num_labels)
    return Batch(torch.zeros(0, 1), truth_BL, truth_BL.bool(), torch.zeros(0, dtype=torch.int64), bad_rows)
