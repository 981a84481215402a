"""Every head of ours keeps the contract, and each promise can be broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from manylabel.models.heads import HEADS, HeadKind, parse_head
from manylabel.models.heads.linear import build_linear_head
from manylabel.testing.heads import check_head


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "text",
    [
        *HEADS, "csra,num_heads=4,temperature=0", "ml_decoder,num_groups=1", "ml_decoder,num_groups=4,hidden=24",
        "query2label,num_layers=1",
    ],
)  # fmt: skip
def test_every_head_keeps_the_contract(text: str) -> None:
    name, settings = parse_head(text)
    check_head(HEADS[name], settings=settings)


@pytest.mark.parametrize("name", list(HEADS))
def test_every_head_keeps_it_through_the_export(name: str, tmp_path: Path) -> None:
    check_head(HEADS[name], onnx=tmp_path)
    assert (tmp_path / "head.onnx").is_file()


class Changed(nn.Module):
    """A linear head with a fault."""

    def __init__(self, num_features: int, prevalence_L: Sequence[float]) -> None:
        super().__init__()
        self.linear = build_linear_head(num_features, prevalence_L)

    def forward(self, features_BD: Tensor) -> Tensor:
        return self.change(self.linear(features_BD))

    def change(self, logits_BL: Tensor) -> Tensor:
        return logits_BL


def change_with(function: Callable[[Tensor], Tensor]) -> type[Changed]:
    class Faulty(Changed):
        def change(self, logits_BL: Tensor) -> Tensor:
            return function(logits_BL)

    return Faulty


class WithoutPrior(Changed):
    def __init__(self, num_features: int, prevalence_L: Sequence[float]) -> None:
        super().__init__(num_features, prevalence_L)
        nn.init.zeros_(self.linear.bias)


class BoundedFromThePrior(Changed):
    """Starts where it should and then stays within 1 of it."""

    def change(self, logits_BL: Tensor) -> Tensor:
        return self.linear.bias.detach() + torch.tanh(logits_BL - self.linear.bias)


class ProbabilitiesAtTheirOwnPrior(Changed):
    """What a bound of 0 and 1 does where the priors do not give it away."""

    def change(self, logits_BL: Tensor) -> Tensor:
        return torch.where(torch.arange(logits_BL.shape[1]) == 1, torch.sigmoid(logits_BL), logits_BL)


class HiddenState(Changed):
    def __init__(self, num_features: int, prevalence_L: Sequence[float]) -> None:
        super().__init__(num_features, prevalence_L)
        self.scale = 1 + 0.1 * torch.rand(())

    def change(self, logits_BL: Tensor) -> Tensor:
        return self.scale * logits_BL


class UnusedWeights(Changed):
    def __init__(self, num_features: int, prevalence_L: Sequence[float]) -> None:
        super().__init__(num_features, prevalence_L)
        self.forgotten = nn.Linear(2, 2)


class DeafLabel(Changed):
    def change(self, logits_BL: Tensor) -> Tensor:
        heard = torch.arange(logits_BL.shape[1]) != 3
        return torch.where(heard, logits_BL, self.linear.bias.expand_as(logits_BL))


class RandomInEvaluation(Changed):
    """Dropout that evaluation does not switch off."""

    def change(self, logits_BL: Tensor) -> Tensor:
        return logits_BL + 0.01 * torch.randn_like(logits_BL)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        pytest.param(
            change_with(torch.sigmoid), "label 0 starts at the logit 0.02, far from -3.89", id="probabilities"
        ),
        pytest.param(
            ProbabilitiesAtTheirOwnPrior,
            r"label 1 stays between 0\.\d+ and [01]\.\d+ whatever is learnt: probabilities are no logits",
            id="probabilities of one label",
        ),
        pytest.param(BoundedFromThePrior, r"label \d stays between", id="logits that cannot leave the prior"),
        pytest.param(
            change_with(lambda logits: logits[:, :, None]),
            r"five images: the shape is \(5, 9, 1\) and not \(5, 9\)",
            id="an axis too many",
        ),
        pytest.param(
            change_with(lambda logits: logits[:, :-1]), r"the shape is \(5, 8\) and not \(5, 9\)", id="a label too few"
        ),
        pytest.param(
            change_with(lambda logits: logits.squeeze(0)), r"one image: the shape is \(9,\)", id="one image squeezed"
        ),
        pytest.param(
            change_with(lambda logits: logits.double()), "the logits are torch.float64", id="another kind of number"
        ),
        pytest.param(change_with(lambda logits: logits / 0), "logits are not finite", id="infinite"),
        pytest.param(WithoutPrior, r"label 0 starts at the logit -?0\.\d\d, far from -3.89", id="without the prior"),
        pytest.param(RandomInEvaluation, "evaluation gives another answer the second time", id="random in evaluation"),
        pytest.param(
            change_with(lambda logits: logits + 0.1 * (logits - logits.mean(0))),
            r"logits depend on the other images of the batch, by up to 0\.\d+",
            id="images mixed",
        ),
        pytest.param(DeafLabel, "the logit of label 3 does not depend on the features", id="a label that is deaf"),
        pytest.param(UnusedWeights, "no logit depends on the weights forgotten.weight", id="weights without use"),
        pytest.param(HiddenState, "with its weights loaded, a new head gives other logits", id="state outside weights"),
        pytest.param(
            change_with(lambda logits: logits if torch.is_autocast_enabled("cpu") is False else logits / 0),
            "in bfloat16 logits are not finite",
            id="not safe in reduced precision",
        ),
    ],
)
def test_a_head_that_breaks_a_promise_is_found(build: type[Changed], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_head(HeadKind(build, "vector"))


def test_a_head_that_cannot_be_exported_is_found(tmp_path: Path) -> None:
    def branch(logits: Tensor) -> Tensor:
        return logits if logits.sum() != 0.123 else logits + 1

    check_head(HeadKind(change_with(branch), "vector"))
    with pytest.raises(
        AssertionError, match=r"the head does not come through the export: .* cannot be written as ONNX"
    ):
        check_head(HeadKind(change_with(branch), "vector"), onnx=tmp_path)


def test_a_head_that_takes_something_else_is_found() -> None:
    with pytest.raises(AssertionError, match="takes is 'maps', which is neither 'vector' nor 'tokens'"):
        check_head(HeadKind(build_linear_head, "maps"))  # type: ignore[arg-type]
