"""A headless Chromium driven over a pipe: opens a page, evaluates an expression in it, takes pictures of it."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_CONNECT = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
"""A program that becomes another one, with its pipes where that expects them."""


def find_browser() -> str | None:
    """Return the path of an installed Chromium, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab; `problems` collects what the page complained of: errors, and what its own rules forbade."""

    def __init__(self, program: str, width_px: int = 1280, height_px: int = 900) -> None:
        self._program, self._size = program, (width_px, height_px)
        self._number = 0
        self._rest = b""
        self.problems: list[str] = []

    def __enter__(self) -> Browser:
        self._folder = tempfile.TemporaryDirectory()
        (child_reads, self._writes), (self._reads, child_writes) = os.pipe(), os.pipe()
        # Chromium reads from 3 and writes to 4; both ends are first moved out of the way of those numbers.
        moved = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (child_reads, child_writes)]
        command = [self._program, *_FLAGS, f"--user-data-dir={self._folder.name}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CONNECT, *map(str, moved), *command],
            pass_fds=moved,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (child_reads, child_writes, *moved):
            os.close(end)
        self._session: dict[str, str] = {}
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        self.resize(*self._size)
        return self

    def __exit__(self, *_: object) -> None:
        self._session = {}
        self._call("Browser.close")
        self._process.wait()
        os.close(self._reads)
        os.close(self._writes)
        self._folder.cleanup()

    def resize(self, width_px: int, height_px: int) -> None:
        """Set the size of the window."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width_px,
            height=height_px,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, scheme: str, media: str = "") -> None:
        """Say what the reader prefers, `light` or `dark`, and show the page as on `print` if wanted."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", media=media, features=features)

    def forbid_scripts(self) -> None:
        """Open pages from now on as a reader without JavaScript sees them."""
        self._call("Emulation.setScriptExecutionDisabled", value=True)

    def open(self, page: Path) -> None:
        """Load a file and wait until it has loaded."""
        self._call("Page.navigate", url=page.resolve().as_uri())
        self._wait_for("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        answer = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def take_picture(self, path: Path, top_px: int, height_px: int, width_px: int) -> None:
        """Write a part of the page as PNG."""
        clip = {"x": 0, "y": top_px, "width": width_px, "height": height_px, "scale": 1}
        answer = self._call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def print_pdf(self, path: Path) -> None:
        """Write the page as it prints."""
        path.write_bytes(base64.b64decode(self._call("Page.printToPDF", printBackground=True)["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _wait_for(self, event: str) -> None:
        while self._read().get("method") != event:
            pass

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            got = os.read(self._reads, 1 << 20)
            if not got:
                raise RuntimeError("the browser has ended")
            self._rest += got
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        facts = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(facts["exceptionDetails"].get("exception", facts["exceptionDetails"])))
        elif message.get("method") == "Log.entryAdded" and facts["entry"]["level"] == "error":
            self.problems.append(facts["entry"]["text"])
        return message
