from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manylabel.data.annotations import Annotations


@pytest.fixture
def add_images(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes images below the test's folder; equal numbers give equal bytes."""

    def add(*names: str, number: int = 0) -> Path:
        buffer = io.BytesIO()
        Image.new("L", (2, 2), number).save(buffer, "PNG")
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(buffer.getvalue())
        return tmp_path

    return add


@pytest.fixture
def write_table(tmp_path: Path, add_images: Callable[..., Path]) -> Callable[..., Path]:
    """Return a function that writes a table beside the images a.jpg to d.jpg."""

    def write(text: str | bytes, name: str = "labels.csv") -> Path:
        add_images("a.jpg", "b.jpg", "c.jpg", "d.jpg")
        (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return tmp_path / name

    return write


@pytest.fixture
def read_cells() -> Callable[[Annotations], dict[str, dict[str, int]]]:
    """Return a function that gives for each image the state of each label: 1 present, 0 absent, -1 unknown."""

    def read(annotations: Annotations) -> dict[str, dict[str, int]]:
        targets = annotations.targets
        state_NL = np.where(targets.known_NL(), targets.present_NL().astype(int), -1).tolist()
        return {
            image: dict(zip(annotations.label_space, states, strict=True))
            for image, states in zip(annotations.images, state_NL, strict=True)
        }

    return read
