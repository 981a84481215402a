"""From a trained classifier to a bundle: weights, ONNX, manifest and card, checked on real images before it counts."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn

from manylabel.bundle.bundle import CARD_NAME, MANIFEST_NAME, ONNX_NAME, WEIGHTS_NAME, Bundle, hash_file
from manylabel.bundle.card import write_card
from manylabel.bundle.manifest import Manifest
from manylabel.bundle.onnx_file import METADATA_KEY, set_metadata
from manylabel.bundle.tuned import replace_folder, write_answering_part, write_manifest
from manylabel.errors import BundleError, RunError, build_message, find_reason
from manylabel.files import describe_write_error
from manylabel.models.classifier import Classifier
from manylabel.models.scoring import logits_to_probs

MAX_PROBABILITY_DIFFERENCE = 1e-4
"""How far a probability of the ONNX file may be from torch's on the same pixels."""

INPUT_NAME, OUTPUT_NAME = "images", "probabilities"


@dataclass(frozen=True)
class Parity:
    """How far the exported network was from torch on real images."""

    num_images: int
    max_difference: float


def save_bundle(
    folder: Path, classifier: Classifier, manifest: Manifest, images_BCHW: npt.NDArray[np.float32]
) -> tuple[Bundle, Parity]:
    """Write a bundle and check its network against torch; only a bundle that agrees takes the place of an older one.

    Args:
        folder: where the bundle will stand.
        classifier: the trained network.
        manifest: everything else; its `files` are filled in here.
        images_BCHW: preprocessed real images to check with, at least one.

    Raises:
        BundleError: the ONNX network gives other probabilities than torch.
        RunError: the folder cannot be written.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        _save_weights(classifier, partial / WEIGHTS_NAME)
        export_onnx(classifier, partial / ONNX_NAME, manifest, images_BCHW[:1].shape)
        parity = check_parity(classifier, partial / ONNX_NAME, images_BCHW)
        files = {name: hash_file(partial / name) for name in (WEIGHTS_NAME, ONNX_NAME)}
        filled = replace(
            manifest,
            files=files,
            provenance={
                **manifest.provenance,
                "parity": {"images": parity.num_images, "max_difference": parity.max_difference},
            },
        )
        (partial / MANIFEST_NAME).write_text(write_manifest(filled), "utf-8")
        (partial / CARD_NAME).write_text(write_card(filled), "utf-8")
        replace_folder(folder, partial)
    except OSError as error:
        raise RunError(describe_write_error(folder, _count_bytes(classifier), error)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Bundle(folder, filled), parity


class _Network(nn.Module):
    """What is exported: the classifier and the sigmoid, so that a file answers with probabilities."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return logits_to_probs(self.classifier(images))


def export_onnx(classifier: Classifier, path: Path, manifest: Manifest, shape: tuple[int, ...]) -> None:
    """Write one self-contained ONNX file with a free batch size and the manifest in its metadata.

    Shapes: `images` float32 [B, 3, H, W], normalised; `probabilities` float32 [B, L].

    Raises:
        BundleError: the network has a part that ONNX cannot express.
    """
    network = _Network(classifier).eval().cpu()
    # Two images, since a batch of one is taken for a constant.
    example = torch.zeros(2, *shape[1:])
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (example,),
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        # Tracing, lowering and onnxscript each raise what they like.
        reason = find_reason(error)
        raise BundleError(
            build_message(
                path, f"the network cannot be written as ONNX ({reason})", do="Choose another --backbone or --head"
            )
        ) from error
    assert program is not None
    model = program.model_proto
    path.write_bytes(set_metadata(model.SerializeToString(), METADATA_KEY, write_answering_part(manifest)))


def check_parity(classifier: Classifier, path: Path, images_BCHW: npt.NDArray[np.float32]) -> Parity:
    """Compare the probabilities of an ONNX file with torch's on the same images.

    Raises:
        BundleError: they differ by more than `MAX_PROBABILITY_DIFFERENCE`.
    """
    network = _Network(classifier).eval().cpu()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    differences = []
    for image_CHW in images_BCHW:
        with torch.inference_mode():
            expected = network(torch.from_numpy(image_CHW[None])).numpy()
        (given,) = session.run([OUTPUT_NAME], {INPUT_NAME: image_CHW[None]})
        differences.append(float(np.abs(given - expected).max()))
    parity = Parity(len(images_BCHW), max(differences))
    # Written so that NaN fails too.
    if not parity.max_difference <= MAX_PROBABILITY_DIFFERENCE:
        raise BundleError(
            build_message(
                path,
                f"the exported network differs from torch by {parity.max_difference:.2g} in a probability",
                expected=f"at most {MAX_PROBABILITY_DIFFERENCE:g}",
                do="Choose another --backbone, and report this one",
            )
        )
    return parity


def _save_weights(classifier: Classifier, path: Path) -> None:
    from safetensors.torch import save

    path.write_bytes(save({key: tensor.detach().cpu().contiguous() for key, tensor in classifier.state_dict().items()}))


def _count_bytes(classifier: Classifier) -> int:
    return 2 * int(sum(tensor.numel() * tensor.element_size() for tensor in classifier.state_dict().values()))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's chatter (prints, warnings, log lines) from the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
