"""Bundle: a folder with `manifest.json`, `model.onnx`, `model.safetensors` and a model card."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from manylabel.bundle.manifest import Manifest
from manylabel.bundle.network import Network, check_is_whole, read_network
from manylabel.bundle.onnx_file import METADATA_KEY, get_metadata
from manylabel.errors import BundleError, build_message

MANIFEST_NAME = "manifest.json"
ONNX_NAME = "model.onnx"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"


@dataclass(frozen=True)
class Bundle:
    """A model that is ready to answer: where its files are and what its manifest says."""

    folder: Path
    manifest: Manifest
    onnx_name: str = ONNX_NAME

    @property
    def onnx_path(self) -> Path:
        """The network, from normalised images [B, 3, H, W] to probabilities [B, L]."""
        return self.folder / self.onnx_name

    @property
    def weights_path(self) -> Path:
        """The same weights for torch."""
        return self.folder / WEIGHTS_NAME

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that stand in every prediction of this model."""
        return self.manifest.digest

    def read_network(self) -> Network:
        """Read the network that the manifest describes: its labels never go with another one's answers.

        Raises:
            BundleError: it is missing, or was replaced since the manifest was read.
        """
        network = read_network(self.onnx_path)
        if network.sha256 != self.manifest.files.get(ONNX_NAME):
            problem = "the network was replaced after the manifest was read"
            raise BundleError(build_message(self.onnx_path, problem, do="Load the model again"))
        return network


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle, the bundle of a run folder, or an ONNX file of ours, which holds all that answering needs.

    The network of a bundle is checked against the manifest's digest.

    Raises:
        BundleError: there is no bundle, a file is missing or was changed, it is of a newer kind, or its network wants
            files beside it.
    """
    if str(path).lower().endswith(".onnx") and os.path.isfile(path):  # noqa: PTH113
        return _load_onnx_file(Path(path))
    folder = find_bundle_folder(Path(path))
    manifest_path = folder / MANIFEST_NAME
    try:
        values = json.loads(manifest_path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(build_message(manifest_path, f"not JSON ({error})", do="Export the model again")) from error
    if not isinstance(values, dict):
        raise BundleError(build_message(manifest_path, "not a manifest", do="Export the model again"))
    bundle = Bundle(folder, Manifest.from_dict(values, str(manifest_path)))
    missing = [name for name in bundle.manifest.files if not (folder / name).is_file()]
    if missing:
        raise BundleError(build_message(folder / missing[0], "the file is missing", do="Copy the whole bundle folder"))
    network = read_network(bundle.onnx_path)
    _check_digest(network.path, network.sha256, bundle.manifest.files.get(ONNX_NAME))
    check_is_whole(network)
    return bundle


def _load_onnx_file(path: Path) -> Bundle:
    """Read labels, pixels and decisions from the metadata of an ONNX file.

    Raises:
        BundleError: it has none, or they are damaged.
    """
    network = read_network(path)
    check_is_whole(network)
    text = get_metadata(network.content, METADATA_KEY)
    if text is None:
        problem = "there are no labels in its metadata: it is no model of manylabel"
        raise BundleError(build_message(path, problem, do="Write it with 'manylabel export MODEL NAME.onnx'"))
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise BundleError(build_message(path, f"its metadata are no JSON ({error})", do="Export it again")) from error
    if not isinstance(values, dict):
        raise BundleError(build_message(path, "its metadata are no manifest", do="Export it again"))
    return Bundle(path.parent, Manifest.from_answering_part(values, network.sha256, str(path)), path.name)


def find_bundle_folder(path: Path) -> Path:
    """Return the folder that holds the manifest: the path itself, or `bundle` below it.

    Raises:
        BundleError: neither holds one.
    """
    for folder in (path, path / "bundle"):
        if (folder / MANIFEST_NAME).is_file():
            return folder
    if path.is_file():
        expected = "a bundle, a run folder or an ONNX file of manylabel"
        raise BundleError(build_message(path, "it is a file, and no model", expected=expected))
    if not path.exists():
        raise BundleError(build_message(path, "there is no such model", expected="a bundle or a run folder"))
    raise BundleError(
        build_message(
            path, "no model in this folder", expected=f"{MANIFEST_NAME}, or a run folder with bundle/{MANIFEST_NAME}"
        )
    )


def check_file(bundle: Bundle, name: str) -> None:
    """Stop unless a file of the bundle is the one that its manifest describes.

    Raises:
        BundleError: the file is missing, or its digest differs.
    """
    path = bundle.folder / name
    if not path.is_file():
        raise BundleError(build_message(path, "the file is missing", do="Copy the whole bundle folder"))
    _check_digest(path, hash_file(path), bundle.manifest.files.get(name))


def read_file(bundle: Bundle, name: str) -> bytes:
    """Return the bytes of a file of the bundle, read once: what is used is what was checked, whatever comes after.

    Raises:
        BundleError: it cannot be read, or is not the one that the manifest describes.
    """
    path = bundle.folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        problem = f"cannot be read ({error.strerror or type(error).__name__})"
        raise BundleError(build_message(path, problem, do="Copy the whole bundle folder")) from error
    _check_digest(path, hashlib.sha256(content).hexdigest(), bundle.manifest.files.get(name))
    return content


def _check_digest(path: Path, sha256: str, expected: str | None) -> None:
    if sha256 != expected:
        problem = "the file is not the one its manifest describes"
        raise BundleError(build_message(path, problem, do="Copy the whole bundle folder again"))


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
