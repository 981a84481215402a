"""`manylabel demo`: the whole way on real handwritten digits, with a picture at its end."""

from __future__ import annotations

from pathlib import Path

from manylabel.cli.console import build_results_console, show_progress
from manylabel.cli.train import print_run
from manylabel.data.annotations import Annotations
from manylabel.data.demo import write_demo
from manylabel.data.formats.detect import load_annotations
from manylabel.errors import RunError, build_message
from manylabel.inference.picture import draw_prediction
from manylabel.inference.predictor import Predictor
from manylabel.runs.train import train
from manylabel.training.config import TrainConfig

DEMO_CONFIG = TrainConfig(
    backbone="resnet10t",
    backbone_args={"channels": (16, 32, 64, 128), "stem_width": 16},
    weights="none",
    image_size=48,
    batch_size=32,
    epochs=3,
    lr=0.01,
    weight_decay=0.05,
    augment="none",
    precision="fp32_channels_last",
)
"""The recipe of the demo: a narrow network from scratch; no flips, since a mirrored 2 is no digit, and no crops.

What else was tried stands in docs/experiments.md."""


def run_demo(out: Path, quiet: bool) -> int:
    """Write data, train, judge, draw; return the exit code of the run."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(build_message(out, "the folder is not empty", do="Choose another --out, or remove it"))
    with show_progress(quiet) as tell:
        tell(
            "note",
            {"message": f"Handwritten digits, several on an image, go to {out / 'data'}; the run to {out / 'run'}."},
        )
        tell("stage", {"name": "Drawing images"})
        table = write_demo(out / "data", on_progress=lambda _, total: tell("progress", {"total": total}))
        parts = load_annotations(table).parts()
        run = train(parts["train"], parts["val"], DEMO_CONFIG, out=out / "run", test=parts["test"], on_event=tell)
    print_run(run)
    _show_one(Predictor(run.bundle), parts["test"], out / "prediction.png")
    return run.exit_code


def _show_one(predictor: Predictor, test: Annotations, picture: Path) -> None:
    """Predict one test image with several labels, and draw it."""
    row = _choose_row(test)
    record = test.records[row]
    prediction = predictor.predict(record.path, name=record.id)
    draw_prediction(prediction, record.path, picture)
    answer = ", ".join(sorted(prediction.labels)) if prediction.labels else "none"
    console = build_results_console()
    console.print(f"\n{record.id}: predicted {answer}; true {', '.join(test.labels_of(row))}.", markup=False)
    console.print(f"Picture: {picture}", markup=False, soft_wrap=True)


def _choose_row(test: Annotations) -> int:
    """Return the first image with three labels: enough to see that they are several."""
    sizes = test.targets.num_present_N.tolist()
    return sizes.index(3) if 3 in sizes else 0
