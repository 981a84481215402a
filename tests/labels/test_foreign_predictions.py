"""Tables of probabilities that another program wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manylabel.errors import DataError
from manylabel.labels.foreign_predictions import load_foreign_predictions
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets


def test_every_column_of_numbers_is_a_label_and_the_others_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "theirs.csv").write_text("path,dog,sun,note\na.jpg,0.25,1\nb.jpg,0,0.5,x\n".replace(",1\n", ",1,y\n"))
    found = load_foreign_predictions(tmp_path / "theirs.csv")
    assert found.images == ("a.jpg", "b.jpg")
    assert found.label_space.names == ("dog", "sun")
    assert found.probs_NL.tolist() == [[0.25, 1.0], [0.0, 0.5]]
    assert found.targets is None


def test_parquet_of_another_program_may_hold_float64(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a.jpg"], "dog": pa.array([0.5], pa.float64())}), tmp_path / "theirs.parquet")
    assert load_foreign_predictions(tmp_path / "theirs.parquet").probs_NL.tolist() == [[0.5]]


def test_our_own_file_keeps_its_truth(tmp_path: Path) -> None:
    truth = Targets.from_dense(np.array([[1.0], [np.nan]]))
    Predictions(("a", "b"), LabelSpace(("dog",)), np.array([[0.5], [0.1]]), truth).save(tmp_path / "ours.parquet")
    assert load_foreign_predictions(tmp_path / "ours.parquet").targets == truth


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("image,dog\na.jpg,1.5\n", "not a probability, got 1.5", id="a logit"),
        pytest.param("image,dog\na.jpg,nan\nb.jpg,1\n", "empty cells or NaN in the columns dog", id="not a number"),
        pytest.param("image,dog,sun\na.jpg,0.5,\nb.jpg,0.1,0.2\n", "empty cells or NaN in the columns sun", id="a gap"),
        pytest.param("image,dog\na.jpg,0.5\na.jpg,0.6\n", "1 images stand twice: a.jpg", id="an image twice"),
        pytest.param("image,labels\na.jpg,dog\n", "not a table of probabilities, got 'image, labels'", id="no number"),
        pytest.param("picture,dog\na.jpg,0.5\n", "not a table of probabilities", id="no column of images"),
        pytest.param("", "cannot be read", id="nothing"),
    ],
)
def test_what_cannot_be_compared_is_said(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "theirs.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_foreign_predictions(tmp_path / "theirs.csv")
    with pytest.raises(DataError, match="there is no such table"):
        load_foreign_predictions(tmp_path / "other.csv")


@pytest.mark.parametrize(("error", "reason"), [(OSError(), "OSError"), (pa.ArrowInvalid("\n"), "ArrowInvalid")])
def test_an_error_without_text_is_called_by_its_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(_: Path) -> None:
        raise error

    monkeypatch.setattr("pyarrow.csv.read_csv", fail)
    (tmp_path / "theirs.csv").write_text("image,dog\na.jpg,0.5\n")
    with pytest.raises(DataError, match=rf"cannot be read \({reason}\)"):
        load_foreign_predictions(tmp_path / "theirs.csv")


def test_a_file_that_is_no_text_is_said(tmp_path: Path) -> None:
    path = tmp_path / "others.csv"
    path.write_bytes(b"\x80\x05,dog\na.jpg,0.5\n")
    with pytest.raises(DataError, match=r"others\.csv: cannot be read \('utf-8' codec can't decode byte 0x80"):
        load_foreign_predictions(path)
