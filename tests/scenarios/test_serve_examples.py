"""The examples for a container, Kubernetes and systemd, without any of them: what they say, tried on the server."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.inference.conftest import write_bundle
from tests.server.conftest import RED, TOKEN
from tests.test_docs import find_command_faults

from manylabel.cli.main import app
from manylabel.server.run import DRAIN_SECONDS, HANDSHAKE_SECONDS, LAST_WORDS_SECONDS, NOTICE_SECONDS

pytestmark = [pytest.mark.scenario, pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "serve"
STOP_SECONDS = NOTICE_SECONDS + HANDSHAKE_SECONDS + LAST_WORDS_SECONDS + DRAIN_SECONDS
"""The longest that a stop may take by the server's own word."""


def read_dockerfile() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile: word and rest, continued lines joined."""
    lines = [line for line in (EXAMPLES / "Dockerfile").read_text("utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def find_instruction(word: str) -> str:
    """Return what stands behind the last instruction of a kind: that of the image that is run."""
    return [rest for found, rest in read_dockerfile() if found == word][-1]


ENTRYPOINT: list[str] = json.loads(find_instruction("ENTRYPOINT"))
HEALTHCHECK: list[str] = json.loads(find_instruction("HEALTHCHECK").partition("CMD")[2])
PORT = ENTRYPOINT[ENTRYPOINT.index("--port") + 1]


def read_manifests() -> dict[str, Any]:
    """Return the documents of kubernetes.yaml by kind."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return {each["kind"]: each for each in yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text("utf-8"))}


@pytest.fixture
def pod() -> dict[str, Any]:
    return dict(read_manifests()["Deployment"]["spec"]["template"]["spec"])


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    return dict(container)


def read_unit() -> dict[str, str]:
    """Return the settings of the service's section."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their capitals
    parser.read(EXAMPLES / "manylabel.service", "utf-8")
    return dict(parser["Service"])


# ---------------------------------------------------------------------------------------------------------------------
# What the files say.
# ---------------------------------------------------------------------------------------------------------------------


def test_what_the_recipe_copies_and_installs_exists() -> None:
    copies = [rest.split() for word, rest in read_dockerfile() if word == "COPY" and "--from" not in rest]
    sources = [source for words in copies for source in words[:-1]]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert {"pyproject.toml", "src", "constraints.txt"} <= set(sources)
    installs = [rest for word, rest in read_dockerfile() if word == "RUN" and "pip install" in rest]
    extras = [extra for rest in installs for extra in re.findall(r'"\.\[(\w+)\]"', rest)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert extras == ["serve"]
    assert "serve" in project["optional-dependencies"]


def test_every_flag_of_the_examples_exists(container: dict[str, Any]) -> None:
    assert ENTRYPOINT[0] == "manylabel"
    assert find_command_faults((*ENTRYPOINT[1:], *container["args"]), app) == []
    program, *words = shlex.split(read_unit()["ExecStart"])
    assert Path(program).name == "manylabel"
    assert find_command_faults(tuple(words), app) == []


def test_everybody_speaks_of_one_port_one_user_and_one_place(pod: dict[str, Any], container: dict[str, Any]) -> None:
    service = read_manifests()["Service"]["spec"]
    probes = [container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    ports = [find_instruction("EXPOSE"), container["ports"][0]["containerPort"], service["ports"][0]["targetPort"]]
    ports += [probe["port"] for probe in probes]
    ports += re.findall(r"127\.0\.0\.1:(\d+)", HEALTHCHECK[-1])
    assert {str(port) for port in ports} == {PORT}
    assert {int(find_instruction("USER")), pod["securityContext"]["runAsUser"]} == {10001}
    assert ENTRYPOINT[2] in [mount["mountPath"] for mount in container["volumeMounts"]]
    labels = read_manifests()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()


def test_all_wait_longer_for_a_stop_than_it_may_take(pod: dict[str, Any]) -> None:
    unit = read_unit()
    assert pod["terminationGracePeriodSeconds"] > STOP_SECONDS
    assert int(unit["TimeoutStopSec"]) > STOP_SECONDS
    assert unit["KillMode"] == "mixed"  # the first signal is for the server alone, not for its decoders
    assert find_instruction("STOPSIGNAL") == "SIGTERM"


def test_the_unit_loads_a_model_again_with_the_signal_that_does() -> None:
    shell, flag, script = shlex.split(read_unit()["ExecReload"])
    # Where this runs under nohup, children ignore the signal unless they are told not to.
    waiting = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    try:
        subprocess.run([shell, flag, script.replace("$MAINPID", str(waiting.pid))], check=True)
        assert waiting.wait(10) == -signal.SIGHUP
    finally:
        waiting.kill()


# ---------------------------------------------------------------------------------------------------------------------
# What the server does with it.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("model") / "bundle")


def find_free_port() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return str(taken.getsockname()[1])


def build_environment(**more: str) -> dict[str, str]:
    """Return the environment of the image's last stage, its paths left out, and what a caller adds."""
    words = [word for word in find_instruction("ENV").split() if not word.startswith("PATH=")]
    return {"PATH": os.environ["PATH"], **dict(word.split("=", 1) for word in words), **more}


@contextlib.contextmanager
def run_container(model: Path, arguments: list[str], port: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run what the container runs, on another port and with the model where it is."""
    words = [str(model) if word == "/model" else port if word == PORT else word for word in ENTRYPOINT[1:]]
    command = [sys.executable, "-m", "manylabel", *words, *arguments]
    server = subprocess.Popen(command, env=build_environment(MANYLABEL_TOKEN=TOKEN), stderr=subprocess.DEVNULL)
    try:
        yield server
    finally:
        server.kill()
        server.wait()


def ask(port: str, path: str, host: str, token: str | None = None, body: bytes | None = None) -> int:
    headers = {"Host": host, "Content-Type": "image/png"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def check_health(port: str) -> int:
    """Run the health check of the image; return its exit code."""
    assert HEALTHCHECK[0] == "python"
    words = [word.replace(f":{PORT}/", f":{port}/") for word in HEALTHCHECK[1:]]
    return subprocess.run([sys.executable, *words], env=build_environment(), stderr=subprocess.DEVNULL).returncode


def test_the_container_is_healthy_answers_its_probes_and_callers_and_stops_clean(
    model: Path, pod: dict[str, Any], container: dict[str, Any]
) -> None:
    port = find_free_port()
    with run_container(model, container["args"], port) as server:
        startup = container["startupProbe"]
        until = time.monotonic() + startup["periodSeconds"] * startup["failureThreshold"]
        while check_health(port) != 0:
            assert time.monotonic() < until, "the pod would be started again before it is ready"
            assert server.poll() is None
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container[name]["httpGet"]
            (header,) = probe["httpHeaders"]
            assert header["name"] == "Host"
            assert ask(port, probe["path"], header["value"].replace(PORT, port)) == 200, name
        name = read_manifests()["Service"]["metadata"]["name"]
        assert ask(port, "/predict", f"{name}:{PORT}", TOKEN, RED) == 200
        assert ask(port, "/predict", f"{name}:{PORT}", None, RED) == 401
        assert ask(port, "/predict", f"10.0.0.7:{PORT}", TOKEN, RED) == 421
        server.send_signal(signal.SIGTERM)
        until = time.monotonic() + 10
        while check_health(port) == 0:
            assert time.monotonic() < until, "it said that it was ready although it stopped"
        assert server.wait(pod["terminationGracePeriodSeconds"]) == 0


def test_the_container_does_not_start_without_a_token(model: Path) -> None:
    words = [str(model) if word == "/model" else word for word in ENTRYPOINT[1:]]
    done = subprocess.run(
        [sys.executable, "-m", "manylabel", *words],
        env=build_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "MANYLABEL_TOKEN" in done.stderr


def test_the_secret_of_the_token_is_named_and_not_written(container: dict[str, Any]) -> None:
    (variable,) = container["env"]
    assert variable["name"] == "MANYLABEL_TOKEN"
    assert set(variable) == {"name", "valueFrom"}
    for path in EXAMPLES.iterdir():
        assert re.findall(r"TOKEN[=:]\s*[\w-]{8,}", path.read_text("utf-8")) == [], path.name
