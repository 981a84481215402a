"""Explain: the ways to find which parts of an image speak for a label, and what each of them needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from manylabel.bundle.bundle import WEIGHTS_NAME, Bundle, read_file
from manylabel.errors import (
    BundleError,
    ConfigError,
    ManylabelError,
    MissingExtraError,
    build_message,
    find_reason,
    join_names,
    suggest_name,
)
from manylabel.inference.explain import LITTLE, FindMaps, FoundMaps, OnPart, build_hiding, count_parts, hide_image
from manylabel.inference.predictor import Predictor

if TYPE_CHECKING:
    from manylabel.models.classifier import Classifier
    from manylabel.models.gradient_maps import GradientMaps

_OPTION = "--method gradients"
_HIDE = "--method hiding"
_FEW_PLACES = 4
"""So many places on a side are too few to see much."""
_INEXACT = 0.25
"""The share of what a label gains that its map may be off by, or that much of one log-odds."""
_READS_FILES = ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
"""Arguments of timm's constructor by which a manifest could have other files read."""


class Method(NamedTuple):
    """A way to find maps: what to call the wait, its number of steps where it is known before, and what starts it."""

    stage: str
    num_steps: int | None
    build: Callable[[Predictor], FindMaps]


def build_gradients(predictor: Predictor) -> FindMaps:
    """Return the way to find maps that follows gradients: it needs torch, captum and the bundle's weights.

    Raises:
        ConfigError: the bundle has no weights, or a network whose gradients cannot be followed.
        BundleError: the weights are damaged, or not those of the network that answers.
        MissingExtraError: torch or captum is not installed.
    """
    preprocess = predictor.preprocess
    if WEIGHTS_NAME not in predictor.bundle.manifest.files:
        problem = f"the model has no {WEIGHTS_NAME}: an ONNX file answers, and gives no gradients"
        raise ConfigError(build_message(_OPTION, problem, do=f"Use {_HIDE}, or the bundle that it was exported from"))
    try:
        from manylabel.bundle.export import MAX_PROBABILITY_DIFFERENCE
        from manylabel.models.gradient_maps import GradientMapper
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("manylabel"):
            raise
        problem = f"it needs {error.name.split('.')[0]}, which is not installed"
        do = f"Install it with: pip install 'manylabel[train]', or use {_HIDE}"
        raise MissingExtraError(build_message(_OPTION, problem, do=do)) from error
    mapper = GradientMapper(load_classifier(predictor.bundle), preprocess.height_px, preprocess.width_px)

    def find_maps(shown: Image.Image, columns: Sequence[int], on_part: OnPart | None) -> FoundMaps:
        pixels_CHW, hidden_CHW = (preprocess.normalise(np.asarray(each)) for each in (shown, hide_image(shown)))
        difference = float(np.abs(mapper.answer(pixels_CHW) - predictor.answer_pixels(pixels_CHW)).max())
        if not difference <= MAX_PROBABILITY_DIFFERENCE:  # NaN fails too
            problem = f"its answer differs by {difference:.2g} from that of the network in the bundle"
            raise BundleError(build_message(predictor.bundle.weights_path, problem, do=f"Use {_HIDE}"))
        found = mapper.map_labels(pixels_CHW, hidden_CHW, columns, on_part)
        return _describe(found, shown.size)

    return find_maps


METHODS: Mapping[str, Method] = {
    "hiding": Method("Hiding parts", count_parts(), build_hiding),
    "gradients": Method("Following gradients", None, build_gradients),
}


def find_method(name: str) -> Method:
    """Return a way to find maps by its name.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in METHODS:
        problem = f"there is no way {name!r} to find maps{suggest_name(name, METHODS)}"
        raise ConfigError(build_message("--method", problem, expected=join_names(list(METHODS))))
    return METHODS[name]


def load_classifier(bundle: Bundle) -> Classifier:
    """Build the network of a bundle in torch, with the bundle's weights.

    Raises:
        BundleError: the weights are missing, changed or of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    from manylabel.models.backbones import build_backbone
    from manylabel.models.classifier import build_classifier

    weights = read_file(bundle, WEIGHTS_NAME)
    manifest = bundle.manifest
    try:
        arguments = dict(manifest.backbone["args"])
        forbidden = [name for name in _READS_FILES if name in arguments]
        if forbidden:
            raise ConfigError(f"its backbone reads other files ({join_names(forbidden)})")
        backbone = build_backbone(
            str(manifest.backbone["name"]), args=arguments, image_size_px=manifest.preprocess.height_px
        )
        classifier = build_classifier(backbone, [0.5] * len(manifest.label_space), str(manifest.head["text"]))
        classifier.load_state_dict(load_tensors(weights))
    except (ManylabelError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = find_reason(error).rstrip(".:")
        problem = f"the network cannot be built from the manifest and {WEIGHTS_NAME} ({reason})"
        raise BundleError(build_message(bundle.folder, problem, do=f"Use {_HIDE}")) from error
    return classifier


def _describe(found: GradientMaps, size_px: tuple[int, int]) -> FoundMaps:
    """Return maps in the size of the image, with what is to be known of them."""
    _, rows, columns = found.maps_KRC.shape
    total_K = found.maps_KRC.sum((1, 2))
    is_off_K = np.abs(total_K - found.gained_K) > _INEXACT * np.maximum(1, np.abs(found.gained_K))
    notes = []
    if min(rows, columns) < _FEW_PLACES:
        notes.append(
            f"The network has only {rows} x {columns} places: maps by gradients are no finer, those by hiding are."
        )
    if is_off_K.any():
        notes.append(
            "The gradients do not add up to what the labels gain: the network bends too much, and maps are rough."
        )
    return FoundMaps(
        _enlarge(found.maps_KRC, size_px),
        unit=(
            "log-odds that a place adds to the label, beside\n"
            f"the others and the blurred image ({rows} x {columns} places)"
        ),
        place=(1 / rows, 1 / columns),
        strong=1 / (rows * columns),
        is_little_K=[bool(np.maximum(map_RC, 0).sum() < LITTLE) for map_RC in found.maps_KRC],
        little="All places that speak for {labels} add little beside the other labels: the blurred image says as much.",
        notes=tuple(notes),
    )


def _enlarge(maps_KRC: npt.NDArray[np.float32], size_px: tuple[int, int]) -> npt.NDArray[np.float32]:
    enlarged = [Image.fromarray(map_RC).resize(size_px, Image.Resampling.BILINEAR) for map_RC in maps_KRC]
    return np.stack([np.asarray(each, np.float32) for each in enlarged])
