from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from manylabel.data.annotations import Annotations, ImageRecord
from manylabel.labels.space import LabelSpace
from manylabel.labels.targets import Targets


@pytest.fixture
def build_table() -> Callable[..., Annotations]:
    """Return a function that makes a table of states (1 present, 0 absent, -1 unknown) and its label names."""

    def build(
        state_NL: Sequence[Sequence[int]],
        *names: str,
        groups: Sequence[str | None] = (),
        parts: Sequence[str | None] = (),
        extras: Sequence[Mapping[str, str]] = (),
    ) -> Annotations:
        records = tuple(
            ImageRecord(
                f"{row}.jpg",
                group=groups[row] if groups else None,
                part=parts[row] if parts else None,
                extras=extras[row] if extras else {},
            )
            for row in range(len(state_NL))
        )
        return Annotations(records, Targets.from_dense(np.array(state_NL)), LabelSpace(names))

    return build
