"""Features: the backbone's own answers, kept per image, whatever table the image stands in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from manylabel.data.annotations import Annotations
from manylabel.data.preprocess import Preprocess
from manylabel.training.features import FeatureLoader, FeatureStore, extract_features
from manylabel.training.loading import EpochSampler, ImageDataset, Share, build_loader

Make = Callable[..., Annotations]


class Counting(nn.Module):
    """A backbone that counts the images it saw, those of zeros that fill a batch left out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 5, 3)
        self.num_seen = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.num_seen += int((images.flatten(1).abs().sum(1) > 0).sum())
        features: torch.Tensor = self.convolution(images).mean((2, 3))
        return features


def test_the_features_of_an_image_are_what_the_backbone_answers(
    make_table: Make, preprocess: Preprocess, tmp_path: Path
) -> None:
    table, backbone = make_table(7), Counting()
    features = extract_features(backbone, table, preprocess, tmp_path, batch_size=4)
    for row in range(7):
        pixels, found = ImageDataset(table, preprocess)[row].pixels_CHW, features[row].pixels_CHW
        assert pixels is not None
        assert found is not None
        torch.testing.assert_close(found, backbone(pixels[None])[0])


def test_features_are_computed_once_for_an_image_whatever_table_it_stands_in(
    make_table: Make, preprocess: Preprocess, tmp_path: Path
) -> None:
    table, backbone = make_table(10), Counting()
    whole = extract_features(backbone, table, preprocess, tmp_path, batch_size=4)
    assert backbone.num_seen == 10
    part = extract_features(backbone, table.select([8, 1]), preprocess, tmp_path, batch_size=4)
    assert backbone.num_seen == 10
    assert torch.equal(part.load_batch([0, 1]).images_BCHW, whole.load_batch([8, 1]).images_BCHW)
    extract_features(backbone, make_table(3, seed=1), preprocess, tmp_path, batch_size=4)
    assert backbone.num_seen == 13  # of the same names, and other pixels


def test_the_bits_do_not_depend_on_the_other_images_of_a_table(
    make_table: Make, preprocess: Preprocess, tmp_path: Path
) -> None:
    table, backbone = make_table(9), Counting()
    whole = extract_features(backbone, table, preprocess, tmp_path / "a", batch_size=4)
    alone = extract_features(backbone, table.select([8]), preprocess, tmp_path / "b", batch_size=4)
    assert torch.equal(whole.load_batch([8]).images_BCHW, alone.load_batch([0]).images_BCHW)


@pytest.mark.parametrize("change", ["weights", "preprocess"])
def test_another_backbone_or_preprocessing_shares_nothing(
    change: str, make_table: Make, preprocess: Preprocess, tmp_path: Path
) -> None:
    table, backbone = make_table(3), Counting()
    extract_features(backbone, table, preprocess, tmp_path)
    if change == "weights":
        with torch.no_grad():
            backbone.convolution.weight += 1
    else:
        preprocess = Preprocess(height_px=16, width_px=16, mean=(0.4, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    extract_features(backbone, table, preprocess, tmp_path)
    assert backbone.num_seen == 6


def test_an_image_that_cannot_be_read_is_a_bad_row_with_its_reason(
    broken_table: Annotations, preprocess: Preprocess, tmp_path: Path
) -> None:
    backbone = Counting()
    features = extract_features(backbone, broken_table, preprocess, tmp_path, batch_size=4)
    batches = list(FeatureLoader(features, 4))
    assert [len(batch) for batch in batches] == [3, 4]
    ((row, reason),) = batches[0].bad_rows
    assert row == 3
    assert reason.startswith("3.png")
    assert features[3].error == reason
    assert features[3].pixels_CHW is None
    again = extract_features(backbone, broken_table, preprocess, tmp_path, batch_size=4)
    assert again.bad_rows == features.bad_rows
    assert backbone.num_seen == 7
    only_bad = extract_features(backbone, broken_table.select([3]), preprocess, tmp_path, batch_size=4)
    (batch,) = FeatureLoader(only_bad, 4)
    assert len(batch) == 0
    assert batch.bad_rows == ((0, reason),)


@pytest.mark.parametrize("share", [Share(), Share(0, 2), Share(1, 2), Share(3, 4)], ids=str)
def test_batches_are_those_of_a_data_loader(
    share: Share, make_table: Make, preprocess: Preprocess, tmp_path: Path
) -> None:
    table = make_table(11)
    features = extract_features(Counting(), table, preprocess, tmp_path)
    sampler = EpochSampler(11, seed=3)
    sampler.start_epoch(2, start=4)
    loader = FeatureLoader(features, 4, sampler, share)
    expected = list(build_loader(ImageDataset(table, preprocess), 4, sampler=sampler, share=share))
    assert len(loader) == len(expected) == 2
    for ours, theirs in zip(loader, expected, strict=True):
        assert torch.equal(ours.rows_B, theirs.rows_B)
        if len(theirs):
            assert torch.equal(ours.truth_BL, theirs.truth_BL)
            assert torch.equal(ours.known_BL, theirs.known_BL)


@pytest.mark.parametrize("damage", ["cut off", "without keys", "of another length"])
def test_a_damaged_block_is_computed_again(
    damage: str, make_table: Make, preprocess: Preprocess, tmp_path: Path
) -> None:
    table, backbone = make_table(5), Counting()
    before = extract_features(backbone, table, preprocess, tmp_path).load_batch(range(5)).images_BCHW.clone()
    (features,), (keys,) = list(tmp_path.rglob("*.features.npy")), list(tmp_path.rglob("*.keys.npy"))
    if damage == "cut off":
        features.write_bytes(features.read_bytes()[:-8])
    elif damage == "without keys":
        keys.unlink()
    else:
        np.save(keys, np.load(keys)[:2])
    after = extract_features(backbone, table, preprocess, tmp_path).load_batch(range(5)).images_BCHW
    assert backbone.num_seen == 10
    assert torch.equal(before, after)


def test_a_folder_that_cannot_be_written_costs_the_cache_and_nothing_else(
    make_table: Make, preprocess: Preprocess, tmp_path: Path
) -> None:
    (tmp_path / "features").write_text("a file where the folder should be")
    features = extract_features(Counting(), make_table(5), preprocess, tmp_path)
    assert features.load_batch([4, 0]).images_BCHW.shape == (2, 5)


def test_several_blocks_are_read_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    store = FeatureStore.open(tmp_path)
    for block in range(3):
        keys = [bytes([block, row] * 8) for row in range(2)]
        store.add(keys, np.array([[10 * block], [10 * block + 1]], np.float32))
    again = FeatureStore.open(tmp_path)
    wanted = [again.places[bytes([block, row] * 8)] for block, row in ((2, 1), (0, 0), (2, 0), (1, 1))]
    assert again.read(wanted).ravel().tolist() == [21, 0, 20, 11]
