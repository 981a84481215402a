"""`manylabel demo`: the whole way on real handwritten digits, with a picture at its end."""

from __future__ import annotations

from pathlib import Path

from manylabel.cli.console import build_results_console, show_progress
from manylabel.cli.train import print_run
from manylabel.data.demo import write_demo
from manylabel.data.formats.detect import load_annotations
from manylabel.errors import RunError, build_message
from manylabel.inference.picture import draw_prediction
from manylabel.inference.predictor import Predictor
from manylabel.runs.train import train
from manylabel.training.config import TrainConfig

DEMO_CONFIG = TrainConfig(backbone="resnet10t", weights="none", image_size=48, batch_size=32, epochs=5, augment="none")
"""The recipe of the demo: a small network from scratch, no flips (a mirrored 2 is no digit), no crops."""


def run_demo(out: Path, quiet: bool) -> int:
    """Write data, train, judge, draw; return the exit code of the run."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(build_message(out, "the folder is not empty", do="Choose another --out, or remove it"))
    with show_progress(quiet) as tell:
        tell("note", {"message": f"Handwritten digits, several on an image: writing them to {out / 'data'}"})
        tell("stage", {"name": "Drawing images"})
        table = write_demo(out / "data", on_progress=lambda done, total: tell("progress", {"count": 1, "total": total}))
        parts = load_annotations(table).parts()
        run = train(parts["train"], parts["val"], DEMO_CONFIG, out=out / "run", test=parts["test"], on_event=tell)
    print_run(run)
    example = _choose_example(parts["test"].targets.num_present_N.tolist())
    record = parts["test"].records[example]
    prediction = Predictor(run.bundle).predict(record.path, name=record.id)
    picture = out / "prediction.png"
    draw_prediction(prediction, record.path, picture)
    console = build_results_console()
    truth = ", ".join(parts["test"].labels_of(example))
    console.print(
        f"\nOne test image, {record.id}: predicted {', '.join(prediction.labels or ())}; true {truth}.", markup=False
    )
    console.print(f"Picture: {picture}", markup=False, soft_wrap=True)
    return run.exit_code


def _choose_example(sizes: list[int]) -> int:
    """Return the first image with three labels: enough to see that they are several."""
    return sizes.index(3) if 3 in sizes else 0
