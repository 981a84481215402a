"""XML, read safely: no document types and no entities, bounded in size and depth, every element with its line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat  # what could expand or fetch anything is refused before it is parsed

from manylabel.errors import DataError, build_message

MAX_BYTES = 512 * 2**20
"""How large a file of XML may be."""

MAX_DEPTH = 64
"""How deep elements may be nested."""

_HEAD_BYTES = 65_536
_PROLOG = re.compile(rb"(?:\s|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*(?:\[.*?\]\s*)?>)*", re.DOTALL)
_START_TAG = re.compile(rb"<([A-Za-z_][\w.:-]*)[\s/>]")
_MARK = b"\xef\xbb\xbf"


@dataclass(slots=True)
class XmlElement:
    """One element: its name, attributes, text (without that of its children), children and line."""

    name: str
    line: int
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    children: list[XmlElement] = field(default_factory=list)

    def find_all(self, name: str) -> list[XmlElement]:
        """Return the children of that name."""
        return [child for child in self.children if child.name == name]

    def find(self, name: str) -> XmlElement | None:
        """Return the first child of that name; None where there is none."""
        return next((child for child in self.children if child.name == name), None)

    def find_text(self, *names: str) -> str:
        """Return the stripped text of a child, of a child's child and so on; "" where there is none.

        Example:
            >>> size = XmlElement("size", 2, children=[XmlElement("width", 3, text=" 40 ")])
            >>> XmlElement("annotation", 1, children=[size]).find_text("size", "width")
            '40'
        """
        element: XmlElement | None = self
        for name in names:
            element = None if element is None else element.find(name)
        return "" if element is None else element.text.strip()


def find_root_name(path: Path) -> str:
    """Return the name of a file's outermost element, from its first 64 kB; "" where there is none to be seen."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES).removeprefix(_MARK)
    except OSError:
        return ""  # whoever loads it says why
    prolog = _PROLOG.match(head)
    start = _START_TAG.match(head, prolog.end() if prolog is not None else 0)
    return start[1].decode("ascii", "replace") if start is not None else ""


def load_xml(path: Path) -> XmlElement:
    """Return the outermost element of a file.

    Raises:
        DataError: the file cannot be read, is too large, is not UTF-8, declares a document type or an entity (which
            can be made to fill the memory or to read other files), is nested too deeply, or is no XML; with the line.
    """
    data = _read_bytes(path)
    for forbidden in (b"<!DOCTYPE", b"<!ENTITY"):
        at = data.find(forbidden)
        if at >= 0:
            line = data.count(b"\n", 0, at) + 1
            problem = "document types and entities are not read: they can be made to fill the memory"
            raise DataError(build_message(f"{path} line {line}", problem, do=f"Remove the {forbidden.decode()}"))
    builder = _Builder(path)
    try:
        builder.parser.Parse(data, True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise DataError(build_message(f"{path} line {error.lineno}", f"not XML ({reason})", do="Check it")) from error
    assert builder.root is not None, "a file without an element is no XML"
    return builder.root


class _Builder:
    """Puts the events of the parser together to elements."""

    def __init__(self, path: Path) -> None:
        self.root: XmlElement | None = None
        self._path = path
        self._open: list[XmlElement] = []
        # Named here, so that no declaration in the file can choose another encoding and hide what is refused.
        self.parser = expat.ParserCreate("utf-8")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._add_text

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        element = XmlElement(name, self.parser.CurrentLineNumber, attributes)
        if len(self._open) >= MAX_DEPTH:
            where = f"{self._path} line {element.line}"
            raise DataError(build_message(where, "nested too deeply", expected=f"at most {MAX_DEPTH} levels"))
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def _end(self, _name: str) -> None:
        self._open.pop()

    def _add_text(self, text: str) -> None:
        self._open[-1].text += text


def _read_bytes(path: Path) -> bytes:
    try:
        num_bytes = path.stat().st_size
        data = path.read_bytes().removeprefix(_MARK) if num_bytes <= MAX_BYTES else b""
    except OSError as error:
        reason = error.strerror if error.strerror else type(error).__name__
        raise DataError(build_message(path, f"the file cannot be read: {reason}", do="Check the file")) from error
    if num_bytes > MAX_BYTES:
        expected = f"at most {MAX_BYTES:,}"
        raise DataError(build_message(path, f"the file has {num_bytes:,} bytes", expected=expected, do="Divide it"))
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(build_message(path, "the file is not UTF-8", do="Save it as UTF-8")) from error
    return data
