"""The commands from end to end, as a person types them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
from PIL import Image

from manylabel.data.demo import write_demo

pytestmark = pytest.mark.scenario

TRAIN_FLAGS = (
    "--backbone", "test_resnet", "--weights", "none", "--image-size", "32", "--epochs", "2", "--augment", "none",
    "--workers", "0", "--precision", "fp32", "--lr", "0.005", "--batch-size", "16",
)  # fmt: skip


RUN_FILES = (
    "config.json", "history.jsonl", "metrics.json", "report.html", "predictions/val.parquet",
    "predictions/test.parquet",
    "checkpoints/last.safetensors", "checkpoints/best.safetensors", "bundle/manifest.json", "bundle/model.safetensors",
    "bundle/model.onnx", "bundle/README.md",
)  # fmt: skip


def call(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command the way a shell does, 80 columns wide."""
    return subprocess.run(
        [sys.executable, "-m", "manylabel", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"},
        check=False,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 160 composed digits, without parts, and one broken image in a hundred and sixty-one."""
    folder = tmp_path_factory.mktemp("data")
    table = write_demo(folder, num_images={"train": 160})
    rows = list(csv.reader(table.open(encoding="utf-8")))
    (folder / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["image", "labels"], *(row[:2] for row in rows[1:]), ["images/broken.png", "3"]])
    return table


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over train, val and test, made by split and train."""
    folder = tmp_path_factory.mktemp("run")
    split = call("split", data, folder / "split.csv", "--images", data.parent)
    assert split.returncode == 0, split.stderr
    trained = call("train", folder / "split.csv", "--images", data.parent, "--out", folder / "run", *TRAIN_FLAGS)
    assert trained.returncode == 0, trained.stderr
    assert "report.html" in trained.stdout
    assert all(len(line) <= 80 or "/" in line for line in trained.stdout.splitlines())
    return folder / "run"


def test_every_promised_file_of_a_run_exists_and_is_true(run: Path) -> None:
    for name in RUN_FILES:
        assert (run / name).stat().st_size > 0, name
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    test = pq.read_table(run / "predictions" / "test.parquet").to_pydict()
    probs = np.stack([test[f"probability:{digit}"] for digit in range(10)], axis=1)
    truth = np.stack([test[f"truth:{digit}"] for digit in range(10)], axis=1).astype(bool)
    thresholds = json.loads((run / "bundle" / "manifest.json").read_text("utf-8"))["policy"]["thresholds"]
    decided = probs >= np.array([thresholds[str(digit)] for digit in range(10)])
    assert metrics["test"]["num_images"] == len(truth)
    assert metrics["test"]["metrics"]["hamming_loss"]["value"] == pytest.approx((decided != truth).mean(), abs=1e-12)
    history = [json.loads(line) for line in (run / "history.jsonl").read_text("utf-8").splitlines()]
    assert [row["epoch"] for row in history] == [0, 1]
    assert json.loads((run / "config.json").read_text("utf-8"))["config"]["image_size"] == 32


def test_the_answer_is_the_same_from_the_command_python_and_onnxruntime_alone(run: Path, data: Path) -> None:
    import manylabel as ml

    folder = data.parent / "images"
    told = call("predict", run, folder, "--out", run.parent / "answers.csv")
    assert told.returncode == 1, "one image is broken"
    assert "1 of 161 images cannot be used." in told.stderr
    answers = {row["image"]: row for row in csv.DictReader((run.parent / "answers.csv").open(encoding="utf-8"))}
    assert len(answers) == 161
    manifest = json.loads((run / "bundle" / "manifest.json").read_text("utf-8"))
    prepare = manifest["preprocess"]
    session = onnxruntime.InferenceSession(str(run / "bundle" / "model.onnx"))
    model = ml.load(run)
    for image, row in answers.items():
        if row["error"]:
            assert image.endswith("broken.png")
            continue
        labels = set(filter(None, row["labels"].split("|")))
        assert labels == set(model.predict(image).labels or ())
        size, how = (prepare["width_px"], prepare["height_px"]), prepare["interpolation"].upper()
        small = Image.open(image).convert("RGB").resize(size, Image.Resampling[how])
        pixels = (np.asarray(small, np.float32) / 255 - np.float32(prepare["mean"])) / np.float32(prepare["std"])
        (probs,) = session.run(None, {"images": pixels.transpose(2, 0, 1)[None].astype(np.float32)})
        thresholds = [manifest["policy"]["thresholds"][label] for label in manifest["labels"]]
        given = {label for label, p, t in zip(manifest["labels"], probs[0], thresholds, strict=True) if p >= t}
        assert labels == given


def test_evaluate_repeats_the_figures_of_the_run(run: Path, data: Path) -> None:
    told = call("evaluate", run, run.parent / "split.csv", "--images", data.parent, "--json", "--quiet")
    given = json.loads(told.stdout)["test"]["metrics"]
    kept = json.loads((run / "metrics.json").read_text("utf-8"))["test"]["metrics"]
    assert given == kept


def test_only_the_part_that_was_asked_for_is_judged(run: Path, data: Path) -> None:
    table = run.parent / "split.csv"
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    for part in ("val", "all"):
        told = call("evaluate", run, table, "--images", data.parent, "--part", part, "--json", "--quiet")
        wanted = sum(part in ("all", row["part"]) and "broken" not in row["image"] for row in rows)
        assert json.loads(told.stdout)[part]["num_images"] == wanted
    without_test = run.parent / "without_test.csv"
    without_test.write_text(table.read_text("utf-8").replace(",test\n", ",val\n"), "utf-8")
    told = call("evaluate", run, without_test, "--images", data.parent)
    assert told.returncode == 2
    assert "there is no part 'test'" in told.stderr


def test_other_decisions_are_chosen_judged_and_compared(run: Path, data: Path, tmp_path: Path) -> None:
    told = call(
        "tune", run, run / "predictions" / "val.parquet", "--goal", "recall,at_least=0.9", "--out", "kind", cwd=tmp_path
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("Decisions for the goal recall,at_least=0.9.")
    split = run.parent / "split.csv"
    for model, folder in ((run, "before"), (tmp_path / "kind", "after")):
        judged = call("evaluate", model, split, "--images", data.parent, "--out", folder, cwd=tmp_path)
        assert judged.returncode == 0, judged.stderr
    before, after = (
        json.loads((tmp_path / name / "metrics.json").read_text("utf-8"))["test"] for name in ("before", "after")
    )
    assert after["policy"]["goal"] == "recall,at_least=0.9"
    assert after["metrics"]["average_precision_macro"] == before["metrics"]["average_precision_macro"]
    assert after["metrics"]["recall_micro"]["value"] > before["metrics"]["recall_micro"]["value"]
    compared = call("compare", "before", "after", "--by", "recall", "--html", "page.html", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    found = json.loads(call("compare", "before", "after", "--by", "recall", "--json", cwd=tmp_path).stdout)
    gain = after["metrics"]["recall_micro"]["value"] - before["metrics"]["recall_micro"]["value"]
    assert found["metrics"]["recall_micro"]["difference"] == pytest.approx(gain)
    assert (tmp_path / "page.html").read_text("utf-8").startswith("<!doctype html>")
    assert all(len(line) <= 80 or "/" in line for line in compared.stdout.splitlines())


def test_a_queue_of_doubtful_cells_is_a_patch(data: Path, tmp_path: Path) -> None:
    queue, fixed = tmp_path / "queue.csv", tmp_path / "fixed.csv"
    found = call(
        "find-errors", data, "--out", queue, "--folds", "2", "--max", "40", "--max-bad-images", "0.05", *TRAIN_FLAGS
    )
    assert found.returncode == 0, found.stderr
    assert f"--apply {queue}" in found.stdout
    rows = list(csv.DictReader(queue.open(encoding="utf-8")))
    assert 0 < len(rows) <= 40
    assert {row["given"] for row in rows} <= {"present", "absent"}
    kept = rows[::2]  # a person has deleted the others
    with queue.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)
    mended = call("convert", data, fixed, "--apply", queue)
    assert mended.returncode == 0, mended.stderr
    before, after = (
        {
            row["image"]: set(filter(None, row["labels"].split("|")))
            for row in csv.DictReader(path.open(encoding="utf-8"))
        }
        for path in (data, fixed)
    )
    changed = {(image, label) for image in before for label in before[image] ^ after[image]}
    assert changed == {(row["image"], row["label"]) for row in kept}
    assert all((row["label"] in after[row["image"]]) == (row["suggestion"] == "present") for row in kept)


def test_evaluate_never_writes_over_a_run(run: Path, data: Path) -> None:
    before = (run / "metrics.json").read_bytes()
    told = call("evaluate", run, run.parent / "split.csv", "--images", data.parent, "--out", run)
    assert told.returncode == 2
    assert "the folder holds another run" in told.stderr
    assert (run / "metrics.json").read_bytes() == before


def test_labels_that_the_model_lacks_stop_or_are_dropped(run: Path, data: Path) -> None:
    table = run.parent / "renamed.csv"
    image = next((data.parent / "images").glob("train-*.png"))
    table.write_text(f"image,labels\n{image.name},3|dgo\n", "utf-8")
    stopped = call("evaluate", run, table, "--images", image.parent)
    assert stopped.returncode == 2
    assert "unknown label 'dgo'" in stopped.stderr
    dropped = call("evaluate", run, table, "--images", image.parent, "--unknown-labels", "drop")
    assert dropped.returncode == 0, dropped.stderr


def test_a_picture_of_an_unusable_image_keeps_the_answers(run: Path, data: Path, tmp_path: Path) -> None:
    image = next((data.parent / "images").glob("train-*.png"))
    broken = data.parent / "images" / "broken.png"
    told = call("predict", run, broken, image, "--picture", tmp_path / "p.png", "--out", tmp_path / "a.jsonl")
    assert told.returncode == 1
    assert f"No picture: {broken} cannot be used." in told.stderr
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    assert [line["labels"] is None for line in lines] == [True, False]
    assert call("predict", run, image, "--picture", tmp_path / "p.png").returncode == 0
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_smaller_models_and_one_file_answer_like_the_bundle(run: Path, data: Path, tmp_path: Path) -> None:
    split, images = run.parent / "split.csv", data.parent
    for out, flags in (("one.onnx", ()), ("half", ("--quantize", "fp16")), ("small", ("--quantize", "int8"))):
        told = call(
            "export",
            run,
            tmp_path / out,
            "--check",
            split,
            "--images",
            images,
            "--max-changed",
            "0.5",
            "--json",
            *flags,
        )
        assert told.returncode == 0, told.stderr
        cost = json.loads(told.stdout)["cost"]
        assert cost["num_images"] > 20
        assert cost["max_difference"] <= {"one.onnx": 0, "half": 0.01, "small": 0.3}[out]
        answers = call("predict", tmp_path / out, images / "images", "--json")
        assert answers.returncode == 1, "one image is broken"
        whole = call("predict", run, images / "images", "--json")
        pairs = [
            (json.loads(line)["labels"], json.loads(other)["labels"])
            for line, other in zip(answers.stdout.splitlines(), whole.stdout.splitlines(), strict=True)
        ]
        changed = sum(given != expected for given, expected in pairs)
        assert changed <= {"one.onnx": 0, "half": 16, "small": 60}[out]
    refused = call("export", run, tmp_path / "no", "--quantize", "int8")
    assert refused.returncode == 2
    assert refused.stderr.startswith("Error: --quantize int8: it has to see images")


def test_an_answer_is_explained_by_the_bundle_alone(run: Path, data: Path, tmp_path: Path) -> None:
    image = next((data.parent / "images").glob("train-*.png"))
    told = call("explain", run, image, "--labels", "3,7", "--out", tmp_path / "new" / "why.png")
    assert told.returncode == 0, told.stderr
    assert [line.split()[0] for line in told.stdout.splitlines()] == ["3", "7"]
    with Image.open(tmp_path / "new" / "why.png") as picture:
        assert picture.width > 900
    marked = call("explain", run, image, "--regions", data, "--out", tmp_path / "why.png")
    assert marked.returncode == 2, "the table has no regions"
    assert f"it marks no region in {image.name}" in marked.stderr
    wrong = call("explain", run, image, "--labels", "33", "--out", tmp_path / "no.png")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("Error: --labels: the model has no label '33'")
    assert not (tmp_path / "no.png").exists()


def test_killed_answers_go_on_without_a_lost_or_doubled_row(run: Path, data: Path, tmp_path: Path) -> None:
    images = sorted((data.parent / "images").glob("train-*.png"))
    many = tmp_path / "many"
    many.mkdir()
    for number in range(2600):
        (many / f"{number:04}.png").hardlink_to(images[number % len(images)])
    (many / "broken.png").write_bytes(b"")
    whole = call("predict", run, many, "--out", tmp_path / "whole.csv")
    assert whole.returncode == 1
    command = [
        sys.executable,
        "-m",
        "manylabel",
        "predict",
        str(run),
        str(many),
        "--out",
        str(tmp_path / "answers.csv"),
    ]
    first_part = tmp_path / "answers.csv.partial" / "000000000000.csv"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not first_part.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "answers.csv").exists()
    kept = len(list(csv.reader(first_part.open(encoding="utf-8", newline="")))) - 1
    resumed = subprocess.run([*command, "--resume"], capture_output=True, encoding="utf-8", check=False)
    assert resumed.returncode == 1
    assert f"Going on: {2601 - kept:,} of 2,601 images have no answer yet." in resumed.stderr
    assert "1 of 2601 images cannot be used." in resumed.stderr
    assert (tmp_path / "answers.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not first_part.parent.exists()


def test_a_folder_of_the_user_s_own_is_not_taken_for_an_abandoned_run(data: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"epochs": 1}', "utf-8")
    (tmp_path / "data.csv").write_text("mine", "utf-8")
    told = call("train", data, "--out", tmp_path, *TRAIN_FLAGS)
    assert told.returncode == 2
    assert (tmp_path / "data.csv").read_text("utf-8") == "mine"


def test_a_second_run_never_touches_the_first(run: Path, data: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    told = call("train", data, "--out", run, *TRAIN_FLAGS)
    assert told.returncode == 2
    assert "the folder holds another run" in told.stderr
    assert "Traceback" not in told.stderr
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process of a group")
def test_ctrl_c_leaves_a_usable_run_and_resume_finishes_it(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = [*TRAIN_FLAGS[:7], "60", *TRAIN_FLAGS[8:]]
    command = [sys.executable, "-m", "manylabel", "train", str(data), "--out", str(out), *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while not (out / "history.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "--resume goes on" in output
    image = next((data.parent / "images").glob("train-*.png"))
    assert call("predict", out, image).returncode == 0
    done = len((out / "history.jsonl").read_text("utf-8").splitlines())
    assert 0 < done < 60
    resumed = subprocess.run([*command, "--resume"], capture_output=True, encoding="utf-8", check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert "Going on in epoch" in resumed.stderr
    assert len((out / "history.jsonl").read_text("utf-8").splitlines()) == 60


MISTAKES = [
    pytest.param(["inspect", "nothing.csv"], "there is no such table", id="no table"),
    pytest.param(["inspect", "empty.csv"], "the table is empty", id="empty table"),
    pytest.param(["inspect", "labels.csv", "--label-column", "lables"], "did you mean 'labels'?", id="misspelt column"),
    pytest.param(["train", "absent.csv", "--out", "run"], "no image has any", id="all labels absent"),
    pytest.param(["inspect", "lost.csv"], "--images", id="no image is where the table says"),
    pytest.param(["train", "labels.csv", "--out", "run", "--backbone", "resnet81"], "did you mean", id="backbone"),
    pytest.param(["train", "labels.csv", "--out", "run", "--loss", "bec"], "did you mean 'bce'?", id="loss"),
    pytest.param(["train", "labels.csv", "--out", "run", "--lr", "-1"], "lr: out of range, got -1.0", id="range"),
    pytest.param(["train", "one.csv", "--out", "run"], "cannot be divided into 3 parts", id="one image in all"),
    pytest.param(["predict", "nowhere", "a.png"], "there is no such model", id="no model"),
]


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES)
def test_a_mistake_gets_one_sentence_and_exit_code_2(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    for number in range(6):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(tmp_path / f"{number}.png")
    tables = {
        "labels.csv": "image,labels\n" + "".join(f"{number}.png,{'xy'[number % 2]}\n" for number in range(6)),
        "empty.csv": "",
        "absent.csv": "image,x,y\n0.png,0,0\n1.png,0,0\n",
        "lost.csv": "image,labels\nc.png,x\nd.png,y\n",
        "one.csv": "image,labels\n0.png,x\n",
    }
    for name, text in tables.items():
        (tmp_path / name).write_text(text, "utf-8")
    told = call(*arguments, cwd=tmp_path)
    assert told.returncode == 2, told.stdout + told.stderr
    assert sentence in told.stderr
    assert "Traceback" not in told.stderr
    assert not (tmp_path / "run").exists()
