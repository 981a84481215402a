"""A headless Chromium that tests drive over a pipe, without a driver's package and without a port."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The browser of this machine, or None."""

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip


class Page:
    """One tab: what it is told, and what it complained about."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._received = b""
        self._number = 0
        self._session = ""
        self.complaints: list[str] = []

    def open(self, url: str, width: int = 1100, height: int = 900, is_dark: bool = False) -> None:
        """Open an address in a tab of this size and wait until it is loaded."""
        if not self._session:
            target = self.tell("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for part in ("Page", "Runtime", "Log", "DOM"):
                self.tell(f"{part}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])
        self.resize(width, height)
        self.tell("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def resize(self, width: int, height: int) -> None:
        """Give the tab another size; below 600 pixels it is a phone."""
        is_phone = width < 600
        scale = 2 if is_phone else 1
        self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=is_phone
        )

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        done = self.tell("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise AssertionError(f"{script}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def wait_for(self, script: str, seconds: float = 30) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < until, f"{script} did not become true: {self.run('document.body.innerText')}"
            time.sleep(0.05)

    def choose_files(self, selector: str, paths: list[Path]) -> None:
        """Choose files in an input as a person does in the dialogue."""
        root = self.tell("DOM.getDocument")["root"]["nodeId"]
        node = self.tell("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.tell("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def press(self, key: str, times: int = 1) -> None:
        """Press a key such as Tab, Enter or ArrowRight, and wait until the page has done what that asks for."""
        codes = {"Tab": 9, "Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35, " ": 32}
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                given = {"text": text} if text and kind == "keyDown" else {}
                self.tell("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=codes[key], **given)
        self.wait_for("!document.querySelector('[aria-busy=true]')")

    def save_picture(self, path: Path) -> None:
        """Write what the tab shows as a PNG."""
        path.write_bytes(base64.b64decode(self.tell("Page.captureScreenshot", format="png")["data"]))

    def tell(self, method: str, **given: Any) -> dict[str, Any]:
        """Send one command and return its result; what the page complains about meanwhile is kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": given}
        if self._session and not method.startswith("Target."):
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            if answer.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
                self.complaints.append(json.dumps(answer["params"]))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            block = os.read(self._from, 1 << 20)
            assert block, "the browser has gone"
            self._received += block
        text, _, self._received = self._received.partition(b"\0")
        return dict(json.loads(text))


@contextmanager
def open_browser(folder: Path) -> Iterator[Page]:
    """Start a browser whose profile stands in a folder, and end it afterwards."""
    assert PROGRAM is not None
    read_theirs, write_ours = os.pipe()
    read_ours, write_theirs = os.pipe()
    script = f'exec "$0" "$@" 3<&{read_theirs} 4>&{write_theirs}'
    command = ["bash", "-c", script, PROGRAM, *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(
        command,
        pass_fds=(read_theirs, write_theirs),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(read_theirs)
    os.close(write_theirs)
    try:
        yield Page(write_ours, read_ours)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(write_ours)
        os.close(read_ours)
