"""Train: from tables to a run folder with a model that answers, decisions, metrics and a report."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

import manylabel
from manylabel.augment.presets import build_augmentation, parse_augment
from manylabel.bundle.bundle import Bundle
from manylabel.bundle.export import save_bundle, save_policy
from manylabel.bundle.manifest import Manifest
from manylabel.data.annotations import Annotations
from manylabel.data.checks import find_findings
from manylabel.data.formats.assemble import check_some_present
from manylabel.data.formats.delimited import save_delimited
from manylabel.data.images import ImageError, load_image
from manylabel.data.preprocess import Preprocess
from manylabel.data.splits import split
from manylabel.decisions import GOALS
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.thresholds import HALF
from manylabel.errors import ConfigError, DataError, build_message, join_names, suggest_name
from manylabel.evaluation.evaluate import Report
from manylabel.evaluation.pictures import draw_confusion_grid, draw_curves
from manylabel.evaluation.report.html import save_html
from manylabel.evaluation.report.metrics import save_metrics
from manylabel.files import write_text_atomically
from manylabel.inference.predictor import Predictor, collect_predictions
from manylabel.labels.predictions import Predictions
from manylabel.labels.statistics import prevalence
from manylabel.losses import Loss, find_loss
from manylabel.metrics.summary import SUMMARY_NAMES
from manylabel.models.backbones import Backbone, build_backbone
from manylabel.models.classifier import Classifier, build_classifier
from manylabel.runs.evaluate import judge
from manylabel.runs.facts import collect_hardware, collect_versions
from manylabel.runs.folder import RunFolder, open_run_folder
from manylabel.runs.progress import TerminalProgress
from manylabel.runs.signals import StopRequest, stop_on_signal
from manylabel.training.budget import plan_epochs
from manylabel.training.checkpoints import Progress, load_checkpoint, load_weights
from manylabel.training.config import TrainConfig, parse_budget_seconds
from manylabel.training.ema import averaged_state, build_average
from manylabel.training.loading import EpochSampler, ImageDataset, build_loader
from manylabel.training.loop import LoopParts, OnEvent, run_loop
from manylabel.training.optim import build_optimiser
from manylabel.training.precision import PrecisionChoice, choose_precision

_PARITY_IMAGES = 16
_AUTOMATIC_VAL_SHARE = 0.15


@dataclass(frozen=True)
class Run:
    """A run that ended: where it is, its model, its epochs and its reports by part (`val`, `test`).

    `status` is `finished`, `early` (stopped by `patience`) or `stopped` (by a person; `resume` goes on).
    """

    folder: Path
    bundle: Bundle
    history: tuple[Mapping[str, Any], ...]
    reports: Mapping[str, Report]
    status: str
    exit_code: int = 0


@dataclass(frozen=True)
class Tables:
    """The tables of a run, over one label space."""

    train: Annotations
    val: Annotations
    test: Annotations | None

    @property
    def by_part(self) -> dict[str, Annotations]:
        """The tables by the name of their part."""
        parts = {"train": self.train, "val": self.val}
        return parts | ({"test": self.test} if self.test is not None else {})


def train(
    train: Annotations,
    val: Annotations | None = None,
    config: TrainConfig | None = None,
    *,
    out: str | os.PathLike[str],
    test: Annotations | None = None,
    loss: Loss | None = None,
    on_event: OnEvent | None = None,
) -> Run:
    """Train a model, choose its thresholds on the validation images, judge it and write the whole run folder.

    The first Ctrl-C (or SIGTERM) ends the run after the step under way and still writes a model; a second one leaves
    at once. `TrainConfig(resume=True)` goes on bit for bit.

    Args:
        train: the images to learn from.
        val: the images that choose the epoch and the thresholds; None takes a stratified 15 % of `train` away.
        config: the settings; None takes the defaults.
        out: the folder of the run; it may not hold another one.
        test: images that nothing is chosen on; judged at the end.
        loss: a function of (logits_BL, truth_BL, known_BL) in place of `config.loss`.
        on_event: told what happens; None shows progress on the terminal.

    Raises:
        DataError, ConfigError, RunError, BundleError: see the message; what existed before is unchanged.
    """
    settings = config if config is not None else TrainConfig()
    if on_event is not None:
        return _train(train, val, test, settings, Path(out), loss, on_event)
    with TerminalProgress() as progress:
        return _train(train, val, test, settings, Path(out), loss, progress)


def _train(
    train: Annotations,
    val: Annotations | None,
    test: Annotations | None,
    config: TrainConfig,
    out: Path,
    own_loss: Loss | None,
    tell: OnEvent,
) -> Run:
    loss = own_loss if own_loss is not None else find_loss(config.loss)
    _check_names(config)
    tables = _prepare_tables(train, val, test, config, tell)
    torch.manual_seed(config.seed)
    backbone = build_backbone(
        config.backbone,
        config.weights,
        config.backbone_args,
        allow_partial_weights=config.allow_partial_weights,
        drop_path=config.drop_path,
    )
    _tell_weights(backbone, tell)
    prevalence_L = prevalence(tables.train.targets)
    model = build_classifier(backbone, prevalence_L.tolist(), config.head, config.dropout)
    num_bytes = 6 * sum(parameter.numel() * 4 for parameter in model.parameters())
    folder = open_run_folder(out, resume=config.resume, num_bytes=num_bytes)
    preprocess = _build_preprocess(backbone, config.image_size)
    images_BCHW = _load_some_images(tables.val, preprocess)
    parts, precision = _build_parts(config, tables, model, preprocess, loss, folder, tell)
    progress = _resume(parts, folder, tell) if config.resume else Progress()
    if not config.resume:
        save_delimited(_merge_parts(tables), folder.data)
    _save_config(folder, parts.config, tables, precision, backbone, str(parts.accelerator.device))
    status, request = "finished", StopRequest()
    if not progress.is_finished:
        note = {"message": "Stopping after this step, then writing the model. Press Ctrl-C again to leave at once."}
        with stop_on_signal(lambda: tell("note", note)) as request:
            status = run_loop(parts, progress, tell, request)
    _restore_best(parts, folder, progress, tell)
    manifest = _build_manifest(parts.config, tables, preprocess, backbone, prevalence_L, progress)
    bundle, reports = _finish(folder, parts, manifest, tables, images_BCHW, progress, tell)
    return Run(out, bundle, tuple(progress.history), reports, status, request.exit_code if status == "stopped" else 0)


def _check_names(config: TrainConfig) -> None:
    """Refuse, before anything is read or written, names that would only fail after the last epoch."""
    parse_augment(config.augment)
    metrics = ("loss", *SUMMARY_NAMES)
    for field, value, known in (("monitor", config.monitor, metrics), ("goal", config.goal, tuple(GOALS))):
        if value not in known:
            raise ConfigError(
                build_message(
                    field, f"unknown {field} {value!r}{suggest_name(value, known)}", expected=join_names(known, 30)
                )
            )


def _prepare_tables(
    train: Annotations, val: Annotations | None, test: Annotations | None, config: TrainConfig, tell: OnEvent
) -> Tables:
    """Bring all tables to one label space; a label that only validation knows is a label too."""
    if val is None:
        shares = {"train": 1 - _AUTOMATIC_VAL_SHARE, "val": _AUTOMATIC_VAL_SHARE}
        parts = split(train, shares, seed=config.seed)
        train, val = parts["train"], parts["val"]
        tell(
            "note", {"message": f"No validation images were given: {len(val)} of the training images are kept for it."}
        )
    space = train.label_space.union(val.label_space)
    space = space if test is None else space.union(test.label_space)
    tables = Tables(train.align(space), val.align(space), None if test is None else test.align(space))
    for name, table in tables.by_part.items():
        if not len(table):
            raise DataError(build_message(table.name, f"the {name} part has no image", do="Split the table again"))
    check_some_present(tables.train)
    for name, table in tables.by_part.items():
        overlap = sorted(set(table.images) & set(tables.train.images)) if name != "train" else []
        if overlap:
            tell(
                "note",
                {"message": f"Warning: {len(overlap)} images stand in train and in {name}: {join_names(overlap)}."},
            )
    for finding in find_findings(tables.train):
        if finding.severity != "note":
            tell("note", {"message": f"{finding.severity.capitalize()}: {finding.message}"})
    return tables


def _tell_weights(backbone: Backbone, tell: OnEvent) -> None:
    report = backbone.report
    if report is None:
        return
    message = f"Weights: {report.num_loaded} tensors loaded from {report.path}."
    if report.missing:
        message += f" Not in the file, so newly initialised: {', '.join(report.missing)}."
    if report.unused:
        message += f" In the file but not used: {join_names(report.unused)}."
    tell("note", {"message": message})


def _build_preprocess(backbone: Backbone, size_px: int) -> Preprocess:
    interpolation = "bilinear" if backbone.interpolation == "bilinear" else "bicubic"
    return Preprocess(
        height_px=size_px, width_px=size_px, interpolation=interpolation, mean=backbone.mean, std=backbone.std
    )


def _load_some_images(table: Annotations, preprocess: Preprocess) -> npt.NDArray[np.float32]:
    """Read a few real images now: export is checked on them, and a table of unusable ones stops here."""
    pixels: list[npt.NDArray[np.float32]] = []
    reasons: list[str] = []
    for record in table.records:
        try:
            pixels.append(preprocess(load_image(record.source, name=record.id)))
        except ImageError as error:
            reasons.append(str(error))
        if len(pixels) == _PARITY_IMAGES:
            break
    if not pixels:
        raise DataError(
            f"{table.name}: none of the {len(table)} validation images can be used. The first: {reasons[0]}"
        )
    return np.stack(pixels)


def _build_parts(
    config: TrainConfig,
    tables: Tables,
    model: Classifier,
    preprocess: Preprocess,
    loss: Loss,
    folder: RunFolder,
    tell: OnEvent,
) -> tuple[LoopParts, PrecisionChoice]:
    AcceleratorState._reset_state(reset_partial_state=True)  # an earlier run of this process may have chosen otherwise
    device = Accelerator().device
    model.to(device, memory_format=torch.channels_last)
    if config.freeze == "backbone":
        model.backbone.requires_grad_(False)
    wanted = str(_recorded(folder)["resolved"]["precision"]) if config.resume else config.precision
    num_labels = len(tables.train.label_space)
    precision = choose_precision(
        wanted, model, loss, config.image_size, config.batch_size, num_labels, device, must_measure=bool(config.budget)
    )
    if config.budget:
        config = _spend_budget(config, folder, ImageDataset(tables.train, preprocess), len(tables.val), precision, tell)
    if precision.images_per_second:
        rates = ", ".join(f"{name} {rate:.0f} images/s" for name, rate in precision.images_per_second.items())
        tell("note", {"message": f"Precision: {precision.precision} (measured: {rates})."})
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(mixed_precision="bf16" if precision.precision == "bf16" else "no")
    augmentation = build_augmentation(parse_augment(config.augment), preprocess)
    sampler = EpochSampler(len(tables.train), config.seed)
    is_cuda = device.type == "cuda"
    train_set = ImageDataset(tables.train, preprocess, augmentation)
    val_set = ImageDataset(tables.val, preprocess)
    parts = LoopParts(
        config=config,
        accelerator=accelerator,
        model=model,
        average=build_average(model, config.ema),
        optimiser=build_optimiser(model, config),
        loss=loss,
        sampler=sampler,
        train_loader=build_loader(
            train_set, config.batch_size, sampler=sampler, workers=config.workers, pin_memory=is_cuda
        ),
        val_loader=build_loader(val_set, config.batch_size, workers=config.workers, pin_memory=is_cuda),
        folder=folder.checkpoints,
        identity=_identify(config, tables),
    )
    return parts, precision


def _spend_budget(
    config: TrainConfig,
    folder: RunFolder,
    train_set: ImageDataset,
    num_val: int,
    precision: PrecisionChoice,
    tell: OnEvent,
) -> TrainConfig:
    """Replace the epochs by as many as fit into the budget; a run that goes on keeps what it started with."""
    if config.resume:
        return replace(config, epochs=int(_recorded(folder)["config"]["epochs"]))
    rate = precision.images_per_second[precision.precision]
    epochs = plan_epochs(parse_budget_seconds(config.budget), train_set, num_val, rate, config.workers)
    tell("note", {"message": f"Budget {config.budget}: {epochs} epochs fit."})
    return replace(config, epochs=epochs)


def _identify(config: TrainConfig, tables: Tables) -> dict[str, str]:
    """Return what has to be the same when a run goes on."""
    free = {"resume", "workers", "patience", "max_bad_images", "precision", "goal", "calibrate"}
    settings = {key: value for key, value in config.to_dict().items() if key not in free}
    digest = sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return {
        "set of labels": tables.train.label_space.digest,
        "training table": tables.train.digest,
        "validation table": tables.val.digest,
        "setting": digest,
    }


def _resume(parts: LoopParts, folder: RunFolder, tell: OnEvent) -> Progress:
    progress = load_checkpoint(folder.last_checkpoint, parts.model, parts.average, parts.optimiser, parts.identity)
    where = "after its end" if progress.is_finished else f"in epoch {progress.epoch + 1}, step {progress.step + 1}"
    tell("note", {"message": f"Going on {where}."})
    return progress


def _restore_best(parts: LoopParts, folder: RunFolder, progress: Progress, tell: OnEvent) -> None:
    if progress.best_epoch < 0:
        tell("note", {"message": "No epoch has ended: the model is the one of the last step, judged by nothing."})
        parts.model.load_state_dict(averaged_state(parts.model, parts.average))
    else:
        parts.model.load_state_dict(load_weights(folder.best_weights))
    parts.model.eval()


def _build_manifest(
    config: TrainConfig,
    tables: Tables,
    preprocess: Preprocess,
    backbone: Backbone,
    prevalence_L: npt.NDArray[np.float64],
    progress: Progress,
) -> Manifest:
    space = tables.train.label_space
    known_prevalence = {
        name: float(value) for name, value in zip(space, prevalence_L, strict=True) if not np.isnan(value)
    }
    provenance = {
        "name": Path(tables.train.name).stem,
        "manylabel": manylabel.__version__,
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "num_train": len(tables.train),
        "num_val": len(tables.val),
        "data": {name: table.digest for name, table in tables.by_part.items()},
        "prevalence": known_prevalence,
        "seed": config.seed,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch + 1,
        "monitor": config.monitor,
        "monitor_value": None if np.isnan(progress.best_value) else progress.best_value,
    }
    return Manifest(
        space,
        preprocess,
        DecisionPolicy(space, (HALF,) * len(space)),
        {"name": config.backbone, "args": dict(config.backbone_args), "weights": Path(config.weights).name},
        {"name": config.head, "num_features": backbone.num_features},
        provenance,
    )


def _finish(
    folder: RunFolder,
    parts: LoopParts,
    manifest: Manifest,
    tables: Tables,
    images_BCHW: npt.NDArray[np.float32],
    progress: Progress,
    tell: OnEvent,
) -> tuple[Bundle, dict[str, Report]]:
    """Export, let the exported network answer for validation and test, choose thresholds, judge, report."""
    tell("stage", {"name": "Exporting and checking the model"})
    bundle, parity = save_bundle(folder.bundle, parts.model.cpu(), manifest, images_BCHW)
    message = f"Model: {folder.bundle}, ONNX within {parity.max_difference:.1g} of torch on {parity.num_images} images."
    tell("note", {"message": message})
    val, skipped = _predict_part(bundle, "val", tables.val, tell)
    bundle = save_policy(bundle, choose_policy(val, parts.config.goal))
    answers = {"val": (val, skipped)}
    if tables.test is not None:
        answers["test"] = _predict_part(bundle, "test", tables.test, tell)
    tell("stage", {"name": "Judging"})
    reports = {}
    for name, (predictions, unusable) in answers.items():
        if not len(predictions):
            tell("note", {"message": f"Warning: no image of {name} could be used, so it was not judged."})
            continue
        replace(predictions, model_digest=bundle.digest).save(folder.predictions(name))
        reports[name] = judge(predictions, bundle.manifest.policy, bundle.manifest.provenance, name, unusable)
    save_run_report(folder, reports, progress.history, parts.config)
    return bundle, reports


def _predict_part(bundle: Bundle, name: str, table: Annotations, tell: OnEvent) -> tuple[Predictions, dict[str, str]]:
    tell("stage", {"name": f"Predicting {name}", "total": len(table)})
    return collect_predictions(Predictor(bundle), table, lambda: tell("progress", {}))


def choose_policy(predictions: Predictions, goal: str) -> DecisionPolicy:
    """Return the thresholds that suit a goal best on these predictions, which have to carry their truth."""
    assert predictions.targets is not None
    chosen = GOALS[goal](predictions.probs_NL, predictions.targets.present_NL(), predictions.targets.known_NL())
    return DecisionPolicy(
        predictions.label_space, tuple(chosen.thresholds_L.tolist()), goal, chosen.sources, predictions.data_digest
    )


def save_run_report(
    folder: RunFolder, reports: Mapping[str, Report], history: list[dict[str, Any]], config: TrainConfig
) -> None:
    """Write `metrics.json`, the pictures and the page of a run."""
    save_metrics(list(reports.values()), folder.metrics)
    folder.pictures.mkdir(parents=True, exist_ok=True)
    pictures = {}
    if history:
        draw_curves(history, folder.pictures / "curves.png")
        pictures["curves"] = (folder.pictures / "curves.png").read_bytes()
    if reports:
        judged = reports["test"] if "test" in reports else reports["val"]
        draw_confusion_grid(judged, folder.pictures / "confusion.png")
        pictures["confusion"] = (folder.pictures / "confusion.png").read_bytes()
    save_html(
        list(reports.values()),
        folder.report,
        title=f"Run {folder.path.name}",
        history=history,
        config=config.to_dict(),
        pictures=pictures,
    )


def _merge_parts(tables: Tables) -> Annotations:
    """Return one table of all images with their parts, for the run's own record of what it was trained on."""
    seen: set[str] = set()
    merged: Annotations | None = None
    for name, table in tables.by_part.items():
        fresh = table.filter(lambda record: record.id not in seen)
        seen |= set(fresh.images)
        labelled = fresh.with_parts(dict.fromkeys(fresh.images, name))
        merged = labelled if merged is None else merged.merge(labelled)
    assert merged is not None
    return merged


def _save_config(
    folder: RunFolder, config: TrainConfig, tables: Tables, precision: PrecisionChoice, backbone: Backbone, device: str
) -> None:
    report = backbone.report
    facts = {
        "config": config.to_dict(),
        "resolved": {"precision": precision.precision, "measured_images_per_second": dict(precision.images_per_second)},
        "weights": None
        if report is None
        else {"file": report.path, "loaded": report.num_loaded, "missing": report.missing, "unused": report.unused},
        "labels": list(tables.train.label_space.names),
        "data": {
            name: {"name": table.name, "num_images": len(table), "digest": table.digest}
            for name, table in tables.by_part.items()
        },
        "versions": collect_versions(),
        "hardware": collect_hardware(device, torch.get_num_threads()),
    }
    write_text_atomically(folder.config, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def _recorded(folder: RunFolder) -> dict[str, Any]:
    """Return what the run noted at its start: measuring again could choose otherwise."""
    facts: dict[str, Any] = json.loads(folder.config.read_text("utf-8"))
    return facts
