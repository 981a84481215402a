"""The figures on the page about reliability are those that the benchmarks kept, and the tests it names exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "reference" / "reliability.md").read_text("utf-8")

FIGURES = {
    "hostile_images": (
        "the {num_files:,} files of Pillow",
        "| {num_with_damaged:,}; 0 | {num_with_damaged:,}; {tracebacks} |",
        "| all | {answers[decoded]} of {answers[decoded]}, and no other |",
        "| 60 s; 1 GB | {scan_seconds} s; {scan_peak_mb} MB |",
        "| 0 | {filled_with_grey} of {answers[decoded]} |",
        "| 50 ms; 20 MB | {size_bomb_slowest_ms} ms; {size_bomb_extra_mb} MB |",
        "| 1 s | {scan_bomb_slowest_ms} ms |",
        "| 1 s | {most_scans_slowest_ms} ms |",
        "| {num_with_frames} files, slowest {frames_slowest_ms} ms |",
        "| {num_renamed} of {num_renamed}; {renamed_processes} |",
    ),
    "serve": (
        "| - | {idle_p50_ms} ms |",
        "| - | {capacity_requests_s:.0f} requests/s, p99 {capacity_p99_ms:.0f} ms |",
        "in process ({in_process_images_s:.0f} images/s, decoding included) | at least 0.8 | **{capacity_share:.2f}:",
        "| at least 0.9 | {goodput_share:.2f} |",
        "| {rejected_p99_ms} ms; {rejected_without_retry_after}; {other_errors}; 0 |",
        "| {accepted_p99_ms:.0f} ms |",
        "probes | 200 ms | {health_p99_ms} ms |",
        "| {after_overload_p99_ms} ms |",
        "alike, slowest {damaged_slowest_s:.2f} s |",
        "| 1.5 GB | {peak_mb} MB |",
        "{lost_at_stops} lost of {answered_at_stops:,} answered, all 0, slowest {slowest_stop_s:.1f} s |",
    ),
    "serve_beside_litserve": (
        "| **{onnxruntime_ratio} x and {auto_ratio} x: missed**: {onnxruntime_closed_loop_requests_s:.0f} and "
        "{auto_closed_loop_requests_s:.0f} beside {litserve_closed_loop_requests_s:.0f} |",
    ),
    "serve_faults": (
        "| 15 s; never | {slowest_start_s} s; never |",
        "| {busy_port_s} s, one line, {busy_port_exit_code} |",
        "| {slow_p99_ratio} x; {slow_last_cut_s} s |",
        "| {lost_at_kills}; {slowest_recovery_s} s |",
        "| 0 lost; {second_signal_s} s |",
        "| 5 % | {memory_growth:.1%} |",
    ),
}
"""By benchmark: what stands on the page, with the names of its figures."""

MORE_IS_BETTER = {"capacity_share", "goodput_share", "onnxruntime_ratio", "auto_ratio"}

MISSED: dict[str, dict[str, str]] = {
    "hostile_images": {},
    "serve": {"capacity_share": "**0.67: missed**"},
    "serve_beside_litserve": {"onnxruntime_ratio": "**1.01 x and", "auto_ratio": "and 1.22 x: missed**"},
    "serve_faults": {},
}
"""By benchmark: the bars that are missed, and what the page says of each."""


@pytest.mark.parametrize("benchmark", FIGURES)
def test_the_figures_of_the_page_are_those_that_were_kept(benchmark: str) -> None:
    kept = json.loads((ROOT / "benchmarks" / "results" / f"{benchmark}.json").read_text("utf-8"))
    written = [figure.format_map(kept) for figure in FIGURES[benchmark]]
    assert [text for text in written if text not in PAGE.replace("\n", " ")] == []


@pytest.mark.parametrize("benchmark", FIGURES)
def test_a_bar_that_is_missed_is_called_so(benchmark: str) -> None:
    kept = json.loads((ROOT / "benchmarks" / "results" / f"{benchmark}.json").read_text("utf-8"))
    missed = {
        name for name, bar in kept["bars"].items() if (kept[name] < bar if name in MORE_IS_BETTER else kept[name] > bar)
    }
    assert missed == MISSED[benchmark].keys()
    assert [text for text in MISSED[benchmark].values() if text not in PAGE] == []


def test_every_test_that_the_page_names_exists() -> None:
    sources = {path: path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    named = set(re.findall(r"\b(?:(?:tests|benchmarks)/[\w/]+\.py|test_\w+(?:\.py)?)", PAGE))
    lost = [name for name in sorted(named) if not is_there(name, sources)]
    assert lost == []
    assert len(named) > 40


def is_there(name: str, sources: dict[Path, str]) -> bool:
    """Tell whether a path, the name of a file of tests or that of a test stands for something."""
    if "/" in name:
        return (ROOT / name).is_file()
    if name.endswith(".py"):
        return any(path.name == name for path in sources)
    return any(f"def {name}(" in source for source in sources.values())


@pytest.mark.parametrize("name", ["tests/test_gone.py", "test_gone.py", "test_that_nobody_wrote"])
def test_a_name_that_stands_for_nothing_is_found(name: str) -> None:
    assert not is_there(name, {Path(__file__): "def test_other() -> None: ..."})
