"""The child process that decodes: bytes of an image in, its pixels at the model's size out, one at a time.

Started by `decoding.DecoderPool` with pipes. A frame is two lengths, a head in JSON and a body; see `read_frame`. It
ends when its parent closes the pipe, also by dying, and is killed by the system where one image takes more processor
time or memory than it may.
"""

from __future__ import annotations

import contextlib
import json
import signal
import struct
import sys
from typing import BinaryIO

import numpy as np

from manylabel.data.images import ImageError, load_image
from manylabel.data.preprocess import Preprocess

FRAME = struct.Struct("<II")
"""The lengths of head and body, in front of both."""

MEMORY_BYTES = 1 << 30
"""How much address space decoding may take beyond what the process has when it starts."""

CPU_SECONDS = 5
"""How much processor time one image may take, rounded up to the next second."""

_PIPE_BYTES = 1 << 20


def main() -> None:
    """Answer frames until there are none."""
    _ignore_signals()
    _limit_memory()
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    for stream in (stdin, stdout):
        _widen_pipe(stream)
    sys.stdout = sys.stderr  # whatever prints must not come between frames
    last, preprocess = "", None
    write_frame(stdout, b"{}", b"")
    while (frame := read_frame(stdin)) is not None:
        _limit_seconds()
        head, data = json.loads(frame[0]), frame[1]
        if preprocess is None or head["preprocess"] != last:
            last, preprocess = head["preprocess"], Preprocess.from_dict(json.loads(head["preprocess"]))
        try:
            pixels_HWC = decode(data, head["name"], preprocess)
        except ImageError as error:
            write_frame(stdout, json.dumps({"kind": error.kind, "message": str(error)}).encode(), b"")
        else:
            write_frame(stdout, b"{}", pixels_HWC)


def decode(data: bytes, name: str, preprocess: Preprocess) -> bytes:
    """Return the RGB bytes of the image at the model's size.

    Raises:
        ImageError: as `load_image`.
    """
    image = load_image(data, name=name, min_size_px=(preprocess.width_px, preprocess.height_px))
    return np.asarray(preprocess.resize_image(image)).tobytes()


def read_frame(stream: BinaryIO) -> tuple[bytes, bytes] | None:
    """Return head and body of the next frame, or None where the stream has ended."""
    lengths = stream.read(FRAME.size)
    if len(lengths) < FRAME.size:
        return None
    head_length, body_length = FRAME.unpack(lengths)
    head, body = stream.read(head_length), stream.read(body_length)
    return (head, body) if len(body) == body_length else None


def write_frame(stream: BinaryIO, head: bytes, body: bytes) -> None:
    """Write one frame and send it off; a parent that has gone ends this process."""
    try:
        stream.write(FRAME.pack(len(head), len(body)) + head + body)
        stream.flush()
    except BrokenPipeError:
        raise SystemExit(0) from None


def _ignore_signals() -> None:
    """The parent says when to end: a Ctrl-C in a terminal and a stop of a service reach its children too."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # no such limits on this system
        import resource

        with open("/proc/self/statm") as file:  # noqa: PTH123
            num_bytes = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (num_bytes + MEMORY_BYTES, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_seconds() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime) + 1 + CPU_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def _widen_pipe(stream: BinaryIO) -> None:
    """Let a whole image through at once where the system can."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


if __name__ == "__main__":
    main()
