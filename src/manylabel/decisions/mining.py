"""Rules that the data keep: proposals for a person, never applied unasked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.decisions.rules import Rule
from manylabel.labels.space import LabelSpace

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MinedRule:
    """A rule that the data keep: `support` images speak for it, `lift` says how far that is from chance."""

    rule: Rule
    support: int
    confidence: float
    lift: float


def mine_rules(
    truth_NL: BoolArray,
    known_NL: BoolArray,
    label_space: LabelSpace,
    *,
    min_support: int = 20,
    min_confidence: float = 0.99,
    min_lift: float = 1.5,
) -> list[MinedRule]:
    """Return rules that nearly all images keep, the best supported first; they are proposals, never applied unasked.

    `implies` needs `min_support` images that have both labels, and the second with at least `min_confidence` of the
    first and `min_lift` times as often as elsewhere. `forbids` needs `min_support` images that would have both by
    chance, and none that has; its lift is 0. That data never show something does not mean that it cannot be.

    Shapes: N images, L labels; only images in which both labels are known count.
    """
    present_NL = (truth_NL & known_NL).astype(np.float32)
    known = known_NL.astype(np.float32)
    both_LL = present_NL.T @ present_NL
    num_known_LL = known.T @ known
    first_LL = present_NL.T @ known  # images with a in which b is known
    with np.errstate(divide="ignore", invalid="ignore"):
        confidence_LL = both_LL / first_LL
        expected_LL = first_LL * first_LL.T / num_known_LL
        lift_LL = both_LL / expected_LL
    found = []
    names = label_space.names
    implies_LL = (both_LL >= min_support) & (confidence_LL >= min_confidence) & (lift_LL >= min_lift)
    np.fill_diagonal(implies_LL, False)
    for a, b in np.argwhere(implies_LL):
        rule = Rule("implies", (names[a],), (names[b],))
        found.append(MinedRule(rule, int(both_LL[a, b]), float(confidence_LL[a, b]), float(lift_LL[a, b])))
    for a, b in np.argwhere(np.triu((both_LL == 0) & (expected_LL >= min_support), 1)):
        rule = Rule("forbids", (names[a],), (names[b],))
        found.append(MinedRule(rule, int(expected_LL[a, b]), 1.0, 0.0))
    return sorted(found, key=lambda mined: -mined.support)


def write_rules(mined: Sequence[MinedRule]) -> str:
    """Return proposed rules as TOML that `load_rules` reads, each with what speaks for it."""
    blocks = []
    for one in mined:
        what = "images have both" if one.rule.kind == "implies" else "images would have both by chance, none has"
        values = {key: value for key, value in one.rule.to_dict().items() if key != "kind"}
        lines = [f"# {one.support} {what}; confidence {one.confidence:.3f}, lift {one.lift:.2f}", "[[rule]]"]
        lines += [f'kind = "{one.rule.kind}"']
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
        blocks.append("\n".join(lines))
    head = "# Proposed from data. Keep what must be so, delete what only happened to be so.\n\n"
    return head + "\n\n".join(blocks) + ("\n" if blocks else "")
