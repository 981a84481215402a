"""The training loop, top to bottom. Nothing can hook into it: `on_event` is told, `should_stop` is asked."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from manylabel.data.annotations import Annotations
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.thresholds import HALF
from manylabel.errors import ConfigError, RunError, build_message, join_names, join_problems
from manylabel.losses import Loss, loss_at
from manylabel.losses.label_smoothing import smooth_labels
from manylabel.metrics.summary import LOWER_IS_BETTER, summarise
from manylabel.models.classifier import Classifier
from manylabel.models.scoring import logits_to_probs
from manylabel.training.checkpoints import Progress, read_random_states, save_checkpoint, save_weights
from manylabel.training.config import TrainConfig
from manylabel.training.ema import averaged_state
from manylabel.training.events import OnEvent
from manylabel.training.features import FeatureDataset, FeatureLoader
from manylabel.training.history import save_history
from manylabel.training.loading import Batch, EpochSampler, ImageDataset, Waiting, describe_waiting
from manylabel.training.norms import has_batch_norms
from manylabel.training.optim import schedule_share, set_backbone_learning, set_learning_rate
from manylabel.training.processes import ALONE, Processes
from manylabel.training.slow_kernels import avoid_slow_kernels


@dataclass(frozen=True)
class LoopParts:
    """What the loop works on; built by `runs.train`, or by anyone."""

    config: TrainConfig
    accelerator: Accelerator
    model: Classifier
    average: AveragedModel | None
    optimiser: torch.optim.Optimizer
    loss: Loss
    sampler: EpochSampler
    train_loader: DataLoader[Any] | FeatureLoader
    val_loader: DataLoader[Any] | FeatureLoader
    folder: Path
    identity: Mapping[str, str] = field(default_factory=dict)
    memory_format: torch.memory_format = torch.channels_last
    processes: Processes = ALONE

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Compute in the numbers of the run, where their kernels are fast."""
        accelerator = self.accelerator
        with accelerator.autocast(), avoid_slow_kernels(accelerator.device, accelerator.mixed_precision):
            yield

    def save(self, progress: Progress) -> None:
        """Write the checkpoint from which the run goes on bit for bit."""
        progress.num_processes = self.processes.count
        others = self.processes.gather_others(read_random_states())
        if self.processes.is_main:
            path = self.folder / "last.safetensors"
            save_checkpoint(path, self.model, self.average, self.optimiser, progress, self.identity, others)


def run_loop(parts: LoopParts, progress: Progress, on_event: OnEvent, should_stop: Callable[[], bool]) -> str:
    """Train until the epochs are over, the metric stops rising, or somebody says stop.

    After every epoch the validation images are judged, the best weights so far are kept, and a checkpoint is written
    from which the run goes on bit for bit; a stop and every `checkpoint_minutes` write one between two steps too. A
    stop during validation leaves it out: the run goes on with it.

    Returns: `finished`, `early` (no better epoch for `patience` epochs) or `stopped`.

    Raises:
        ConfigError: the norms of the backbone cannot learn from batches of one image.
        RunError: the loss is not finite, or too many images cannot be read.
    """
    config, model = parts.config, parts.model
    num_images = parts.sampler.num_images
    num_steps = config.epochs * math.ceil(num_images / (config.batch_size * config.accumulate))
    saved_at = time.perf_counter()
    while progress.epoch < config.epochs:
        started, already_seen = time.perf_counter(), progress.num_seen
        parts.sampler.start_epoch(progress.epoch, start=progress.images_done)
        model.train()
        is_backbone_held = config.freeze == "backbone" or progress.epoch < config.head_epochs
        set_backbone_learning(parts.optimiser, not is_backbone_held)
        if is_backbone_held:
            model.backbone.eval()  # held also means that its norms keep their statistics
        least_images = count_least_images(model, min(config.batch_size, num_images))
        waiting, rate = Waiting(parts.train_loader), 0.0
        for batches in group_batches(parts.processes.complete(waiting), config.accumulate):
            for batch in batches:
                note_bad_images(batch, parts.train_loader, progress, config)
            share = schedule_share(progress.step / num_steps, config.warmup, config.schedule)
            set_learning_rate(parts.optimiser, share)
            usable = [batch for batch in batches if is_enough(batch, least_images)]
            if usable:
                value = train_step(parts, usable, loss_at(parts.loss, progress.step / num_steps))
                check_finite(value, "the loss or its gradient", progress, config, usable[0], parts.train_loader)
                num_usable = sum(batch.num_usable for batch in usable)
                progress.loss_sum += value * num_usable
                progress.num_seen += num_usable
            progress.step += 1
            progress.images_done += sum(batch.num_usable + len(batch.bad_rows) for batch in batches)
            mean_loss = progress.loss_sum / max(progress.num_seen, 1)
            rate = (progress.num_seen - already_seen) / (time.perf_counter() - started)
            on_event("step", {"epoch": progress.epoch, "step": progress.step, "num_steps": num_steps, "loss": mean_loss,
                              "images_done": progress.images_done, "images_per_second": rate})  # fmt: skip
            must_stop, must_save = parts.processes.agree(should_stop(), is_due(saved_at, config.checkpoint_minutes))
            if must_stop or must_save:
                parts.save(progress)
                saved_at = time.perf_counter()
            if must_stop:
                return "stopped"
        train_seconds = time.perf_counter() - started
        if not progress.history:
            on_event("note", {"message": describe_waiting(waiting.seconds, train_seconds, config.workers)})
        metrics = validate(parts, progress, on_event, should_stop)
        if metrics is None:
            parts.save(progress)
            return "stopped"
        value = metrics[f"val_{config.monitor}"]
        is_best = is_better(value, progress.best_value, config.monitor)
        if is_best:
            progress.best_value, progress.best_epoch = value, progress.epoch
            if parts.processes.is_main:
                weights = averaged_state(model, parts.average)
                save_weights(parts.folder / "best.safetensors", weights, {"epoch": str(progress.epoch)})
        share = schedule_share(max(progress.step - 1, 0) / num_steps, config.warmup, config.schedule)
        row = {"epoch": progress.epoch, "step": progress.step, "lr": config.lr * share,
               "train_loss": progress.loss_sum / max(progress.num_seen, 1),
               **metrics, "monitor": config.monitor, "is_best": is_best, "images_per_second": rate,
               "waiting_seconds": waiting.seconds, "train_seconds": train_seconds,
               "seconds": time.perf_counter() - started}  # fmt: skip
        progress.history.append(row)
        is_early = 0 < config.patience <= progress.epoch - progress.best_epoch
        progress.epoch, progress.images_done, progress.loss_sum, progress.num_seen = progress.epoch + 1, 0, 0.0, 0
        progress.is_finished = is_early or progress.epoch == config.epochs
        parts.save(progress)  # first: a run that goes on writes the history of its checkpoint
        saved_at = time.perf_counter()
        if parts.processes.is_main:
            save_history(parts.folder.parent / "history.jsonl", progress.history)
        on_event("epoch", row)
        if is_early:
            return "early"
        if parts.processes.agree(should_stop())[0] and not progress.is_finished:
            return "stopped"
    return "finished"


def is_due(saved_at: float, minutes: float) -> bool:
    """Return whether the last checkpoint is older than that many minutes; 0 waits for the end of the epoch."""
    return 0 < 60 * minutes <= time.perf_counter() - saved_at


def count_least_images(model: Classifier, batch_size: int) -> int:
    """Return how many images a batch needs to be learnt from: two where norms are taken over the batch, else one.

    Raises:
        ConfigError: no batch can have as many.
    """
    least_images = 2 if has_batch_norms(model) else 1
    if batch_size < least_images:
        raise ConfigError(
            build_message(
                "batch_size",
                "this backbone normalises over the images of a batch, and cannot learn from one alone",
                expected="at least 2 images in a batch, and in the training table",
                do="Raise --batch-size, or keep the norms as they are with --freeze backbone",
            )
        )
    return least_images


def is_enough(batch: Batch, least_images: int) -> bool:
    """Return whether a batch can be learnt from: norms over it also need an image of it in every process."""
    return batch.num_usable >= least_images and (least_images == 1 or batch.is_everywhere)


def group_batches(loader: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Return the batches of an epoch in groups, one for each step; the last group may be smaller."""
    batches = iter(loader)
    while group := list(islice(batches, size)):
        yield group


def train_step(parts: LoopParts, batches: Sequence[Batch], loss_now: Loss) -> float:
    """Take one step on batches as if they were one, and return their loss; what is not finite changes no weight.

    Each batch counts by its known cells, and so does each process's part of it: a loss that is a mean over them comes
    out as that of one large batch in one process.

    Returns: the loss, or what is not finite: it or the norm of its gradient.
    """
    config, value = parts.config, 0.0
    num_known = max(sum(batch.num_known for batch in batches), 1)
    parts.optimiser.zero_grad(set_to_none=True)
    for batch in batches:
        if not len(batch):
            continue  # other processes have some of it
        share = int(batch.known_BL.sum()) / num_known
        on_device = batch.to(parts.accelerator.device, parts.memory_format)
        truth_BL = smooth_labels(on_device.truth_BL, config.label_smoothing)
        with parts.autocast(), parts.processes.share_norms(parts.accelerator.device):
            loss = share * loss_now(parts.model(on_device.images_BCHW), truth_BL, on_device.known_BL)
        value += float(loss.detach())
        parts.accelerator.backward(loss)
    (value,) = parts.processes.add_up([value])
    if not math.isfinite(value):
        return value
    parts.processes.add_gradients(parts.model.parameters())
    largest_norm = config.clip_norm if config.clip_norm > 0 else math.inf
    norm = float(nn.utils.clip_grad_norm_(parts.model.parameters(), largest_norm))
    if not math.isfinite(norm):
        return norm
    parts.optimiser.step()
    if parts.average is not None:
        parts.average.update_parameters(parts.model)
    return value


@torch.inference_mode()
def validate(
    parts: LoopParts, progress: Progress, on_event: OnEvent, should_stop: Callable[[], bool]
) -> dict[str, float] | None:
    """Return the loss and every metric of the validation images at a threshold of one half, as `val_NAME`.

    The real thresholds are chosen once, after training: an epoch is chosen by a metric that needs none, or at one half.

    Returns: the figures; None where somebody said stop.
    """
    model = parts.model if parts.average is None else parts.average.module
    model.eval()
    dataset = parts.val_loader.dataset
    assert isinstance(dataset, ImageDataset | FeatureDataset)
    num_labels = len(dataset.annotations.label_space)
    rows, probs, loss_sum, num_known = [np.zeros(0, np.int64)], [np.zeros((0, num_labels), np.float32)], 0.0, 0
    for batch in parts.processes.complete(parts.val_loader):
        if parts.processes.agree(should_stop())[0]:
            return None
        note_bad_images(batch, parts.val_loader, progress, parts.config)
        if len(batch):
            on_device = batch.to(parts.accelerator.device, parts.memory_format)
            with parts.autocast():
                logits_BL = model(on_device.images_BCHW)
            value = float(parts.loss(logits_BL, on_device.truth_BL, on_device.known_BL))
            largest = float(logits_BL.abs().max())
            check_finite(largest, "an answer for validation", progress, parts.config, batch, parts.val_loader)
            loss_sum += value * int(batch.known_BL.sum())
            num_known += int(batch.known_BL.sum())
            rows.append(batch.rows_B.numpy())
            probs.append(logits_to_probs(logits_BL).cpu().numpy())
        on_event("validation_step", {"num_images": batch.num_usable + len(batch.bad_rows)})
    rows_N = parts.processes.gather_rows(np.concatenate(rows))
    probs_NL = parts.processes.gather_rows(np.concatenate(probs))
    loss_sum, num_all_known = parts.processes.add_up([loss_sum, num_known])
    metrics = parts.processes.ask_main(lambda: judge_at_half(dataset.annotations, rows_N, probs_NL))
    return {"val_loss": loss_sum / max(num_all_known, 1)} | {f"val_{name}": metrics[name] for name in metrics}


def judge_at_half(
    annotations: Annotations, rows_N: npt.NDArray[np.int64], probs_NL: npt.NDArray[np.float32]
) -> dict[str, float]:
    """Return every metric of some answers, which may be in any order, at a threshold of one half.

    Raises:
        RunError: there are none.
    """
    if not len(rows_N):
        raise RunError(
            build_message("validation", "none of its images can be used", do="Check them with 'manylabel inspect'")
        )
    order_N = np.argsort(rows_N)
    answered, probs_NL = annotations.targets.select(rows_N[order_N].tolist()), probs_NL[order_N]
    space = annotations.label_space
    decisions_NL = DecisionPolicy(space, (HALF,) * len(space)).decide(probs_NL)
    return summarise(probs_NL, decisions_NL, answered.present_NL(), answered.known_NL())


def is_better(value: float, best: float, monitor: str) -> bool:
    """Return whether a value of the monitored metric beats the best so far; an undefined one beats only its like."""
    if math.isnan(best) or math.isnan(value):
        return math.isnan(best)
    return value < best if monitor == "loss" or monitor in LOWER_IS_BETTER else value > best


def note_bad_images(
    batch: Batch, loader: DataLoader[Any] | FeatureLoader, progress: Progress, config: TrainConfig
) -> None:
    """Count the images of a batch that cannot be read by name, and stop when they are too many.

    Raises:
        RunError: more than `max_bad_images` of the images of this part cannot be read, or one with `bad_images` "stop".
    """
    if not batch.bad_rows:
        return
    dataset = loader.dataset
    assert isinstance(dataset, ImageDataset | FeatureDataset)
    images = dict.fromkeys(dataset.annotations.images)
    records = dataset.annotations.records
    progress.bad_images |= {records[row].id: reason for row, reason in batch.bad_rows}
    own = [reason for image, reason in progress.bad_images.items() if image in images]
    share = config.max_bad_images if config.bad_images == "skip" else 0.0
    if own and len(own) > share * len(images):
        flag = f"--max-bad-images {share:g}" if config.bad_images == "skip" else "--bad-images stop"
        raise RunError(
            build_message(
                dataset.annotations.name,
                f"{len(own)} of {len(images)} images cannot be used, more than {flag} allows",
                do="Mend or remove them ('manylabel inspect --fix' does), or allow more with --max-bad-images",
            )
            + "\n"
            + join_problems(own)
        )


def check_finite(
    value: float,
    name: str,
    progress: Progress,
    config: TrainConfig,
    batch: Batch,
    loader: DataLoader[Any] | FeatureLoader,
) -> None:
    """Stop a run whose numbers are not finite before it spoils the last good checkpoint.

    Raises:
        RunError: with the step, the learning rate, and the images that are not finite themselves or else the first.
    """
    if math.isfinite(value):
        return
    dataset = loader.dataset
    assert isinstance(dataset, ImageDataset | FeatureDataset)
    images = [dataset.annotations.images[row] for row in batch.rows_B.tolist()]
    are_finite_B = batch.images_BCHW.flatten(1).isfinite().all(1) & batch.truth_BL.isfinite().all(1)
    spoilt = [image for image, is_finite in zip(images, are_finite_B.tolist(), strict=True) if not is_finite]
    cause = f"batch of {', '.join(images[:3])}, ..." if images else "this process has no image of the batch"
    do = "Lower --lr or --clip-norm"
    if spoilt:
        cause = f"pixels or labels that are not finite in {join_names(spoilt)}"
        do = "Mend or remove these images, or change --augment"
    raise RunError(
        build_message(
            f"epoch {progress.epoch + 1}, step {progress.step + 1}",
            f"{name} is {value} at a learning rate of {config.lr:g} ({cause})",
            do=f"{do}; the last checkpoint is kept",
        )
    )
