"""Forms: the images of a multipart body, with every limit of `limits` held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from manylabel.server.limits import MAX_FIELDS, MAX_IMAGES, MAX_NAME_LENGTH, MAX_PART_HEADER_BYTES, RequestError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


@dataclass(frozen=True)
class NamedImage:
    """The bytes of one image and what answers call it."""

    name: str
    data: bytes


def parse_form(body: bytes, content_type: str) -> list[NamedImage]:
    """Return the files of a form in order; other fields are counted and left out.

    The name that a client gives is text for the answer and nothing else.

    Raises:
        RequestError: 400 no form, 413 more parts than allowed, 422 no files in it.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise RequestError(400, "bad_form", "The Content-Type names no boundary between the parts of the form.")
    reader = _FormReader()
    try:
        parser = MultipartParser(boundary, reader.build_callbacks(), max_header_size=MAX_PART_HEADER_BYTES)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise RequestError(400, "bad_form", "The body is not the form that its Content-Type announces.") from error
    if not reader.is_complete:
        raise RequestError(400, "bad_form", "The form ends early, its last boundary is missing.")
    if not reader.images:
        raise RequestError(
            422, "no_images", "The form has no files; send each image as a file, in a field of any name."
        )
    return reader.images


class _FormReader:
    """Collects the parts while the parser walks over the body."""

    def __init__(self) -> None:
        self.images: list[NamedImage] = []
        self.is_complete = False
        self._num_fields = 0
        self._blocks: list[bytes] = []
        self._name, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}

    def build_callbacks(self) -> MultipartCallbacks:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin_part,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
            "on_header_field": self._add_header_name,
            "on_header_value": self._add_header_value,
            "on_header_end": self._end_header,
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        self._blocks, self._headers = [], {}
        self._name, self._value = b"", b""

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._blocks.append(data[start:end])

    def _end_part(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"filename" not in options:
            self._num_fields += 1
            if self._num_fields > MAX_FIELDS:
                raise RequestError(
                    413, "too_many_fields", f"The form has more than {MAX_FIELDS} fields that are no files."
                )
            return
        if len(self.images) == MAX_IMAGES:
            raise RequestError(
                413, "too_many_images", f"The form has more than {MAX_IMAGES} images; send several requests."
            )
        self.images.append(
            NamedImage(clean_name(options[b"filename"].decode("utf-8", "replace")), b"".join(self._blocks))
        )

    def _end(self) -> None:
        self.is_complete = True


def clean_name(name: str) -> str:
    """Return a name that can stand in an answer: printable, of bounded length, never empty.

    Example:
        >>> clean_name("a\\nb.jpg"), clean_name("")
        ('a\N{REPLACEMENT CHARACTER}b.jpg', 'image')
    """
    shown = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in name[:MAX_NAME_LENGTH])
    return shown if shown else "image"
