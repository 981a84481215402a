from __future__ import annotations

import os
from pathlib import Path

import pytest

from manylabel.errors import RunError
from manylabel.files import write_bytes_atomically, write_text_atomically


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_is_written_with_the_folders_above_it_and_nothing_beside_it(tmp_path: Path) -> None:
    write_bytes_atomically(tmp_path / "a" / "b" / "data", b"\x00\xff")
    assert (tmp_path / "a" / "b" / "data").read_bytes() == b"\x00\xff"
    assert names_in(tmp_path / "a" / "b") == ["data"]


def test_text_keeps_its_line_ends_on_every_platform(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "text", "ü\na\r\n")
    assert (tmp_path / "text").read_bytes() == b"\xc3\xbc\na\r\n"


def test_what_stood_there_is_replaced(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "text", "a long first version")
    write_text_atomically(tmp_path / "text", "second")
    assert (tmp_path / "text").read_text(encoding="utf-8") == "second"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_half_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    target = tmp_path / "data"
    target.write_bytes(b"old")
    monkeypatch.setattr(*((os, "fsync", fail) if step == "fsync" else (Path, "replace", fail)))
    with pytest.raises(RunError) as error:
        write_bytes_atomically(target, b"x" * 12345)
    assert str(error.value) == (
        f"{target}: cannot write 12,345 bytes (No space left on device). "
        "Free space or choose another folder; what was there before is unchanged."
    )
    assert target.read_bytes() == b"old"
    assert names_in(tmp_path) == ["data"]


def test_an_interruption_leaves_the_old_file_and_no_half_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "data").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes_atomically(tmp_path / "data", b"new")
    assert names_in(tmp_path) == ["data"]
    assert (tmp_path / "data").read_bytes() == b"old"


def test_a_place_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError, match=r"cannot write 3 bytes \("):
        write_bytes_atomically(tmp_path / "file" / "data", b"abc")


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(RunError, match=r"cannot write 3 bytes \("):
        write_bytes_atomically(tmp_path / "data", b"abc")
    assert names_in(tmp_path) == ["data"]
