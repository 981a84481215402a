"""Checks of what several processes exchange: `test_processes.py` runs this file in each of them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

from manylabel.errors import RunError
from manylabel.training.loading import Batch
from manylabel.training.norms import SharedNorms, has_batch_norms
from manylabel.training.processes import Processes, join_processes


def check_exchange(processes: Processes) -> None:
    rank, count = processes.rank, processes.count
    assert processes.add_up([1, rank]) == [count, sum(range(count))]
    assert processes.agree(rank == 1, False) == [True, False]
    assert processes.gather_texts("é" * rank) == ["é" * other for other in range(count)]
    rows = np.full((rank, 2), rank, np.float32)  # process 0 has none
    found = processes.gather_rows(rows)
    assert found.tolist() == ([[i, i] for i in range(count) for _ in range(i)] if rank == 0 else rows.tolist())
    assert processes.gather_rows(np.zeros((0, 3), bool)).shape == (0, 3)
    assert processes.ask_main(lambda: {"rank": rank, "nan": float("nan")})["rank"] == 0
    others = processes.gather_others({"state": torch.tensor([rank, 7])})
    assert {key: value.tolist() for key, value in others.items()} == (
        {f"state.{other}": [other, 7] for other in range(1, count)} if rank == 0 else {}
    )
    processes.check_same({"seed": "1"})
    with pytest.raises(RunError, match=re.escape("has another seed than process")):
        processes.check_same({"seed": str(rank)})


def check_gradients(processes: Processes) -> None:
    parameters = [nn.Parameter(torch.zeros(2, 3)) for _ in range(4)]
    parameters[0].grad = torch.full((2, 3), float(processes.rank))
    if processes.rank == 1:
        parameters[1].grad = torch.ones(2, 3)
    parameters[3].requires_grad_(False)
    processes.add_gradients(parameters)
    total = float(sum(range(processes.count)))
    assert parameters[0].grad.tolist() == [[total] * 3] * 2
    assert parameters[1].grad is not None
    assert parameters[1].grad.tolist() == [[1.0] * 3] * 2, "one process has a gradient"
    assert parameters[2].grad is None, "no process has one"
    assert parameters[3].grad is None


def check_complete_batches(processes: Processes) -> None:
    rank = processes.rank
    bad_rows = ((9, "cut off"),) if rank == 1 else ()
    known_BL = torch.ones(rank, 2, dtype=torch.bool)
    (batch,) = processes.complete([Batch(known_BL, known_BL, known_BL, torch.arange(rank), bad_rows)])
    assert len(batch) == rank
    assert batch.num_usable == sum(range(processes.count))
    assert batch.num_known == 2 * batch.num_usable
    assert not batch.is_everywhere
    assert [tuple(bad) for bad in batch.bad_rows] == [(9, "cut off")], "all processes know it"


def check_norms(processes: Processes) -> None:
    """The statistics, the answers and the gradients of a batch in parts are torch's own of the whole batch."""
    generator = torch.Generator().manual_seed(0)
    whole = 3 + torch.randn(2 * processes.count + 1, 4, 5, 5, generator=generator, dtype=torch.float64)
    factor = torch.randn(whole.shape, generator=generator, dtype=torch.float64)
    share = slice(processes.rank, None, processes.count)
    results = []
    for rows in (slice(None), share):
        norm = nn.BatchNorm2d(4).double()
        assert has_batch_norms(norm)
        values = whole[rows].clone().requires_grad_()
        if rows is share:
            with SharedNorms():
                answer = norm(values)
        else:
            answer = norm(values)
        (answer * factor[rows]).sum().backward()
        if rows is share:
            processes.add_gradients(norm.parameters())
        results.append((norm, answer, values.grad))
    (one, answer, gradient), (part, part_answer, part_gradient) = results
    assert gradient is not None
    torch.testing.assert_close(part_answer, answer[share])
    torch.testing.assert_close(part_gradient, gradient[share])
    torch.testing.assert_close(part.running_mean, one.running_mean)
    torch.testing.assert_close(part.running_var, one.running_var)
    torch.testing.assert_close(part.weight.grad, one.weight.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(part.bias.grad, one.bias.grad, rtol=1e-5, atol=1e-5)
    with SharedNorms():
        torch.testing.assert_close(part.eval()(whole), one.eval()(whole))
    assert not has_batch_norms(part)


def main() -> None:
    with join_processes() as processes:
        check_exchange(processes)
        check_gradients(processes)
        check_complete_batches(processes)
        check_norms(processes)
        with join_processes() as again:
            assert (again.rank, again.count) == (processes.rank, processes.count)
        processes.leave()
    with join_processes() as processes:
        assert processes.count == 1, "who has left is alone"
    print("all is right")


if __name__ == "__main__":
    main()
