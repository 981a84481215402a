"""The scan: one look at every file, kept, and never stopped by a file or by the cache."""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manylabel.data.annotations import Annotations, ImageRecord, annotations_from_arrays
from manylabel.data.scan import ImageFacts, find_cache_folder, scan_images
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets


def build_table(*paths: Path) -> Annotations:
    records = tuple(ImageRecord(path.name, str(path)) for path in paths)
    return Annotations(records, Targets.from_columns([[0]] * len(records), 1), LabelSpace(("dog",)))


def write_image(path: Path, number: int = 0, size: tuple[int, int] = (40, 30)) -> Path:
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size).save(path)
    return path


def test_a_look_tells_format_size_bytes_and_damage(tmp_path: Path) -> None:
    good = write_image(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(good.read_bytes()[:-200])
    first, second = scan_images(build_table(good, tmp_path / "b.jpg"))
    assert (first.image, first.error, first.format, first.width_px, first.height_px) == ("a.jpg", "", "JPEG", 40, 30)
    assert first.num_bytes == good.stat().st_size
    assert (second.error_kind, second.width_px) == ("broken", 40)
    assert second.error.startswith("b.jpg: damaged image: JPEG ends early")


@pytest.mark.parametrize("num_threads", [1, 2, 7])
def test_facts_come_in_the_order_of_the_table_whatever_the_threads(tmp_path: Path, num_threads: int) -> None:
    table = build_table(*(write_image(tmp_path / f"{number}.png", number) for number in range(20)))
    facts = scan_images(table, num_threads=num_threads)
    assert [fact.image for fact in facts] == list(table.images)
    assert facts == scan_images(table, num_threads=1)


def test_twelve_special_files_get_twelve_answers_and_none_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:02d}.jpg" for number in range(12)]
    for name in names[:3]:
        os.mkfifo(tmp_path / name)
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    sockets = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for each, name in zip(sockets, names[3:5], strict=True):
        each.bind(name)
    for name in names[5:7]:
        (tmp_path / name).mkdir()
    for name in names[7:9]:
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    (tmp_path / names[9]).symlink_to("/dev/zero")
    (tmp_path / names[10]).write_bytes(b"")
    (tmp_path / names[11]).symlink_to(tmp_path / names[11])
    started = time.monotonic()
    facts = scan_images(build_table(*(tmp_path / name for name in names)))
    assert time.monotonic() - started < 30, "a special file was waited for"
    for each in sockets:
        each.close()
    kinds = ["not_a_file"] * 7 + ["missing"] * 2 + ["not_a_file", "empty", "missing"]
    assert [fact.error_kind for fact in facts] == kinds
    assert all(fact.error.startswith(f"{fact.image}: ") for fact in facts)


def test_a_second_look_reads_only_what_is_new_or_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write_image(tmp_path / f"{number}.png", number) for number in range(4)]
    before = scan_images(build_table(*paths[:3]), cache=tmp_path / "cache")
    write_image(paths[1], 9, (50, 60))
    looked_at: list[str] = []
    look = scan_images.__globals__["_look_at_file"]

    def look_and_note(path: str) -> ImageFacts:
        looked_at.append(Path(path).name)
        facts: ImageFacts = look(path)
        return facts

    monkeypatch.setitem(scan_images.__globals__, "_look_at_file", look_and_note)
    after = scan_images(build_table(*paths), cache=tmp_path / "cache")
    assert sorted(looked_at) == ["1.png", "3.png"]
    assert after == scan_images(build_table(*paths))
    assert (after[0], after[1].width_px) == (before[0], 50)


def test_a_scan_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(scan_images.__globals__, "_BLOCK_IMAGES", 5)
    table = build_table(*(write_image(tmp_path / f"{number:02d}.png", number) for number in range(12)))
    seen: list[int] = []

    def stop_at_eight() -> None:
        seen.append(1)
        if len(seen) == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan_images(table, cache=tmp_path / "cache", on_image=stop_at_eight)
    with sqlite3.connect(next((tmp_path / "cache").glob("*.sqlite"))) as connection:
        assert connection.execute("SELECT COUNT(*) FROM facts").fetchone() == (5,)
    assert len(scan_images(table, cache=tmp_path / "cache")) == 12


@pytest.mark.parametrize("harm", ["damaged", "a file in its place", "read-only disk"])
def test_a_cache_that_cannot_be_used_is_said_once_and_costs_nothing(
    tmp_path: Path, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = build_table(*(write_image(tmp_path / f"{number}.png", number) for number in range(3)))
    cache = tmp_path / "cache"
    if harm == "damaged":
        cache.mkdir()
        (cache / "facts-3.sqlite").write_bytes(b"no database" * 500)
    elif harm == "a file in its place":
        cache.write_text("")
    else:

        def refuse(*_arguments: object, **_options: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(sqlite3, "connect", refuse)
    notes: list[str] = []
    assert scan_images(table, cache=cache, on_note=notes.append) == scan_images(table)
    assert len(notes) == 1
    assert notes[0].startswith(f"What is seen of the images is not kept: {cache / 'facts-3.sqlite'} cannot be used")


def test_the_same_file_under_another_id_is_named_by_that_id(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"GIF89a")
    table = build_table(tmp_path / "a.jpg")
    scan_images(table, cache=tmp_path / "cache")
    other = Annotations((ImageRecord("other", str(tmp_path / "a.jpg")),), table.targets, table.label_space)
    fact = scan_images(other, cache=tmp_path / "cache")[0]
    assert fact.image == "other"
    assert fact.error.startswith("other: ")


def test_pixels_in_memory_are_looked_at_too() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 9), dtype=np.uint8)
    first, second = scan_images(annotations_from_arrays(pixels, [["dog"], []]))
    assert (first.width_px, first.height_px, first.num_bytes) == (9, 8, 72)
    assert first.digest != second.digest


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MANYLABEL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert find_cache_folder() == Path.home() / ".cache" / "manylabel"
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert find_cache_folder() == Path("/c/manylabel")
    monkeypatch.setenv("MANYLABEL_CACHE", "/m")
    assert find_cache_folder() == Path("/m")
