"""A bundle with other decisions: the weights stay as they are, and neither torch nor onnx is needed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from manylabel.bundle.bundle import CARD_NAME, MANIFEST_NAME, ONNX_NAME, Bundle, check_file, hash_file
from manylabel.bundle.card import write_card
from manylabel.bundle.manifest import Manifest
from manylabel.bundle.onnx_file import METADATA_KEY, set_metadata
from manylabel.decisions.policy import DecisionPolicy
from manylabel.errors import RunError, build_message
from manylabel.files import describe_write_error, write_bytes_atomically, write_text_atomically
from manylabel.lock import lock_folder

_ANSWERING_KEYS = ("schema_version", "labels", "preprocess", "policy", "backbone", "head")


def save_policy(bundle: Bundle, policy: DecisionPolicy) -> Bundle:
    """Give a bundle other decisions: in its manifest, in its ONNX file and on its card; the weights stay as they are.

    Raises:
        RunError: the folder cannot be written.
    """
    manifest = replace(bundle.manifest, policy=policy)
    model = set_metadata(bundle.onnx_path.read_bytes(), METADATA_KEY, write_answering_part(manifest))
    write_bytes_atomically(bundle.onnx_path, model)
    manifest = replace(manifest, files={**manifest.files, ONNX_NAME: hash_file(bundle.onnx_path)})
    write_text_atomically(bundle.folder / MANIFEST_NAME, write_manifest(manifest))
    write_text_atomically(bundle.folder / CARD_NAME, write_card(manifest))
    return Bundle(bundle.folder, manifest)


def save_tuned_bundle(bundle: Bundle, policy: DecisionPolicy, folder: Path) -> Bundle:
    """Write a copy of a bundle with other decisions; it takes the place of an older bundle when it is complete.

    Raises:
        RunError: the folder cannot be written, or holds something else than a bundle.
    """
    with build_beside(folder) as partial:
        shutil.copyfile(bundle.onnx_path, partial / ONNX_NAME)
        for name in bundle.manifest.files:
            if name != ONNX_NAME:
                shutil.copyfile(bundle.folder / name, partial / name)
            check_file(Bundle(partial, bundle.manifest), name)
        return move_bundle(save_policy(Bundle(partial, bundle.manifest), policy), folder)


@contextmanager
def build_beside(folder: Path, do: str = "Choose another --out") -> Iterator[Path]:
    """Yield an empty folder beside the place of a bundle; what is left of it afterwards is removed.

    Others that would build a bundle for the same place are kept out meanwhile.

    Raises:
        RunError: the folder cannot be written, its place holds something else than a bundle, or another run works
            there.
    """
    if folder.exists() and not (folder / MANIFEST_NAME).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(build_message(folder, "there is something else than a bundle", do=do))
    workplace = folder.with_name(folder.name + ".partial")
    partial = workplace / "bundle"
    try:
        workplace.mkdir(parents=True, exist_ok=True)
        with lock_folder(workplace):
            try:
                shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
                partial.mkdir()
                yield partial
            finally:
                shutil.rmtree(workplace, ignore_errors=True)
    except OSError as error:
        raise RunError(describe_write_error(folder, 0, error)) from error


def move_bundle(bundle: Bundle, folder: Path) -> Bundle:
    """Put a complete bundle in the place of an older one, which comes back if that fails.

    Raises:
        RunError: the folder cannot be written.
    """
    try:
        replace_folder(folder, bundle.folder)
    except OSError as error:
        raise RunError(describe_write_error(folder, 0, error)) from error
    return Bundle(folder, bundle.manifest)


def replace_folder(folder: Path, partial: Path) -> None:
    """Move a folder to the place of an older one, which comes back if that fails."""
    older = folder.with_name(folder.name + ".older")
    shutil.rmtree(older, ignore_errors=True)
    if folder.exists():
        folder.rename(older)
    try:
        partial.rename(folder)
    except OSError:
        if older.exists():
            older.rename(folder)
        raise
    shutil.rmtree(older, ignore_errors=True)


def write_manifest(manifest: Manifest) -> str:
    """Return the text of `manifest.json`."""
    return json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False) + "\n"


def write_answering_part(manifest: Manifest) -> str:
    """Return what somebody with the ONNX file alone needs: labels, preprocessing and decisions."""
    values = manifest.to_dict()
    return json.dumps({key: values[key] for key in _ANSWERING_KEYS}, ensure_ascii=False)
