"""Train: from tables to a run folder with a model that answers, decisions, metrics and a report."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel import __version__
from manylabel.augment.mixing import parse_mix
from manylabel.augment.presets import parse_augment
from manylabel.bundle.bundle import Bundle
from manylabel.bundle.card import save_card
from manylabel.bundle.export import save_bundle
from manylabel.bundle.manifest import Manifest
from manylabel.bundle.tuned import move_bundle, save_policy
from manylabel.data.annotations import Annotations
from manylabel.data.formats.delimited import save_delimited
from manylabel.data.images import ImageError
from manylabel.data.preprocess import Preprocess
from manylabel.decisions import CALIBRATIONS, parse_goal
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.search import Choice, tune_policy
from manylabel.decisions.thresholds import HALF
from manylabel.errors import ConfigError, DataError, RunError, build_message, join_names, join_problems, suggest_name
from manylabel.evaluation.evaluate import Report
from manylabel.evaluation.report.markdown import render_results
from manylabel.files import remove_partial_files, write_text_atomically
from manylabel.inference.predictor import Predictor, collect_predictions
from manylabel.labels.predictions import Predictions
from manylabel.lock import lock_folder
from manylabel.losses import Loss, parse_loss
from manylabel.metrics.summary import SUMMARY_NAMES
from manylabel.models.backbones import WeightsReport
from manylabel.models.classifier import find_feature_shape
from manylabel.models.heads import parse_head
from manylabel.runs.evaluate import find_groups, judge, save_reports
from manylabel.runs.facts import collect_hardware, collect_versions
from manylabel.runs.folder import RunFolder, open_run_folder
from manylabel.runs.progress import TerminalProgress
from manylabel.runs.signals import StopRequest, exit_on_sigterm, stop_on_signal
from manylabel.runs.tables import Tables, prepare_tables
from manylabel.runs.tune import describe_tuning
from manylabel.training.checkpoints import Progress, load_checkpoint, mend_checkpoints, restore_best
from manylabel.training.config import TrainConfig
from manylabel.training.events import OnEvent, tell_nobody
from manylabel.training.history import save_history
from manylabel.training.loop import run_loop
from manylabel.training.processes import Processes, join_processes
from manylabel.training.samplers import parse_sampler
from manylabel.training.setup import Network, Setup, build_network, build_setup
from manylabel.training.tracking import parse_track, start_tracking
from manylabel.training.workers import end_workers, name_dead_workers

_PARITY_IMAGES = 16

_AGAIN = "manylabel train data.csv --images IMAGES --config config.json --out AGAIN"
"""What trains anew from the files of a run, in its folder; IMAGES is where the paths of the table begin."""


@dataclass(frozen=True)
class Run:
    """A run that ended: where it is, its model, its epochs and its reports by part (`val`, `test`).

    `status` is `finished`, `early` (stopped by `patience`) or `stopped` (by a person; `resume` goes on). `exit_code` is
    0, or 128 and the number of the signal that asked for an end, even where nothing was left to stop.
    """

    folder: Path
    bundle: Bundle
    history: tuple[Mapping[str, Any], ...]
    reports: Mapping[str, Report]
    status: str
    exit_code: int = 0


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

    The first Ctrl-C (or SIGTERM) ends the run after the step under way and still writes a model; a second one, a second
    or more later, leaves at once. `TrainConfig(resume=True)` goes on bit for bit. Of several processes (torchrun,
    accelerate launch) only the main one returns; the others end in here with exit code 0.

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
    with join_processes() as processes, exit_on_sigterm(), name_dead_workers():
        if not processes.is_main:
            return _train(train, val, test, settings, Path(out), loss, tell_nobody, processes)
        if on_event is not None:
            return _train(train, val, test, settings, Path(out), loss, on_event, processes)
        with TerminalProgress() as progress:
            return _train(train, val, test, settings, Path(out), loss, progress, processes)


def _train(
    train: Annotations,
    val: Annotations | None,
    test: Annotations | None,
    config: TrainConfig,
    out: Path,
    loss: Loss | None,
    tell: OnEvent,
    processes: Processes,
) -> Run:
    check_names(config)
    tables = prepare_tables(train, val, test, config.seed, tell)
    if config.weights == "pretrained":
        tell("note", {"message": f"Fetching the pretrained weights of {config.backbone}: once, then they are kept."})
    with processes.main_first():  # weights are downloaded once
        network = build_network(config, tables.train)
    tell("note", {"message": describe_weights(network.backbone.report)})
    images_BCHW = _load_some_images(tables.val, network.preprocess)
    # Two checkpoints of weights, average, optimiser and best weights, the third that takes their place, and the bundle.
    num_bytes = 20 * network.num_bytes
    with processes.main_first():
        folder = RunFolder(out)
        if processes.is_main:
            folder = open_run_folder(out, resume=config.resume, num_bytes=num_bytes)
    with lock_folder(out) if processes.is_main else nullcontext():
        return _train_in(folder, tables, network, images_BCHW, config, loss, tell, processes)


def _train_in(
    folder: RunFolder,
    tables: Tables,
    network: Network,
    images_BCHW: npt.NDArray[np.float32],
    config: TrainConfig,
    loss: Loss | None,
    tell: OnEvent,
    processes: Processes,
) -> Run:
    """Train in a folder that no other run works in."""
    resolved = _load_resolved(folder, config) if config.resume else None
    setup = build_setup(
        config, network, tables.train, tables.val, folder.checkpoints, tell,
        loss=loss, resolved=resolved, processes=processes,
    )  # fmt: skip
    with processes.main_first():
        progress = _load_progress(setup, folder, tell) if config.resume else Progress()
    if processes.is_main:
        remove_partial_files(folder.path)
        _save_config(folder, setup, tables, network)
        save_delimited(tables.merge(), folder.data)
    name, history = folder.path.resolve().name, progress.history
    with (
        start_tracking(
            setup.parts.config.to_dict(), folder.tracking, history, tell, run_name=name, is_resumed=config.resume
        ) as tracking,
        stop_on_signal(lambda: tell("note", {"message": _STOPPING})) as request,
    ):
        status, exit_code = _run_to_end(setup, progress, tracking.tell, request)
        processes.leave()
        if not restore_best(setup.parts.model, setup.parts.average, folder.best_weights, progress):
            tell("note", {"message": "No epoch has ended: the model is that of the last step."})
        bundle, reports = _finish(folder, setup, network, tables, images_BCHW, progress, tell)
        tracking.log_final(_collect_final(reports), progress.epoch)
    return Run(folder.path, bundle, tuple(progress.history), reports, status, exit_code)


def _collect_final(reports: Mapping[str, Report]) -> dict[str, float]:
    """Return the metrics of every part that was judged, with the thresholds that the model has."""
    return {
        f"final_{part}_{name}": metric.value
        for part, report in reports.items()
        for name, metric in report.metrics.items()
    }


def check_names(config: TrainConfig) -> None:
    """Refuse, before anything is read or written, all names that would only fail later.

    Raises:
        ConfigError: names that do not exist, each with the nearest that does.
    """
    tables = {"monitor": ("loss", *SUMMARY_NAMES), "calibrate": CALIBRATIONS}
    problems = []
    for field, known in tables.items():
        name = getattr(config, field)
        if name not in known:
            problem = f"unknown {field} {name!r}{suggest_name(name, known)}"
            problems.append(build_message(field, problem, expected=join_names(list(known), 30)))
    parsers = {
        "augment": parse_augment,
        "mix": parse_mix,
        "loss": parse_loss,
        "sampler": parse_sampler,
        "head": parse_head,
        "track": parse_track,
        "goal": parse_goal,
    }
    for field, parse in parsers.items():
        try:
            parse(getattr(config, field))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(join_problems(problems))


def describe_weights(report: WeightsReport | None) -> str:
    """Return what became of a weights file: every tensor that it does not fill is named."""
    if report is None:
        return ""
    message = f"Weights: {report.num_loaded} tensors loaded from {report.path}."
    if report.missing:
        message += f" Not in the file, so newly initialised: {', '.join(report.missing)}."
    if report.unused:
        message += f" In the file but not used: {join_names(report.unused)}."
    return message


def _load_some_images(table: Annotations, preprocess: Preprocess) -> npt.NDArray[np.float32]:
    """Read a few real images now: the export is checked on them, and a table of unusable ones stops here."""
    pixels: list[npt.NDArray[np.float32]] = []
    reasons: list[str] = []
    for record in table.records:
        try:
            pixels.append(preprocess.load(record.source, name=record.id))
        except ImageError as error:
            reasons.append(str(error))
        if len(pixels) == _PARITY_IMAGES:
            break
    if not pixels:
        problem = f"none of the {len(table)} validation images can be used. The first: {reasons[0]}"
        raise DataError(f"{table.name}: {problem}")
    return np.stack(pixels)


def _load_progress(setup: Setup, folder: RunFolder, tell: OnEvent) -> Progress:
    """Put the run and its folder back where its last checkpoint left it; other data or settings are refused."""
    parts = setup.parts
    if not folder.has_checkpoint:
        tell("note", {"message": f"There is no checkpoint in {folder.path} yet: the run starts from its beginning."})
        return Progress()
    state = (parts.model, parts.average, parts.optimiser)
    progress = load_checkpoint(folder.last_checkpoint, *state, parts.identity, tell, parts.processes.rank)
    if parts.processes.is_main:
        mend_checkpoints(folder.last_checkpoint)
        save_history(folder.history, progress.history)
    before, now = progress.num_processes, parts.processes.count
    if before != now:
        message = f"The run was in {before} processes and goes on in {now}: as good, not bit for bit."
        tell("note", {"message": message})
    where = "after its end" if progress.is_finished else f"in epoch {progress.epoch + 1}, step {progress.step + 1}"
    tell("note", {"message": f"Going on {where}."})
    return progress


_STOPPING = "Stopping here, then writing the model. Press Ctrl-C again to leave at once."


def _run_to_end(setup: Setup, progress: Progress, tell: OnEvent, request: StopRequest) -> tuple[str, int]:
    """Return how the loop ended, and the exit code that says so to a shell.

    A signal that comes after the loop's last question stops nothing any more, and still is an answer to who sent it.
    """
    if progress.is_finished:
        status = "early" if progress.epoch < setup.parts.config.epochs else "finished"
    else:
        try:
            status = run_loop(setup.parts, progress, tell, request)
        finally:
            end_workers(setup.parts.train_loader)
            end_workers(setup.parts.val_loader)
    codes = setup.parts.processes.gather_texts(str(request.exit_code))
    request.close()
    return status, max(*map(int, codes), request.exit_code)


def _finish(
    folder: RunFolder,
    setup: Setup,
    network: Network,
    tables: Tables,
    images_BCHW: npt.NDArray[np.float32],
    progress: Progress,
    tell: OnEvent,
) -> tuple[Bundle, dict[str, Report]]:
    """Export, let the exported network answer for validation and test, choose thresholds, judge, report."""
    config = setup.parts.config
    tell("stage", {"name": "Exporting and checking the model"})
    manifest = _build_manifest(folder.path.resolve().name, config, network, tables, progress)
    # Beside its place until it has its thresholds: a run that is left in between keeps the model that it had.
    bundle, parity = save_bundle(folder.unfinished_bundle, network.classifier.cpu(), manifest, images_BCHW)
    message = f"Model: {folder.bundle}, ONNX within {parity.max_difference:.1g} of torch on {parity.num_images} images."
    tell("note", {"message": message})
    answers = {"val": _predict_part(bundle, "val", tables.val, tell)}
    tuning = tune_policy(answers["val"][0], Choice(config.goal, config.calibrate), find_groups(tables.val))
    tell("note", {"message": describe_tuning(tuning)})
    bundle = move_bundle(save_policy(bundle, tuning.policy), folder.bundle)
    if tables.test is not None:
        answers["test"] = _predict_part(bundle, "test", tables.test, tell)
    else:
        folder.predictions("test").unlink(missing_ok=True)  # of an earlier end of this run, with a test table
    tell("stage", {"name": "Judging"})
    reports = {}
    for name, (predictions, unusable) in answers.items():
        if not len(predictions):
            tell("note", {"message": f"Warning: no image of {name} could be used, so it was not judged."})
            continue
        replace(predictions, model_digest=bundle.digest).save(folder.predictions(name))
        group_of = find_groups(tables.by_part[name])
        reports[name] = judge(predictions, bundle.manifest.policy, bundle.manifest.provenance, name, unusable, group_of)
    settings = {"command": _AGAIN} | config.to_dict() | _describe_skipped(tables.train, progress, tell)
    save_reports(
        folder,
        reports,
        title=f"Run {folder.path}",
        annotations=tables.merge(),
        history=progress.history,
        config=settings,
        predictor=Predictor(bundle),
        on_event=tell,
    )
    if reports:
        save_card(bundle, render_results(reports.get("test", next(iter(reports.values())))))
    return bundle, reports


def _describe_skipped(train: Annotations, progress: Progress, tell: OnEvent) -> dict[str, str]:
    """Name the training images that could not be used, for the terminal and for the page; those of val are reported."""
    names = set(train.images)
    reasons = [reason for image, reason in progress.bad_images.items() if image in names]
    if not reasons:
        return {}
    text = f"{len(reasons)} of {len(train)} training images cannot be used and were skipped"
    tell("note", {"message": f"Warning: {text}.\n{join_problems(reasons)}"})
    return {"skipped": f"{text}. {join_problems(reasons)}"}


def _predict_part(bundle: Bundle, name: str, table: Annotations, tell: OnEvent) -> tuple[Predictions, dict[str, str]]:
    tell("stage", {"name": f"Predicting {name}", "total": len(table)})
    return collect_predictions(Predictor(bundle), table, lambda: tell("progress", {}))


def _build_manifest(name: str, config: TrainConfig, network: Network, tables: Tables, progress: Progress) -> Manifest:
    space = tables.train.label_space
    prevalence = dict(zip(space.names, network.prevalence_L.tolist(), strict=True))
    provenance = {
        "name": name,
        "manylabel": __version__,
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "num_train": len(tables.train),
        "num_val": len(tables.val),
        "data": {name: table.digest for name, table in tables.by_part.items()},
        "prevalence": {name: value for name, value in prevalence.items() if not np.isnan(value)},
        "seed": config.seed,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch + 1,
        "monitor": config.monitor,
        "monitor_value": None if np.isnan(progress.best_value) else progress.best_value,
    }
    takes = network.classifier.takes
    weights = config.weights if network.backbone.report is None else Path(config.weights).name
    return Manifest(
        space,
        network.preprocess,
        DecisionPolicy(space, (HALF,) * len(space)),
        {"name": config.backbone, "args": dict(config.backbone_args), "weights": weights},
        {
            "name": parse_head(config.head)[0],
            "text": config.head,
            "takes": takes,
            "num_features": find_feature_shape(network.backbone, takes)[-1],
        },
        provenance,
    )


def _save_config(folder: RunFolder, setup: Setup, tables: Tables, network: Network) -> None:
    """Write what the run works with; one that goes on works with what it resolved at its start."""
    report, parts = network.backbone.report, setup.parts
    facts = {
        "config": parts.config.to_dict(),
        "resolved": {
            "precision": setup.precision.precision,
            "epochs": parts.config.epochs,
            "measured_images_per_second": dict(setup.precision.images_per_second),
        },
        "weights": None
        if report is None
        else {"file": report.path, "loaded": report.num_loaded, "missing": report.missing, "unused": report.unused},
        "labels": list(tables.train.label_space.names),
        "data": {
            name: {"name": table.name, "num_images": len(table), "digest": table.digest}
            for name, table in tables.by_part.items()
        },
        "versions": collect_versions(),
        "hardware": collect_hardware(str(parts.accelerator.device), parts.processes.count),
    }
    write_text_atomically(folder.config, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def _load_resolved(folder: RunFolder, config: TrainConfig) -> dict[str, Any] | None:
    """Return what the run resolved at its start; None where it has not begun, or began with other settings.

    Raises:
        RunError: its settings are missing or damaged.
    """
    if not folder.has_checkpoint and not folder.is_run:
        return None
    if not folder.is_run:
        problem = "the settings of the run are missing or damaged"
        raise RunError(
            build_message(folder.config, problem, do="Restore the file, or start a new run in another --out")
        )
    facts = json.loads(folder.config.read_text("utf-8"))
    if not folder.has_checkpoint and (facts["config"] | {"resume": True}) != json.loads(json.dumps(config.to_dict())):
        return None
    resolved: dict[str, Any] = facts["resolved"]
    return resolved
