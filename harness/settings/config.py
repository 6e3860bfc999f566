"""RunConfig: the one schema behind flags, YAML files and the run key. Importing it must not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.errors import InputError
from harness.strangers.values import validate_as, with_integers

#: a number of tasks evaluated at once, or as many as fit in memory
TaskChunk = Annotated[int, Field(ge=1)] | Literal["auto"]


#: beyond these a number is a slip of the hand, or meant to fill the memory
MOST, MOST_ITERATIONS = 1_000_000, 1_000_000_000
#: a step size has to be a float32; Adam takes ten times its own first
MOST_STEP, MOST_OUTER_STEP = 1e38, 1e37


class Settings(BaseModel):
    """What a person sets: true is no number, text is neither, and 1e3 is an integer where one is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, values: Any) -> Any:
        return with_integers(cls, values) if isinstance(values, Mapping) else values


class ProblemConfig(Settings):
    """What every command that takes a model and tasks asks for; symbols as in Ji et al. 2020.

    Fields left at None are filled by the algorithm or the benchmark; a benchmark's own ``defaults``
    replace the defaults below where the user has not set the field.
    """

    benchmark: str = Field(
        default="glyphs",
        min_length=1,
        description="family of tasks, see `harness list`; or module:Class, FILE.py:Class",
    )
    benchmark_options: dict[str, Any] = Field(default={}, description="options of the benchmark")
    model: str | None = Field(
        default=None,
        min_length=1,
        description="cnn, resnet12, mlp, coupled, module:function or FILE.py:function; unset: the benchmark's",
    )
    model_options: dict[str, Any] = Field(default={}, description="options of the model, as {filters: 32}")
    model_mode: Literal["train", "eval"] = Field(
        default="train",
        description="train: batch norm by the batch's own statistics; eval: as module.eval(), no dropout",
    )
    adapt: str | None = Field(
        default=None,
        min_length=1,
        description="parameters in w: all, last:K, norm, bias, lora or a regex; unset: the geometry's",
    )
    algo_options: dict[str, Any] = Field(default={}, description="options of the algorithm, as {l2: 0.01}")
    loss: str | None = Field(
        default=None,
        min_length=1,
        description="cross_entropy, mse, l1, huber, bce, or module:function, FILE.py:function of (prediction, target); "
        "unset: the benchmark's",
    )
    loss_options: dict[str, Any] = Field(default={}, description="options of the loss, as {label_smoothing: 0.1}")
    ways: int = Field(default=5, ge=1, le=MOST, description="classes in a task")
    shots: int = Field(default=5, ge=1, le=MOST, description="support examples of each class")
    queries: int = Field(default=5, ge=1, le=MOST, description="query examples of each class")
    inner_lr: float = Field(default=0.1, gt=0, le=MOST_STEP, description="alpha, step size of the inner loop")
    meta_batch: int = Field(default=8, ge=1, le=MOST, description="B, tasks in a meta-iteration")
    seed: int = Field(default=0, ge=0, lt=2**63, description="seed of the initialisation and of the task streams")
    device: str = Field(
        default="auto", pattern=r"^(auto|cpu|cuda|cuda:\d{1,3})$", description="auto, cpu, cuda or cuda:INDEX"
    )


class WorkConfig(ProblemConfig):
    """The same, and how the work on it is done."""

    norm_statistics: Literal["separate", "joint"] = Field(
        default="separate", description="batch norm sees support and query separately, or together in the shared body"
    )
    dtype: Literal["float32", "float64"] = Field(default="float32", description="type of parameters and inputs")
    tf32: bool | None = Field(
        default=None, description="whether CUDA may round factors of float32 products to TF32; unset: as torch has it"
    )
    threads: int | None = Field(default=None, ge=1, le=4096, description="CPU threads; unset: as torch chooses")


class RunConfig(WorkConfig):
    """One run: what is trained, on which tasks, how, and on what device."""

    algo: str = Field(default="anil", min_length=1, description="algorithm, NAME or NAME:GEOMETRY, see `harness list`")
    geometry: str | None = Field(
        default=None,
        min_length=1,
        description="shape of the inner loop (convex, nonconvex); unset: the algorithm's first",
    )
    inner_steps: int = Field(default=5, ge=0, le=MOST, description="N, steps of the inner loop")
    iterations: int = Field(default=100, ge=1, le=MOST_ITERATIONS, description="K, meta-iterations")
    outer_optimizer: Literal["adam", "sgd"] = Field(default="adam", description="optimizer of the outer loop")
    outer_schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="outer step sizes: constant, or cosine, which falls from them to 0 over the run"
    )
    outer_lr_w: float = Field(default=1e-3, gt=0, le=MOST_OUTER_STEP, description="beta_w, outer step size of w")
    outer_lr_phi: float = Field(default=1e-3, gt=0, le=MOST_OUTER_STEP, description="beta_phi, outer step size of phi")
    engine: str = Field(default="native", min_length=1, description="library that computes meta-gradients")
    strategy: str = Field(default="auto", min_length=1, description="how the engine computes an exact meta-gradient")
    task_chunk: TaskChunk = Field(
        default="auto",
        description="tasks of a meta-batch evaluated at once; auto: as the strategy has it, halved until they fit",
    )
    eval_tasks: int = Field(default=600, ge=2, le=MOST, description="held-out tasks of an evaluation")
    eval_every: int = Field(
        default=0, ge=0, le=MOST_ITERATIONS, description="meta-iterations between validations; 0: only test at the end"
    )
    eval_ways: int | None = Field(
        default=None, ge=1, le=MOST, description="classes in a held-out task, no more than in training; unset: ways"
    )
    eval_shots: int | None = Field(default=None, ge=1, le=MOST, description="support examples there; unset: shots")
    eval_queries: int | None = Field(default=None, ge=1, le=MOST, description="query examples there; unset: queries")
    eval_inner_steps: int | None = Field(default=None, ge=0, le=MOST, description="N there; unset: inner_steps")
    stationarity_every: int = Field(
        default=0,
        ge=0,
        le=MOST_ITERATIONS,
        description="meta-iterations between measurements of both partial meta-gradients (Definition 1); 0: none",
    )
    stationarity_tasks: int = Field(
        default=64, ge=1, le=MOST, description="fixed tasks that Definition 1 is measured on"
    )
    checkpoint_every: int = Field(
        default=50, ge=1, le=MOST_ITERATIONS, description="meta-iterations between checkpoints"
    )
    label: str | None = Field(
        default=None, min_length=1, max_length=40, description="what reports call this setting, such as tuned"
    )

    @property
    def held_out(self) -> RunConfig:
        """The same with the size of held-out tasks and the N that adapts to them in place of those of training."""
        names = ("ways", "shots", "queries", "inner_steps")
        return self.model_copy(
            update={name: given for name in names if (given := getattr(self, f"eval_{name}")) is not None}
        )

    @model_validator(mode="before")
    @classmethod
    def _with_geometry(cls, values: Any) -> Any:
        """``anil:convex`` is an algorithm and its geometry, as in a list of algorithms."""
        algo = values.get("algo") if isinstance(values, Mapping) else None
        if not isinstance(algo, str) or ":" not in algo:
            return values
        name, _, geometry = algo.partition(":")
        if (given := values.get("geometry", geometry)) not in (geometry, None):
            raise InputError(f"algorithm {algo!r} with geometry {given!r}: two geometries; allowed: one")
        return {**values, "algo": name, "geometry": geometry}


def validate(values: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> RunConfig:
    """``RunConfig(**values)``, see :func:`validate_as`."""
    return validate_as(RunConfig, values, origins)
