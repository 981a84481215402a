"""How many labels an image gets: thresholds chosen for a goal and saved with the model; `GOALS` lists the goals."""

from __future__ import annotations

from collections.abc import Mapping

from manylabel.decisions.thresholds import Goal, choose_f1_thresholds, choose_half

GOALS: Mapping[str, Goal] = {
    "f1": choose_f1_thresholds,
    "half": choose_half,
}
"""What thresholds can be chosen for. A goal is a function of (probs_NL, truth_NL, known_NL) to `Thresholds`."""
