"""Writes the table of benchmarks/README.md from the kept results."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
MARK = "<!-- table -->"


def build_table(results: list[dict[str, object]]) -> str:
    """Return a row for every figure that has a bar."""
    lines = ["| benchmark | figure | measured | bar | cores |", "|---|---|---|---|---|"]
    for result in results:
        bars = result.get("bars", {})
        assert isinstance(bars, dict)
        for figure, bar in bars.items():
            lines.append(f"| {result['benchmark']} | {figure} | {result[figure]} | {bar} | {result['num_cores']} |")
    return "\n".join(lines)


def main() -> None:
    """Replace what stands below the mark."""
    results = [json.loads(path.read_text("utf-8")) for path in sorted((HERE / "results").glob("*.json"))]
    page = HERE / "README.md"
    head = page.read_text("utf-8").split(MARK)[0]
    page.write_text(f"{head}{MARK}\n\n{build_table(results)}\n", "utf-8")


if __name__ == "__main__":
    main()
