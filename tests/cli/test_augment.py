"""`manylabel augment`: what is drawn is what training shows, and what is wrong is one sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from manylabel.augment.mixing import parse_mix
from manylabel.augment.presets import build_augmentation, parse_augment
from manylabel.augment.preview import PreviewCell, describe_truth
from manylabel.cli.main import run
from manylabel.data.annotations import Annotations
from manylabel.data.formats.detect import load_annotations
from manylabel.data.preprocess import Preprocess
from manylabel.runs import augment_preview
from manylabel.training.loading import EpochSampler, ImageDataset, build_loader

AUGMENT, MIX = "medium", "cutmix,share=0.8"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a table of eight images of noise."""
    rng = np.random.default_rng(0)
    lines = ["file,labels"]
    for row in range(8):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), np.uint8)).save(tmp_path / f"{row}.png")
        lines.append(f"{row}.png,{'dog|sun' if row % 2 else 'sun'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "labels.csv"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["manylabel", "augment", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        run()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_a_picture_is_written_and_the_same_seed_writes_the_same(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [table.with_name(name) for name in ("a.png", "b.png", "c.png")]
    for path, seed in zip(paths, (3, 3, 4), strict=True):
        assert call(monkeypatch, table, "--preview", path, "--image-size", 32, "--num-images", 2, "--seed", seed) == 0
    assert capsys.readouterr() == ("", "".join(f"Written: {path} (2 images, 5 draws each)\n" for path in paths))
    first, again, other = (np.asarray(Image.open(path)) for path in paths)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def capture_cells(
    monkeypatch: pytest.MonkeyPatch, annotations: Annotations
) -> tuple[list[list[PreviewCell]], augment_preview.Preview]:
    """Return the cells that are drawn of every image in two epochs, and what came of them."""
    drawn: list[list[PreviewCell]] = []

    def draw(rows: Any, titles: Any) -> bytes:
        assert list(titles) == ["original", "epoch 1", "epoch 2"]
        drawn.extend(rows)
        return b"png"

    monkeypatch.setattr(augment_preview, "draw_preview", draw)
    preview = augment_preview.build_preview(
        annotations, AUGMENT, MIX, image_size_px=24, num_images=8, num_draws=2, seed=6
    )
    return drawn, preview


def test_what_is_drawn_is_what_training_shows(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    annotations = load_annotations(table)
    drawn, preview = capture_cells(monkeypatch, annotations)
    assert sorted(preview.images) == sorted(annotations.images)
    preprocess = Preprocess(height_px=24, width_px=24, mean=augment_preview.MEAN, std=augment_preview.STD)
    augmentation = build_augmentation(parse_augment(AUGMENT), preprocess)
    dataset = ImageDataset(annotations, preprocess, augmentation, mix=parse_mix(MIX))
    mean, std = (np.array(values)[:, None, None] for values in (augment_preview.MEAN, augment_preview.STD))
    for epoch in range(2):
        sampler = EpochSampler(8, 6)
        sampler.start_epoch(epoch)
        for batch in build_loader(dataset, 3, sampler=sampler):
            for place, row in enumerate(batch.rows_B.tolist()):
                cell = drawn[preview.images.index(annotations.images[row])][1 + epoch]
                normalised_CHW = (cell.pixels.transpose(2, 0, 1) / 255 - mean) / std
                assert np.abs(normalised_CHW - batch.images_BCHW[place].numpy()).max() < 1e-5
                truth_L, known_L = batch.truth_BL[place].tolist(), batch.known_BL[place].tolist()
                assert cell.caption == describe_truth(annotations.label_space.names, truth_L, known_L)


def test_an_image_that_cannot_be_used_is_named_and_another_takes_its_row(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table.with_name("3.png").write_bytes(b"no image")
    drawn, preview = capture_cells(monkeypatch, load_annotations(table))
    assert len(drawn) == len(preview.images) == 7
    assert len(preview.unusable) == 1
    assert preview.unusable[0].startswith("3.png: ")
    monkeypatch.undo()
    assert call(monkeypatch, table, "--preview", table.with_name("p.png"), "--image-size", 16, "--num-images", 8) == 1
    assert capsys.readouterr().err.startswith("Images that cannot be used:\n3.png: ")
    for row in range(8):
        table.with_name(f"{row}.png").write_bytes(b"no image")
    assert call(monkeypatch, table, "--preview", table.with_name("q.png")) == 2
    assert "none of its 8 images can be used. Check them with 'manylabel inspect'." in capsys.readouterr().err
    assert not table.with_name("q.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            ("--preview", "p.jpg"), "Error: --preview: unknown kind of file, got 'p.jpg', expected a .png.\n", id="kind"
        ),
        pytest.param(
            ("--preview", "p.png", "--augment", "lite", "--mix", "mosiac"),
            "Error: augment: unknown preset 'lite' (did you mean 'light'?), expected none, light, medium, strong, "
            "randaugment, trivialaugment.\n"
            "mix: unknown mix 'mosiac' (did you mean 'mosaic'?), expected none, mixup, cutmix, mosaic.\n",
            id="settings, all at once, before the table is read",
        ),
    ],
)
def test_wrong_use_is_said_and_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "gone.csv", *arguments) == 2
    assert capsys.readouterr().err == message
    assert list(tmp_path.iterdir()) == []
