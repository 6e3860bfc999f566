"""Single operations at the sizes of MAML with 32 tasks: convolutions with each task's own weights, the first block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.suites.gpu.problems import relative

if TYPE_CHECKING:
    from benchmarks.suites.gpu.bench import Bench, Part

#: what is timed: its name, and a call
Work = Iterator[tuple[str, Callable[[], object]]]

CHANNELS = 64
LAYOUTS = {"nhwc": torch.channels_last, "nchw": torch.contiguous_format}


def micro(part: Part) -> None:
    """Fill the part ``micro``. Triton's kernels come last: a fault in one of them leaves no device to go on with."""
    bench = part.bench
    for edge in part.while_time((16, 8, 4), seconds=30):
        for mode in bench.modes:
            for searched in (False, True):
                with _algorithms_searched(searched):
                    _time_all(part, _grouped(bench, edge), edge=edge, mode=mode, searched=searched)
            _time_all(part, _task_by_task(bench, edge), edge=edge, mode=mode)
    for mode in part.while_time(bench.modes, seconds=15):
        _time_all(part, _first_block(bench), mode=mode)
    for mode in part.while_time(bench.modes, seconds=15):
        _time_kernels(part, mode)


def _time_all(part: Part, work: Work, **name: object) -> None:
    with part.attempt(**name):
        for what, call in work:
            with part.row(what=what, **name) as row:
                row["ms"] = part.bench.milliseconds(call)


@contextmanager
def _algorithms_searched(searched: bool) -> Iterator[None]:
    """Inside, cuDNN tries its algorithms for a new shape, or takes what it thinks best."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = searched
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _sizes(bench: Bench) -> tuple[int, int]:
    """Tasks, and examples of each."""
    return (3, 2) if bench.dry else (32, 25)


def _backward(gradient: Tensor, x: Tensor, weight: Tensor, groups: int, of: str) -> Tensor:
    """The cotangent of the ``images`` or the ``weights`` of a 3x3 convolution."""
    wanted = [of == "images", of == "weights", False]
    found = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], groups, wanted
    )
    return found[wanted.index(True)]


def _grouped(bench: Bench, edge: int) -> Work:
    """One convolution with a group for each task, forward and backward, in both memory layouts."""
    tasks, examples = _sizes(bench)
    x = torch.randn(examples, tasks * CHANNELS, edge, edge, device=bench.device)
    weight = torch.randn(tasks * CHANNELS, CHANNELS, 3, 3, device=bench.device)
    for layout, form in LAYOUTS.items():
        a, b = x.contiguous(memory_format=form), weight.contiguous(memory_format=form)
        yield f"grouped {layout} forward", lambda a=a, b=b: F.conv2d(a, b, padding=1, groups=tasks)
        for of in ("images", "weights"):
            yield f"grouped {layout} {of}", lambda a=a, b=b, of=of: _backward(a, a, b, tasks, of)


def _task_by_task(bench: Bench, edge: int) -> Work:
    """The same as a loop over tasks, and as products with patches."""
    tasks, examples = _sizes(bench)
    form = torch.channels_last
    xs = [torch.randn(examples, CHANNELS, edge, edge, device=bench.device) for _ in range(tasks)]
    weights = [torch.randn(CHANNELS, CHANNELS, 3, 3, device=bench.device) for _ in range(tasks)]
    pairs = [
        (x.contiguous(memory_format=form), w.contiguous(memory_format=form)) for x, w in zip(xs, weights, strict=True)
    ]
    yield "loop nhwc forward", lambda: [F.conv2d(x, w, padding=1) for x, w in pairs]
    yield "loop nhwc weights", lambda: [_backward(x, x, w, 1, "weights") for x, w in pairs]
    together, flat = torch.cat(xs), torch.stack(weights).flatten(2)
    patches = F.unfold(together, 3, padding=1).unflatten(0, (tasks, -1)).transpose(2, 3).flatten(1, 2)
    gradient = torch.randn(tasks, patches.shape[1], CHANNELS, device=bench.device)
    yield "patches", lambda: F.unfold(together, 3, padding=1)
    yield "product of patches forward", lambda: torch.bmm(patches, flat.mT)
    yield "product of patches weights", lambda: torch.bmm(gradient.mT, patches)


def _first_block(bench: Bench) -> Work:
    """The first convolution, its pool, what leads back through it, and the moments of its patches."""
    tasks, examples = _sizes(bench)
    count, edge = tasks * examples, 32
    x = torch.rand(count, 3, edge, edge, device=bench.device)
    weight = torch.randn(CHANNELS, 3, 3, 3, device=bench.device)
    for layout, form in LAYOUTS.items():
        a, b = x.contiguous(memory_format=form), weight.contiguous(memory_format=form)
        full = F.conv2d(a, b, padding=1)
        pooled, where = F.max_pool2d(full, 2, return_indices=True)
        yield f"first {layout} forward", lambda a=a, b=b: F.conv2d(a, b, padding=1)
        yield f"first {layout} weights", lambda a=a, b=b, full=full: _backward(full, a, b, 1, "weights")
        yield f"first {layout} pool", lambda full=full: F.max_pool2d(full, 2, return_indices=True)
        yield (
            f"first {layout} unpool",
            lambda pooled=pooled, where=where: F.max_unpool2d(pooled, where, [2, 2], output_size=[edge, edge]),
        )
    values, at = (tensor.permute(0, 2, 3, 1).flatten(1, 2).contiguous() for tensor in (pooled, where))
    scattered = torch.zeros(count, edge**2, CHANNELS, device=bench.device)
    yield "first scatter instead of unpool", lambda: scattered.zero_().scatter_add_(1, at, values)
    padded = F.pad(x, (1, 1, 1, 1)).contiguous(memory_format=torch.channels_last)
    units = torch.eye(28, 27, device=bench.device).view(-1, 3, 3, 3)
    yield "first patches by unit filters", lambda: F.conv2d(padded, units)
    view = padded.permute(0, 2, 3, 1).unfold(1, 3, 1).unfold(2, 3, 1)
    yield "first patches by view and copy", lambda: view.reshape(count, edge**2, 27)
    by_task = torch.randn(tasks, examples * edge**2, 28, device=bench.device)
    by_image = by_task.view(count, edge**2, 28)
    yield "first moments, a product a task", lambda: by_task.mT @ by_task
    yield "first moments, a product an image", lambda: (by_image.mT @ by_image).view(tasks, -1, 28, 28).sum(1)


def _time_kernels(part: Part, mode: str) -> None:
    """Triton's kernels: how far each is from torch, and what it takes."""
    bench = part.bench
    try:
        from benchmarks.suites.gpu import kernels
    except ImportError as error:
        part.document["triton"] = f"skipped: {error}"
        return
    if bench.device.type != "cuda":
        part.document["triton"] = "skipped: its kernels are compiled for CUDA"
        return
    tasks, examples = _sizes(bench)
    for precision in ("tf32",) if mode == "tf32" else ("tf32x3", "ieee"):
        with part.attempt(what="triton", mode=mode, precision=precision):
            for name, call, expected in kernels.work(tasks, examples, bench.device, precision):
                with part.row(what=f"triton {name}", mode=mode, precision=precision) as row:
                    row["difference"] = relative(call(), expected())
                    row["ms"] = bench.milliseconds(call)
