"""Bundle: a folder with `manifest.json`, `model.onnx`, `model.safetensors` and a model card."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from manylabel.bundle.manifest import Manifest
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

    @property
    def onnx_path(self) -> Path:
        """The network, from normalised images [B, 3, H, W] to probabilities [B, L]."""
        return self.folder / ONNX_NAME

    @property
    def weights_path(self) -> Path:
        """The same weights for torch."""
        return self.folder / WEIGHTS_NAME

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that stand in every prediction of this model."""
        return self.manifest.digest


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle, or the bundle of a run folder; the network is checked against the manifest's digest.

    Raises:
        BundleError: there is no bundle, a file is missing or was changed, or it is of a newer kind.
    """
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
    check_file(bundle, ONNX_NAME)
    return bundle


def find_bundle_folder(path: Path) -> Path:
    """Return the folder that holds the manifest: the path itself, or `bundle` below it.

    Raises:
        BundleError: neither holds one.
    """
    for folder in (path, path / "bundle"):
        if (folder / MANIFEST_NAME).is_file():
            return folder
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
    expected = bundle.manifest.files.get(name)
    if hash_file(path) != expected:
        raise BundleError(
            build_message(
                path, "the file is not the one its manifest describes", do="Copy the whole bundle folder again"
            )
        )


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
