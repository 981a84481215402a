"""What `manylabel serve` holds beside LitServe with the same model file, client and server on the same cores.

LitServe runs in an environment of its own (`--peer PYTHON`): `python -m venv peer`, then `peer/bin/pip install litserve
onnxruntime Pillow numpy`. It has as many workers as cores and the fastest way that it was found to have; see
`litserve_peer.py`. The rounds take turns, so that a slow minute of the machine falls on all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from load import Client, build_request, send_in_turn, wait_for_answer
from predict_start import save_untrained
from process import MANYLABEL, report
from serve import find_capacity, load_images

DRIVER = Path(__file__).resolve().parent / "litserve_peer.py"
_PORT, _SIZE_PX = 8792, 160
_AT_ONCE = (8, 16, 32)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Ask each server in turn, several rounds, and keep the best figure of each."""
    check_peer(given.peer)
    images = load_images(400)
    with tempfile.TemporaryDirectory() as name:
        bundle = Path(name) / "bundle"
        save_untrained(bundle, "mobilenetv1_100", _SIZE_PX)
        workers = str(len(os.sched_getaffinity(0)))
        ours = [*MANYLABEL, "serve", str(bundle), "--port", str(_PORT), "--quiet"]
        theirs = [given.peer, str(DRIVER), str(bundle / "model.onnx"), str(_SIZE_PX), str(_PORT), workers]
        commands = {"litserve": theirs, "onnxruntime": ours, "auto": [*ours, "--engine", "auto"]}
        rounds = [
            {name: measure(command, images, given.seconds) for name, command in commands.items()}
            for _ in range(given.rounds)
        ]
    best = {name: {key: max(each[name][key] for each in rounds) for key in rounds[0][name]} for name in commands}
    figures = {f"{name}_{key}": round(value, 1) for name, found in best.items() for key, value in found.items()}
    reference = best["litserve"]["closed_loop_requests_s"]
    ratios = {
        f"{name}_ratio": round(best[name]["closed_loop_requests_s"] / reference, 2) for name in ("onnxruntime", "auto")
    }
    return {**figures, **ratios, "bars": {"onnxruntime_ratio": 1.3, "auto_ratio": 1.6}}


def check_peer(python: str) -> None:
    """Stop where LitServe is not there: a figure beside nothing says nothing."""
    asked = subprocess.run([python, "-c", "import litserve, onnxruntime"], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        raise SystemExit(f"{python} has no litserve and onnxruntime: make an environment for it, see the first lines")


def measure(command: Sequence[str], images: Sequence[bytes], seconds: float) -> dict[str, float]:
    """Return the most requests/s with some at once, and the highest rate that is held, 0 where none is.

    Held is a rate at which all are answered and 99 of 100 within ten times the idle latency (`serve.find_capacity`).
    """
    with start(command):
        return asyncio.run(_ask([build_request(image, _PORT) for image in images], seconds))


async def _ask(requests: list[bytes], seconds: float) -> dict[str, float]:
    client = Client(_PORT)
    await wait_for_answer(client, requests[0])
    await send_in_turn(client, requests, 8)
    idle = await send_in_turn(client, requests)
    loads = [await send_in_turn(client, requests * 2, num) for num in _AT_ONCE]
    wrong = {status for load in loads for status in load.num_by_status} - {200}
    if wrong:
        raise SystemExit(f"a server that is not overloaded answered with {wrong}")
    held = await find_capacity(client, requests, 10 * idle.percentile(0.5, 200), seconds)
    client.close()
    return {
        "closed_loop_requests_s": max(len(requests) * 2 / load.wall_seconds for load in loads),
        "capacity_requests_s": 0.0 if held is None else held[0],
    }


@contextlib.contextmanager
def start(command: Sequence[str]) -> Iterator[None]:
    """Run a server in a process group of its own, and end all of it."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(timeout=40)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)  # workers that outlive their parent would slow the next one


if __name__ == "__main__":
    report(
        "serve_beside_litserve",
        run,
        ("--peer", {"required": True, "help": "the Python of an environment with LitServe", "metavar": "PYTHON"}),
        ("--rounds", {"type": int, "default": 3}),
        ("--seconds", {"type": float, "default": 6.0}),
    )
