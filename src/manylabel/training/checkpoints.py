"""Checkpoints: everything a run needs to go on bit for bit, as safetensors with JSON in the header; never a pickle.

Two are kept, `last.safetensors` and `previous.safetensors`, and at every moment one of them is whole. Each holds the
best weights of its moment as well, so that falling back to the older one falls back in everything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from manylabel.errors import RunError, build_message, join_problems
from manylabel.files import describe_write_error, sync_folder, write_bytes_atomically
from manylabel.training.ema import averaged_state
from manylabel.training.events import OnEvent, tell_nobody

VERSION = 1
"""The format of the file; a newer one is refused."""

LAST_NAME, PREVIOUS_NAME, BEST_NAME = "last.safetensors", "previous.safetensors", "best.safetensors"
DAMAGED_NAME = "damaged.safetensors"

_MODEL, _AVERAGE, _OPTIMISER, _BEST = "model.", "average.", "optimiser.", "best."
_RANDOM, _RANDOM_CUDA = "random.cpu", "random.cuda"

_CHECKSUM_KEY = b'"checksum":"'
_NO_CHECKSUM = b"0" * 64


class DamagedError(RunError):
    """A checkpoint whose bytes are not those that were written."""


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

    What stood at `path` stands beside it as `previous.safetensors` afterwards. The best weights are taken over from
    `best.safetensors`.

    Args:
        identity: what has to be the same when the run goes on, such as the digests of data and settings.
        others: the random states of other processes of the run, as `NAME.RANK`.

    Raises:
        RunError: it cannot be written; what stood there before stands there still.
    """
    tensors = {_MODEL + key: tensor for key, tensor in model.state_dict().items()}
    if average is not None:
        tensors |= {_AVERAGE + key: tensor for key, tensor in average.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"{_OPTIMISER}{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
    tensors |= read_random_states() | dict(others if others is not None else {})
    if progress.best_epoch >= 0:
        tensors |= {_BEST + key: tensor for key, tensor in load_weights(path.with_name(BEST_NAME)).items()}
    facts = {"version": str(VERSION), "progress": json.dumps(asdict(progress)), "identity": json.dumps(dict(identity))}
    data = _to_bytes(tensors, facts)
    newest = path.with_name(f"{path.name}.partial")
    write_bytes_atomically(newest, data)
    try:
        if path.exists():
            path.replace(path.with_name(PREVIOUS_NAME))
        newest.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise RunError(describe_write_error(path, len(data), error)) from error
    finally:
        newest.unlink(missing_ok=True)


def has_checkpoint(path: Path) -> bool:
    """Return whether there is something to go on from, whole or not."""
    return any(candidate.exists() for candidate in _candidates(path))


def load_checkpoint(
    path: Path,
    model: nn.Module,
    average: AveragedModel | None,
    optimiser: torch.optim.Optimizer,
    identity: Mapping[str, str],
    tell: OnEvent = tell_nobody,
    rank: int = 0,
) -> Progress:
    """Put a run back where `save_checkpoint` left it; no file is changed.

    Where the newest checkpoint is damaged, a note says so and the one before it is taken.

    Args:
        rank: which of several processes this is; one that the checkpoint does not know keeps its random state.

    Raises:
        RunError: all are missing or damaged, or the checkpoint belongs to a run with other data or settings; the
            message says which.
    """
    source, tensors, metadata = _read_newest(path, tell)
    if "identity" not in metadata or "progress" not in metadata:
        raise RunError(build_message(source, "not a checkpoint of a run", do="Start a new run in another --out"))
    _check_identity(source, json.loads(metadata["identity"]), identity)
    try:
        model.load_state_dict(_strip(tensors, _MODEL))
        if average is not None:
            average.load_state_dict(_strip(tensors, _AVERAGE))
    except RuntimeError as error:
        problem = f"its weights are not those of this network ({' '.join(str(error).split())})"
        do = "Resume with the versions that config.json names, or start a new run in another --out"
        raise RunError(build_message(source, problem, do=do)) from error
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _strip(tensors, _OPTIMISER).items():
        index, key = name.split(".", 1)
        states.setdefault(int(index), {})[key] = _lay_out_like(tensor, parameters[int(index)])
    optimiser.load_state_dict(
        {"state": dict(sorted(states.items())), "param_groups": optimiser.state_dict()["param_groups"]}
    )
    suffix = f".{rank}" if rank else ""
    if _RANDOM + suffix in tensors:
        torch.random.set_rng_state(tensors[_RANDOM + suffix])
    if _RANDOM_CUDA + suffix in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors[_RANDOM_CUDA + suffix])
    return Progress(**json.loads(metadata["progress"]))


def mend_checkpoints(path: Path) -> None:
    """Bring the files beside a checkpoint to its moment, before a run goes on from it.

    A damaged newest one moves to `damaged.safetensors`, so that it never takes the place of a whole one, and
    `best.safetensors` becomes what it was then: a run that was killed may have written a newer one.

    Raises:
        RunError: all checkpoints are missing or damaged, or the folder cannot be written.
    """
    source, tensors, metadata = _read_newest(path, tell_nobody)
    best, weights = path.with_name(BEST_NAME), _strip(tensors, _BEST)
    try:
        if source != path and path.exists():
            path.replace(path.with_name(DAMAGED_NAME))
        if not weights:
            best.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(describe_write_error(path, 0, error)) from error
    if weights:
        save_weights(best, weights, {"epoch": str(json.loads(metadata["progress"])["best_epoch"])})


def read_random_states() -> dict[str, Tensor]:
    """Return the states of torch's generators in this process, by the names that they have in a checkpoint."""
    states = {_RANDOM: torch.random.get_rng_state()}
    return states | ({_RANDOM_CUDA: torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def save_weights(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors alone as safetensors, whole or not at all, with a checksum: the format itself has none."""
    write_bytes_atomically(path, _to_bytes(state, metadata if metadata is not None else {}))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read weights alone.

    Raises:
        RunError: the file is missing, damaged or was not written by `save_weights`.
    """
    try:
        return _read(path)[0]
    except DamagedError as error:
        raise RunError(
            f"{error} Give the same command with --resume: the checkpoint holds these weights too."
        ) from error


def restore_best(model: nn.Module, average: AveragedModel | None, path: Path, progress: Progress) -> bool:
    """Give a model the weights of the best epoch; before the first epoch has ended, those of the last step.

    Returns: whether an epoch has ended.
    """
    has_best = progress.best_epoch >= 0
    model.load_state_dict(load_weights(path) if has_best else averaged_state(model, average))
    model.eval()
    return has_best


def _candidates(path: Path) -> tuple[Path, Path]:
    """Return where a checkpoint may stand, the newest first."""
    return path, path.with_name(PREVIOUS_NAME)


def _read_newest(path: Path, tell: OnEvent) -> tuple[Path, dict[str, Tensor], dict[str, str]]:
    """Return the newest checkpoint that is whole, and where it stands; one that is newer and damaged is told."""
    damages: list[str] = []
    for candidate in _candidates(path):
        try:
            found = _read(candidate)
        except DamagedError as error:
            damages.append(str(error))
            continue
        if damages:
            tell("note", {"message": f"Warning: {damages[0]} The run goes on from the one before it, {candidate}."})
        return candidate, *found
    if not has_checkpoint(path):
        raise RunError(build_message(path, "there is no checkpoint", do="Start the run without --resume"))
    do = "Copy a whole one there from a backup, or start a new run in another --out; nothing was changed"
    raise RunError("\n".join([*damages, build_message(path.parent, "no checkpoint is left to go on from", do=do)]))


def _check_identity(path: Path, saved: Mapping[str, str], identity: Mapping[str, str]) -> None:
    """Stop where a run is another one.

    Raises:
        RunError: with everything that differs.
    """
    problems = [
        build_message(path, f"the run was started with another {key}", got=given, expected=repr(saved.get(key)))
        for key, given in identity.items()
        if saved.get(key) != given
    ]
    if problems:
        do = "Resume with the same data and settings, or start a new run in another --out."
        separator = " " if len(problems) == 1 else "\n"
        raise RunError(join_problems(problems, limit=len(problems)) + separator + do)


def _to_bytes(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file that holds the SHA-256 of itself, taken with zeros in the checksum's place."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    data = to_safetensors(tensors, {**metadata, "checksum": _NO_CHECKSUM.decode()})
    checksum = hashlib.sha256(data).hexdigest().encode()
    return data.replace(_CHECKSUM_KEY + _NO_CHECKSUM, _CHECKSUM_KEY + checksum, 1)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata of a file; nothing of it is looked at before its checksum fits."""
    if not path.exists():
        raise DamagedError(build_message(path, "the checkpoint is missing"))
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror if error.strerror else str(error)
        raise RunError(build_message(path, f"cannot be read ({reason})", do="Make it readable")) from error
    start = data.find(_CHECKSUM_KEY) + len(_CHECKSUM_KEY)
    end = start + len(_NO_CHECKSUM)
    digest = hashlib.sha256(memoryview(data)[:start])
    digest.update(_NO_CHECKSUM)
    digest.update(memoryview(data)[end:])
    if data[start:end] != digest.hexdigest().encode():
        raise DamagedError(_describe_damage(path, "its checksum does not fit"))
    try:
        tensors = from_safetensors(data)
        metadata: dict[str, str] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedError(_describe_damage(path, str(error))) from error
    version = int(metadata.get("version", VERSION))
    if version > VERSION:
        problem = "the checkpoint was written by a newer manylabel"
        do = "Install the version that config.json names, or start a new run in another --out"
        raise RunError(build_message(path, problem, got=version, expected=f"version {VERSION}", do=do))
    return tensors, metadata


def _describe_damage(path: Path, reason: str) -> str:
    return build_message(path, f"the checkpoint is damaged ({reason})")


def _strip(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _lay_out_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a tensor in the memory order of its parameter: the optimiser's kernel walks through both end to end."""
    return torch.empty_like(parameter, device="cpu").copy_(tensor) if tensor.shape == parameter.shape else tensor
