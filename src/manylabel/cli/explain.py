"""`manylabel explain`: which parts of an image speak for its labels."""

from __future__ import annotations

import sys
from pathlib import Path

from manylabel.cli.console import show_progress
from manylabel.cli.outputs import check_output, check_spares_images
from manylabel.cli.words import say
from manylabel.data.annotations import Annotations
from manylabel.data.regions import Region
from manylabel.errors import DataError, build_message
from manylabel.inference.explain import Explanation, explain
from manylabel.inference.picture import check_picture, draw_explanation
from manylabel.inference.predictor import load
from manylabel.runs.explain import find_method


def run_explain(
    model: str,
    image: str,
    labels: str | None,
    out: Path,
    method: str,
    regions: str | None,
    folder: str | None,
    quiet: bool,
) -> int:
    """Find maps, draw them, and say where the strongest evidence lies."""
    way = find_method(method)
    check_picture(out, "--out")
    check_output(out, (image, regions))
    predictor = load(model)
    marked = () if regions is None else _find_regions(regions, folder, image, out)
    chosen = None if labels is None else [name.strip() for name in labels.split(",") if name.strip()]
    with show_progress(quiet) as tell:
        tell("stage", {"name": way.stage, "total": way.num_steps})
        explanation = explain(
            predictor,
            image,
            chosen,
            regions=marked,
            on_part=lambda: tell("progress", {}),
            find_maps=way.build(predictor),
        )
    draw_explanation(explanation, out)
    beside = "" if predictor.preprocess.resize == "squash" else ", of what the model sees"
    for label in explanation.labels:
        print(_describe(explanation, label) + beside)
    for note in explanation.notes:
        say(f"Note: {note}")
    if not quiet:
        print(f"Written: {out}", file=sys.stderr)
    return 0


def _describe(explanation: Explanation, label: str) -> str:
    x, y = explanation.find_peak(label)
    given = "" if label in (explanation.prediction.labels or ()) else " (not given)"
    probability = explanation.prediction.probabilities[label]
    return f"{label} {probability:.2f}{given}: most at {x:.0%} from the left, {y:.0%} from the top"


def _find_regions(data: str, folder: str | None, image: str, out: Path) -> tuple[Region, ...]:
    """Return the regions that a table has for an image, found by its path or, where that is one image alone, its name.

    Raises:
        ConfigError: the picture that is written would replace an image of the table.
        DataError: the table does not have it.
    """
    from manylabel.data.formats.detect import load_annotations

    table: Annotations = load_annotations(data, images=folder)
    check_spares_images(out, table)
    wanted = Path(image)
    same = [record for record in table.records if Path(str(record.source)).resolve() == wanted.resolve()]
    named = same if same else [record for record in table.records if Path(record.id).name == wanted.name]
    if len(named) != 1:
        problem = f"it has {'no' if not named else 'more than one'} image {wanted.name}"
        raise DataError(build_message(data, problem, do="Give the path as the table has it"))
    if not named[0].regions:
        raise DataError(
            build_message(data, f"it marks no region in {wanted.name}", do="Give a table with boxes or masks")
        )
    return tuple(named[0].regions)
