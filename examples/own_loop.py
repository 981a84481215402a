"""Your own loop with manylabel's pieces: its data, model, loss and metrics, nobody's loop but yours."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import manylabel as ml
from manylabel.augment.presets import build_augmentation, parse_augment
from manylabel.labels.statistics import prevalence
from manylabel.losses.binary_cross_entropy import binary_cross_entropy
from manylabel.metrics.summary import summarise
from manylabel.models.scoring import logits_to_probs
from manylabel.training.loading import EpochSampler


def main(folder: Path, num_images: int = 600, num_epochs: int = 2) -> dict[str, float]:
    """Train a small network on composed digits and return its metrics on the validation images."""
    torch.manual_seed(0)
    table = ml.write_demo(folder, num_images={"train": num_images, "val": 100})
    parts = ml.load_annotations(table).parts()
    backbone = ml.build_backbone("resnet10t")
    preprocess = ml.Preprocess(height_px=48, width_px=48, mean=backbone.mean, std=backbone.std)
    augmentation = build_augmentation(parse_augment("none,rotation_degrees=5"), preprocess)
    sampler = EpochSampler(len(parts["train"]), seed=0)
    train_loader = ml.build_loader(ml.ImageDataset(parts["train"], preprocess, augmentation), 32, sampler=sampler)
    val_loader = ml.build_loader(ml.ImageDataset(parts["val"], preprocess), 64)

    model = ml.build_classifier(backbone, prevalence(parts["train"].targets))
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in range(num_epochs):
        sampler.start_epoch(epoch)
        model.train()
        for batch in train_loader:
            loss = binary_cross_entropy(model(batch.images_BCHW), batch.truth_BL, batch.known_BL)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        print(f"epoch {epoch + 1}: loss of the last batch {loss.item():.3f}")

    model.eval()
    with torch.inference_mode():
        answers = [(logits_to_probs(model(batch.images_BCHW)), batch.truth_BL) for batch in val_loader]
    probs_NL, truth_NL = (np.concatenate([pair[side].numpy() for pair in answers]) for side in (0, 1))
    metrics = summarise(probs_NL, probs_NL >= 0.5, truth_NL > 0.5)
    print(f"macro average precision {metrics['average_precision_macro']:.3f}, macro F1 {metrics['f1_macro']:.3f}")
    return metrics


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary))
