"""Trains with fastai what a job file describes; run with the Python of fastai's own environment, by the benchmarks.

The network is timm's in both libraries, the weights come from the same file. The rest is fastai as its documentation
shows it: `vision_learner`, `Resize`, `aug_transforms`, `fine_tune`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import fastai  # type: ignore[import-not-found]
import numpy as np
import torch
from fastai.vision.all import (  # type: ignore[import-not-found]
    BCEWithLogitsLossFlat,
    Callback,
    DataBlock,
    ImageBlock,
    IndexSplitter,
    MultiCategoryBlock,
    Normalize,
    Resize,
    aug_transforms,
    set_seed,
    vision_learner,
)
from safetensors.torch import load_file


class EpochClock(Callback):  # type: ignore[misc]
    """Notes the images and seconds of the training part of every epoch."""

    def __init__(self) -> None:
        self.images_per_second: list[float] = []

    def before_train(self) -> None:
        """Start the clock; starting the processes that decode is part of the epoch."""
        self.started, self.num_images = time.perf_counter(), 0

    def after_batch(self) -> None:
        """Count the images of a training batch."""
        if self.training:
            self.num_images += len(self.xb[0])

    def after_train(self) -> None:
        """Note what the epoch came to."""
        self.images_per_second.append(self.num_images / (time.perf_counter() - self.started))


def build_learner(job: dict[str, Any], clock: EpochClock) -> Any:
    """Return a learner whose body starts from the weights of the job."""
    truth = np.array(job["truth"], dtype=np.float32)
    items = job["rows"]["train"] + job["rows"]["val"]
    block = DataBlock(
        blocks=(ImageBlock, MultiCategoryBlock(encoded=True, vocab=job["labels"])),
        get_x=lambda row: Path(job["images"][row]),
        get_y=lambda row: truth[row],
        splitter=IndexSplitter(range(len(job["rows"]["train"]), len(items))),
        item_tfms=Resize(job["image_size"]),
        batch_tfms=[*(aug_transforms() if job["augment"] else []), Normalize.from_stats(job["mean"], job["std"])],
    )
    dls = block.dataloaders(items, bs=job["batch_size"])
    learner = vision_learner(
        dls, job["backbone"], pretrained=False, normalize=False, loss_func=BCEWithLogitsLossFlat(), cbs=[clock],
        **job["backbone_args"],
    )  # fmt: skip
    if job["weights"]:
        found = learner.model[0].model.load_state_dict(load_file(job["weights"]), strict=False)
        print(f"missing: {found.missing_keys}; unexpected: {found.unexpected_keys}", file=sys.stderr)
    return learner


def main() -> None:
    """Train as the job says and print what it came to as one JSON object on the last line."""
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    set_seed(job["seed"])
    clock = EpochClock()
    learner = build_learner(job, clock)
    started = time.perf_counter()
    with learner.no_bar(), learner.no_logging():
        if job["recipe"] == "fine_tune":
            learner.fine_tune(job["epochs"], base_lr=3e-3, freeze_epochs=1)
        else:  # all weights learn from the start: what is timed is the step of the whole network
            learner.fit_one_cycle(job["epochs"], 3e-3)
    seconds = time.perf_counter() - started
    for name in job["answer_for"]:
        with learner.no_bar():
            probs, _ = learner.get_preds(dl=learner.dls.test_dl(job["rows"][name]))
        np.save(Path(job["answers"]) / f"{name}.npy", probs.numpy())
    print(
        json.dumps(
            {
                "seconds": seconds,
                "images_per_second": clock.images_per_second,
                "versions": {"fastai": fastai.__version__, "torch": torch.__version__},
            }
        )
    )


if __name__ == "__main__":
    main()
