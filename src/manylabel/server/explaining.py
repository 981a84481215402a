"""Where the evidence for a label lies, over HTTP: one explanation at a time, since one costs as much as 80 answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.inference.explain import Explanation, explain
from manylabel.server.limits import RequestError, Ticket
from manylabel.server.model import ServedModel

MAP_SIDE = 24
"""Values on each side of a map; it is no finer than the parts that are hidden."""


class Explainer:
    """A thread of its own, so that answers do not wait behind explanations."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._is_busy = False

    async def explain(
        self, model: ServedModel, pixels_HWC: npt.NDArray[np.uint8], name: str, label: str, ticket: Ticket
    ) -> dict[str, Any]:
        """Return the map of a label as `/explain` answers it.

        Raises:
            RequestError: 422, the model has no such label; 503, another image is being explained, or there was no time.
        """
        if label not in model.thresholds:
            raise RequestError(422, "unknown_label", "The model has no label of this name; /labels lists them.")
        if self._is_busy:
            raise RequestError.for_now("busy", "Another image is being explained; try again later.")
        self._is_busy = True
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._thread, _explain, model, pixels_HWC, name, label, _stop_when_late(ticket)
            )
        finally:
            self._is_busy = False
        return _describe(found, label, model.digest)

    def stop(self) -> None:
        """Let a running explanation end and take no more."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def _explain(
    model: ServedModel, pixels_HWC: npt.NDArray[np.uint8], name: str, label: str, on_part: Callable[[], None]
) -> Explanation:
    return explain(model.predictor, pixels_HWC, [label], name=name, on_part=on_part)


def _stop_when_late(ticket: Ticket) -> Callable[[], None]:
    def check() -> None:
        if ticket.is_worthless:
            raise RequestError.for_now("late", "The deadline passed before the image was explained; try again later.")

    return check


def _describe(found: Explanation, label: str, digest: str) -> dict[str, Any]:
    x, y = found.find_peak(label)
    return {
        "image": found.prediction.image,
        "label": label,
        "probability": found.prediction.probabilities[label],
        "map": [[round(float(value), 4) for value in row] for row in found.shrink_map(label, MAP_SIDE)],
        "peak": [round(x, 4), round(y, 4)],
        "notes": list(found.notes),
        "model": digest,
    }
