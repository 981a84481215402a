"""Answers of the network in training, before there is a bundle."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader

from manylabel.models.scoring import logits_to_probs
from manylabel.training.features import FeatureLoader
from manylabel.training.loading import Example
from manylabel.training.loop import LoopParts


@torch.inference_mode()
def collect_answers(
    parts: LoopParts, loader: DataLoader[Example] | FeatureLoader
) -> tuple[list[int], npt.NDArray[np.float32]]:
    """Return the rows of the usable images of a loader, and the probabilities [N, L] of the weights as they stand."""
    model = (parts.model if parts.average is None else parts.average.module).eval()
    rows: list[int] = []
    probs: list[npt.NDArray[np.float32]] = []
    for batch in loader:
        if len(batch):
            on_device = batch.to(parts.accelerator.device, parts.memory_format)
            with parts.autocast():
                logits_BL = model(on_device.images_BCHW)
            probs.append(logits_to_probs(logits_BL).cpu().numpy())
            rows += batch.rows_B.tolist()
    return rows, np.concatenate(probs) if probs else np.zeros((0, 0), np.float32)
