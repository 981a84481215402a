from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from manylabel.data.formats.columns import ImageRoot
from manylabel.data.formats.detect import load_annotations, load_data
from manylabel.errors import DataError

Write = Callable[..., Path]
OUTSIDE = "it lies outside the folder of the images, {folder}. Give a folder that holds all images with --images."
URL = (
    "this is a URL, and nothing is ever downloaded. "
    "Download the images first, name the files in the table and give their folder with --images."
)
WINDOWS = (
    "this is an absolute path of Windows. "
    "Write paths that start from the folder of the images, and give it with --images."
)
CONTROL = "there are control characters in it. Correct the cell."
TOO_LONG = (
    "no file can have a name of more than 255 bytes. Check which column names the images; --image-column names another."
)
posix_only = pytest.mark.skipif(os.name == "nt", reason="a drive is part of a path there")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        *[
            pytest.param(cell, OUTSIDE, id=cell)
            for cell in ("../a.jpg", "x/../../a.jpg", "..\\a.jpg", "x\\..\\..\\a.jpg", "..", "./.././a.jpg", "x/../..")
        ],
        *[pytest.param(cell, OUTSIDE, id=cell) for cell in ("/etc/passwd", "//etc/a.jpg", "/a.jpg", "/../a.jpg")],
        *[
            pytest.param(f"{scheme}://host/a.jpg", URL, id=scheme)
            for scheme in ("http", "https", "HTTPS", "s3", "gs", "ftp", "file", "azure-blob")
        ],
        pytest.param("data:image/png;base64,iVBORw0KGgo=", URL, id="data in place of a path"),
        *[
            pytest.param(cell, WINDOWS, id=cell, marks=posix_only)
            for cell in ("C:\\photos\\a.jpg", "d:/photos/a.jpg", "\\\\server\\share\\a.jpg", "\\\\?\\C:\\a.jpg")
        ],
        pytest.param("a.jpg\x00.png", CONTROL, id="NUL"),
        pytest.param("a\nb.jpg", CONTROL, id="line break"),
        pytest.param("a\x1b[31m.jpg", CONTROL, id="escape sequence of a terminal"),
        pytest.param("x/" + "ä" * 130 + ".jpg", TOO_LONG, id="too many bytes"),
        pytest.param("b" * 100_000, TOO_LONG, id="very many"),
    ],
)
def test_a_cell_that_leads_out_of_the_folder_is_refused(tmp_path: Path, cell: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        ImageRoot(tmp_path).locate(cell)
    shown = cell if len(cell) <= 80 else cell[:80] + "..."
    assert str(error.value) == f"image {shown!r}: {message.format(folder=tmp_path)}"


@pytest.mark.parametrize(
    ("cell", "image"),
    [
        pytest.param("a.jpg", "a.jpg", id="plain"),
        pytest.param("x/b.jpg", "x/b.jpg", id="in a folder"),
        pytest.param("./x//y/../b.jpg", "x/b.jpg", id="the long way round"),
        pytest.param("x\\b.jpg", "x/b.jpg", id="slashes of Windows"),
        pytest.param("..a/b..jpg", "..a/b..jpg", id="two dots in names"),
        pytest.param("12:30.jpg", "12:30.jpg", id="a colon in a name"),
        pytest.param("{folder}/x/b.jpg", "x/b.jpg", id="absolute"),
        pytest.param("{folder}/x/../a.jpg", "a.jpg", id="absolute, the long way round"),
        pytest.param("b", "x/b.jpg", id="a bare id"),
        pytest.param("x/b", "x/b.jpg", id="a bare id in a folder"),
    ],
)
def test_a_cell_becomes_a_path_below_the_folder(
    add_images: Write, monkeypatch: pytest.MonkeyPatch, cell: str, image: str
) -> None:
    folder = add_images("a.jpg", "x/b.jpg")
    written = cell.format(folder=folder)
    assert ImageRoot(folder).locate(written) == (image, str(folder / image))
    monkeypatch.chdir(folder.parent)
    relative = Path(folder.name)
    assert ImageRoot(relative).locate(written) == (image, str(relative / image))


def test_the_folder_itself_may_be_reached_by_a_link(add_images: Write, tmp_path: Path) -> None:
    folder = add_images("real/a.jpg") / "real"
    link = tmp_path / "link"
    link.symlink_to(folder, target_is_directory=True)
    for cell in ("a.jpg", f"{folder}/a.jpg", f"{link}/a.jpg"):
        assert ImageRoot(link).locate(cell) == ("a.jpg", str(link / "a.jpg"))
    assert ImageRoot(link).find_missing(["a.jpg", "b.jpg"]) == ["b.jpg"]


def test_refused_cells_are_listed_once_each_with_their_line(write_table: Write) -> None:
    path = write_table("image,labels\na.jpg,dog\n../b.jpg,dog\n\nhttps://x/c.jpg,dog\n../b.jpg,dog\n")
    with pytest.raises(DataError) as error:
        load_annotations(path)
    assert str(error.value).splitlines() == [
        f"{path} line 3: image '../b.jpg': {OUTSIDE.format(folder=path.parent)}",
        f"{path} line 5: image 'https://x/c.jpg': {URL}",
    ]


def test_of_ten_thousand_refused_cells_the_first_are_listed(write_table: Write) -> None:
    path = write_table("image,labels\n" + "".join(f"../{number}.jpg,dog\n" for number in range(10_000)))
    with pytest.raises(DataError) as error:
        load_annotations(path)
    lines = str(error.value).splitlines()
    assert len(lines) == 9
    assert lines[0].startswith(f"{path} line 2: image '../0.jpg': it lies outside")
    assert lines[-1] == "... and 9992 more like this."


@pytest.mark.parametrize("is_folder", [False, True], ids=["a link to a file", "a link to a folder"])
def test_a_link_out_of_the_folder_is_refused(write_table: Write, add_images: Write, is_folder: bool) -> None:
    images = add_images("in/a.jpg", "out/b.jpg") / "in"
    name = "linked/b.jpg" if is_folder else "b.jpg"
    (images / ("linked" if is_folder else name)).symlink_to(images.parent / ("out" if is_folder else "out/b.jpg"))
    path = write_table(f"image,labels\na.jpg,dog\n{name},sun\n")
    with pytest.raises(DataError) as error:
        load_annotations(path, images)
    assert str(error.value) == (
        f"{images}: links lead out of this folder: {name}. "
        "Copy these files into it, or give the folder that really holds all images with --images."
    )


def test_links_within_the_folder_are_followed_and_broken_ones_are_missing(add_images: Write) -> None:
    folder = add_images("a.jpg", "x/b.jpg")
    (folder / "link.jpg").symlink_to(folder / "x" / "b.jpg")
    (folder / "broken.jpg").symlink_to(folder / "none.jpg")
    (folder / "y").symlink_to(folder / "x", target_is_directory=True)
    root = ImageRoot(folder)
    assert root.find_missing(["link.jpg", "y/b.jpg", "a.jpg"]) == []
    assert root.find_missing(["z/a.jpg", "broken.jpg", "y/c.jpg", "a.jpg"]) == ["z/a.jpg", "broken.jpg", "y/c.jpg"]


def test_a_million_rows_of_one_folder_cost_one_listing(add_images: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = add_images(*(f"x/{number}.jpg" for number in range(20)))
    listed: list[str] = []
    scandir = os.scandir

    def count(path: str) -> object:
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", count)
    assert ImageRoot(folder).find_missing([f"x/{number}.jpg" for number in range(20)]) == []
    assert listed == [str(folder / "x")]


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
@pytest.mark.parametrize("start", [0, 1])
def test_the_row_numbers_that_pandas_writes_are_left_out(write_table: Write, name: str, start: int) -> None:
    text = f"{name},image,tags_of_it\n{start},a.jpg,dog\n{start + 1},b.jpg,sun\n"
    loaded = load_data(write_table(text))
    assert loaded.annotations.images == ("a.jpg", "b.jpg")
    assert loaded.annotations.label_space.names == ("dog", "sun")
    assert loaded.layout.evidence[1] == f"left out: column {name if name else 'column_1'!r}, the numbers of the rows"


@pytest.mark.parametrize(
    ("text", "images"),
    [
        pytest.param(",dog,sun\n1,1,0\n2,0,1\n", ("1.png", "2.png"), id="they are the ids"),
        pytest.param(",dog,sun\na.jpg,1,0\nb.jpg,0,1\n", ("a.jpg", "b.jpg"), id="it names the images"),
        pytest.param(",image,labels\n7,a.jpg,dog\n9,b.jpg,sun\n", ("a.jpg", "b.jpg"), id="other numbers are an extra"),
    ],
)
def test_a_first_column_without_a_name_that_says_something_stays(
    write_table: Write, add_images: Write, text: str, images: tuple[str, ...]
) -> None:
    add_images("1.png", "2.png")
    table = load_annotations(write_table(text))
    assert table.images == images
    assert table.records[0].extras.get("column_1") == ("7" if text.startswith(",image") else None)


def test_blank_columns_without_a_name_are_left_out(write_table: Write) -> None:
    loaded = load_data(write_table("image,labels,,\na.jpg,dog,,\nb.jpg,sun,, \n"))
    assert loaded.annotations.records[0].extras == {}
    assert loaded.layout.evidence[1:3] == ("left out: column 'column_3', blank", "left out: column 'column_4', blank")
