"""What the machine is and reaches at best: its ceilings, memory's bandwidth, the price of launching an operation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from harness.measure.ceiling import Ceiling
from harness.measure.environment import environment
from harness.measure.nvml import read_gpu

if TYPE_CHECKING:
    from benchmarks.suites.gpu.bench import Bench, Part


def info(part: Part) -> None:
    """Fill the part ``info``."""
    bench = part.bench
    part.document["environment"] = environment(bench.device)
    with part.row(what="gpu") as row:
        row["state"] = _state(bench)
    with part.row(what="copy") as row:
        row["bytes_per_second"] = _copied(bench)
    with part.row(what="launch") as row:
        row["seconds"] = _launch(bench)
    ceilings = [(torch.float32, mode) for mode in bench.modes]
    if not bench.dry:  # a CPU without bfloat16 takes a minute for it
        ceilings.append((torch.bfloat16, "bfloat16"))
    for dtype, mode in part.while_time(ceilings, seconds=20):
        with part.row(what="ceiling", mode=mode) as row:
            ceiling = Ceiling(bench.device, dtype)
            ceiling.sample()
            row |= ceiling.report()
    with part.row(what="gpu afterwards") as row:
        row["state"] = _state(bench)


def _state(bench: Bench) -> dict[str, Any] | None:
    if bench.device.type != "cuda":
        return None
    return read_gpu(str(torch.cuda.get_device_properties(bench.device).uuid))


def _copied(bench: Bench) -> float:
    """Bytes read and written a second."""
    source = torch.ones(2**20 if bench.dry else 2**30, device=bench.device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / (bench.milliseconds(lambda: target.copy_(source)) * 1e-3)


def _launch(bench: Bench, times: int = 2000) -> float:
    """Seconds that the host is busy with one small operation."""
    x = torch.zeros(8, device=bench.device)
    for _ in range(times // 10):
        x.add_(1)
    bench.synchronize()
    begin = time.perf_counter()
    for _ in range(times):
        x.add_(1)
    seconds = (time.perf_counter() - begin) / times
    bench.synchronize()
    return seconds
