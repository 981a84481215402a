"""Groups of images that belong together: they stay in one part or fold, and are resampled as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

NO_GROUPS: Mapping[str, str] = MappingProxyType({})


def number_groups(images: Sequence[str], group_of: Mapping[str, str]) -> npt.NDArray[np.int64] | None:
    """Return a number for the group of each image; one without a group stands alone. None where no image has one.

    Example:
        >>> number_groups(["a", "b", "c", "d"], {"a": "x", "d": "x"}).tolist()
        [0, 1, 2, 0]
    """
    if not any(group_of.get(image) for image in images):
        return None
    names = [("group", group) if (group := group_of.get(image)) else ("image", image) for image in images]
    number_of = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([number_of[name] for name in names], np.int64)
