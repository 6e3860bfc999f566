"""TimeConfig: what ``harness time`` measures. Importing it must not import torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from harness.config import LOSS_OPTIONS, LOSS_WORDS, TF32, Settings, TaskChunk
from harness.yaml_core import parse


class TimeConfig(Settings):
    """Lists of algorithms, N and engines, every combination of which is a cell; and the shape of the tasks."""

    algo: tuple[str, ...] = Field(
        default=("maml", "fomaml", "anil:convex", "anil:nonconvex"),
        min_length=1,
        description="algorithms, each NAME or NAME:GEOMETRY",
    )
    inner_steps: tuple[int, ...] = Field(default=(1, 5), min_length=1, description="N, steps of the inner loop")
    engine: tuple[str, ...] = Field(default=("native",), min_length=1, description="libraries to time")
    strategy: tuple[str, ...] = Field(default=("auto",), min_length=1, description="strategies of the native engine")
    benchmark: str = Field(default="fc100", description="family of tasks, see `harness list`")
    model_options: dict[str, Any] = Field(default={}, description="options of the benchmark's model")
    loss: str | None = Field(default=None, min_length=1, description=f"{LOSS_WORDS}; unset: the benchmark's")
    loss_options: dict[str, Any] = Field(default={}, description=LOSS_OPTIONS)
    ways: int = Field(default=5, ge=1, description="classes in a task")
    shots: int = Field(default=5, ge=1, description="support examples of each class")
    queries: int = Field(default=5, ge=1, description="query examples of each class")
    meta_batch: int = Field(default=8, ge=1, description="B, tasks in a meta-gradient")
    inner_lr: float = Field(default=0.1, gt=0, description="alpha, step size of the inner loop")
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda|cuda:\d{1,3})$", description="auto, cpu or cuda")
    dtype: Literal["float32", "float64"] = Field(default="float32", description="type of parameters and inputs")
    tf32: bool | None = Field(default=None, description=TF32)
    task_chunk: TaskChunk | None = Field(
        default=None,
        description="tasks evaluated at once; unset: as the strategy has it; auto: the same, halved until they fit",
    )
    rounds: int = Field(default=5, ge=1, description="interleaved rounds")
    memory: bool = Field(default=True, description="measure peak memory, on the CPU in a fresh process per cell")
    threads: int | None = Field(default=None, ge=1, description="CPU threads; unset: as torch chooses")
    seed: int = Field(default=0, ge=0, description="seed of parameters and tasks")

    @field_validator("algo", "inner_steps", "engine", "strategy", mode="before")
    @classmethod
    def _listed(cls, value: Any, info: ValidationInfo) -> Any:
        """Text such as ``1,5`` is a list, and a single value too."""
        if isinstance(value, str):
            value = parse(f"[{value}]", info.field_name or "")
        return tuple(value) if isinstance(value, list | tuple) else (value,)
