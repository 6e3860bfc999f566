"""Three Triton kernels for what takes longest: the first convolution with its pool, its weights' gradient, grouped 3x3.

Sketches to be timed, of which nothing in the harness makes use.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

#: rows of patches, and positions of the pool, that one program takes
ROWS, POSITIONS = 64, 64
#: entries of a patch of three channels, and what they are padded to
PATCH, PADDED = 27, 32


@triton.jit
def _patches(x, image, at, window: tl.constexpr, inside, height, width, padded: tl.constexpr):
    """The patches ``[positions, padded]`` around one of the four pixels that each position of the pool covers."""
    entry = tl.arange(0, padded)
    channel = entry // 9
    row = 2 * (at // (width // 2)) + window // 2
    column = 2 * (at % (width // 2)) + window % 2
    row = row[:, None] + ((entry % 9) // 3 - 1)[None, :]
    column = column[:, None] + (entry % 3 - 1)[None, :]
    seen = inside[:, None] & (row >= 0) & (row < height) & (column >= 0) & (column < width) & (channel[None, :] < 3)
    return tl.load(x + ((image * 3 + channel[None, :]) * height + row) * width + column, mask=seen, other=0.0)


@triton.jit
def _first_forward(
    x, weight, out, which, height, width, examples,
    positions: tl.constexpr, filters: tl.constexpr, padded: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """The largest of four convolved pixels, and which of them it is."""
    image = tl.program_id(1)
    at = tl.program_id(0) * positions + tl.arange(0, positions)
    inside = at < (height // 2) * (width // 2)
    entry = tl.arange(0, padded)
    channel = tl.arange(0, filters)
    own = tl.load(weight + (image // examples) * padded * filters + entry[:, None] * filters + channel[None, :])
    best = tl.full((positions, filters), float("-inf"), tl.float32)
    chosen = tl.zeros((positions, filters), tl.int8)
    for window in tl.static_range(4):
        pixels = _patches(x, image, at, window, inside, height, width, padded)
        value = tl.dot(pixels, own, input_precision=precision)
        better = value > best
        best = tl.where(better, value, best)
        chosen = tl.where(better, tl.full((positions, filters), window, tl.int8), chosen)
    to = (image * (height // 2) * (width // 2) + at[:, None]) * filters + channel[None, :]
    tl.store(out + to, best, mask=inside[:, None])
    tl.store(which + to, chosen, mask=inside[:, None])


@triton.jit
def _first_weights(
    x, gradient, which, out, height, width, blocks,
    positions: tl.constexpr, filters: tl.constexpr, padded: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """Each image's part ``[padded, filters]`` of the weights' gradient, from what comes back to the pool."""
    image = tl.program_id(0)
    entry = tl.arange(0, padded)
    channel = tl.arange(0, filters)
    total = tl.zeros((padded, filters), tl.float32)
    for block in range(0, blocks):
        at = block * positions + tl.arange(0, positions)
        inside = at < (height // 2) * (width // 2)
        to = (image * (height // 2) * (width // 2) + at[:, None]) * filters + channel[None, :]
        coming = tl.load(gradient + to, mask=inside[:, None], other=0.0)
        chosen = tl.load(which + to, mask=inside[:, None], other=0)
        for window in tl.static_range(4):
            pixels = _patches(x, image, at, window, inside, height, width, padded)
            total += tl.dot(tl.trans(pixels), tl.where(chosen == window, coming, 0.0), input_precision=precision)
    tl.store(out + image * padded * filters + entry[:, None] * filters + channel[None, :], total)


@triton.jit
def _grouped(
    x, weight, out, sums, examples, height: tl.constexpr, width: tl.constexpr,
    rows: tl.constexpr, channels: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """A 3x3 convolution with each task's own weights, and the sums and sums of squares that batch norm wants."""
    task = tl.program_id(1)
    at = tl.program_id(0) * rows + tl.arange(0, rows)
    inside = at < examples * height * width
    image = at // (height * width)
    y = (at // width) % height
    x_of = at % width
    channel = tl.arange(0, channels)
    total = tl.zeros((rows, channels), tl.float32)
    own = x + task * examples * height * width * channels
    for tap in range(9):
        row = y + tap // 3 - 1
        column = x_of + tap % 3 - 1
        seen = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        pixels = tl.load(
            own + ((image * height + row) * width + column)[:, None] * channels + channel[None, :],
            mask=seen[:, None],
            other=0.0,
        )
        filters = tl.load(weight + ((task * 9 + tap) * channels + channel[:, None]) * channels + channel[None, :])
        total = tl.dot(pixels, filters, total, input_precision=precision)
    to = (task * examples * height * width + at)[:, None] * channels + channel[None, :]
    tl.store(out + to, total, mask=inside[:, None])
    tl.atomic_add(sums + task * 2 * channels + channel, tl.sum(total, 0))
    tl.atomic_add(sums + task * 2 * channels + channels + channel, tl.sum(total * total, 0))


def first_forward(x: Tensor, weight: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """``x`` ``[n, 3, H, W]`` convolved with ``weight`` ``[tasks, filters, 3, 3, 3]`` and pooled, channels last.

    Returns ``[n, H/2, W/2, filters]``, and which of the four pixels each is.
    """
    (count, _, height, width), (tasks, filters) = x.shape, weight.shape[:2]
    own = F.pad(weight.flatten(2), (0, PADDED - PATCH)).mT.contiguous()
    out = x.new_empty(count, height // 2, width // 2, filters)
    which = torch.empty_like(out, dtype=torch.int8)
    grid = (triton.cdiv(height // 2 * (width // 2), POSITIONS), count)
    _first_forward[grid](x, own, out, which, height, width, count // tasks, POSITIONS, filters, PADDED, precision)
    return out, which


def first_weights(x: Tensor, gradient: Tensor, which: Tensor, tasks: int, precision: str) -> Tensor:
    """The gradient of :func:`first_forward` in its weights, ``[tasks, filters, 3, 3, 3]``."""
    (count, _, height, width), filters = x.shape, gradient.shape[-1]
    out = x.new_empty(count, PADDED, filters)
    blocks = triton.cdiv(height // 2 * (width // 2), POSITIONS)
    _first_weights[(count,)](x, gradient, which, out, height, width, blocks, POSITIONS, filters, PADDED, precision)
    return out.view(tasks, -1, PADDED, filters).sum(1)[:, :PATCH].mT.reshape(tasks, filters, 3, 3, 3)


def grouped(x: Tensor, weight: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """``x`` ``[tasks, n, H, W, C]`` convolved with ``weight`` ``[tasks, 9, C, C]``; and ``[tasks, 2, C]`` sums."""
    tasks, examples, height, width, channels = x.shape
    out, sums = torch.empty_like(x), x.new_zeros(tasks, 2, channels)
    grid = (triton.cdiv(examples * height * width, ROWS), tasks)
    _grouped[grid](x, weight, out, sums, examples, height, width, ROWS, channels, precision)
    return out, sums


def work(
    tasks: int, examples: int, device: torch.device, precision: str, channels: int = 64
) -> Iterator[tuple[str, Callable[[], Tensor], Callable[[], Tensor]]]:
    """Name of a kernel, a call of it, and the same by torch in float64."""
    x = torch.rand(tasks * examples, 3, 32, 32, device=device)
    weight = torch.randn(tasks, channels, 3, 3, 3, device=device)
    gradient = torch.randn(tasks * examples, 16, 16, channels, device=device)
    which = torch.randint(4, gradient.shape, device=device, dtype=torch.int8)

    def convolved() -> Tensor:
        pairs = zip(x.double().split(examples), weight.double(), strict=True)
        return torch.cat([F.conv2d(images, own, padding=1) for images, own in pairs])

    def weights() -> Tensor:
        cells = F.one_hot(which.long(), 4).double() * gradient.double()[..., None]
        full = cells.unflatten(-1, (2, 2)).permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, 32, 32)
        pairs = zip(full.split(examples), x.double().split(examples), strict=True)
        return torch.stack([torch.nn.grad.conv2d_weight(a, weight.shape[1:], g, padding=1) for g, a in pairs])

    def pool() -> Tensor:
        return F.max_pool2d(convolved(), 2).permute(0, 2, 3, 1)

    yield "first convolution and pool", lambda: first_forward(x, weight, precision)[0], pool
    yield "first weights", lambda: first_weights(x, gradient, which, tasks, precision), weights
    for edge in (16, 8, 4):
        images = torch.randn(tasks, examples, edge, edge, channels, device=device)
        taps = torch.randn(tasks, 9, channels, channels, device=device)
        yield (
            f"grouped, edge {edge}",
            lambda images=images, taps=taps: grouped(images, taps, precision)[0],
            lambda images=images, taps=taps: _by_torch(images, taps),
        )


def _by_torch(images: Tensor, taps: Tensor) -> Tensor:
    weights = taps.double().unflatten(1, (3, 3)).permute(0, 4, 3, 1, 2)
    pairs = zip(images.double().permute(0, 1, 4, 2, 3), weights, strict=True)
    return torch.stack([F.conv2d(x, own, padding=1).permute(0, 2, 3, 1) for x, own in pairs])
