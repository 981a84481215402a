"""XML is read with the line of every element, and what could fill the memory or read other files is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from manylabel.data.formats import xml
from manylabel.data.formats.xml import XmlElement, find_root_name, load_xml
from manylabel.errors import DataError

BOMB = (
    '<?xml version="1.0"?>\n<!DOCTYPE lolz [\n <!ENTITY lol "lol">\n'
    + "".join(
        f' <!ENTITY lol{level} "{f"&lol{level - 1};" * 10 if level > 1 else "&lol;" * 10}">\n' for level in range(1, 10)
    )
    + "]>\n<lolz>&lol9;</lolz>\n"
)


def test_elements_have_text_attributes_children_and_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- a <b> -->\n<a>\n <b c="1">x &amp; y</b>\n <b/></a>')
    root = load_xml(path)
    assert (find_root_name(path), root.name, root.line) == ("a", "a", 3)
    assert root.find_all("b") == [XmlElement("b", 4, {"c": "1"}, "x & y"), XmlElement("b", 5)]
    assert (root.find_text("b"), root.find_text("b", "d"), root.find("d")) == ("x & y", "", None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(BOMB.encode(), "line 2: document types and entities are not read", id="a billion laughs"),
        pytest.param(
            b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "line 1: document types", id="a file"
        ),
        pytest.param(BOMB.encode("utf-16"), "the file is not UTF-8", id="a bomb in another encoding"),
        pytest.param(
            b'<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE a', "not XML", id="a bomb under another name"
        ),
        pytest.param(b"<a>" * 1000, "nested too deeply, expected at most 64 levels", id="a thousand levels"),
        pytest.param(b"<a>\n<b></a>", "line 2: not XML (mismatched tag)", id="tags that cross"),
        pytest.param(b"", "not XML (no element found)", id="an empty file"),
        pytest.param(b"<a>&nbsp;</a>", "not XML (undefined entity)", id="an entity that nobody declared"),
        pytest.param("<a>é</a>".encode("latin-1"), "the file is not UTF-8", id="another encoding"),
    ],
)
def test_what_is_no_plain_xml_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(content)
    find_root_name(path)
    with pytest.raises(DataError) as error:
        load_xml(path)
    assert message in str(error.value)


def test_a_huge_or_missing_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml, "MAX_BYTES", 3)
    path = tmp_path / "a.xml"
    path.write_text("<a/>", "utf-8")
    with pytest.raises(DataError, match="the file has 4 bytes, expected at most 3"):
        load_xml(path)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        load_xml(tmp_path / "b.xml")
    assert find_root_name(tmp_path / "b.xml") == ""
