"""Which layout data has, which column names the image, and where the images are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from manylabel.data.annotations import Annotations
from manylabel.data.formats.detect import FORMATS, LAYOUTS, load_annotations, load_data
from manylabel.errors import ConfigError, DataError, ManylabelError

Write = Callable[..., Path]
Read = Callable[[Annotations], dict[str, dict[str, int]]]
POSTERS = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "posters"


# --- layouts


@pytest.mark.parametrize(
    ("text", "layout", "names"),
    [
        pytest.param(
            "image,labels,blurred\na.jpg,dog,1\nb.jpg,sun,0\n",
            "delimited",
            ("dog", "sun"),
            id="labels beside a 0/1 column",
        ),
        pytest.param(
            "image,labels,blurred,dark\na.jpg,dog,1,0\nb.jpg,sun,0,1\n",
            "delimited",
            ("dog", "sun"),
            id="labels beside two 0/1 columns",
        ),
        pytest.param(
            "image,genre,Action,Drama\na.jpg,Action,1,0\nb.jpg,Drama,0,1\n",
            "one-hot",
            ("Action", "Drama"),
            id="0/1 columns beside another list",
        ),
        pytest.param(
            "image,labels\na.jpg,1\nb.jpg,0\n", "delimited", ("0", "1"), id="labels that are the names 0 and 1"
        ),
        pytest.param(
            "image,labels,dog\na.jpg,1,1\nb.jpg,0,1\n", "one-hot", ("labels", "dog"), id="a label called labels"
        ),
        pytest.param("image,label\na.jpg,1\nb.jpg,0\n", "one-hot", ("label",), id="one 0/1 column"),
    ],
)
def test_the_layout_is_found_by_content(write_table: Write, text: str, layout: str, names: tuple[str, ...]) -> None:
    loaded = load_data(write_table(text))
    assert loaded.layout.name == layout
    assert loaded.annotations.label_space.names == names


def test_the_evidence_says_why(write_table: Write) -> None:
    assert load_data(write_table("image;tags\na.jpg;dog, sun\nb.jpg;sun\n")).layout.evidence == (
        "2 rows, 2 columns, utf-8, cells parted by ';'",
        "images: 2 of 2 cells of column 'image' end like an image file",
        "labels: column 'tags', by its name; 1 cells are joined by ','",
    )
    assert load_data(write_table("Id,dog,sun\na,1,0\nb,0,1\n")).layout.evidence == (
        "2 rows, 3 columns, utf-8, cells parted by ','",
        "images: column 'Id', by its name",
        "labels: columns that hold only 0, 1 and unknown: 2",
    )


TWO_LISTS = "image,labels,dog,genre\na.jpg,x|y,1,drama\nb.jpg,y,0,comedy\n"


@pytest.mark.parametrize(
    ("options", "layout", "names"),
    [
        pytest.param({"label_column": "genre"}, "delimited", ("comedy", "drama"), id="another list"),
        pytest.param({"label_column": "dog"}, "one-hot", ("dog",), id="a 0/1 column"),
        pytest.param({"layout": "one-hot"}, "one-hot", ("dog",), id="the layout"),
        pytest.param({"layout": "delimited"}, "delimited", ("x", "y"), id="the layout that it has"),
    ],
)
def test_what_was_found_can_be_overruled(
    write_table: Write, options: dict[str, str], layout: str, names: tuple[str, ...]
) -> None:
    loaded = load_data(write_table(TWO_LISTS), **options)
    assert loaded.layout.name == layout
    assert loaded.annotations.label_space.names == names


@pytest.mark.parametrize("layout", [None, "one-hot", "delimited"])
@pytest.mark.parametrize("option", ["image_column", "label_column"])
def test_a_column_that_is_not_there_is_answered_with_the_nearest(
    write_table: Write, option: str, layout: str | None
) -> None:
    path = write_table(TWO_LISTS)
    with pytest.raises(DataError) as error:
        load_data(path, layout=layout, **{option: "genres"})
    assert str(error.value) == (
        f"{path}: there is no column 'genres' (did you mean 'genre'?), expected one of image, labels, dog, genre."
    )


def test_a_layout_that_does_not_exist_is_answered_with_the_nearest(write_table: Write) -> None:
    with pytest.raises(ConfigError) as error:
        load_data(write_table(TWO_LISTS), layout="onehot")
    assert str(error.value).startswith("--layout: unknown layout 'onehot' (did you mean 'one-hot'?), expected ")
    assert tuple(FORMATS) == LAYOUTS


# --- images


def test_the_image_column_is_found_by_what_stands_in_it(write_table: Write) -> None:
    table = load_annotations(write_table("labels,id,where\ndog,7,a.jpg\nsun,8,B.JPG\n"), image_column=None)
    assert table.images == ("a.jpg", "B.JPG")
    assert table.records[0].extras == {"id": "7"}


def test_the_image_column_can_be_named(write_table: Write) -> None:
    table = load_annotations(
        write_table("first,second,labels\na.jpg,c.jpg,dog\nb.jpg,d.jpg,sun\n"), image_column="second"
    )
    assert table.images == ("c.jpg", "d.jpg")


def test_an_id_is_the_one_image_with_that_stem(write_table: Write, add_images: Write) -> None:
    add_images("x/1.png", "x/2.v2.png", "y/3.png", "y/1.png")
    table = load_annotations(write_table("id,labels\n2.v2,dog\n3,sun\nx/1,dog\na,dog\n"))
    assert table.images == ("x/2.v2.png", "y/3.png", "x/1.png", "a.jpg")
    assert all(Path(record.path).is_file() for record in table.records)


def test_ids_that_fit_several_images_are_all_named(write_table: Write, add_images: Write) -> None:
    folder = add_images("x/1.png", "y/1.png", "a.png")
    path = write_table("id,labels\n1,dog\na,sun\nb,sun\n")
    do = "Write the path with its extension, or give the folder of the images with --images."
    with pytest.raises(DataError) as error:
        load_annotations(path)
    assert str(error.value).splitlines() == [
        f"{path} line 2: id '1': it fits 2 images below {folder}: x/1.png, y/1.png. {do}",
        f"{path} line 3: id 'a': it fits 2 images below {folder}: a.jpg, a.png. {do}",
    ]


@pytest.mark.parametrize("cell", ["x\\y\\1.png", "x/y/1.png", "./x/y/1.png", "x/z/../y/1.png", "x//y/1.png"])
def test_one_image_has_one_id_however_its_path_is_written(write_table: Write, add_images: Write, cell: str) -> None:
    add_images("x/y/1.png", "x/z/2.png")
    table = load_annotations(write_table(f"image,labels\n{cell},dog\na.jpg,sun\n"))
    assert table.images[0] == "x/y/1.png"
    assert Path(table.records[0].path).is_file()


def test_paths_start_from_the_folder_of_images_or_are_absolute(write_table: Write, add_images: Write) -> None:
    folder = add_images("pictures/1.png", "pictures/x/2.png") / "pictures"
    table = load_annotations(write_table(f"image,labels\n1.png,dog\n{folder / 'x' / '2.png'},sun\n"), folder)
    assert table.images == ("1.png", "x/2.png")
    assert [Path(record.path) for record in table.records] == [folder / "1.png", folder / "x" / "2.png"]


def test_some_missing_images_are_a_finding(write_table: Write, tmp_path: Path) -> None:
    table = load_annotations(write_table("image,labels\na.jpg,dog\nx.jpg,sun\ny,sun\n"))
    (finding,) = table.findings
    assert (finding.severity, finding.kind, finding.rows) == ("error", "missing-image", ("x.jpg", "y"))
    assert finding.message == f"2 of 3 images do not exist below {tmp_path}: x.jpg, y."
    assert len(table) == 3


def test_no_image_at_all_is_an_error_that_says_what_to_do(write_table: Write, tmp_path: Path) -> None:
    path = write_table("image,labels\nx/1.jpg,dog\nx/2.jpg,sun\n")
    with pytest.raises(DataError) as error:
        load_annotations(path)
    assert str(error.value) == (
        f"{path}: none of its 2 images exists below {tmp_path} (the first is 'x/1.jpg'). "
        "Give the folder of the images with --images, or the column that names them with --image-column."
    )


def test_rows_without_an_image_are_named(write_table: Write) -> None:
    path = write_table("image,labels\na.jpg,dog\n,sun\n ,dog\n")
    with pytest.raises(DataError) as error:
        load_annotations(path)
    assert str(error.value).splitlines() == [
        f"{path} line {line}: column 'image' is empty, expected an image." for line in (3, 4)
    ]


# --- an image in several rows


def test_an_image_in_several_rows_that_agree_counts_once(write_table: Write, read_cells: Read) -> None:
    table = load_annotations(write_table("image,labels\na.jpg,dog|sun\nb.jpg,sun\n./a.jpg,sun|dog\n"))
    assert read_cells(table) == {"a.jpg": {"dog": 1, "sun": 1}, "b.jpg": {"dog": 0, "sun": 1}}
    (finding,) = table.findings
    assert (finding.severity, finding.kind, finding.rows) == ("note", "repeated-image", ("a.jpg",))
    assert finding.message == "Images in several rows with the same labels: a.jpg. Each was counted once."


def test_where_rows_of_one_image_disagree_the_label_is_unknown(write_table: Write, read_cells: Read) -> None:
    table = load_annotations(
        write_table("image,dog,sun,air\na.jpg,1,0,?\nb.jpg,1,1,1\na.jpg,1,1,0\na.jpg,?,0,0\nb.jpg,?,?,?\n")
    )
    assert read_cells(table) == {
        "a.jpg": {"dog": 1, "sun": -1, "air": 0},
        "b.jpg": {"dog": 1, "sun": 1, "air": 1},
    }
    assert [(finding.severity, finding.kind, finding.rows) for finding in table.findings] == [
        ("note", "repeated-image", ("b.jpg",)),
        ("warning", "contradicting-rows", ("a.jpg",)),
    ]
    assert table.findings[1].message == (
        "Images in several rows with different labels: a.jpg. The labels on which the rows disagree are unknown there."
    )


def test_an_image_in_two_parts_is_an_error_finding(write_table: Write) -> None:
    table = load_annotations(write_table("image,labels,part\na.jpg,dog,train\na.jpg,dog,val\nb.jpg,sun,val\n"))
    finding = table.findings[-1]
    assert (finding.severity, finding.kind, finding.rows) == ("error", "image-in-two-parts", ("a.jpg",))
    assert finding.message == "Images that stand in two parts: a.jpg. The first row counts."
    assert table.records[0].part == "train"


# --- folders and files


def test_a_folder_with_one_table_is_that_table(write_table: Write) -> None:
    path = write_table("image,labels\na.jpg,dog\n")
    assert load_annotations(path.parent).images == load_annotations(path).images == ("a.jpg",)


def test_a_folder_with_several_tables_asks_which(write_table: Write) -> None:
    write_table("image,labels\na.jpg,dog\n", "b.csv")
    folder = write_table("image,labels\na.jpg,dog\n", "a.TSV").parent
    with pytest.raises(DataError) as error:
        load_annotations(folder)
    assert (
        str(error.value) == f"{folder}: the folder holds 2 files of labels: a.TSV, b.csv, expected one. Name the file."
    )


def test_a_folder_without_a_table_has_none_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load_annotations(tmp_path, layout="one-hot")
    assert str(error.value) == f"{tmp_path}: the folder holds 0 files of labels, expected one. Name the file."


def test_label_folders_beside_a_table_are_read_if_asked_for(write_table: Write, add_images: Write) -> None:
    folder = write_table("image,labels\na.jpg,dog\n").parent
    add_images("sun/1.png")
    assert load_annotations(folder, layout="folders").label_space.names == ("sun",)


@pytest.mark.parametrize(
    ("data", "options", "kind", "message"),
    [
        pytest.param("no.csv", {}, DataError, "{}no.csv: there is no such table. Check the path.", id="nothing there"),
        pytest.param(
            "labels.csv",
            {"images": "no"},
            DataError,
            "no: there is no such folder of images. Check --images.",
            id="no folder of images",
        ),
        pytest.param(
            "labels.csv",
            {"layout": "folders"},
            DataError,
            "{}labels.csv: not a folder, expected a folder of label folders.",
            id="a table is no folder",
        ),
        pytest.param(
            "sub",
            {"image_column": "x"},
            ConfigError,
            "{}sub: --image-column is for tables, and this is read as label folders. Leave it out, or name the table.",
            id="an option for tables",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(
    write_table: Write, data: str, options: dict[str, str], kind: type[ManylabelError], message: str
) -> None:
    folder = write_table("image,labels\na.jpg,dog\n").parent
    (folder / "sub").mkdir()
    with pytest.raises(kind) as error:
        load_data(folder / data, **options)
    assert str(error.value) == message.format(f"{folder / 'x'}"[:-1])


@pytest.mark.skipif(not POSTERS.is_dir(), reason="the film posters are not on this machine")
def test_the_film_posters_are_understood() -> None:
    loaded = load_data(POSTERS / "labels.csv", POSTERS / "images")
    table = loaded.annotations
    assert loaded.layout.name == "one-hot"
    assert (len(table), len(table.label_space)) == (2400, 25)
    assert "N/A" in table.label_space
    assert table.label_space.index("N/A") == 15
    assert [(finding.severity, finding.kind, len(finding.rows)) for finding in table.findings] == [
        ("note", "repeated-image", 5)
    ]
    assert table.records[1].id == "tt0086383.jpg"
    assert table.records[1].extras == {"Genre": "['Action', 'Thriller']"}
    assert table.labels_of(1) == ["Action", "Thriller"]


def test_an_address_in_place_of_a_file_is_refused() -> None:
    with pytest.raises(DataError, match=r"^https://x\.org/a\.csv: this is an address, and nothing is ever downloaded"):
        load_data("https://x.org/a.csv")
