"""TuneConfig: what ``harness tune`` is asked for. Free of torch and of Optuna."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from harness.settings.config import RunConfig

#: settings of trials unless given: tuning compares many short runs, on the same held-out tasks
TRIAL_ITERATIONS, TRIAL_EVAL_TASKS = 30, 100


#: folder of a study's trials, in that of the study
TRIALS = "runs"


class TuneConfig(RunConfig):
    """A run, whose settings every trial shares but for those searched; and how to search them."""

    algo: str = Field(
        default="anil", min_length=1, description="algorithms, NAME or NAME:GEOMETRY, commas between; a study each"
    )
    iterations: int = Field(
        default=TRIAL_ITERATIONS,
        ge=1,
        description="K, meta-iterations of a trial, fewer at a larger meta-batch",
    )
    eval_tasks: int = Field(default=TRIAL_EVAL_TASKS, ge=2, description="validation tasks of a trial")
    trials: int = Field(default=20, ge=1, description="finished trials of each study, over all processes")
    budget_seconds: float | None = Field(
        default=None, gt=0, description="begin no trial when those of a study have taken so long, added up"
    )
    objective: str = Field(
        default="loss",
        min_length=1,
        description="loss, accuracy, seconds@accuracy=0.8, gradient_entries@epsilon=0.01, …; two with a comma: a front",
    )
    sampler: Literal["tpe", "random", "qmc", "cmaes", "nsga2"] = Field(default="tpe", description="how to search")
    pruner: Literal["auto", "median", "hyperband", "none"] = Field(
        default="auto", description="how to end bad trials early; auto: median with one objective, none with two"
    )
    storage: str | None = Field(
        default=None, min_length=1, description="journal file or Optuna URL; unset: OUT/journal.log"
    )
    study: str | None = Field(
        default=None,
        pattern=r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,99}$",  # it becomes a folder of --out
        description="name of the study, up to 100 letters, no slash, no dot first; unset: after its settings",
    )
    workers: int = Field(default=1, ge=1, description="processes here: one a GPU, or equal shares of the cores")
    test_seeds: int = Field(default=3, ge=0, description="fresh seeds to run the best setting with, for test figures")

    @model_validator(mode="before")
    @classmethod
    def _with_geometry(cls, values: Any) -> Any:
        """Several algorithms, each with a geometry of its own."""
        return values


#: fields of TuneConfig that are no settings of a run
OWN = frozenset(TuneConfig.model_fields) - frozenset(RunConfig.model_fields)
