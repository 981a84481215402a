from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manylabel.errors import DataError
from manylabel.labels.predictions import Predictions, load_predictions
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets

SPACE = LabelSpace(("dog", "N/A", "New York"))
IMAGES = ("a/b.jpg", "ü.png")
PROBS_NL = np.array([[0.0, 1.0, 0.1], [0.25, 1e-30, 0.9999999]], np.float32)
TARGETS = Targets.from_dense([[1, 0, -1], [0, -1, 1]])


@pytest.mark.parametrize("targets", [None, TARGETS], ids=["without truth", "with truth"])
def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path, targets: Targets | None) -> None:
    Predictions(IMAGES, SPACE, PROBS_NL, targets, "m1", "d1").save(tmp_path / "new" / "p.parquet")
    loaded = load_predictions(tmp_path / "new" / "p.parquet")
    assert loaded.images == IMAGES
    assert loaded.label_space == SPACE
    np.testing.assert_array_equal(loaded.probs_NL, PROBS_NL)
    assert loaded.probs_NL.dtype == np.float32
    assert loaded.targets == targets
    assert (loaded.model_digest, loaded.data_digest) == ("m1", "d1")


def test_a_table_without_images_comes_back(tmp_path: Path) -> None:
    targets = Targets.from_columns([], 3)
    Predictions((), SPACE, np.zeros((0, 3)), targets).save(tmp_path / "p.parquet")
    loaded = load_predictions(tmp_path / "p.parquet")
    assert loaded.probs_NL.shape == (0, 3)
    assert loaded.targets == targets


def test_the_columns_on_disk_are_those_of_the_interface(tmp_path: Path) -> None:
    Predictions(IMAGES, SPACE, PROBS_NL, TARGETS).save(tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names == [
        "image",
        *("probability:dog", "probability:N/A", "probability:New York"),
        *("truth:dog", "truth:N/A", "truth:New York"),
    ]
    assert table.schema.types == [pa.string(), *[pa.float32()] * 3, *[pa.bool_()] * 3]
    assert table.column("truth:New York").to_pylist() == [None, True]


def test_a_folder_whose_name_looks_like_a_column_adds_none(tmp_path: Path) -> None:
    Predictions(IMAGES, SPACE, PROBS_NL).save(tmp_path / "truth:dog=1" / "p.parquet")
    assert load_predictions(tmp_path / "truth:dog=1" / "p.parquet").targets is None


def test_rows_are_selected_by_image() -> None:
    chosen = Predictions(IMAGES, SPACE, PROBS_NL, TARGETS, "m", "d").select(["ü.png"])
    assert chosen.images == ("ü.png",)
    np.testing.assert_array_equal(chosen.probs_NL, PROBS_NL[[1]])
    assert chosen.targets == TARGETS.select([1])
    assert (chosen.model_digest, chosen.data_digest, len(chosen)) == ("m", "d", 1)


def test_an_image_without_a_row_cannot_be_selected() -> None:
    with pytest.raises(DataError) as error:
        Predictions(IMAGES, SPACE, PROBS_NL).select(["x.jpg", "ü.png", "y.jpg"])
    assert str(error.value) == "predictions: no row for 2 images: x.jpg, y.jpg. Predict them."


@pytest.mark.parametrize("value", [float("nan"), -0.001, 1.001, float("inf"), float("-inf")])
def test_what_is_no_probability_is_refused_by_image_and_label(value: float) -> None:
    probs_NL = PROBS_NL.copy()
    probs_NL[1, 2] = value
    with pytest.raises(DataError) as error:
        Predictions(IMAGES, SPACE, probs_NL)
    assert str(error.value) == (
        f"predictions of image 'ü.png', label 'New York': not a probability, got {float(probs_NL[1, 2])!r}, "
        "expected a number from 0 to 1. Apply the sigmoid if these are logits."
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"probs_NL": PROBS_NL.T}, "predictions: wrong shape, got (3, 2), expected (2, 3).", id="turned"),
        pytest.param({"probs_NL": PROBS_NL[0]}, "predictions: wrong shape, got (3,), expected (2, 3).", id="one row"),
        pytest.param(
            {"targets": TARGETS.select([0])},
            "predictions: truth of another shape, got (1, 3), expected (2, 3).",
            id="truth of other rows",
        ),
        pytest.param(
            {"images": ("a", "a")}, "predictions: an image stands twice. Keep one row per image.", id="repeated image"
        ),
    ],
)
def test_pieces_that_do_not_fit_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as error:
        Predictions(**({"images": IMAGES, "label_space": SPACE, "probs_NL": PROBS_NL} | given))
    assert str(error.value) == message


def test_a_file_of_another_program_is_read_if_its_columns_are_those(tmp_path: Path) -> None:
    columns = {
        "score": [1, 2],
        "truth:b": [1, None],
        "probability:b": [0.5, 1.0],
        "image": [7, 8],
        "probability:a": pa.array([0.1, 0.2], pa.float64()),
        "truth:a": [0, 1],
    }
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    loaded = load_predictions(tmp_path / "p.parquet")
    assert loaded.images == ("7", "8")
    assert loaded.label_space.names == ("b", "a")
    np.testing.assert_array_equal(loaded.probs_NL, np.array([[0.5, 0.1], [1.0, 0.2]], np.float32))
    assert loaded.targets == Targets.from_dense([[1, 0], [-1, 1]])
    assert (loaded.model_digest, loaded.data_digest) == ("", "")


GOOD = {"image": ["a"], "probability:x": [0.5], "probability:y": [0.5]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param(
            {"image": ["a"]},
            "not a table of predictions, expected columns image and probability:NAME.",
            id="no probability",
        ),
        pytest.param(
            {"probability:x": [0.5]},
            "not a table of predictions, expected columns image and probability:NAME.",
            id="no image",
        ),
        pytest.param(
            GOOD | {"truth:x": [True]},
            "1 of 2 labels have no truth: truth:y, expected a column of truth for each label, or none at all.",
            id="half a truth",
        ),
        pytest.param(
            GOOD | {"probability:y": ["high"]},
            "column 'probability:y' holds the wrong kind, got 'string', expected float32.",
            id="text for a probability",
        ),
        pytest.param(
            GOOD | {"probability:y": pa.array([None], pa.float32())},
            "column 'probability:y' has 1 empty cells.",
            id="no probability in a cell",
        ),
        pytest.param(
            GOOD | {"image": pa.array([None], pa.string())},
            "column 'image' has 1 empty cells.",
            id="no image in a cell",
        ),
        pytest.param(
            GOOD | {"truth:x": ["dog"], "truth:y": [True]},
            "column 'truth:x' holds the wrong kind, got 'string', expected bool.",
            id="text for truth",
        ),
    ],
)
def test_a_table_that_holds_no_predictions_is_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError) as error:
        load_predictions(path)
    assert str(error.value) == f"{path}: {message}"


def test_a_missing_file_and_a_file_of_something_else_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.parquet: there is no such file of predictions\.$"):
        load_predictions(tmp_path / "nothing.parquet")
    (tmp_path / "text.parquet").write_text("image,labels\n" * 10, encoding="utf-8")
    with pytest.raises(DataError, match=r"text\.parquet: not a Parquet file\. Give the predictions/\*\.parquet of a r"):
        load_predictions(tmp_path / "text.parquet")
