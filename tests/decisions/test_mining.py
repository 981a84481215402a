"""Rules that planted data keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from manylabel.decisions.mining import mine_rules, write_rules
from manylabel.decisions.rule_files import load_rules
from manylabel.labels.space import LabelSpace

SPACE = LabelSpace(("animal", "dog", "cat", "day", "night"))


def test_rules_that_the_data_keep_are_proposed_with_what_speaks_for_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth_NL = np.zeros((1000, 5), bool)
    truth_NL[:, 1] = rng.random(1000) < 0.2
    truth_NL[:, 0] = truth_NL[:, 1] | (rng.random(1000) < 0.2)  # dog implies animal
    truth_NL[:, 3] = rng.random(1000) < 0.5
    truth_NL[:, 4] = ~truth_NL[:, 3]  # never day and night
    mined = mine_rules(truth_NL, np.ones_like(truth_NL), SPACE)
    by_text = {str(one.rule): one for one in mined}
    assert set(by_text) == {"dog implies animal", "day forbids night"}
    num_dogs, num_animals = int(truth_NL[:, 1].sum()), int(truth_NL[:, 0].sum())
    assert by_text["dog implies animal"].support == num_dogs
    assert by_text["dog implies animal"].lift == pytest.approx(1000 / num_animals)
    path = tmp_path / "mined.toml"
    path.write_text(write_rules(mined), "utf-8")
    assert set(load_rules(path, SPACE)) == {one.rule for one in mined}


def test_unknown_cells_propose_no_rule() -> None:
    truth_NL, known_NL = np.ones((100, 5), bool), np.zeros((100, 5), bool)
    assert mine_rules(truth_NL, known_NL, SPACE) == []
    truth_NL[:50] = False
    known_NL[:, 0] = True
    assert mine_rules(truth_NL, known_NL, SPACE) == []
