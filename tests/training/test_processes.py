"""Several processes: what one of them takes, weighs and adds up; those that need others run in `torchrun`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from manylabel.losses.cells import mean_over_known
from manylabel.training.config import TrainConfig
from manylabel.training.loading import Batch, EpochSampler, Others
from manylabel.training.loop import LoopParts, is_enough, train_step
from manylabel.training.processes import ALONE, join_processes

TOGETHER = Path(__file__).with_name("together.py")


def build_part(values_BF: list[list[float]], known_BL: list[list[int]], others: Others = Others()) -> Batch:  # noqa: B008 - frozen
    known = torch.tensor(known_BL, dtype=torch.bool)
    return Batch(torch.tensor(values_BF), torch.zeros(known.shape), known, torch.arange(len(values_BF)), (), others)


def mean_of_logits(logits_BL: Tensor, _: Tensor, known_BL: Tensor) -> Tensor:
    """The simplest mean over known cells: its gradient can be worked by hand."""
    return mean_over_known(logits_BL, known_BL)


def take_step(*batches: Batch) -> tuple[float, Tensor]:
    """Return the loss and the gradient of a network of two weights, both 1, one for each label."""
    model: Any = nn.Linear(1, 2, bias=False)
    nn.init.ones_(model.weight)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
    config = TrainConfig(clip_norm=0.0)
    AcceleratorState._reset_state(reset_partial_state=True)  # runs of other tests may have left their precision
    parts = LoopParts(
        config, Accelerator(cpu=True), model, None, optimiser, mean_of_logits, EpochSampler(1, 0), None, None, Path(),  # type: ignore[arg-type]
        memory_format=torch.contiguous_format,
    )  # fmt: skip
    loss = train_step(parts, batches, mean_of_logits)
    return loss, model.weight.grad.flatten()


def test_a_part_weighs_as_much_as_its_known_cells() -> None:
    """Worked by hand: images 2, 4, 6 with the known cells a b, b, a b; five cells whose mean is 4.

    The gradient of a is (2 + 6) / 5, that of b (2 + 4 + 6) / 5.
    """
    loss, gradient = take_step(build_part([[2.0], [4.0], [6.0]], [[1, 1], [0, 1], [1, 1]]))
    assert loss == pytest.approx(4.0)
    assert gradient.tolist() == pytest.approx([1.6, 2.4])
    first = take_step(build_part([[2.0]], [[1, 1]], Others(num_usable=2, num_known=3)))
    second = take_step(build_part([[4.0], [6.0]], [[0, 1], [1, 1]], Others(num_usable=1, num_known=2)))
    assert (first[0], second[0]) == pytest.approx((4 / 5, 16 / 5))
    assert first[1].tolist() == pytest.approx([0.4, 0.4])
    assert (first[1] + second[1]).tolist() == pytest.approx([1.6, 2.4])


def test_a_part_without_a_known_cell_adds_nothing() -> None:
    loss, gradient = take_step(build_part([[2.0]], [[0, 0]], Others(num_usable=1, num_known=2)))
    assert loss == 0
    assert gradient.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("num_own", "others", "is_enough_for_norms", "is_enough_without"),
    [
        pytest.param(2, Others(), True, True, id="alone with two images"),
        pytest.param(1, Others(), False, True, id="alone with one image"),
        pytest.param(1, Others(num_usable=1), True, True, id="one image in each of two processes"),
        pytest.param(0, Others(num_usable=3), False, True, id="none here"),
        pytest.param(3, Others(num_usable=3, num_idle=1), False, True, id="none elsewhere"),
        pytest.param(0, Others(num_idle=1), False, False, id="none anywhere"),
    ],
)
def test_norms_need_two_images_and_one_in_every_process(
    num_own: int, others: Others, is_enough_for_norms: bool, is_enough_without: bool
) -> None:
    batch = Batch(
        torch.zeros(num_own, 1), torch.zeros(num_own, 2), torch.ones(num_own, 2) > 0, torch.arange(num_own), (), others
    )
    assert is_enough(batch, least_images=2) == is_enough_for_norms
    assert is_enough(batch, least_images=1) == is_enough_without


def test_alone_nothing_is_exchanged() -> None:
    with join_processes() as processes:
        assert processes is ALONE
    batch = build_part([[2.0]], [[1, 1]])
    assert list(ALONE.complete([batch])) == [batch]
    assert ALONE.add_up([1, 2.5]) == [1, 2.5]
    assert ALONE.gather_texts("ä") == ["ä"]
    assert ALONE.ask_main(lambda: {"answer": 1}) == {"answer": 1}
    assert ALONE.gather_others({"random.cpu": torch.zeros(3)}) == {}
    ALONE.check_same({"seed": "1"})
    with ALONE.main_first():
        ALONE.leave()


@pytest.mark.scenario  # two more processes import torch
@pytest.mark.parametrize("count", [2, 3])
def test_what_processes_exchange_is_right(count: int) -> None:
    """The file checks itself in every process."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(count), str(TOGETHER)]
    told = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout == "all is right\n", "only the main process comes to the end"
