"""Mistake maps of a report: what in the worst images spoke for the label that is wrong, within a bound of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.data.images import image_size_px
from manylabel.errors import DataError, join_names
from manylabel.evaluation.evaluate import Report
from manylabel.evaluation.mistake_maps import MistakeMap, MistakeMaps, WorstMistake, list_worst_mistakes
from manylabel.inference.explain import MOST_LABELS, Explanation, count_parts, explain
from manylabel.inference.predictor import Predictor
from manylabel.training.events import OnEvent, tell_nobody

MOST_SECONDS = 20.0
"""How long the maps of a report may take together."""

_PICTURE_PX = 128
"""The longer side of a map on the page, as of the thumbnails beside it."""


def explain_mistakes(
    predictor: Predictor,
    report: Report,
    annotations: Annotations,
    on_event: OnEvent = tell_nobody,
    *,
    most_seconds: float = MOST_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> MistakeMaps:
    """Return maps of the worst mistakes of a report, found by hiding parts: as many as there is time for.

    One answer is timed first. A map tells the wrong label from the others that the image shows or was given.

    Args:
        predictor: the model that made the mistakes.
        report: what says which they are.
        annotations: the images; their regions show which maps miss.
        on_event: told how it goes.
        most_seconds: how long it may take.
        clock: what tells the time.
    """
    mistakes = list_worst_mistakes(report)
    record_of = {record.id: record for record in annotations.records}
    seconds = _time_answer(predictor, clock) * (count_parts() + 2) if mistakes else 0.0
    affordable = int(most_seconds / max(seconds, 1e-9))
    on_event("stage", {"name": "Explaining mistakes", "total": min(len(mistakes), affordable) * count_parts()})
    start, left = clock(), mistakes
    maps: list[MistakeMap] = []
    unreadable: list[str] = []
    unit, strong = "", 1.0
    for place, mistake in enumerate(mistakes):
        elapsed = clock() - start
        if len(maps) >= affordable or elapsed + elapsed / max(1, len(maps)) > most_seconds:
            break
        left = mistakes[place + 1 :]
        found = _explain(predictor, record_of.get(mistake.image), mistake, lambda: on_event("progress", {}))
        if found is None:
            unreadable.append(mistake.image)
        else:
            maps.append(_to_map(found, mistake, record_of[mistake.image], predictor.preprocess.resize == "squash"))
            unit, strong = found.unit, found.strong
    per_map = (clock() - start) / len(maps) if maps else seconds
    return MistakeMaps(
        tuple(maps), unit, strong, _describe_left_out(len(mistakes), left, unreadable, per_map, most_seconds)
    )


def _time_answer(predictor: Predictor, clock: Callable[[], float]) -> float:
    """Return how many seconds an answer takes; the first one, which also prepares the network, does not count."""
    pixels_CHW = np.zeros((3, predictor.preprocess.height_px, predictor.preprocess.width_px), np.float32)
    predictor.answer_pixels(pixels_CHW)
    start = clock()
    predictor.answer_pixels(pixels_CHW)
    return clock() - start


def _explain(
    predictor: Predictor, record: ImageRecord | None, mistake: WorstMistake, on_part: Callable[[], None]
) -> Explanation | None:
    """Return the explanation of a mistake, None where the image cannot be read any more."""
    if record is None:
        return None
    labels = [mistake.label, *mistake.others][:MOST_LABELS]
    try:
        return explain(predictor, record.source, labels, name=record.id, regions=record.regions, on_part=on_part)
    except DataError:
        return None


def _to_map(found: Explanation, mistake: WorstMistake, record: ImageRecord, is_squashed: bool) -> MistakeMap:
    """Return the map of a mistake over the image in its own shape; cropped or padded, as the model sees it."""
    width_px, height_px = image_size_px(record.source) if is_squashed else found.shown.size
    shrink = _PICTURE_PX / max(width_px, height_px)
    size_px = max(1, round(width_px * shrink)), max(1, round(height_px * shrink))
    return MistakeMap(
        mistake.image,
        mistake.label,
        np.asarray(found.shown.resize(size_px)),
        found.maps_KHW[found.labels.index(mistake.label)],
        found.find_peak(mistake.label),
        found.doubts[mistake.label],
    )


def _describe_left_out(
    num_mistakes: int, left: Sequence[WorstMistake], unreadable: Sequence[str], seconds: float, most_seconds: float
) -> str:
    """Return why mistakes have no map; "" where all that were looked at have one."""
    sentences = []
    if unreadable and len(unreadable) == num_mistakes:
        sentences.append("There are no maps of what speaks for a label: the image files were not at hand.")
    elif unreadable:
        sentences.append(f"These images could not be read, and have no map: {join_names(list(unreadable))}.")
    if left:
        sentences.append(
            f"{len(left)} of the {num_mistakes} mistakes that maps were meant for have none: one map takes "
            f"{seconds:.1f} s, and all together may take {most_seconds:.0f} s. 'manylabel explain' draws them."
        )
    return " ".join(sentences)
