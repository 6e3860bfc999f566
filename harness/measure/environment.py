"""The fingerprint of a machine and its software: what a number was measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import harness
from harness.measure.checkout import git_state

_PEERS = ("higher", "learn2learn", "torchopt", "jax", "jaxlib")
_PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "pillow", *_PEERS)


def environment(device: torch.device, distributions: Iterable[str] = ()) -> dict[str, Any]:
    """Versions, git commit, processor, threads and determinism, as written to ``environment.json``.

    ``distributions`` names further installed packages to record, those that plugins came from.
    """
    return {
        "harness": harness.__version__,
        "git": git_state(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _versions([*_PACKAGES, *distributions]),
        "cpu": {"model": cpu_model(), "cores": usable_cores(), "threads": torch.get_num_threads()},
        "gpu": _gpu(device) if device.type == "cuda" else None,
        "determinism": {
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cudnn_allow_tf32": _allow_tf32(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
        },
    }


def sitting() -> dict[str, Any]:
    """When a run, or a part of it, begins (UTC), and how many processes the machine has had to do for a minute."""
    try:
        load = round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        load = None
    return {"started": datetime.now(UTC).isoformat(timespec="milliseconds"), "load_average": load}


def cpu_model() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Logical cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _gpu(device: torch.device) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split("\n")[0]
    return {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "driver": driver or None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _versions(names: Iterable[str]) -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _allow_tf32() -> bool | None:
    """None where torch's newer settings say of convolutions and recurrent layers what this one cannot."""
    try:
        return torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return None
