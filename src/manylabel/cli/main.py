"""The parser: every command with its flags; what a command does stands in the file of its name."""

from __future__ import annotations

import errno
import inspect as signatures
import io
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO, get_type_hints

import typer

from manylabel.errors import ManylabelError, RunError, build_message, explain_missing_module
from manylabel.training.config import TrainConfig

EXIT_WRONG_USE = 2

app = typer.Typer(
    name="manylabel",
    help="Multi-label image classification: from a table and a folder of images to a model that decides.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A file of labels (CSV, JSON, XML, ...), a folder of label folders, or a folder with one such file.",
        show_default=False,
    ),
]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A bundle, or a run folder that has one.", show_default=False)
]
Images = Annotated[
    str | None,
    typer.Option(
        "--images", metavar="DIR", help="The folder that paths in DATA start from; by default the table's own."
    ),
]
Layout = Annotated[
    str | None, typer.Option("--layout", help="Overrule the layout that was found, such as one-hot or coco.")
]
ImageColumn = Annotated[
    str | None, typer.Option("--image-column", metavar="NAME", help="The column that names the images.")
]
LabelColumn = Annotated[
    str | None, typer.Option("--label-column", metavar="NAME", help="The column that lists the labels.")
]
Blank = Annotated[
    str, typer.Option("--blank", metavar="STATE", help="What an empty cell of a label means: unknown or absent.")
]
Uncertain = Annotated[
    str, typer.Option("--uncertain", metavar="STATE", help="What -1 means: unknown, absent or present.")
]
Soft = Annotated[
    str | None,
    typer.Option(
        "--soft", metavar="LOW,HIGH", help="Cells between 0 and 1: up to LOW absent, from HIGH present, else unknown."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only results and errors.")]
RunOut = Annotated[
    Path,
    typer.Option(
        "--out", metavar="RUN", help="The folder of the run; it may not hold another one.", show_default=False
    ),
]
ValData = Annotated[
    str | None, typer.Option("--val", metavar="DATA", help="Images that choose the epoch and the thresholds.")
]
TestData = Annotated[str | None, typer.Option("--test", metavar="DATA", help="Images to judge on at the end.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings in TOML or JSON; flags win over it.")
]
NumFolds = Annotated[
    int, typer.Option("--folds", metavar="K", help="How many models, each of which answers for one part.")
]
FoldsOut = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Where the answers and the figures of the folds go.")
]
SearchOut = Annotated[
    Path,
    typer.Option(
        "--out", metavar="DIR", help="The folder of the search; what it holds of this search goes on.",
        show_default=False,
    ),
]  # fmt: skip
SpaceName = Annotated[
    str | None,
    typer.Option("--space", metavar="NAME", help="What is searched: head (default with --freeze backbone) or full."),
]
NumTrials = Annotated[
    int | None,
    typer.Option("--trials", min=1, metavar="N", help="How many trials; by default 30, or what fits into --budget."),
]
SearchBudget = Annotated[
    str, typer.Option("--budget", metavar="TIME", help="Time for the whole search, such as 20m or 1.5h.")
]
NumRepeats = Annotated[
    int,
    typer.Option(
        "--repeats", min=0, metavar="N", help="More seeds for the best settings and for those as given, at the end."
    ),
]
QueueOut = Annotated[
    Path, typer.Option("--out", metavar="FILE.csv", help="The queue to write, which is a patch.", show_default=False)
]
Answers = Annotated[
    Path | None,
    typer.Option("--answers", metavar="FILE", help="What cross-validate wrote; by default the folds are trained."),
]
MaxMistakes = Annotated[
    int | None, typer.Option("--max", min=1, metavar="N", help="The N most suspicious cells instead of all.")
]
CurveOut = Annotated[
    Path | None, typer.Option("--out", metavar="FILE.png", help="Draw the loss over the learning rate there.")
]
Contender = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="A run, what evaluate wrote, or a table: a column image, a column of probabilities per label.",
        show_default=False,
    ),
]
UnknownLabels = Annotated[
    str, typer.Option("--unknown-labels", help="What to do with labels of DATA that the model lacks: stop or drop.")
]
EngineName = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="onnxruntime, openvino, openvino_bf16, or auto: the fastest that answers alike.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from manylabel import __version__

        typer.echo(f"manylabel {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Multi-label image classification: from a table and a folder of images to a model that decides."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where data, run and pictures go.")] = Path(
        "manylabel-demo"
    ),
    quiet: Quiet = False,
) -> None:
    """Make data, train, tune, evaluate, report and predict: the whole way in about a minute."""
    from manylabel.cli.demo import run_demo

    raise typer.Exit(run_demo(out, quiet))


@app.command()
def inspect(
    data: Data,
    images: Images = None,
    layout: Layout = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    blank: Blank = "unknown",
    uncertain: Uncertain = "unknown",
    soft: Soft = None,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Keep what is seen of the images, so that a second look is fast.")
    ] = True,
    fix: Annotated[
        Path | None,
        typer.Option("--fix", metavar="FILE.csv", help="Write a cleaned table there and say what was changed."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE.html", help="Write what was found as one page with pictures.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show how DATA is understood and what is wrong with it; exit code 1 if any finding is an error."""
    from manylabel.cli.inspect import run_inspect
    from manylabel.cli.tables import Reading

    reading = Reading(images, layout, image_column, label_column, blank, uncertain, soft)
    raise typer.Exit(run_inspect(data, reading, cache, fix, html, json, quiet))


@app.command()
def convert(
    data: Data,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The file or folder to write; it may not exist.", show_default=False)
    ],
    images: Images = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="LAYOUT", help="The layout to write; by default OUT's extension says.")
    ] = None,
    apply: Annotated[
        Path | None,
        typer.Option("--apply", metavar="PATCH.csv", help="Set single cells anew: image, label, and the new state."),
    ] = None,
    layout: Layout = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    blank: Blank = "unknown",
    uncertain: Uncertain = "unknown",
    soft: Soft = None,
    quiet: Quiet = False,
) -> None:
    """Write the labels of DATA in another layout; what that layout cannot hold is refused or said."""
    from manylabel.cli.convert import run_convert
    from manylabel.cli.tables import Reading

    reading = Reading(images, layout, image_column, label_column, blank, uncertain, soft)
    raise typer.Exit(run_convert(data, out, reading, to, apply, quiet))


@app.command()
def split(
    data: Data,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The table to write, such as split.csv.", show_default=False)
    ],
    images: Images = None,
    parts: Annotated[str, typer.Option("--parts", help="The share of each part.")] = "train=0.7,val=0.15,test=0.15",
    group: Annotated[
        str | None, typer.Option("--group", metavar="COLUMN", help="Images with the same value stay in one part.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option("--folds", metavar="K", help="K equal parts fold0, fold1, ... instead of --parts.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option("--fold", metavar="N", help="Of --folds, fold N becomes test and the others train.")
    ] = None,
    near_duplicates: Annotated[
        str,
        typer.Option(
            "--near-duplicates",
            metavar="CHOICE",
            help="Copies of one picture, also resized, re-encoded or mirrored: together in one part, or ignore.",
        ),
    ] = "together",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Divide anew; else an image that has a part in DATA keeps it.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same split.")] = 0,
    layout: Layout = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    blank: Blank = "unknown",
    uncertain: Uncertain = "unknown",
    soft: Soft = None,
    quiet: Quiet = False,
) -> None:
    """Divide DATA into parts in which every label has its share, and write it as one table with a part column."""
    from manylabel.cli.split import run_split
    from manylabel.cli.tables import Reading

    reading = Reading(images, layout, image_column, label_column, blank, uncertain, soft)
    raise typer.Exit(run_split(data, out, reading, parts, group, folds, fold, near_duplicates, fresh, seed, quiet))


@app.command()
def augment(
    data: Data,
    preview: Annotated[
        Path, typer.Option("--preview", metavar="FILE.png", help="The picture to write.", show_default=False)
    ],
    images: Images = None,
    augment: Annotated[
        str, typer.Option("--augment", metavar="PRESET", help="A preset, and settings after a comma.")
    ] = "light",
    mix: Annotated[str, typer.Option("--mix", metavar="MIX", help="A mix, and settings after a comma.")] = "none",
    image_size: Annotated[
        int, typer.Option("--image-size", min=8, max=4096, help="Height and width in pixels that the model sees.")
    ] = 224,
    num_images: Annotated[
        int, typer.Option("--num-images", min=1, max=64, metavar="N", help="Rows: images, drawn at random.")
    ] = 6,
    num_draws: Annotated[
        int, typer.Option("--num-draws", min=1, max=16, metavar="N", help="Columns: epochs of training.")
    ] = 5,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same picture.")] = 0,
    layout: Layout = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    blank: Blank = "unknown",
    uncertain: Uncertain = "unknown",
    soft: Soft = None,
    quiet: Quiet = False,
) -> None:
    """Draw images of DATA as training would show them; exit code 1 if some images cannot be used."""
    from manylabel.cli.augment import run_augment
    from manylabel.cli.tables import Reading

    reading = Reading(images, layout, image_column, label_column, blank, uncertain, soft)
    code = run_augment(data, reading, preview, augment, mix, image_size, num_images, num_draws, seed, quiet)
    raise typer.Exit(code)


@app.command()
def evaluate(
    model: Model,
    data: Data,
    images: Images = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where predictions, metrics, report and pictures go.")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            "--part", help="The part of DATA to judge; by default test where DATA has parts. 'all' takes every image."
        ),
    ] = None,
    unknown_labels: UnknownLabels = "stop",
    slice: Annotated[
        str | None,
        typer.Option("--slice", metavar="COLUMN", help="Judge the images of each value of this column, too."),
    ] = None,
    layout: Layout = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    blank: Blank = "unknown",
    uncertain: Uncertain = "unknown",
    soft: Soft = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let MODEL answer for DATA and judge its label sets against the truth."""
    from manylabel.cli.evaluate import run_evaluate
    from manylabel.cli.tables import Reading

    reading = Reading(images, layout, image_column, label_column, blank, uncertain, soft)
    raise typer.Exit(run_evaluate(model, data, reading, out, part, unknown_labels, slice, json, quiet))


@app.command()
def compare(
    first: Contender,
    second: Contender,
    part: Annotated[
        str | None, typer.Option("--part", help="Of runs, the part to compare on; by default test, or the only one.")
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="METRIC",
            help="What labels are compared by: average_precision, roc_auc, f1, precision or recall.",
        ),
    ] = "average_precision",
    common: Annotated[
        bool, typer.Option("--common", help="Where one side has more images or labels, compare what both have.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE.html", help="Write the comparison as one page, too.")
    ] = None,
    json: Json = False,
) -> None:
    """Say by how much the second model is better than the first, on which labels, and how sure that is."""
    from manylabel.cli.compare import run_compare

    raise typer.Exit(run_compare(first, second, part, by, common, html, json))


@app.command()
def tune(
    model: Model,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Images with their labels, or a run's predictions/val.parquet, for which no image is needed.",
            show_default=False,
        ),
    ],
    goal: Annotated[
        str | None,
        typer.Option("--goal", metavar="GOAL", help="What thresholds are chosen for; by default what the model has."),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            "--calibrate",
            metavar="METHOD",
            help="none, auto, temperature, platt, beta or isotonic; by default what the model has.",
        ),
    ] = None,
    rules: Annotated[
        str | None,
        typer.Option("--rules", metavar="FILE", help="Rules in TOML or JSON; 'none' removes those of the model."),
    ] = None,
    abstain: Annotated[
        str | None,
        typer.Option(
            "--abstain", metavar="CHOICE", help="Send doubtful images to a person: margin,share=0.1 or width,share=0.1."
        ),
    ] = None,
    mine_rules: Annotated[
        Path | None,
        typer.Option("--mine-rules", metavar="FILE.toml", help="Write the rules that DATA keep, as a proposal."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="BUNDLE", help="Where the model with its new decisions goes.")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option("--part", help="The part of DATA to tune on; by default val where DATA has parts, or 'all'."),
    ] = None,
    unknown_labels: UnknownLabels = "stop",
    images: Images = None,
    layout: Layout = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    blank: Blank = "unknown",
    uncertain: Uncertain = "unknown",
    soft: Soft = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Choose thresholds, calibration and rules of MODEL on DATA, and say what they bring on other images."""
    from manylabel.cli.tables import Reading
    from manylabel.cli.tune import run_tune

    reading = Reading(images, layout, image_column, label_column, blank, uncertain, soft)
    code = run_tune(
        model, data, reading, goal, calibrate, rules, abstain, mine_rules, part, unknown_labels, out, json, quiet
    )
    raise typer.Exit(code)


@app.command()
def predict(
    model: Model,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="Files, folders, globs, tables with paths, zip and tar files, or - for paths on standard input.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write .csv, .jsonl or .parquet instead of printing.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the answers of --out that were stopped or killed, if there are."),
    ] = False,
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k", min=1, metavar="N", help="The N most probable labels instead of those above their thresholds."
        ),
    ] = None,
    all_probabilities: Annotated[
        bool, typer.Option("--all-probabilities", help="Give the probability of every label.")
    ] = False,
    folder: Images = None,
    image_column: ImageColumn = None,
    engine: EngineName = "onnxruntime",
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE.png", help="Draw the first image with its labels and margins."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Give every image its labels; exit code 1 if some images cannot be used."""
    from manylabel.cli.predict import run_predict

    raise typer.Exit(
        run_predict(
            model, images, out, resume, top_k, all_probabilities, folder, image_column, engine, picture, json, quiet
        )
    )


@app.command()
def export(
    model: Model,
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A folder for a bundle, or one file NAME.onnx.", show_default=False),
    ],
    quantize: Annotated[
        str, typer.Option("--quantize", metavar="NUMBERS", help="none, fp16 (half the size) or int8 (a quarter).")
    ] = "none",
    check: Annotated[
        str | None,
        typer.Option("--check", metavar="DATA", help="Images to compare answers on; int8 needs them in any case."),
    ] = None,
    max_changed: Annotated[
        float,
        typer.Option(
            "--max-changed", min=0, max=1, metavar="SHARE", help="The largest share of images with another label set."
        ),
    ] = 0.05,
    unknown_labels: UnknownLabels = "stop",
    images: Images = None,
    layout: Layout = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    blank: Blank = "unknown",
    uncertain: Uncertain = "unknown",
    soft: Soft = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the model as one file or with smaller numbers, and refuse what answers otherwise."""
    from manylabel.cli.export import run_export
    from manylabel.cli.tables import Reading

    reading = Reading(images, layout, image_column, label_column, blank, uncertain, soft)
    raise typer.Exit(run_export(model, out, quantize, check, max_changed, unknown_labels, reading, json, quiet))


@app.command()
def explain(
    model: Model,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The image.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.png", help="The picture to write.", show_default=False)],
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="A,B", help="Which labels; by default those that the image is given."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="NAME",
            help="hiding: the bundle answers with parts hidden; gradients: torch follows them, with manylabel[train].",
        ),
    ] = "hiding",
    regions: Annotated[
        str | None,
        typer.Option("--regions", metavar="DATA", help="A table that says where labels are: maps that miss are noted."),
    ] = None,
    folder: Images = None,
    quiet: Quiet = False,
) -> None:
    """Show which parts of an image speak for its labels, by hiding one after the other or by gradients."""
    from manylabel.cli.explain import run_explain

    raise typer.Exit(run_explain(model, image, labels, out, method, regions, folder, quiet))


@app.command()
def serve(
    model: Model,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", help="The port to listen on; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="MANYLABEL_TOKEN",
            show_envvar=False,
            metavar="SECRET",
            help="What requests must carry; better given as MANYLABEL_TOKEN, which other users cannot see.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Another name of this server; may be given several times."),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", help="Images decoded and predicted at once; 0: as many as cores.")
    ] = 0,
    max_queue: Annotated[
        int, typer.Option("--max-queue", metavar="N", help="Images taken on at once; more are told to come later.")
    ] = 64,
    deadline: Annotated[
        float, typer.Option("--deadline", metavar="SECONDS", help="How long a request may wait for its answer.")
    ] = 30.0,
    engine: EngineName = "onnxruntime",
    quiet: Quiet = False,
) -> None:
    """Answer over HTTP, with a page to try MODEL; for this machine only, unless told otherwise."""
    from manylabel.cli.serve import run_serve

    names = tuple(allow_host) if allow_host is not None else ()
    raise typer.Exit(run_serve(model, host, port, token, names, workers, max_queue, deadline, engine, quiet))


def _build_command(start: Callable[..., int], own: Mapping[str, tuple[Any, Any]], text: str) -> Callable[..., None]:
    """Return a command that trains: its own flags, then every field of TrainConfig under the field's name.

    Args:
        start: given the flags, with all settings as `settings` and all that says how DATA is read as `reading`.
        own: the flags that are no setting, or another thing than the setting of that name, with their default.
    """

    def command(**given: Any) -> None:
        from manylabel.cli.tables import Reading

        settings = {field.name: given.pop(field.name) for field in fields(TrainConfig) if field.name not in own}
        reading = Reading(**{field.name: given.pop(field.name) for field in fields(Reading)})
        chosen = {key: value for key, value in settings.items() if value is not None}
        raise typer.Exit(start(reading=reading, settings=chosen, **given))

    parameters = [
        signatures.Parameter(name, signatures.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in own.items()
    ]
    kinds = get_type_hints(TrainConfig)
    parameters += [_build_flag(field, kinds[field.name]) for field in fields(TrainConfig) if field.name not in own]
    command.__signature__ = signatures.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__doc__ = text
    return command


def _start_train(**given: Any) -> int:
    from manylabel.lock import check_not_running

    check_not_running(given["out"])  # before seconds of imports and of reading tables
    from manylabel.cli.train import run_train

    return run_train(**given)


def _start_cross_validate(**given: Any) -> int:
    from manylabel.cli.cross_validate import run_cross_validate

    return run_cross_validate(**given)


def _start_find_errors(**given: Any) -> int:
    from manylabel.cli.find_errors import run_find_errors

    return run_find_errors(**given)


def _start_find_lr(**given: Any) -> int:
    from manylabel.cli.find_lr import run_find_lr

    return run_find_lr(**given)


def _start_search(**given: Any) -> int:
    from manylabel.cli.search import run_search

    return run_search(**given)


_REQUIRED = signatures.Parameter.empty
_READING_FLAGS: Mapping[str, tuple[Any, Any]] = {
    "layout": (Layout, None),
    "image_column": (ImageColumn, None),
    "label_column": (LabelColumn, None),
    "blank": (Blank, "unknown"),
    "uncertain": (Uncertain, "unknown"),
    "soft": (Soft, None),
    "quiet": (Quiet, False),
}
_TRAIN_FLAGS: Mapping[str, tuple[Any, Any]] = {
    "data": (Data, _REQUIRED),
    "out": (RunOut, _REQUIRED),
    "images": (Images, None),
    "val": (ValData, None),
    "test": (TestData, None),
    "config_file": (ConfigFile, None),
    **_READING_FLAGS,
}
_CROSS_VALIDATE_FLAGS: Mapping[str, tuple[Any, Any]] = {
    "data": (Data, _REQUIRED),
    "folds": (NumFolds, 5),
    "out": (FoldsOut, None),
    "images": (Images, None),
    "config_file": (ConfigFile, None),
    **_READING_FLAGS,
}
_FIND_ERRORS_FLAGS: Mapping[str, tuple[Any, Any]] = {
    "data": (Data, _REQUIRED),
    "out": (QueueOut, _REQUIRED),
    "answers": (Answers, None),
    "folds": (NumFolds, 5),
    "max_mistakes": (MaxMistakes, None),
    "images": (Images, None),
    "config_file": (ConfigFile, None),
    **_READING_FLAGS,
}
_FIND_LR_FLAGS: Mapping[str, tuple[Any, Any]] = {
    "data": (Data, _REQUIRED),
    "out": (CurveOut, None),
    "images": (Images, None),
    "config_file": (ConfigFile, None),
    **_READING_FLAGS,
}
_SEARCH_FLAGS: Mapping[str, tuple[Any, Any]] = {
    "data": (Data, _REQUIRED),
    "out": (SearchOut, _REQUIRED),
    "space": (SpaceName, None),
    "trials": (NumTrials, None),
    "budget": (SearchBudget, ""),
    "repeats": (NumRepeats, 3),
    "images": (Images, None),
    "val": (ValData, None),
    "config_file": (ConfigFile, None),
    **_READING_FLAGS,
}


def _build_flag(field: Any, kind: Any) -> signatures.Parameter:
    """Return the flag of one setting; not giving it is None, so that a file of settings can fill it."""
    default = field.default if field.default is not MISSING else ""
    shown = f" [default: {default}]" if kind is not bool and default != "" else ""
    flag = "--" + field.name.replace("_", "-")
    names = (f"{flag}/--no-{flag[2:]}",) if kind is bool else (flag,)
    option = typer.Option(*names, help=field.metadata["help"] + shown, show_default=False)
    value_kind = kind if kind in (int, float, bool) else str
    return signatures.Parameter(
        field.name, signatures.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[value_kind | None, option]
    )


app.command("train")(
    _build_command(
        _start_train,
        _TRAIN_FLAGS,
        "Train a model on DATA, choose its thresholds, judge it and write everything to --out.",
    )
)
app.command("find-lr")(
    _build_command(
        _start_find_lr,
        _FIND_LR_FLAGS,
        "Try a range of learning rates for a hundred steps on DATA, and suggest one.",
    )
)
app.command("find-errors")(
    _build_command(
        _start_find_errors,
        _FIND_ERRORS_FLAGS,
        "Find cells of DATA that look wrong to models that never saw the image, by default heads on a frozen backbone.",
    )
)
app.command("cross-validate")(
    _build_command(
        _start_cross_validate,
        _CROSS_VALIDATE_FLAGS,
        "Train once for each fold of DATA on all others, and judge every image by a model that never saw it.",
    )
)
app.command("search")(
    _build_command(
        _start_search,
        _SEARCH_FLAGS,
        "Try settings on DATA, judged by its validation images, and say how much of the best is luck.",
    )
)


def run() -> None:
    """Run a command: a message and exit code 2 for what a user can put right, a traceback for our own bugs only."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a sign shows a question mark
    try:
        _run_and_flush()
    except ManylabelError as error:
        _fail(error)
    except ModuleNotFoundError as error:
        explained = explain_missing_module(error)
        if explained is error:
            raise
        _fail(explained)


def _run_and_flush() -> None:
    """Run the command and write what it printed: else a full disk shows only when Python ends, as a traceback.

    Raises:
        RunError: standard output cannot be written.
    """
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None or _can_print():
            raise
        _silence(sys.stdout)
        problem = "what the command prints cannot be written (no space left)"
        raise RunError(build_message("standard output", problem, do="Free space, or let it go elsewhere")) from error


def _can_print() -> bool:
    """Return whether standard output takes a line."""
    try:
        print(flush=True)
    except OSError:
        return False
    return True


def _silence(stream: TextIO) -> None:
    """Let what a stream still holds back go nowhere: Python would try once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _fail(error: Exception) -> NoReturn:
    try:
        from manylabel.cli.words import fit

        typer.echo(fit(f"Error: {error}"), err=True)
    except OSError:  # nobody can be told
        _silence(sys.stderr)
    sys.exit(EXIT_WRONG_USE)
