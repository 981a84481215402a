from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from manylabel.data.formats.table import load_table
from manylabel.errors import DataError

Write = Callable[..., Path]
TEXT = "image,labels\nzürich.jpg,café\n"


def rows(path: Path) -> list[tuple[str, ...]]:
    table = load_table(path)
    return list(zip(*(table.values(name) for name in table.names), strict=True))


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        pytest.param(TEXT.encode(), "utf-8", id="UTF-8"),
        pytest.param(TEXT.encode("utf-8-sig"), "utf-8-sig", id="UTF-8 with the mark that spreadsheets write"),
        pytest.param(b"\xff\xfe" + TEXT.encode("utf-16-le"), "utf-16", id="UTF-16, little end first"),
        pytest.param(b"\xfe\xff" + TEXT.encode("utf-16-be"), "utf-16", id="UTF-16, big end first"),
        pytest.param(TEXT.encode("cp1252"), "cp1252", id="Windows"),
        pytest.param(TEXT.replace("\n", "\r\n").encode(), "utf-8", id="line ends of Windows"),
        pytest.param(TEXT.replace("\n", "\r").encode(), "utf-8", id="line ends of old Macs"),
    ],
)
def test_the_encoding_is_found(write_table: Write, data: bytes, encoding: str) -> None:
    table = load_table(write_table(data))
    assert table.names == ("image", "labels")
    assert table.values("image") == ["zürich.jpg"]
    assert table.values("labels") == ["café"]
    assert table.encoding == encoding


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(write_table: Write, delimiter: str) -> None:
    path = write_table(f"image{delimiter}dog{delimiter}cat\na.jpg{delimiter}1{delimiter}0\n", "table.txt")
    assert load_table(path).delimiter == delimiter
    assert rows(path) == [("a.jpg", "1", "0")]


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        pytest.param("a.jpg,dog|cat|sun\nb.jpg,sun|dog|cat\n", ",", id="no header, all with three labels"),
        pytest.param("a.jpg,dog;cat\nb.jpg,sun;dog\n", ",", id="no header, all with two labels"),
        pytest.param("image;labels\na.jpg;dog,cat\nb.jpg;sun,cat\n", ";", id="commas inside the cells"),
        pytest.param("image,labels\na.jpg,dog|cat\nb.jpg,sun|cat\n", ",", id="bars inside the cells"),
        pytest.param("image\tlabels\na.jpg\tdog, cat\nb.jpg\tsun, cat\n", "\t", id="commas and blanks in the cells"),
        pytest.param("image\na.jpg\n", ",", id="one column"),
    ],
)
def test_what_joins_labels_is_not_taken_for_the_delimiter(write_table: Write, text: str, delimiter: str) -> None:
    assert load_table(write_table(text)).delimiter == delimiter


def test_cells_keep_their_text_and_lose_the_blanks_around_it(write_table: Write) -> None:
    path = write_table(' image , labels \n a.jpg ,N/A\nb.jpg,"two\nlines, ""quoted"""\nc.jpg,NA\nd.jpg,\n')
    assert load_table(path).names == ("image", "labels")
    assert rows(path) == [
        ("a.jpg", "N/A"),
        ("b.jpg", 'two\nlines, "quoted"'),
        ("c.jpg", "NA"),
        ("d.jpg", ""),
    ]


def test_without_a_header_the_columns_get_names(write_table: Write) -> None:
    table = load_table(write_table("a.jpg,dog\nb.jpg,cat\n"))
    assert (table.names, table.has_header, table.num_rows) == (("image", "labels"), False, 2)
    table = load_table(write_table("a.jpg,1,0\nb.jpg,0,1\n"))
    assert table.names == ("column_1", "column_2", "column_3")
    assert table.where(1).endswith("labels.csv line 2")


MIXED = 'image,labels\n\na.jpg,"dog\ncat\nsun"\n\n\nb.jpg,"x\ny"\nc.jpg,dog\n'


def test_a_line_number_counts_blank_lines_and_quoted_line_breaks(write_table: Write) -> None:
    path = write_table(MIXED)
    table = load_table(path)
    assert [table.where(row) for row in range(3)] == [f"{path} line {line}" for line in (3, 8, 10)]


def test_rows_with_too_many_or_too_few_cells_are_all_listed_by_their_line(write_table: Write) -> None:
    path = write_table(MIXED + 'd.jpg\nd.jpg,"one\ntwo",three\nd.jpg,dog\n')
    with pytest.raises(DataError) as error:
        load_table(path)
    assert str(error.value).splitlines() == [
        f"{path} line 11: the row has 1 cells, expected 2 as in the header.",
        f"{path} line 12: the row has 3 cells, expected 2 as in the header.",
    ]


def test_of_many_bad_rows_the_first_are_listed(write_table: Write) -> None:
    with pytest.raises(DataError) as error:
        load_table(write_table("image,labels\n" + "a.jpg\n" * 2000 + "b.jpg,dog\n" * 2000))
    lines = str(error.value).splitlines()
    assert len(lines) == 9
    assert lines[-1] == "... and 1992 more like this."


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "the table is empty, expected a header and a row per image.", id="empty"),
        pytest.param(b" \n\r\n", "the table is empty, expected a header and a row per image.", id="blank"),
        pytest.param(b"\xef\xbb\xbf", "the table is empty, expected a header and a row per image.", id="only a mark"),
        pytest.param(b"image,labels\n", "the table has a header but no row, expected one row per image.", id="header"),
        pytest.param(
            b"\x89PNG\r\n\x1a\n\x00\x00",
            "not a text table. Give a CSV or TSV file with one row per image.",
            id="binary",
        ),
        pytest.param(
            "image,labels\na,b\n".encode("utf-16-le"),
            "not a text table. Give a CSV or TSV file with one row per image.",
            id="UTF-16 without its mark",
        ),
        pytest.param(
            b'{"images": []}', "this is JSON, not a table, expected CSV or TSV with one row per image.", id="JSON"
        ),
        pytest.param(
            b"image,a,b,a,b\nx.jpg,1,1,1,1\n",
            "columns stand twice in the header: a, b. Rename or remove them.",
            id="two columns twice",
        ),
        pytest.param(
            b"PK\x03\x04\x14\x00\x06\x00",
            "this is an Excel workbook (.xlsx) or another archive, not a text table. "
            "Save the sheet as CSV (UTF-8) and give that file.",
            id="Excel",
        ),
        pytest.param(
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
            "this is an old Excel workbook (.xls), not a text table. Save the sheet as CSV (UTF-8) and give that file.",
            id="old Excel",
        ),
        pytest.param(
            b"\x1f\x8b\x08\x00", "this is compressed (gzip), not a text table. Unpack it first.", id="compressed"
        ),
        pytest.param(b"sep=;\r\n", "the table is empty, expected a header and a row per image.", id="only a hint"),
    ],
)
def test_what_is_no_table_is_refused(write_table: Write, data: bytes, message: str) -> None:
    path = write_table(data)
    with pytest.raises(DataError) as error:
        load_table(path)
    assert str(error.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        pytest.param("sep=;\r\nimage;labels\r\na.jpg;dog,sun\r\n", ";", id="as Excel writes it"),
        pytest.param('"sep=,"\nimage,labels\na.jpg,"dog,sun"\n', ",", id="in quotes"),
        pytest.param("SEP=\t\nimage\tlabels\na.jpg\tdog,sun\n", "\t", id="tab"),
        pytest.param("\ufeffsep=^\r\nimage^labels\r\na.jpg^dog,sun\r\n", "^", id="a mark before it, an odd delimiter"),
    ],
)
def test_the_line_that_tells_excel_the_delimiter_is_no_header(write_table: Write, text: str, delimiter: str) -> None:
    table = load_table(write_table(text))
    assert (table.delimiter, table.names) == (delimiter, ("image", "labels"))
    assert table.values("labels") == ["dog,sun"]
    assert table.where(0).endswith("labels.csv line 3")


def test_lines_are_counted_from_the_line_that_tells_the_delimiter(write_table: Write) -> None:
    path = write_table("sep=;\r\nimage;labels\r\na.jpg;dog;x\r\n")
    with pytest.raises(DataError) as error:
        load_table(path)
    assert str(error.value) == f"{path} line 3: the row has 3 cells, expected 2 as in the header."


def test_unicode_text_of_excel_is_read(write_table: Write) -> None:
    path = write_table("image\tlabels\r\nzürich.jpg\tcafé\r\n".encode("utf-16"), "labels.txt")
    assert (load_table(path).delimiter, rows(path)) == ("\t", [("zürich.jpg", "café")])


def test_a_file_in_two_encodings_is_refused_with_its_lines(write_table: Write) -> None:
    path = write_table(b"image,labels\n" + "a.jpg,café\n".encode() + "b.jpg,naïve\n".encode("cp1252"))
    with pytest.raises(DataError) as error:
        load_table(path)
    assert str(error.value) == (
        f"{path} line 3: this line is not UTF-8, but other lines are (such as line 2). Save the whole file as UTF-8."
    )


@pytest.mark.parametrize(
    ("data", "tried"),
    [
        pytest.param(b"image,labels\na.jpg,x\x81\n", "neither UTF-8 nor Windows-1252", id="no text of Windows"),
        pytest.param(
            b"\xff\xfei\x00\n\x00\x00\xd8",
            "neither UTF-16, as its first bytes say, nor anything else",
            id="UTF-16 that is cut off",
        ),
    ],
)
def test_bytes_that_are_no_text_are_refused_and_never_replaced(write_table: Write, data: bytes, tried: str) -> None:
    path = write_table(data)
    with pytest.raises(DataError) as error:
        load_table(path)
    assert str(error.value) == f"{path} line 2: this is {tried}. Save the file as UTF-8."


def test_columns_without_a_name_are_numbered(write_table: Write) -> None:
    assert load_table(write_table("image,,dog,\na.jpg,x,1,y\n")).names == ("image", "column_2", "dog", "column_4")


@pytest.mark.parametrize("num_distinct", [1, 255, 256, 257, 5000])
def test_columns_of_few_and_of_many_distinct_cells_keep_them_all(
    write_table: Write, monkeypatch: pytest.MonkeyPatch, num_distinct: int
) -> None:
    monkeypatch.setattr("manylabel.data.formats.table._BLOCK_BYTES", 2048)  # several blocks
    cells = [f" {row % num_distinct}" for row in range(5000)]
    table = load_table(write_table("image,x\n" + "".join(f"{row}.jpg,{cell}\n" for row, cell in enumerate(cells))))
    assert table.values("x") == [cell.strip() for cell in cells]
    assert table.values("image") == [f"{row}.jpg" for row in range(5000)]
    assert (table.num_rows, table.columns["x"].nbytes < 12_000) == (5000, num_distinct <= 256)


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.csv: there is no such table\. Check the path\."):
        load_table(tmp_path / "no.csv")


def test_a_quote_that_is_never_closed_does_not_swallow_the_table(write_table: Write) -> None:
    path = write_table('image,labels\na.jpg,dog\nb.jpg,"cat\nc.jpg,sun\n')
    with pytest.raises(DataError) as error:
        load_table(path)
    assert re.fullmatch(
        rf"{re.escape(str(path))} line 3: the row cannot be read \(.*\)\. Check its quotes\.", str(error.value)
    )


def test_a_quote_inside_a_cell_is_text(write_table: Write) -> None:
    assert rows(write_table('image,labels\na.jpg,5" tyre\n')) == [("a.jpg", '5" tyre')]


def test_a_very_long_cell_is_read_or_refused_but_never_breaks(write_table: Write) -> None:
    long = "dog|" * 40_000
    assert rows(write_table(f"image,labels\na.jpg,{long}\n")) == [("a.jpg", long)]


def test_a_column_that_is_not_there_is_answered_with_the_nearest(write_table: Write) -> None:
    path = write_table("image,labels\na.jpg,dog\n")
    with pytest.raises(DataError) as error:
        load_table(path).values("lables")
    assert str(error.value) == (
        f"{path}: there is no column 'lables' (did you mean 'labels'?), expected one of image, labels."
    )
