"""Nothing leaves the machine: commands in a network without a way out, and no try to connect or to look up a name.

Every Python that a test starts reports such a try through an audit hook of its own. Where the system lets an ordinary
user have an empty network (Linux, `unshare`), the commands run in one, so that a library in C reaches nothing either.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.inference.conftest import write_bundle
from tests.scenarios.test_commands import TRAIN_FLAGS

from manylabel.data.demo import write_demo

pytestmark = [pytest.mark.scenario, pytest.mark.skipif(os.name == "nt", reason="processes of POSIX")]

HOOK = """
import os, sys

def report(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[:1]
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            with open(os.environ["TRIES"], "a") as file:
                file.write(f"{event} {address} by {sys.argv}\\n")

sys.addaudithook(report)
"""

IMPORT_ALL = """
import importlib, pkgutil, manylabel
for module in pkgutil.walk_packages(manylabel.__path__, "manylabel."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
[getattr(manylabel, name) for name in manylabel.__all__]
"""

ASK_SERVER = """
import re, signal, subprocess, sys, urllib.request
command = [sys.executable, "-m", "manylabel", "serve", sys.argv[1], "--port", "0"]
server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
try:
    port = next(found[1] for line in server.stderr if (found := re.search(r"Ready: http://127.0.0.1:(\\d+)/", line)))
    body = open(sys.argv[2], "rb").read()
    for path, data in (("readyz", None), ("", None), ("docs", None), ("predict", body), ("explain?label=red", body)):
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", data, {"Content-Type": "image/png"})
        assert urllib.request.urlopen(asked, timeout=30).status == 200
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
finally:
    server.kill()
"""


def find_empty_network() -> list[str]:
    """Return the words that start a command in a network of its own with loopback alone, or none."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return []
    words = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    done = subprocess.run([*words, "true"], capture_output=True, check=False)
    return words if done.returncode == 0 else []


EMPTY_NETWORK = find_empty_network()


@pytest.fixture
def tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every Python that is started from here has an empty home, and writes its tries to connect into this file."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    monkeypatch.setenv("TRIES", str(tmp_path / "tries.txt"))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "ORT_DISABLE_TELEMETRY"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "tries.txt").touch()
    return tmp_path / "tries.txt"


def call(*words: str | Path, exit_codes: tuple[int, ...] = (0,)) -> str:
    """Run Python in the empty network and return what it printed."""
    command = [*EMPTY_NETWORK, sys.executable, *map(str, words)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=300)
    assert done.returncode in exit_codes, done.stderr
    return done.stdout


def test_a_try_would_be_seen(tries: Path) -> None:
    call("-c", "import socket\ntry: socket.create_connection(('192.0.2.1', 80), 0.1)\nexcept OSError: pass")
    assert "socket.connect ('192.0.2.1', 80)" in tries.read_text("utf-8")


def test_importing_every_module_asks_nobody(tries: Path) -> None:
    call("-c", IMPORT_ALL)
    assert tries.read_text("utf-8") == ""


def test_commands_ask_nobody(tries: Path, tmp_path: Path) -> None:
    table = write_demo(tmp_path / "data", num_images={"train": 60, "val": 20, "test": 20})
    run, image = tmp_path / "run", next((tmp_path / "data").rglob("*.png"))
    command = ("-m", "manylabel")
    page = tmp_path / "inspection.html"
    call(
        *command, "inspect", table, "--images", table.parent, "--html", page, exit_codes=(0, 1)
    )  # 1: it found something
    call(*command, "train", table, "--images", table.parent, "--out", run, *TRAIN_FLAGS)
    assert image.name in call(*command, "predict", run, image)
    call(*command, "evaluate", run, table, "--images", table.parent, "--out", tmp_path / "judged")
    call(*command, "tune", run, table, "--images", table.parent, "--out", tmp_path / "tuned")
    call(*command, "explain", run, image, "--out", tmp_path / "why.png")
    call(*command, "export", run, tmp_path / "model.onnx")
    assert tries.read_text("utf-8") == ""


def test_a_server_asks_nobody(tries: Path, tmp_path: Path) -> None:
    Image.new("RGB", (20, 12), (255, 0, 0)).save(tmp_path / "red.png")
    call("-c", ASK_SERVER, write_bundle(tmp_path / "bundle"), tmp_path / "red.png")
    assert tries.read_text("utf-8") == ""


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_asks_nobody_and_keeps_no_number_of_the_user(tries: Path, tmp_path: Path, engine: str) -> None:
    # Left alone, ONNX Runtime reports to Microsoft and OpenVINO to Google Analytics, each with a number in the home.
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    Image.new("RGB", (20, 12), (255, 0, 0)).save(tmp_path / "red.png")
    bundle = write_bundle(tmp_path / "bundle")
    assert "red.png: red " in call("-m", "manylabel", "predict", bundle, tmp_path / "red.png", "--engine", engine)
    assert tries.read_text("utf-8") == ""
    assert list((tmp_path / "home").rglob("*")) == []


def test_onnxruntime_is_silent_before_it_is_loaded(tries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = "ORT_DISABLE_TELEMETRY"
    monkeypatch.delenv(variable, raising=False)
    program = f"import os, manylabel, sys; print(os.environ['{variable}'], 'onnxruntime' in sys.modules)"
    assert call("-c", program).split() == ["1", "False"]
    monkeypatch.setenv(variable, "0")
    assert call("-c", program).split() == ["0", "False"]
    assert tries.read_text("utf-8") == ""


def test_where_an_empty_network_can_be_had_it_is_empty() -> None:
    if not EMPTY_NETWORK:
        pytest.skip("this system gives nobody a network of its own")
    seen = call("-c", "import socket; print(*[name for _, name in socket.if_nameindex()])").split()
    assert seen == ["lo"]
