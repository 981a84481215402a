"""Checkpoints: everything a run needs to go on bit for bit, as safetensors with JSON in the header; never a pickle."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from manylabel.errors import RunError, build_message
from manylabel.files import write_bytes_atomically
from manylabel.training.ema import averaged_state

_MODEL, _AVERAGE, _OPTIMISER = "model.", "average.", "optimiser."
_RANDOM, _RANDOM_CUDA = "random.cpu", "random.cuda"


@dataclass
class Progress:
    """How far a run is: the epoch under way, the images of it that are done, and the best epoch so far."""

    epoch: int = 0
    images_done: int = 0
    step: int = 0
    loss_sum: float = 0.0
    num_seen: int = 0
    best_value: float = float("nan")
    best_epoch: int = -1
    is_finished: bool = False
    num_processes: int = 1
    history: list[dict[str, Any]] = field(default_factory=list)
    bad_images: dict[str, str] = field(default_factory=dict)


def save_checkpoint(
    path: Path,
    model: nn.Module,
    average: AveragedModel | None,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    identity: Mapping[str, str],
    others: Mapping[str, Tensor] | None = None,
) -> None:
    """Write weights, moving average, optimiser, random state and progress in one file, whole or not at all.

    Args:
        identity: what has to be the same when the run goes on, such as the digests of data and settings.
        others: the random states of other processes of the run, as `NAME.RANK`.
    """
    tensors = {_MODEL + key: tensor for key, tensor in model.state_dict().items()}
    if average is not None:
        tensors |= {_AVERAGE + key: tensor for key, tensor in average.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"{_OPTIMISER}{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
    tensors |= read_random_states() | dict(others if others is not None else {})
    save_weights(path, tensors, {"progress": json.dumps(asdict(progress)), "identity": json.dumps(dict(identity))})


def load_checkpoint(
    path: Path,
    model: nn.Module,
    average: AveragedModel | None,
    optimiser: torch.optim.Optimizer,
    identity: Mapping[str, str],
    rank: int = 0,
) -> Progress:
    """Put a run back where `save_checkpoint` left it.

    Args:
        rank: which of several processes this is; one that the checkpoint does not know keeps its random state.

    Raises:
        RunError: the file is missing or damaged, or belongs to a run with other data or settings; the message says
            which.
    """
    tensors, metadata = _read(path)
    if "identity" not in metadata or "progress" not in metadata:
        raise RunError(build_message(path, "not a checkpoint of a run", do="Start a new run in another --out"))
    saved = json.loads(metadata["identity"])
    differing = [key for key in identity if saved.get(key) != identity[key]]
    if differing:
        key = differing[0]
        raise RunError(
            build_message(
                path, f"the run was started with another {key}", got=identity[key], expected=repr(saved.get(key)),
                do="Resume with the same data and settings, or start a new run in another --out",
            )
        )  # fmt: skip
    model.load_state_dict(_strip(tensors, _MODEL))
    if average is not None:
        average.load_state_dict(_strip(tensors, _AVERAGE))
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _strip(tensors, _OPTIMISER).items():
        index, key = name.split(".", 1)
        states.setdefault(int(index), {})[key] = _lay_out_like(tensor, parameters[int(index)])
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
    suffix = f".{rank}" if rank else ""
    if _RANDOM + suffix in tensors:
        torch.random.set_rng_state(tensors[_RANDOM + suffix])
    if _RANDOM_CUDA + suffix in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors[_RANDOM_CUDA + suffix])
    return Progress(**json.loads(metadata["progress"]))


def read_random_states() -> dict[str, Tensor]:
    """Return the states of torch's generators in this process, by the names that they have in a checkpoint."""
    states = {_RANDOM: torch.random.get_rng_state()}
    return states | ({_RANDOM_CUDA: torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def save_weights(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors alone as safetensors, whole or not at all, with a checksum: the format itself has none."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    facts = dict(metadata) if metadata is not None else {}
    write_bytes_atomically(path, to_safetensors(tensors, facts | {"checksum": _sum_up(tensors)}))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read weights alone.

    Raises:
        RunError: the file is missing, damaged or was not written by `save_weights`.
    """
    return _read(path)[0]


def restore_best(model: nn.Module, average: AveragedModel | None, path: Path, progress: Progress) -> bool:
    """Give a model the weights of the best epoch; before the first epoch has ended, those of the last step.

    Returns: whether an epoch has ended.
    """
    has_best = progress.best_epoch >= 0
    model.load_state_dict(load_weights(path) if has_best else averaged_state(model, average))
    model.eval()
    return has_best


def _sum_up(tensors: Mapping[str, Tensor]) -> str:
    checksum = 0
    for key in sorted(tensors):
        checksum = zlib.crc32(tensors[key].reshape(-1).view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"


def _strip(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise RunError(build_message(path, "there is no checkpoint", do="Start the run without --resume"))
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except SafetensorError as error:
        raise RunError(_describe_damage(path, str(error))) from error
    if metadata.get("checksum", "") != _sum_up(tensors):
        raise RunError(_describe_damage(path, "its checksum does not fit"))
    return tensors, metadata


def _describe_damage(path: Path, reason: str) -> str:
    return build_message(path, f"the checkpoint is damaged ({reason})", do="Start a new run in another --out")


def _lay_out_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a tensor in the memory order of its parameter: the optimiser's kernel walks through both end to end."""
    return torch.empty_like(parameter, device="cpu").copy_(tensor) if tensor.shape == parameter.shape else tensor
