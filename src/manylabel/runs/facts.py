"""What a run notes down about where and with what it ran."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from manylabel.cores import count_cores

_PACKAGES = ("manylabel", "torch", "torchvision", "timm", "accelerate", "numpy", "Pillow", "onnxruntime", "pyarrow")


def collect_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide what a run computes."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def collect_hardware(device: str, num_processes: int = 1) -> dict[str, Any]:
    """Return what the run computed on; no host name and no user name."""
    return {
        "device": device,
        "num_processes": num_processes,
        "machine": platform.machine(),
        "system": platform.system(),
        "num_cores": count_cores(),
    }
