"""Every format of ours keeps the contract, the contract can be broken, and every format has its page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from manylabel.data.annotations import Annotations
from manylabel.data.formats.detect import FORMATS
from manylabel.data.formats.format import Evidence, ReadOptions
from manylabel.data.formats.saving import WRITABLE
from manylabel.data.formats.source import Source
from manylabel.errors import DataError
from manylabel.testing.formats import check_format

PAGES = Path(__file__).resolve().parents[2] / "docs" / "formats"


@pytest.mark.parametrize("name", WRITABLE)
def test_what_a_format_writes_it_reads_again(name: str, tmp_path: Path) -> None:
    assert check_format(FORMATS[name], tmp_path) >= 2


def test_a_format_that_loses_a_cell_is_found(tmp_path: Path) -> None:
    delimited = FORMATS["delimited"]

    def load(source: Source, options: ReadOptions) -> Annotations:
        table = delimited.load(source, options)
        return replace(table, targets=table.targets.select([0] * len(table)))

    with pytest.raises(AssertionError, match=r"table 0 \(plain\) came back otherwise: cells whose state differs"):
        check_format(replace(delimited, load=load), tmp_path)


def test_a_format_that_does_not_know_its_own_is_found(tmp_path: Path) -> None:
    def find_nothing(source: Source, options: ReadOptions) -> Evidence | None:  # noqa: ARG001 - the signature
        return None

    with pytest.raises(AssertionError, match="is not recognised by its own format"):
        check_format(replace(FORMATS["delimited"], find_evidence=find_nothing), tmp_path)


def test_a_format_that_refuses_a_plain_table_is_found(tmp_path: Path) -> None:
    def refuse(annotations: Annotations, path: Path) -> None:  # noqa: ARG001 - the signature
        raise DataError("no")

    with pytest.raises(AssertionError, match="table 0 is plain, and was refused: no"):
        check_format(replace(FORMATS["delimited"], save=refuse), tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_page(name: str) -> None:
    page = (PAGES / f"{name.replace('-', '_')}.md").read_text("utf-8")
    assert "manylabel inspect" in page
