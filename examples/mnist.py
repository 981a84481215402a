"""The guide's example made right: MNIST with ten independent labels, from loading to one plotted answer.

    python examples/mnist.py --root PATH      # the four MNIST files, as they are published (.gz or not)
    python examples/mnist.py                  # downloads them, where there is a network

docs/explanation/the_guide_corrected.md sets the guide's own listing beside this one.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
from pathlib import Path

import numpy as np
from torchvision.datasets import MNIST

import manylabel as ml

DIGITS = [str(digit) for digit in range(10)]


def read_mnist(root: Path | None, cache: Path) -> dict[str, ml.Annotations]:
    """Return the official training and test images as tables with one label each, of ten."""
    if root is not None:
        place_files(root, cache / "MNIST" / "raw")
    tables = {}
    for name, is_train in (("train", True), ("test", False)):
        mnist = MNIST(cache, train=is_train, download=root is None)
        label_sets = [[str(digit)] for digit in mnist.targets.tolist()]
        tables[name] = ml.annotations_from_arrays(mnist.data.numpy(), label_sets, DIGITS, name=name)
    return tables


def place_files(root: Path, raw: Path) -> None:
    """Put the four files where torchvision looks for them, unpacked."""
    raw.mkdir(parents=True, exist_ok=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        packed, plain = root / f"{name}-ubyte.gz", root / f"{name}-ubyte"
        with (
            gzip.open(packed) if packed.is_file() else plain.open("rb") as source,
            (raw / plain.name).open("wb") as target,
        ):
            shutil.copyfileobj(source, target)


def main() -> None:
    parser = argparse.ArgumentParser(description="MNIST with ten independent labels.")
    parser.add_argument("--root", type=Path, help="a folder with the four MNIST files; without it they are downloaded")
    parser.add_argument("--out", type=Path, default=Path("mnist-run"), help="the folder of the run")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--limit", type=int, help="use only so many training and test images, for a quick look")
    options = parser.parse_args()

    # Load. 5,000 of the 60,000 training images choose the epoch and the thresholds.
    tables = read_mnist(options.root, options.out / "data")
    if options.limit is not None:
        tables = {name: table.select(range(options.limit)) for name, table in tables.items()}
    parts = ml.split(tables["train"], {"train": 11 / 12, "val": 1 / 12}, seed=0)

    # Train. Every digit is a question of its own; a digit is never mirrored, so there are no flips.
    config = ml.TrainConfig(
        backbone="resnet18", weights="none", image_size=28, batch_size=64, epochs=options.epochs, lr=3e-3,
        augment="none,rotation_degrees=8",
    )  # fmt: skip
    run = ml.train(parts["train"], parts["val"], config, out=options.out / "run")

    # Evaluate on images that nothing was chosen on. The report has every metric; here are four.
    report = ml.evaluate(run.bundle, tables["test"], out=options.out / "test")
    for name in ("f1_macro", "average_precision_macro", "hamming_loss", "subset_accuracy"):
        print(f"{name}: {report.metrics[name].value:.4f}")
    predictions = ml.load_predictions(options.out / "test" / "predictions" / "test.parquet")
    truth_N = np.array([DIGITS.index(tables["test"].labels_of(row)[0]) for row in range(len(tables["test"]))])
    print(f"test accuracy (largest probability): {(predictions.probs_NL.argmax(axis=1) == truth_N).mean():.4f}")

    # Save and load: the bundle is the saved model, and needs no torch to answer.
    model = ml.load(options.out / "run")

    # Predict one image and plot it.
    image = tables["test"].records[0].pixels
    prediction = model.predict(image, name="test image 0")
    print(f"{prediction.image}: {', '.join(prediction.labels)} (true: {tables['test'].labels_of(0)[0]})")
    ml.draw_prediction(prediction, image, options.out / "prediction.png")
    print(f"Picture: {options.out / 'prediction.png'}")


if __name__ == "__main__":
    main()
