"""Deciding over HTTP: the labels for probabilities that a client has, with thresholds that it moved.

The policy of the model decides, rules and all, so that a page or a program never has to know how.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.reasons import decide_with_reasons, describe_moved
from manylabel.labels.space import LabelSpace
from manylabel.server.limits import MAX_IMAGES, MAX_JSON_CONTAINERS, MAX_JSON_DEPTH, RequestError, Ticket
from manylabel.server.model import ServedModel
from manylabel.server.multipart import clean_name

MAX_WAITING = 4
"""How many questions wait while one is decided."""

Answer = dict[str, Any] | list[dict[str, Any]]

_KEYS = ("probabilities", "thresholds")
# A string that never ends is one as well: looking for its end from each of its quotes would take for ever.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


@dataclass(frozen=True)
class Question:
    """Probabilities as predictions show them, and thresholds in the place of the model's own.

    Shapes: N images, L labels.
    """

    probs_NL: npt.NDArray[np.float32]
    moved: Mapping[str, float]
    is_list: bool


class Decider:
    """A thread of its own with a short queue of its own: questions take no place from images.

    A decision takes milliseconds, with 1,000 labels and 300 rules about 50 of them each 0.04 s, and with 2,000 such
    rules or 5,000 labels seconds: the deadline is looked at between images and not within one.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decide")
        self._open: list[Future[Answer]] = []

    async def decide(self, body: bytes, model: ServedModel, ticket: Ticket) -> Answer:
        """Return what `/decide` answers: a decision, or a list of them where the body has a list.

        Raises:
            RequestError: 400, 413 or 422, what is wrong with the body; 503, others wait already, or there was no time.
        """
        # One that was given up while it ran is open until it has ended.
        self._open = [each for each in self._open if not each.done()]
        if len(self._open) > MAX_WAITING:
            raise RequestError.for_now("busy", "Other questions wait to be decided; try again soon.")
        answer = self._thread.submit(_decide, body, model, ticket)
        self._open.append(answer)
        return await asyncio.wrap_future(answer)

    def stop(self) -> None:
        """Let a running decision end and take no more."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def _decide(body: bytes, model: ServedModel, ticket: Ticket) -> Answer:
    _check_time(ticket)
    own = model.predictor.policy
    question = read_question(body, own.label_space)
    policy = own.replace_thresholds(question.moved)
    notes = describe_moved(own) if policy.thresholds != own.thresholds else []
    answers = []
    for probs_L in question.probs_NL:
        _check_time(ticket)
        answers.append(_describe(policy, probs_L, model.digest, notes))
    return answers if question.is_list else answers[0]


def _check_time(ticket: Ticket) -> None:
    if ticket.is_worthless:
        raise RequestError.for_now("late", "The deadline passed before the labels were decided; try again later.")


def _describe(
    policy: DecisionPolicy, probs_L: npt.NDArray[np.float32], digest: str, notes: list[str]
) -> dict[str, Any]:
    decision, columns = decide_with_reasons(policy, probs_L), policy.label_space.index
    answer: dict[str, Any] = {
        "labels": list(decision.labels),
        "probabilities": {label: float(probs_L[columns(label)]) for label in decision.labels},
        "thresholds": {label: policy.thresholds[columns(label)] for label in decision.labels},
        "by_rules": [
            {"rule": effect.rule, "added": list(effect.added), "removed": list(effect.removed)}
            for effect in decision.by_rules
        ],
        "notes": notes,
        "model": digest,
    }
    return answer if decision.needs_person is None else {**answer, "needs_person": decision.needs_person}


# ---------------------------------------------------------------------------------------------------------------------
# Reading a body.
# ---------------------------------------------------------------------------------------------------------------------


def read_question(body: bytes, label_space: LabelSpace) -> Question:
    """Return what a body asks, once every label and number in it has been looked at.

    Raises:
        RequestError: 400 no JSON, 413 too many images, 422 nested too deep or not what it should hold.
    """
    values = _read_json(body)
    if not isinstance(values, dict):
        raise _wrong("wrong_type", "The JSON is not a table with 'probabilities', and 'thresholds' where some moved.")
    unknown = [key for key in values if key not in _KEYS]
    if unknown:
        raise _wrong(
            "unknown_field",
            f"There is no field '{clean_name(unknown[0])}'; there are {' and '.join(map(repr, _KEYS))}.",
        )
    tables, moved = values.get("probabilities"), values.get("thresholds", {})
    is_list = isinstance(tables, list)
    if isinstance(tables, dict):
        tables = [tables]
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise _wrong("wrong_type", "'probabilities' is not a table with a number for each label, or a list of them.")
    if len(tables) > MAX_IMAGES:
        raise RequestError(
            413, "too_many_images", f"The body has more than {MAX_IMAGES} images; send several requests."
        )
    if not isinstance(moved, dict):
        raise _wrong("wrong_type", "'thresholds' is not a table with a number for each label that is moved.")
    _check_numbers("threshold", moved, label_space)
    for table in tables:
        _check_numbers("probability", table, label_space)
        if len(table) < len(label_space):
            missing = clean_name(next(name for name in label_space if name not in table))
            raise _wrong("missing_label", f"The probability of '{missing}' is missing; those of all labels are needed.")
    probs_NL = np.array([[table[name] for name in label_space] for table in tables], np.float32)
    return Question(probs_NL, moved, is_list)


def _check_numbers(what: str, table: Mapping[str, Any], label_space: LabelSpace) -> None:
    for name, number in table.items():
        if name not in label_space:
            raise _wrong("unknown_label", f"The model has no label '{clean_name(name)}'; /labels lists them.")
        # A comparison with NaN is false; `true` is a number in Python and none in JSON.
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
            raise _wrong("wrong_number", f"The {what} of '{clean_name(name)}' is not a number from 0 to 1.")


def _wrong(kind: str, message: str) -> RequestError:
    return RequestError(422, kind, message)


def _read_json(body: bytes) -> Any:
    num, depth = _measure(body)
    if depth > MAX_JSON_DEPTH:
        raise _wrong("too_deep", f"The JSON has more than {MAX_JSON_DEPTH} tables and lists in one another.")
    if num > MAX_JSON_CONTAINERS:
        raise RequestError(
            413,
            "too_many_images",
            f"The JSON has more than {MAX_JSON_CONTAINERS} tables and lists, and {MAX_IMAGES} images need fewer; send "
            "several requests.",
        )
    try:
        return json.loads(body.decode(), object_pairs_hook=_read_table)
    except ValueError:  # no UTF-8, no JSON, or a number of thousands of digits
        raise RequestError(400, "broken", "The body is not JSON in UTF-8.") from None


def _read_table(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that stands twice: two readers could take two different values."""
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise _wrong("repeated", f"'{clean_name(key)}' stands twice in one table.")
        table[key] = value
    return table


def _measure(body: bytes) -> tuple[int, int]:
    """Return how many lists and tables begin, and how deep they stand in one another, without reading them.

    Example:
        >>> _measure(b"[" * 32 + b"]" * 32), _measure(b'["' + b"[" * 99 + b'", {}]')
        ((32, 32), (2, 2))
    """
    brackets = np.frombuffer(_STRING.sub(b"", body).translate(None, _NO_BRACKETS), np.uint8)
    begins = (brackets == ord("[")) | (brackets == ord("{"))
    depths = np.where(begins, 1, -1).astype(np.int32).cumsum()
    return int(begins.sum()), int(depths.max(initial=0))
