"""An ONNX file, read without any library: its metadata, and whether it needs other files.

An ONNX file is a Protocol Buffers message: fields one after the other, each a tag and a value. Fields that are not
asked for are walked past, and copied as they are.

Source: Protocol Buffers, "Encoding" (tags, varints, wire types); onnx.proto3 with the numbers of its fields: ModelProto
    (graph 7, metadata_props 14 with key 1 and value 2, training_info 20, functions 25), GraphProto (node 1,
    initializer 5, sparse_initializer 15), NodeProto (attribute 5), AttributeProto (t 5, g 6, tensors 10, graphs 11,
    sparse_tensor 22, sparse_tensors 23), TensorProto (external_data 13), FunctionProto (node 7), TrainingInfoProto
    (graphs 1 and 2).
"""

from __future__ import annotations

from collections.abc import Iterator

from manylabel.errors import BundleError, build_message

Buffer = bytes | memoryview

METADATA_KEY = "manylabel"
"""Under which an ONNX file holds what answering needs beside the network."""

_METADATA_FIELD = 14
_LARGEST_TAG = 2**32 - 1
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


def get_metadata(model: Buffer, key: str) -> str | None:
    """Return the value that an ONNX file holds for a key of its metadata; None where it has none.

    Raises:
        BundleError: the bytes are no such file.

    Example:
        >>> get_metadata(set_metadata(b"", "k", "v"), "k")
        'v'
    """
    for entry in _find_messages(model, _METADATA_FIELD):
        values = {number: bytes(value) for number, value in _find_values(entry)}
        if values.get(1) == key.encode():
            return values.get(2, b"").decode("utf-8", "replace")
    return None


def needs_other_files(model: Buffer) -> bool:
    """Return whether tensors of an ONNX file stand in files beside it, whose paths it may choose.

    Raises:
        BundleError: the bytes are no such file.
    """
    for number, value in _find_values(model):
        if number == 7 and _is_graph_external(value):
            return True
        if number == 25 and any(_is_node_external(node) for node in _find_messages(value, 7)):
            return True
        if number == 20 and any(_is_graph_external(part) for kind, part in _find_values(value) if kind in (1, 2)):
            return True
    return False


def _is_graph_external(graph: Buffer) -> bool:
    for number, value in _find_values(graph):
        if number == 5 and _is_tensor_external(value):
            return True
        if number == 15 and _is_sparse_external(value):
            return True
        if number == 1 and _is_node_external(value):
            return True
    return False


def _is_node_external(node: Buffer) -> bool:
    return any(_is_attribute_external(part) for part in _find_messages(node, 5))


def _is_sparse_external(tensor: Buffer) -> bool:
    return any(_is_tensor_external(part) for _, part in _find_values(tensor))


def _is_attribute_external(attribute: Buffer) -> bool:
    for number, value in _find_values(attribute):
        if number in (5, 10) and _is_tensor_external(value):
            return True
        if number in (6, 11) and _is_graph_external(value):
            return True
        if number in (22, 23) and _is_sparse_external(value):
            return True
    return False


def _is_tensor_external(tensor: Buffer) -> bool:
    return any(True for _ in _find_messages(tensor, 13))


def _find_messages(message: Buffer, wanted: int) -> Iterator[Buffer]:
    return (value for number, value in _find_values(message) if number == wanted)


def _find_values(message: Buffer) -> Iterator[tuple[int, Buffer]]:
    """Yield number and value of each field that holds bytes."""
    for start, end in _find_fields(message):
        tag, begin = _read_varint(message, start)
        if tag & 7 == _BYTES:
            _, begin = _read_varint(message, begin)
            yield tag >> 3, message[begin:end]


def _is_entry(field: bytes, key: str) -> bool:
    """Return whether a field holds the metadata of a key."""
    tag, start = _read_varint(field, 0)
    if tag != _METADATA_FIELD << 3 | _BYTES:
        return False
    _, start = _read_varint(field, start)
    entry = field[start:]
    return any(entry[begin:end] == _write_bytes(1, key.encode()) for begin, end in _find_fields(entry))


def _find_fields(message: Buffer) -> Iterator[tuple[int, int]]:
    """Yield where each field of a message starts and ends."""
    start = 0
    while start < len(message):
        tag, end = _read_varint(message, start)
        if not 8 <= tag <= _LARGEST_TAG:  # other readers cut what is larger, and would see another field
            raise _explain()
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


def _read_varint(message: Buffer, start: int) -> tuple[int, int]:
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
