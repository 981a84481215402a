"""What arguments stand for: files, folders, patterns, tables and archives."""

from __future__ import annotations

import io
import tarfile
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from manylabel.data.images import ImageError, load_image
from manylabel.errors import DataError
from manylabel.inference import sources as sources_module
from manylabel.inference.sources import find_sources


def expand(*arguments: str, standard_input: str = "") -> list[str]:
    return list(find_sources(list(arguments), io.StringIO(standard_input)).names)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a.jpg, deep/b.PNG, deep/c.txt, [d].png: the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("deep").mkdir()
    for name in ("a.jpg", "deep/b.PNG", "[d].png"):
        Image.new("RGB", (2, 2)).save(name)
    Path("deep/c.txt").write_text("no image")
    return tmp_path


def posix(paths: list[str]) -> list[str]:
    return [Path(path).as_posix() for path in paths]


@pytest.mark.usefixtures("folder")
def test_a_folder_stands_for_every_image_below_it() -> None:
    assert sorted(posix(expand("."))) == ["[d].png", "a.jpg", "deep/b.PNG"]


@pytest.mark.usefixtures("folder")
def test_a_pattern_stands_for_what_it_matches() -> None:
    assert posix(expand("*.jpg")) == ["a.jpg"]
    assert posix(expand("**/*.PNG")) == ["deep/b.PNG"]


@pytest.mark.usefixtures("folder")
def test_a_file_whose_name_looks_like_a_pattern_is_a_file() -> None:
    assert expand("[d].png") == ["[d].png"]


@pytest.mark.usefixtures("folder")
def test_a_file_that_is_no_image_or_not_there_gets_an_answer_too() -> None:
    assert expand("deep/c.txt", "gone.jpg") == ["deep/c.txt", "gone.jpg"]


@pytest.mark.usefixtures("folder")
def test_a_dash_stands_for_the_paths_on_standard_input() -> None:
    assert expand("-", standard_input="a.jpg\n\n with blanks .jpg\r\ngone.jpg") == [
        "a.jpg", " with blanks .jpg", "gone.jpg"
    ]  # fmt: skip


@pytest.mark.usefixtures("folder")
def test_an_image_that_is_named_twice_is_answered_once_where_it_came_first() -> None:
    assert expand("gone.jpg", "a.jpg", "*.jpg", "-", standard_input="a.jpg\n") == ["gone.jpg", "a.jpg"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(["none/*.jpg"], "none/*.jpg", id="pattern without a match"),
        pytest.param(["empty"], "empty", id="folder without an image"),
        pytest.param(["-", "*.gif"], "- *.gif", id="nothing on standard input"),
    ],
)
def test_no_image_at_all_is_one_sentence(arguments: list[str], text: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(DataError) as caught:
        find_sources(iter(arguments), io.StringIO())
    assert (
        str(caught.value)
        == f"{text}: there is no image, expected files, folders, patterns, tables or archives with images."
    )


# ---------------------------------------------------------------------------------------------------------------------
# Tables.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_a_table_stands_for_the_images_of_its_path_column(kind: str) -> None:
    names, extra = ["a.jpg", "b.PNG", "gone.png"], ["x", "y", "z"]
    if kind == "parquet":
        pq.write_table(pa.table({"id": extra, "picture": names}), "table.parquet")
    else:
        sign = {"csv": ",", "tsv": "\t"}[kind]
        rows = [f"{cell}{sign}{name}" for cell, name in zip(extra, names, strict=True)]
        Path(f"table.{kind}").write_text("\n".join([f"id{sign}picture", *rows, ""]), encoding="utf-8")
    sources = find_sources([f"table.{kind}"], io.StringIO(), Path("deep"))
    assert [(name, Path(str(path)).as_posix()) for name, path in sources.read()] == [
        (name, f"deep/{name}") for name in names
    ]
    assert list(find_sources([f"table.{kind}"], io.StringIO()).names) == names, "by default from where the table lies"


@pytest.mark.usefixtures("folder")
def test_the_column_may_be_named_and_has_to_exist() -> None:
    Path("table.csv").write_text("first,second\na.jpg,deep/b.PNG\n", encoding="utf-8")
    assert list(find_sources(["table.csv"], io.StringIO(), None, "second").names) == ["deep/b.PNG"]
    with pytest.raises(DataError, match=r"table\.csv: .*third"):
        find_sources(["table.csv"], io.StringIO(), None, "third")


@pytest.mark.usefixtures("folder")
def test_no_cell_leads_out_of_the_folder_and_all_that_do_are_named() -> None:
    Path("deep/table.csv").write_text("image\nb.PNG\n../a.jpg\n\n/etc/x.png\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        find_sources(["deep/table.csv"], io.StringIO())
    told = str(caught.value).splitlines()
    assert len(told) == 2
    assert told[0].startswith("deep/table.csv line 3: ")
    assert "'../a.jpg'" in told[0]
    assert told[1].startswith("deep/table.csv line 5: ") or told[1].startswith("deep/table.csv line 4: ")


def test_a_table_without_any_of_its_images_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n1,2\n3,4\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"none of its 2 images exists below .* \(the first is '1'\)\. Give the folder"):
        find_sources([str(tmp_path / "table.csv")], io.StringIO())


def test_tables_that_call_different_images_by_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "list.csv").write_text("image\n1.png\n2.png\n", encoding="utf-8")
        (tmp_path / name / "1.png").write_bytes(b"")
    tables = [str(tmp_path / name / "list.csv") for name in ("a", "b")]
    with pytest.raises(
        DataError, match=r"2 names stand for different images: 1\.png, 2\.png\. Give these tables one at"
    ):
        find_sources(tables, io.StringIO())
    again = find_sources([tables[0], tables[0]], io.StringIO())
    assert (again.num_images, list(again.names)) == (2, ["1.png", "2.png"])


# ---------------------------------------------------------------------------------------------------------------------
# Archives.
# ---------------------------------------------------------------------------------------------------------------------


def pack(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("folder.png/", b"")
            for name, data in members:
                archive.writestr(name, data)
        return
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def encode(colour: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), colour).save(stream, "PNG")
    return stream.getvalue()


RED, BLUE = encode((255, 0, 0)), encode((0, 0, 255))
MEMBERS = [("red.png", RED), ("deep/../../blue.PNG", BLUE), ("notes.txt", b"no image"), ("broken.jpg", b"no image")]


@pytest.mark.parametrize("name", ["shard.zip", "shard.tar", "shard.tar.gz", "shard.TGZ"])
def test_an_archive_stands_for_its_images_and_is_never_unpacked(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    pack(path.with_suffix(path.suffix.lower()), MEMBERS)
    if not path.exists():
        path.with_suffix(path.suffix.lower()).rename(path)
    sources = find_sources([str(path)], io.StringIO())
    assert list(sources.names) == [f"{path}/{member}" for member in ("red.png", "deep/../../blue.PNG", "broken.jpg")]
    read = dict(sources.read())
    assert read[f"{path}/red.png"] == RED
    blue = read[f"{path}/deep/../../blue.PNG"]
    assert isinstance(blue, bytes)
    assert load_image(blue).getpixel((0, 0)) == (0, 0, 255)
    done = {f"{path}/red.png", f"{path}/deep/../../blue.PNG"}
    assert list(sources.read(done)) == [(f"{path}/broken.jpg", b"no image")]
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["shard.zip", "shard.tar"])
def test_of_a_member_that_stands_twice_the_last_counts(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of the second
        pack(path, [("a.png", RED), ("b.png", RED), ("a.png", BLUE)])
    sources = find_sources([str(path)], io.StringIO())
    assert sources.num_images == 2
    assert dict(sources.read()) == {f"{path}/a.png": BLUE, f"{path}/b.png": RED}


def test_a_hard_link_in_an_archive_gets_a_row_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("a.png")
        info.size = len(RED)
        archive.addfile(info, io.BytesIO(RED))
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.LNKTYPE, "a.png"
        archive.addfile(link)
    read = dict(find_sources([str(path)], io.StringIO()).read())
    assert read[f"{path}/a.png"] == RED
    linked = read[f"{path}/b.png"]
    assert isinstance(linked, ImageError)
    assert linked.kind == "unreadable"


@pytest.mark.parametrize("num_bytes", [512, 1024, 1536, 2048, 20000])
def test_a_tar_file_that_ends_early_is_never_taken_for_a_whole_one(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "shard.tar"
    pack(path, [(f"{number}.png", bytes(700)) for number in range(30)])
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(DataError, match="the archive cannot be read"):
        find_sources([str(path)], io.StringIO())


@pytest.mark.parametrize("name", ["shard.zip", "shard.tar.gz"])
def test_a_damaged_archive_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    pack(path, [(f"{number}.png", RED * 50) for number in range(50)])
    whole = path.read_bytes()
    for data in (whole[: len(whole) // 2], b"no archive", b""):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"the archive cannot be read .*Copy or download it again"):
            find_sources([str(path)], io.StringIO())


def test_a_damaged_member_is_a_row_with_an_error_and_the_others_go_on(tmp_path: Path) -> None:
    path = tmp_path / "shard.zip"
    pack(path, [("a.png", RED * 20), ("b.png", BLUE)])
    data = bytearray(path.read_bytes())
    place = data.index(b"a.png") + 8
    data[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(data))
    read = dict(find_sources([str(path)], io.StringIO()).read())
    spoilt = read[f"{path}/a.png"]
    assert isinstance(spoilt, ImageError)
    assert spoilt.kind == "unreadable"
    assert read[f"{path}/b.png"] == BLUE


@pytest.mark.parametrize("name", ["shard.zip", "shard.tar"])
def test_a_member_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sources_module, "MAX_MEMBER_BYTES", 1000)
    path = tmp_path / name
    pack(path, [("bomb.png", bytes(100_000)), ("red.png", RED)])
    read = dict(find_sources([str(path)], io.StringIO()).read())
    bomb = read[f"{path}/bomb.png"]
    assert isinstance(bomb, ImageError)
    assert bomb.kind == "too_large"
    assert read[f"{path}/red.png"] == RED


@pytest.mark.usefixtures("folder")
def test_pieces_of_all_kinds_stand_in_order_and_each_image_once(tmp_path: Path) -> None:
    pack(tmp_path / "shard.zip", MEMBERS[:1])
    Path("table.csv").write_text(f"image\n{tmp_path / 'a.jpg'}\n", encoding="utf-8")
    sources = find_sources(["deep", "shard.zip", "table.csv", "a.jpg", "deep/b.PNG"], io.StringIO())
    assert sources.num_images == 3
    assert posix(list(sources.names)) == ["deep/b.PNG", "shard.zip/red.png", "a.jpg"]
