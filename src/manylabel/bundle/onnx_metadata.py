"""The metadata of an ONNX file, read past and replaced without any library: decisions change, the network does not.

An ONNX file is a Protocol Buffers message: fields one after the other, each a tag and a value. Only the outermost
fields are looked at, and copied as they are.

Source: Protocol Buffers, "Encoding" (tags, varints, wire types); onnx.proto3, ModelProto field 14 `metadata_props`, of
    StringStringEntryProto with the key in field 1 and the value in field 2.
"""

from __future__ import annotations

from collections.abc import Iterator

from manylabel.errors import BundleError, build_message

_METADATA_FIELD = 14
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


def set_metadata(model: bytes, key: str, value: str) -> bytes:
    """Return an ONNX file whose metadata have this value for this key; the rest stays as it is, byte for byte.

    Raises:
        BundleError: the bytes are no such file.

    Example:
        >>> set_metadata(b"", "k", "v").hex()
        '72060a016b120176'
    """
    entry = _write_bytes(1, key.encode()) + _write_bytes(2, value.encode())
    kept = [model[start:end] for start, end in _find_fields(model) if not _is_entry(model[start:end], key)]
    return b"".join([*kept, _write_bytes(_METADATA_FIELD, entry)])


def _is_entry(field: bytes, key: str) -> bool:
    """Return whether a field holds the metadata of a key."""
    tag, start = _read_varint(field, 0)
    if tag != _METADATA_FIELD << 3 | _BYTES:
        return False
    _, start = _read_varint(field, start)
    entry = field[start:]
    return any(entry[begin:end] == _write_bytes(1, key.encode()) for begin, end in _find_fields(entry))


def _find_fields(message: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each field of a message starts and ends."""
    start = 0
    while start < len(message):
        tag, end = _read_varint(message, start)
        kind = tag & 7
        if kind == _VARINT:
            _, end = _read_varint(message, end)
        elif kind == _BYTES:
            size, end = _read_varint(message, end)
            end += size
        elif kind in (_FIXED_64, _FIXED_32):
            end += 8 if kind == _FIXED_64 else 4
        else:
            raise _explain()
        if end > len(message):
            raise _explain()
        yield start, end
        start = end


def _read_varint(message: bytes, start: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, the lowest first, and where it ends."""
    number, shift = 0, 0
    while start < len(message) and shift < 64:
        number |= (message[start] & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if not message[start - 1] & 0x80:
            return number, start
    raise _explain()


def _write_varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


def _write_bytes(field: int, value: bytes) -> bytes:
    return _write_varint(field << 3 | _BYTES) + _write_varint(len(value)) + value


def _explain() -> BundleError:
    return BundleError(build_message("model.onnx", "not an ONNX file", do="Export the model again"))
