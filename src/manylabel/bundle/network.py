"""Network: the bytes of an ONNX file, read once, so that what was checked is what answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from manylabel.bundle.onnx_file import needs_other_files
from manylabel.errors import BundleError, build_message

MAX_BYTES = 2**31 - 1
"""No Protocol Buffers message, and so no ONNX file without files beside it, is larger."""


@dataclass(frozen=True)
class Network:
    """An ONNX file as it was when it was read: another one in its place changes nothing any more."""

    path: Path
    content: bytes = field(repr=False)

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the bytes in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


def read_network(path: Path) -> Network:
    """Read an ONNX file.

    It is not mapped: a file that somebody shortens meanwhile would end the process.

    Raises:
        BundleError: it is missing, or larger than such a file can be.
    """
    try:
        num_bytes = path.stat().st_size
        if num_bytes > MAX_BYTES:
            problem = "the file is larger than an ONNX file can be"
            raise BundleError(
                build_message(
                    path,
                    problem,
                    got=f"{num_bytes:,} bytes",
                    expected=f"{MAX_BYTES:,} at most",
                    do="Export the model again",
                )
            )
        return Network(path, path.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(build_message(path, "the file is missing", do="Copy the whole bundle folder")) from error


def check_is_whole(network: Network) -> None:
    """Stop where a network wants other files, which nothing vouches for.

    Raises:
        BundleError: it does, or is no ONNX file.
    """
    path = network.path
    try:
        wants_files = needs_other_files(memoryview(network.content))
    except BundleError as error:
        raise BundleError(build_message(path, "not an ONNX file", do="Export the model again")) from error
    except RecursionError as error:
        problem = "graphs stand in graphs, too deep to be a network"
        raise BundleError(build_message(path, problem, do="Export the model again")) from error
    if wants_files:
        problem = "the network wants files beside it, whose paths it chooses itself"
        raise BundleError(
            build_message(path, problem, expected="one file with all weights", do="Export the model again")
        )
