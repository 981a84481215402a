"""A server in this process over a model whose answers can be worked by hand, and the bytes of images for it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from starlette.testclient import TestClient
from tests.inference.conftest import write_bundle

from manylabel.bundle.bundle import Bundle, hash_file, load_bundle
from manylabel.bundle.tuned import write_manifest
from manylabel.server import app
from manylabel.server.app import Service, build_app
from manylabel.server.counters import Counters
from manylabel.server.model import ModelPlace
from manylabel.server.settings import ServerSettings

TOKEN = "a-secret-of-enough-letters-1"
ADDRESS = "http://127.0.0.1:8000"


def encode(colour: tuple[int, int, int], size: tuple[int, int] = (20, 12), kind: str = "PNG") -> bytes:
    """Return the file of an image of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


RED, CYAN, BLACK = encode((255, 0, 0)), encode((0, 255, 255)), encode((0, 0, 0))


@pytest.fixture(autouse=True)
def linger_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of tests take their answer at once."""
    monkeypatch.setattr(app, "_LINGER_SECONDS", 0.05)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("served") / "bundle")


def write_turned_bundle(folder: Path) -> Path:
    """Write a bundle of the same shapes with other labels, whose network gives its answers in another order.

    The labels of one of both with the network of the other would call red something else.
    """
    bundle = load_bundle(write_bundle(folder, names=("vert", "bleu", "rouge"), thresholds=(0.25, 0.75, 0.5)))
    network = onnx.load(bundle.onnx_path)
    (weights,) = (tensor for tensor in network.graph.initializer if tensor.name == "weights")
    turned_CL = np.roll(onnx.numpy_helper.to_array(weights), -1, axis=1)
    weights.CopyFrom(onnx.numpy_helper.from_array(turned_CL, "weights"))
    onnx.save(network, bundle.onnx_path)
    write_own_manifest(bundle)
    return folder


def write_own_manifest(bundle: Bundle) -> None:
    """Let the manifest of a bundle describe the network that lies beside it."""
    manifest = replace(bundle.manifest, files={"model.onnx": hash_file(bundle.onnx_path)})
    (bundle.folder / "manifest.json").write_text(write_manifest(manifest), "utf-8")


def build_service(folder: Path, **settings: Any) -> Service:
    """Return a service with one worker that is not started."""
    counters = Counters()
    return Service(ModelPlace(str(folder), counters), ServerSettings(**{"num_workers": 1, **settings}), counters)


def connect(service: Service, **more: Any) -> TestClient:
    """Return a client that asks as a program on this machine does; entering it starts the service."""
    return TestClient(build_app(service), base_url=ADDRESS, raise_server_exceptions=False, **more)


@pytest.fixture(scope="session")
def service(model_folder: Path) -> Service:
    """The service that most tests share: starting its decoder takes a third of a second."""
    return build_service(model_folder)


@pytest.fixture(scope="session")
def client(service: Service) -> Iterator[TestClient]:
    with connect(service) as client:
        yield client


@pytest.fixture
def ask(client: TestClient) -> Callable[..., Any]:
    """Post a raw image."""

    def post(data: bytes, content_type: str = "image/png", query: str = "") -> Any:
        return client.post(f"/predict{query}", content=data, headers={"Content-Type": content_type})

    return post
