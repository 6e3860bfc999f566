"""TimeConfig: what ``harness time`` measures. Importing it must not import torch."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from harness.settings.config import TaskChunk, WorkConfig
from harness.store.yaml_core import parse


class TimeConfig(WorkConfig):
    """Lists of algorithms, N and engines, every combination of which is a cell; the rest is that of a run."""

    algo: tuple[str, ...] = Field(
        default=("maml", "fomaml", "anil:convex", "anil:nonconvex"),
        min_length=1,
        description="algorithms, each NAME or NAME:GEOMETRY",
    )
    inner_steps: tuple[int, ...] = Field(default=(1, 5), min_length=1, description="N, steps of the inner loop")
    engine: tuple[str, ...] = Field(default=("native",), min_length=1, description="libraries to time")
    strategy: tuple[str, ...] = Field(default=("auto",), min_length=1, description="strategies of the native engine")
    benchmark: str = Field(
        default="fc100", min_length=1, description=str(WorkConfig.model_fields["benchmark"].description)
    )
    task_chunk: TaskChunk | None = Field(
        default=None,
        description="tasks evaluated at once; unset: as the strategy has it; auto: the same, halved until they fit",
    )
    rounds: int = Field(default=5, ge=1, description="interleaved rounds")
    memory: bool = Field(default=True, description="measure peak memory, on the CPU in a fresh process per cell")

    @field_validator("algo", "inner_steps", "engine", "strategy", mode="before")
    @classmethod
    def _listed(cls, value: Any, info: ValidationInfo) -> Any:
        """Text such as ``1,5`` is a list, and a single value too."""
        if isinstance(value, str):
            value = parse(f"[{value}]", info.field_name or "")
        return tuple(value) if isinstance(value, list | tuple) else (value,)
