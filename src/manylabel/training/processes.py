"""Several processes that train one model: what they share out, add up, and agree on.

Each takes its share of every batch (`loading.Share`). Their gradients are added up by our own hand and not by torch's
DistributedDataParallel: the loss is a mean over the known cells of the whole batch, a process may have no usable image
of it, and weights may learn in some epochs only. Nothing is pickled: what they tell each other is numbers and JSON.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState
from torch import Tensor, distributed, nn

from manylabel.errors import ConfigError, RunError, build_message
from manylabel.training.exchange import notice_lost_process
from manylabel.training.loading import Batch, Others, Share
from manylabel.training.norms import SharedNorms

_PATIENCE = timedelta(days=2)
"""One process may compute features, or write to a slow disk, for hours while the others wait."""

_BUCKET_NUMBERS = 2**24
"""Gradients travel in pieces of 64 MB at the most."""

_LAST_WORDS_SECONDS = 5.0

_LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""By these a process knows that it is one of several."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run as one of them sees them; by default it is alone, and every method is free.

    Each method that exchanges something has to be called by all processes, in the same order.
    """

    rank: int = 0
    count: int = 1
    group: distributed.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """What this process takes of every batch."""
        return Share(self.rank, self.count)

    def add_up(self, values: Sequence[float]) -> list[float]:
        """Return the sums of some numbers over all processes."""
        if self.count == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        with notice_lost_process():
            distributed.all_reduce(sums, group=self.group)
        return [float(value) for value in sums]

    def agree(self, *flags: bool) -> list[bool]:
        """Return for each flag whether at least one process says yes."""
        return [num_yes > 0 for num_yes in self.add_up(flags)]

    def gather_texts(self, text: str) -> list[str]:
        """Return the texts of all processes, in their order."""
        if self.count == 1:
            return [text]
        given = text.encode()
        sizes = self._gather_numbers(len(given))
        own = torch.from_numpy(np.frombuffer(given.ljust(max(sizes), b"\0"), np.uint8).copy())
        found = [torch.empty_like(own) for _ in sizes]
        with notice_lost_process():
            distributed.all_gather(found, own, group=self.group)
        return [row[:size].numpy().tobytes().decode() for row, size in zip(found, sizes, strict=True)]

    def gather_rows(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the rows of all processes below each other to the main one; the others get their own back.

        Shapes: [N, ...] with any N, the same further axes and kind of number everywhere.
        """
        if self.count == 1:
            return rows
        counts = self._gather_numbers(len(rows))
        own = torch.from_numpy(np.concatenate([rows, np.zeros((max(counts) - len(rows), *rows.shape[1:]), rows.dtype)]))
        found = [torch.empty_like(own) for _ in counts] if self.is_main else None
        with notice_lost_process():
            distributed.gather(own, found, dst=0, group=self.group)
        if found is None:
            return rows
        return np.concatenate([part[:count].numpy() for part, count in zip(found, counts, strict=True)])

    def ask_main(self, answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Let the main process compute something that JSON can hold, and return it to all."""
        if self.count == 1:
            return answer()
        found: dict[str, Any] = json.loads(self.gather_texts(json.dumps(answer()) if self.is_main else "")[0])
        return found

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every parameter the sum of its gradients over all processes; one without any stays without."""
        if self.count == 1:
            return
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        num_givers = self.add_up([parameter.grad is not None for parameter in learning])
        bucket: list[Tensor] = []
        for parameter, num in zip(learning, num_givers, strict=True):
            if num == 0:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if bucket and sum(map(Tensor.numel, bucket)) + parameter.numel() > _BUCKET_NUMBERS:
                _add_in_place(bucket)
                bucket = []
            bucket.append(parameter.grad)
        if bucket:
            _add_in_place(bucket)

    def complete(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Return a process's batches with what the others hold of them, and with the unusable rows of all."""
        if self.count == 1:
            yield from batches
            return
        for batch in batches:
            own = (len(batch), batch.num_known, len(batch) == 0, len(batch.bad_rows))
            *held, num_bad = (int(whole) - part for whole, part in zip(self.add_up(own), own, strict=True))
            bad_rows = batch.bad_rows
            if num_bad or bad_rows:
                texts = self.gather_texts(json.dumps(bad_rows))
                bad_rows = tuple((row, reason) for text in texts for row, reason in json.loads(text))
            yield replace(batch, bad_rows=bad_rows, others=Others(*held))

    def share_norms(self, device: torch.device) -> AbstractContextManager[Any]:
        """Return a context in which norms over a batch see the images of all processes; see `norms`."""
        return SharedNorms() if self.count > 1 and device.type == "cpu" else nullcontext()

    def gather_others(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of all processes but the main one to that one, as `NAME.RANK`."""
        found: dict[str, Tensor] = {}
        for name, tensor in own.items():
            rows = self.gather_rows(tensor.numpy()[None])
            found |= {f"{name}.{rank}": torch.from_numpy(rows[rank]) for rank in range(1, len(rows))}
        return found

    def check_same(self, facts: Mapping[str, str]) -> None:
        """Stop where the processes do not work on the same: another machine may hold other files.

        Raises:
            RunError: with what differs.
        """
        for rank, text in enumerate(self.gather_texts(json.dumps(dict(facts)))):
            other = json.loads(text)
            differing = [key for key in facts if facts[key] != other.get(key)]
            if differing:
                key = differing[0]
                problem = f"process {rank} has another {key} than process {self.rank}"
                do = "Start all with the same command, on the same files"
                raise RunError(build_message("train", problem, got=other.get(key), expected=repr(facts[key]), do=do))

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process run a block before the others do: what it puts on the disk they find there."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()

    def wait(self) -> None:
        """Wait until all processes have come as far."""
        self.add_up([0])

    def leave(self) -> None:
        """End the work of several: the main process goes on alone for as long as it likes, the others end here.

        Raises:
            SystemExit: with exit code 0, in all processes but the main one.
        """
        if self.count > 1:
            self.wait()
            distributed.destroy_process_group()
            for name in _LAUNCHER_VARIABLES:
                os.environ.pop(name, None)
        if not self.is_main:
            raise SystemExit(0)

    def _gather_numbers(self, own: int) -> list[int]:
        """Return one whole number of every process, in their order."""
        return [int(value) for value in self.add_up([own * (rank == self.rank) for rank in range(self.count)])]


ALONE = Processes()


@contextmanager
def join_processes() -> Iterator[Processes]:
    """Join the processes that torchrun or `accelerate launch` started; without them the process is alone.

    An error in one of them ends all: it is raised there, and the others end without a word. Inside another
    `join_processes` it gives the same processes again.
    """
    if not is_one_of_several():
        yield ALONE
        return
    if not distributed.is_initialized():
        # Accelerate takes the processor only when told to, also where there is nothing else.
        PartialState(cpu=must_use_processor(), timeout=_PATIENCE)
    processes = _build_processes()
    try:
        yield processes
    except Exception:
        if distributed.is_initialized() and not _is_first_to_fail(processes.rank):
            # The launcher ends the others once the first has left; until then that one has time to speak.
            time.sleep(_LAST_WORDS_SECONDS)
            raise SystemExit(1) from None
        raise


def is_one_of_several() -> bool:
    """Return whether a launcher started this process as one of several."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def must_use_processor() -> bool:
    """Return whether Accelerate has to be told that several processes share the processor."""
    return is_one_of_several() and not torch.cuda.is_available()


def check_alone(command: str) -> None:
    """Refuse several processes.

    Raises:
        ConfigError: a launcher started more than one.
    """
    with join_processes() as processes:
        if processes.count > 1:
            problem = f"{processes.count} processes were started, and this command uses one"
            raise ConfigError(build_message(command, problem, do="Start it without torchrun or accelerate launch"))


def _build_processes() -> Processes:
    # Small numbers and texts travel between processors, also where the gradients travel between GPUs.
    group = distributed.new_group(backend="gloo", timeout=_PATIENCE)
    assert isinstance(group, distributed.ProcessGroup), "every process is in it"
    return Processes(distributed.get_rank(), distributed.get_world_size(), group)


def _is_first_to_fail(rank: int) -> bool:
    """Return whether no other process has failed before this one, which is then the one to say why."""
    # torch has no public name for the store that all processes of a group share.
    store = distributed.distributed_c10d._get_default_store()
    try:
        first = store.compare_set("manylabel/failed", "", str(rank))
    except RuntimeError:
        return True  # the store went with the process that kept it: nobody else can speak
    return bool(first == str(rank).encode())


def _add_in_place(gradients: list[Tensor]) -> None:
    """Add up some gradients over all processes, in one exchange, on the device where they are."""
    flat = torch.cat([gradient.reshape(-1).float() for gradient in gradients])
    with notice_lost_process():
        distributed.all_reduce(flat)
    pieces = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, piece in zip(gradients, pieces, strict=True):
        gradient.copy_(piece.view(gradient.shape))
