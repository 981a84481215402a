"""Loading: what an image looks like depends on seed, epoch and row alone, whoever decodes it and whatever is broken."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from manylabel.augment.mixing import MixSettings, parse_mix, plan_mix
from manylabel.augment.presets import PRESETS, build_augmentation, parse_augment
from manylabel.data.annotations import Annotations, annotations_from_arrays
from manylabel.data.image_cache import ImageCache
from manylabel.data.preprocess import Preprocess
from manylabel.training.loading import (
    Batch,
    BatchShares,
    EpochSampler,
    Example,
    ImageDataset,
    Share,
    Waiting,
    build_batch,
    build_loader,
)

MakeTable = Callable[[int], Annotations]


@pytest.fixture
def dataset(make_table: MakeTable, preprocess: Preprocess) -> ImageDataset:
    return ImageDataset(make_table(11), preprocess, build_augmentation(PRESETS["medium"], preprocess))


def collect(loader: DataLoader[Any]) -> tuple[list[int], Tensor, Tensor]:
    batches: list[Batch] = list(loader)
    rows = [row for batch in batches for row in batch.rows_B.tolist()]
    return rows, torch.cat([batch.images_BCHW for batch in batches]), torch.cat([batch.truth_BL for batch in batches])


def collect_epoch(dataset: ImageDataset, epoch: int, seed: int = 5, start: int = 0, workers: int = 0) -> Any:
    sampler = EpochSampler(len(dataset), seed)
    sampler.start_epoch(epoch, start)
    return collect(build_loader(dataset, 4, sampler=sampler, workers=workers))


def test_an_example_is_the_preprocessed_image_with_its_truth(make_table: MakeTable, preprocess: Preprocess) -> None:
    table = make_table(3)
    example = ImageDataset(table, preprocess)[1]
    from manylabel.data.images import load_image

    assert example.row == 1
    assert example.pixels_CHW is not None
    assert np.array_equal(example.pixels_CHW.numpy(), preprocess(load_image(table.records[1].source)))
    assert [name for name, value in zip("abc", example.truth_L, strict=True) if value] == table.labels_of(1)
    assert (example.truth_L.dtype, example.known_L.dtype) == (torch.float32, torch.bool)
    assert example.known_L.all()


def test_without_a_seed_an_image_is_not_augmented(dataset: ImageDataset) -> None:
    plain = ImageDataset(dataset.annotations, dataset.preprocess)[4].pixels_CHW
    assert plain is not None
    assert torch.equal(dataset[4].pixels_CHW, plain)  # type: ignore[arg-type]
    assert not torch.equal(dataset[4, 1].pixels_CHW, plain)  # type: ignore[arg-type]


def test_the_same_seed_draws_the_same_pixels_and_leaves_the_random_state_alone(dataset: ImageDataset) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, again, other = (dataset[2, seed].pixels_CHW for seed in (7, 7, 8))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, again)  # type: ignore[arg-type]
    assert not torch.equal(first, other)  # type: ignore[arg-type]


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_an_epoch_shows_every_row_once(epoch: int) -> None:
    sampler = EpochSampler(20, seed=3)
    sampler.start_epoch(epoch)
    rows = [row for row, _ in sampler]
    assert sorted(rows) == list(range(20))
    assert rows != list(range(20))


def test_order_and_draws_depend_on_seed_and_epoch_only() -> None:
    def draw(seed: int, epoch: int) -> list[tuple[int, int]]:
        sampler = EpochSampler(20, seed)
        sampler.start_epoch(epoch)
        return list(sampler)

    np.random.seed(1)
    torch.manual_seed(1)
    first = draw(0, 0)
    np.random.seed(2)
    torch.manual_seed(2)
    assert draw(0, 0) == first
    for other in (draw(0, 1), draw(1, 0)):
        assert [row for row, _ in other] != [row for row, _ in first]
        assert not {seed for _, seed in other} & {seed for _, seed in first}


@pytest.mark.parametrize("start", [0, 1, 7, 20])
def test_a_start_continues_exactly_where_it_left(start: int) -> None:
    sampler = EpochSampler(20, seed=3)
    sampler.start_epoch(2)
    whole = list(sampler)
    sampler.start_epoch(2, start)
    assert list(sampler) == whole[start:]
    assert len(sampler) == 20 - start


def test_two_workers_and_none_give_the_same_batches(dataset: ImageDataset) -> None:
    for epoch in (0, 3):
        rows, images, truth = collect_epoch(dataset, epoch)
        other_rows, other_images, other_truth = collect_epoch(dataset, epoch, workers=2)
        assert rows == other_rows
        assert torch.equal(images, other_images)
        assert torch.equal(truth, other_truth)


def hash_epoch(dataset: ImageDataset, workers: int, epoch: int = 2, start: int = 0) -> list[str]:
    """Return a digest for every batch of an epoch: pixels, truth, known cells and rows."""
    sampler = EpochSampler(len(dataset), seed=5)
    sampler.start_epoch(epoch, start)
    batches: list[Batch] = list(build_loader(dataset, 4, sampler=sampler, workers=workers))
    return [
        hashlib.sha256(
            b"".join(
                part.numpy().tobytes() for part in (batch.images_BCHW, batch.truth_BL, batch.known_BL, batch.rows_B)
            )
        ).hexdigest()
        for batch in batches
    ]


@pytest.mark.parametrize(
    ("augment", "mix"),
    [
        *[pytest.param(name, "none", id=name) for name in PRESETS],
        pytest.param("strong,regions=drop", "none", id="dropped labels"),
        pytest.param("medium", "mixup", id="mixup"),
        pytest.param("medium", "cutmix", id="cutmix"),
        pytest.param("medium", "mosaic", id="mosaic"),
        pytest.param("strong,regions=drop", "cutmix,share=0.9,truth=union", id="dropped labels and cutmix"),
    ],
)
def test_workers_0_1_and_2_give_one_hash(
    table_with_regions: Annotations, preprocess: Preprocess, augment: str, mix: str
) -> None:
    augmentation = build_augmentation(parse_augment(augment), preprocess)
    dataset = ImageDataset(table_with_regions, preprocess, augmentation, mix=parse_mix(mix))
    hashes = hash_epoch(dataset, 0)
    assert hash_epoch(dataset, 1) == hashes
    assert hash_epoch(dataset, 2) == hashes
    assert hash_epoch(dataset, 0, start=4) == hashes[1:]  # in the middle of an epoch that goes on
    if augment != "none" or mix != "none":
        assert hash_epoch(dataset, 0, epoch=3) != hashes


def _tint_by_worker(_: Image.Image) -> Image.Image:
    info = torch.utils.data.get_worker_info()
    return Image.new("RGB", (16, 16), (0 if info is None else 1 + info.id,) * 3)


def test_an_augmentation_that_looks_at_its_worker_is_found(dataset: ImageDataset) -> None:
    planted = ImageDataset(dataset.annotations, dataset.preprocess, _tint_by_worker)
    assert len({str(hash_epoch(planted, workers)) for workers in (0, 1, 2)}) == 3


def test_an_image_that_is_mixed_has_the_pixels_and_the_truth_of_its_partner_too(preprocess: Preprocess) -> None:
    """Image 0 is black with label a, image 1 white with label b: the share of white is the weight of b."""
    pixels = np.stack([np.full((20, 24, 3), value, np.uint8) for value in (0, 255)])
    table = annotations_from_arrays(pixels, [["a"], ["b"]])
    dataset = ImageDataset(table, preprocess, build_augmentation(PRESETS["none"], preprocess), mix=parse_mix("cutmix"))
    num_mixed = 0
    for seed in range(40):
        example = dataset[0, seed]
        assert example.pixels_CHW is not None
        share = float((example.pixels_CHW > 0).float().mean())
        assert example.truth_L.tolist() == pytest.approx([1 - share, share])
        num_mixed += share > 0
    assert 10 <= num_mixed <= 30
    assert dataset[0].truth_L.tolist() == [1, 0]  # as validation sees it: never mixed


def test_an_image_that_is_not_mixed_looks_as_without_mixing(dataset: ImageDataset) -> None:
    settings = MixSettings("mixup", share=0.5)
    mixed = ImageDataset(dataset.annotations, dataset.preprocess, dataset.augmentation, mix=settings)
    is_mixed = [plan_mix(settings, 3, len(dataset), seed) is not None for seed in range(20)]
    assert {True, False} == set(is_mixed)
    same = [torch.equal(mixed[3, seed].pixels_CHW, dataset[3, seed].pixels_CHW) for seed in range(20)]  # type: ignore[arg-type]
    assert same == [not value for value in is_mixed]


def test_mixing_leaves_the_random_state_alone(dataset: ImageDataset) -> None:
    mixed = ImageDataset(dataset.annotations, dataset.preprocess, dataset.augmentation, mix=parse_mix("mosaic,share=1"))
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    mixed[2, 7]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_image_whose_partner_cannot_be_read_is_shown_as_it_is(
    broken_table: Annotations, preprocess: Preprocess
) -> None:
    augmentation = build_augmentation(PRESETS["medium"], preprocess)
    settings = MixSettings("mosaic", share=1.0)
    mixed = ImageDataset(broken_table, preprocess, augmentation, mix=settings)
    plain = ImageDataset(broken_table, preprocess, augmentation)
    num_shown_plain = 0
    for seed in range(20):
        plan = plan_mix(settings, 1, 8, seed)
        assert plan is not None
        has_broken = 3 in [row for row, _ in plan.partners]
        example = mixed[1, seed]
        assert example.error == ""
        assert torch.equal(example.pixels_CHW, plain[1, seed].pixels_CHW) == has_broken  # type: ignore[arg-type]
        num_shown_plain += has_broken
    assert 0 < num_shown_plain < 20
    assert mixed[3, 0].pixels_CHW is None  # a broken image is never replaced by its partners
    assert mixed[3, 0].error.startswith("3.png: ")


def test_pixels_belong_to_a_row_not_to_a_place_in_the_epoch(dataset: ImageDataset) -> None:
    rows, images, _ = collect_epoch(dataset, 1)
    later_rows, later_images, _ = collect_epoch(dataset, 1, start=6)
    assert later_rows == rows[6:]
    assert torch.equal(later_images, images[6:])
    _, others, _ = collect_epoch(dataset, 2)
    assert not torch.equal(others, images)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cache_changes_no_batch(dataset: ImageDataset, tmp_path: Path, workers: int) -> None:
    cached = ImageDataset(dataset.annotations, dataset.preprocess, dataset.augmentation, ImageCache(tmp_path / "cache"))
    for _ in range(2):
        pairs = zip(
            build_loader(dataset, 2, sampler=EpochSampler(len(dataset), 3)),
            build_loader(cached, 2, sampler=EpochSampler(len(dataset), 3), workers=workers),
            strict=True,
        )
        assert all(torch.equal(one.images_BCHW, other.images_BCHW) for one, other in pairs)


def test_a_pass_leaves_the_random_state_alone(dataset: ImageDataset) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    collect_epoch(dataset, 0)
    collect_epoch(dataset, 0, workers=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_dataset_survives_pickling(dataset: ImageDataset) -> None:
    copied = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copied[3, 9].pixels_CHW, dataset[3, 9].pixels_CHW)  # type: ignore[arg-type]


@pytest.mark.scenario  # importing torch once more takes seconds
def test_workers_that_are_started_afresh_give_the_same_batches(dataset: ImageDataset) -> None:
    """As on macOS and Windows, where a worker is a new process that receives the dataset by pickling."""
    sampler = EpochSampler(len(dataset), 5)
    loader = build_loader(dataset, 4, sampler=sampler, workers=1)
    loader.multiprocessing_context = multiprocessing.get_context("spawn")
    rows, images, _ = collect(loader)
    expected_rows, expected_images, _ = collect_epoch(dataset, 0)
    assert rows == expected_rows
    assert torch.equal(images, expected_images)


def test_shares_are_dealt_out_like_cards() -> None:
    keys = [7, 3, 9, 0, 5, 2, 8]
    shares = [list(BatchShares(keys, 3, Share(rank, 2))) for rank in range(2)]
    assert shares == [[[7, 9], [0, 2], [8]], [[3], [5], []]]
    assert list(BatchShares(keys, 3, Share())) == [[7, 3, 9], [0, 5, 2], [8]]


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("start", [0, 8])
def test_the_shares_of_all_processes_are_the_batches_of_one(dataset: ImageDataset, count: int, start: int) -> None:
    sampler = EpochSampler(len(dataset), 3)
    sampler.start_epoch(2, start)
    whole: list[Batch] = list(build_loader(dataset, 4, sampler=sampler))
    shares: list[list[Batch]] = [
        list(build_loader(dataset, 4, sampler=sampler, share=Share(rank, count))) for rank in range(count)
    ]
    assert {len(share) for share in shares} == {len(whole)}, "all take as many steps"
    for batch, *parts in zip(whole, *shares, strict=True):
        shown = {
            row: image for part in parts for row, image in zip(part.rows_B.tolist(), part.images_BCHW, strict=True)
        }
        assert sorted(shown) == sorted(batch.rows_B.tolist())
        pairs = zip(batch.rows_B.tolist(), batch.images_BCHW, strict=True)
        assert all(torch.equal(shown[row], image) for row, image in pairs), "changed at random in the same way"


def test_a_loader_without_a_sampler_keeps_the_order_of_the_table(dataset: ImageDataset) -> None:
    rows, _, _ = collect(build_loader(dataset, 4))
    assert rows == list(range(11))


def test_a_broken_image_is_an_example_with_its_reason(broken_table: Annotations, preprocess: Preprocess) -> None:
    example = ImageDataset(broken_table, preprocess)[3]
    assert example.pixels_CHW is None
    assert example.error.startswith("3.png: ")
    assert example.truth_L.tolist() == [0, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_leaves_the_others_as_they_are(
    broken_table: Annotations, preprocess: Preprocess, workers: int
) -> None:
    augmentation = build_augmentation(PRESETS["medium"], preprocess)
    whole = ImageDataset(broken_table, preprocess, augmentation)
    sampler = EpochSampler(8, seed=0)
    batches: list[Batch] = list(build_loader(whole, 3, sampler=sampler, workers=workers))
    order = list(sampler)
    assert [len(batch) + len(batch.bad_rows) for batch in batches] == [3, 3, 2]
    ((row, reason),) = [bad for batch in batches for bad in batch.bad_rows]
    assert row == 3
    assert reason.startswith("3.png: ")
    shown = {
        row: image for batch in batches for row, image in zip(batch.rows_B.tolist(), batch.images_BCHW, strict=True)
    }
    assert [row for row, _ in order if row != 3] == list(shown)
    for row, seed in order:
        if row != 3:
            assert torch.equal(shown[row], whole[row, seed].pixels_CHW)  # type: ignore[arg-type]


def test_a_batch_of_broken_images_only_is_empty() -> None:
    batch = build_batch([Example(4, None, torch.zeros(2), torch.ones(2).bool(), "gone")])
    assert len(batch) == 0
    assert (batch.truth_BL.shape, batch.known_BL.shape) == ((0, 2), (0, 2))
    assert batch.bad_rows == ((4, "gone"),)
    assert len(batch.to(torch.device("cpu"))) == 0


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="a worker inherits nothing here")
def test_a_worker_leaves_signals_to_the_training_process(make_table: MakeTable, preprocess: Preprocess) -> None:
    """A terminal sends Ctrl-C to all; a worker that dies of it, or asks back, spoils the orderly end."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        loader = build_loader(ImageDataset(make_table(2), preprocess), 1, workers=1)
        batches = iter(loader)
        next(batches)
        (worker,) = loader._iterator._workers  # type: ignore[union-attr]
        os.kill(worker.pid, signal.SIGINT)
        next(batches)
        assert worker.is_alive()
        worker.terminate()
        worker.join(10)
        assert worker.exitcode == 0  # from its own parent it is an end and no death
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_the_time_of_waiting_is_that_of_the_loader_and_not_that_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("manylabel.training.loading.time.perf_counter", lambda: now[0])

    def load() -> Iterator[str]:
        for batch in "ab":
            now[0] += 3
            yield batch
        now[0] += 100  # the end of the epoch, after the last batch

    waiting = Waiting(load())  # type: ignore[arg-type]
    for _ in waiting:
        now[0] += 10
    assert waiting.seconds == 6
