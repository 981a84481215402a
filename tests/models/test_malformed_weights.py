"""Files of weights that somebody has bent: each is one sentence, at once, and nothing of it is loaded."""

from __future__ import annotations

import json
import pickle
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manylabel.errors import ConfigError
from manylabel.models.backbones import build_backbone

NAME = "conv1.weight"


def pack(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a file of the format: the length of the header, the header, the numbers."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def describe(shape: Any = (2,), offsets: Any = (0, 8), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


NUMBERS = np.ones(4, np.float32).tobytes()

MALFORMED = {
    "empty": b"",
    "shorter than a length": b"\x07\0\0",
    "a length and nothing else": struct.pack("<Q", 16),
    "a header longer than the file": pack({}, length=10_000),
    "a header longer than any file": pack({}, length=2**63),
    "a header of no length": pack(b"", NUMBERS),
    "a header that is no text": pack(b"\xff\xfe{}"),
    "a header that is no JSON": pack(b"{'a': 1}"),
    "a header that is a list": pack([]),
    "a header that is cut": pack(b'{"a": {"dtype": "F32"'),
    "no type": pack({NAME: {"shape": [2], "data_offsets": [0, 8]}}, NUMBERS[:8]),
    "a type that does not exist": pack({NAME: describe(dtype="F33")}, NUMBERS[:8]),
    "no shape": pack({NAME: {"dtype": "F32", "data_offsets": [0, 8]}}, NUMBERS[:8]),
    "a shape that is text": pack({NAME: describe(shape="2")}, NUMBERS[:8]),
    "a shape below nothing": pack({NAME: describe(shape=(-2,))}, NUMBERS[:8]),
    "a shape larger than memory": pack({NAME: describe(shape=(2**62, 2**62))}, NUMBERS[:8]),
    "a shape that does not fit its numbers": pack({NAME: describe(shape=(3,))}, NUMBERS[:8]),
    "numbers beyond the end": pack({NAME: describe(offsets=(0, 8))}, NUMBERS[:4]),
    "numbers that end before they begin": pack({NAME: describe(offsets=(8, 0))}, NUMBERS[:8]),
    "numbers before the file": pack({NAME: describe(offsets=(-8, 0))}, NUMBERS[:8]),
    "offsets that are no whole numbers": pack({NAME: describe(offsets=(0.5, 8.5))}, NUMBERS),
    "two tensors on the same numbers": pack({"a": describe(), "b": describe()}, NUMBERS[:8]),
    "a hole between two tensors": pack({"a": describe(), "b": describe(offsets=(12, 20))}, bytes(20)),
    "numbers that belong to nothing": pack({NAME: describe()}, NUMBERS),
    "metadata that are no text": pack({"__metadata__": {"a": 1}, NAME: describe()}, NUMBERS[:8]),
    "a pickle": pickle.dumps({NAME: [1.0]}),
    "a zip file as torch writes it": b"PK\x03\x04" + bytes(60),
}


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in MALFORMED.items()])
def test_a_malformed_file_of_weights_is_one_sentence_at_once(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    started = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        build_backbone("test_resnet", str(path))
    assert time.monotonic() - started < 5  # it hangs on nothing; loading is a matter of milliseconds
    told = str(caught.value)
    assert told.startswith(f"weights: {path} is not a safetensors file (")
    assert "\n" not in told


def test_the_same_name_twice_is_refused_or_the_shape_is_wrong(tmp_path: Path) -> None:
    # JSON lets a name stand twice; whichever the library takes, the other's numbers then belong to nothing.
    text = f'{{"{NAME}": {json.dumps(describe())}, "{NAME}": {json.dumps(describe(offsets=(8, 16)))}}}'
    path = tmp_path / "weights.safetensors"
    path.write_bytes(pack(text.encode(), NUMBERS))
    with pytest.raises(ConfigError):
        build_backbone("test_resnet", str(path))
