"""What differs between two tables is found, named, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from manylabel.data.annotations import Annotations, annotations_from_arrays
from manylabel.data.comparison import find_differences
from manylabel.data.regions import Region
from manylabel.labels.targets import Targets


def build() -> Annotations:
    return annotations_from_arrays(np.zeros((3, 4, 4), np.uint8), [["cat"], ["dog"], []], ["cat", "dog"])


def test_equal_tables_differ_in_nothing_in_whatever_order_of_rows() -> None:
    table = build()
    assert find_differences(table, table.select([2, 0, 1])) == {}


def test_every_kind_of_difference_is_named() -> None:
    table = build()
    record = replace(table.records[0], group="g", part="val", extras={"film": "x"}, regions=(Region("cat"),))
    other = replace(table, records=(record, *table.records[1:]))
    assert find_differences(table, other) == {
        "groups": "groups of 1 images: arrays/00000",
        "parts": "parts of 1 images: arrays/00000",
        "extra columns": "extra columns of 1 images: arrays/00000",
        "regions": "regions of 1 images: arrays/00000",
    }
    assert find_differences(table, table.select([0, 1])) == {
        "images": "images that only one of the two has: arrays/00002"
    }
    assert find_differences(table, table.rename({"cat": "lion"}))["labels"] == (
        "labels that only one of the two has: cat, lion"
    )
    unknown = replace(table, targets=Targets.from_columns([[0], [], []], 2, [[], [1], []]))
    assert find_differences(table, unknown) == {"cells": "cells whose state differs: 1"}


def test_an_empty_extra_is_none() -> None:
    table = build()
    records = tuple(replace(record, extras={"film": ""}) for record in table.records)
    assert find_differences(table, replace(table, records=records)) == {}
