"""Pictures: a prediction beside its image, and the parts of an image that speak for its labels."""

from __future__ import annotations

import io
import os
import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from manylabel.data.images import load_image
from manylabel.errors import ConfigError, DataError, build_message, join_names
from manylabel.files import write_bytes_atomically
from manylabel.inference.explain import Explanation
from manylabel.inference.prediction import Prediction
from manylabel.inference.predictor import ImageSource

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEAST_BARS, _MOST_BARS = 12, 40
_GIVEN_COLOUR, _OTHER_COLOUR = "#1b6ca8", "#b9c4cc"
_MAX_NAME_LENGTH = 28
_MOST_COLUMNS = 4
_HEAT = "inferno"


def check_picture(path: Path, where: str) -> None:
    """Stop where a picture would get a name that is not a PNG's.

    Raises:
        ConfigError: it ends otherwise.
    """
    if path.suffix.lower() != ".png":
        raise ConfigError(build_message(where, "pictures are PNG", got=path.name, expected="a name that ends in .png"))


def draw_prediction(prediction: Prediction, image: ImageSource, path: str | os.PathLike[str]) -> None:
    """Draw an image with its labels and, as bars from each label's threshold, by how much it has them or not.

    Args:
        prediction: the answer for the image.
        image: what was predicted: a path, bytes, an array or a Pillow image.
        path: the PNG to write.

    Raises:
        DataError: the prediction is an error: there is nothing to draw.
        RunError: the picture cannot be written.
    """
    if prediction.labels is None:
        message = "unknown error" if prediction.error is None else prediction.error["message"]
        raise DataError(build_message(prediction.image, f"no picture of an image that cannot be used ({message})"))
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    margins = prediction.margins
    chosen = sorted(margins, key=lambda label: -margins[label])[
        : max(_LEAST_BARS, min(len(prediction.labels), _MOST_BARS))
    ]
    figure = Figure(figsize=(9, max(3.2, 0.32 * len(chosen) + 1.3)), layout="constrained")
    FigureCanvasAgg(figure)
    photo, bars = figure.subplots(1, 2, width_ratios=(1, 1.25))
    photo.imshow(load_image(image, name=prediction.image), interpolation="nearest")
    photo.set_axis_off()
    names = [_shorten(label) for label in prediction.labels]
    title = join_names(names, _MOST_BARS) if names else "none of the labels"
    figure.suptitle(textwrap.fill(title, 60), fontsize=13, fontweight="bold", parse_math=False)
    given = set(prediction.labels)
    places = range(len(chosen))
    bars.barh(
        places,
        [margins[label] for label in chosen],
        color=[_GIVEN_COLOUR if label in given else _OTHER_COLOUR for label in chosen],
        height=0.7,
    )
    bars.set_yticks(places, [_shorten(label) for label in chosen], parse_math=False)
    bars.invert_yaxis()
    bars.axvline(0, color="#333333", linewidth=1)
    bars.set_xlabel("probability minus the label's threshold")
    for place, label in zip(places, chosen, strict=True):
        margin = margins[label]
        bars.annotate(
            f"{prediction.probabilities[label]:.2f}",
            (margin, place),
            xytext=(4 if margin >= 0 else -4, 0),
            textcoords="offset points",
            ha="left" if margin >= 0 else "right",
            va="center",
            fontsize=8.5,
            color="#333333",
        )
    bars.margins(x=0.18)
    bars.spines[["top", "right", "left"]].set_visible(False)
    bars.tick_params(axis="y", length=0)
    _save(figure, path)


def draw_explanation(explanation: Explanation, path: str | os.PathLike[str]) -> None:
    """Draw an image, and beside it for each label where the evidence lies: in colour on the image in grey.

    All maps share one scale, so that a faint map is of weak evidence.

    Raises:
        RunError: the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    num_panels = 1 + len(explanation.labels)
    columns = min(num_panels, _MOST_COLUMNS)
    rows = -(-num_panels // columns)
    figure = Figure(figsize=(3.1 * columns + 0.9, 3.5 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    panels.flat[0].imshow(explanation.shown)
    panels.flat[0].set_title("the image, as the model sees it", fontsize=10)
    grey = explanation.shown.convert("L")
    strongest = max(explanation.strong, float(explanation.maps_KHW.max()))
    for panel, label, map_HW in zip(panels.flat[1:], explanation.labels, explanation.maps_KHW, strict=False):
        panel.imshow(grey, cmap="gray", vmin=-40, vmax=255)
        strength_HW = np.clip(map_HW / strongest, 0, 1)
        panel.imshow(map_HW, cmap=_HEAT, vmin=0, vmax=strongest, alpha=0.75 * np.sqrt(strength_HW))
        probability = explanation.prediction.probabilities[label]
        is_given = label in (explanation.prediction.labels or ())
        title = f"{_shorten(label)} {probability:.2f}{'' if is_given else ' (not given)'}"
        panel.set_title(title, fontsize=10, fontweight="bold" if is_given else "normal", parse_math=False)
    bar = figure.colorbar(ScalarMappable(Normalize(0, strongest), _HEAT), ax=panels, shrink=0.7, aspect=25, pad=0.01)
    bar.set_label(explanation.unit, fontsize=9)
    _save(figure, path)


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A character that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(buffer, dpi=120, format="png")
    write_bytes_atomically(path, buffer.getvalue())


def _shorten(label: str) -> str:
    shown = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in label)
    return shown if len(shown) <= _MAX_NAME_LENGTH else shown[: _MAX_NAME_LENGTH - 1] + "…"
