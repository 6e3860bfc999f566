"""How exactly a CUDA device multiplies float32: in full, or with factors rounded to TF32 (10 bits of 23)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from harness.errors import InputError


def check_tf32(allowed: bool | None, device: torch.device, where: str) -> None:
    """Raise :class:`InputError` where TF32 is asked of a device that has none."""
    if allowed and device.type != "cuda":
        raise InputError(f"{where}: {device} has no TF32; allowed there: false, or unset")


@contextmanager
def tf32(allowed: bool | None) -> Iterator[None]:
    """Inside, convolutions and matrix products may round to TF32, or may not; None: as torch has it.

    That is, unless changed: convolutions may, matrix products may not. ``environment.json`` holds what was in force.
    """
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    if allowed is not None:
        torch.backends.cudnn.allow_tf32 = allowed
        torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        if allowed is not None:
            torch.backends.cudnn.allow_tf32 = before[0]
            torch.set_float32_matmul_precision(before[1])
