"""Random quadratics in w, coupled to phi, whose curvature is known exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.problem.benchmark import SPLITS, RegressionBenchmark

if TYPE_CHECKING:
    import torch

    from harness.problem.benchmark import TaskShape
    from harness.problem.tasks import TaskBatch


class QuadraticOptions(BaseModel):
    """Sizes and curvature."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dim_w: int = Field(
        10, ge=1, le=4096, description="number of adapted parameters, and of rows in every support and query set"
    )
    dim_phi: int = Field(8, ge=1, le=4096, description="number of shared parameters")
    mu: float = Field(0.1, gt=0, allow_inf_nan=False, description="smallest eigenvalue of the Hessian in w")
    L: float = Field(1.0, gt=0, allow_inf_nan=False, description="largest eigenvalue of the Hessian in w")
    coupling: float = Field(0.5, ge=0, allow_inf_nan=False, description="scale of the inputs that phi sees")

    @model_validator(mode="after")
    def _ordered(self) -> QuadraticOptions:
        if self.mu > self.L:
            raise ValueError(f"mu {self.mu} is larger than L {self.L}; allowed: 0 < mu <= L")
        if self.dim_w == 1 and self.mu != self.L:
            raise ValueError(f"dim_w 1 has one eigenvalue; allowed: mu equal to L, not {self.mu} and {self.L}")
        return self


class Quadratic(RegressionBenchmark):
    """Linear least squares: prediction = x_phi . phi + x_w . w, with x = (x_phi, x_w) ``[B, dim_w, dim_phi + dim_w]``.

    In every support and query set the Hessian of the mean squared error in w is Q diag(lambda) Q^T with a random
    orthogonal Q and eigenvalues in [mu, L], both ends attained. That takes exactly ``dim_w`` rows, so ``shots``
    and ``queries`` do not change the tasks. Targets come from optima of w and phi that are normal around a centre
    drawn once a seed, so that there is something to meta-learn.
    """

    name = "quadratic"
    summary = "linear regression whose inner loss has eigenvalues in [mu, L] exactly"
    version = "quadratic-2"
    model = "coupled"
    defaults = {"ways": 1, "shots": 10, "queries": 10}
    Options = QuadraticOptions

    @property
    def input_shape(self) -> tuple[int, ...]:
        """See :attr:`Benchmark.input_shape`."""
        return (self.options.dim_phi + self.options.dim_w,)

    @property
    def model_options(self) -> dict[str, int]:
        """The model has to know which of its inputs are the shared parameters'."""
        return {"dim_phi": self.options.dim_phi}

    def draw(
        self, split: str, first: int, tasks: int, shape: TaskShape, device: torch.device, dtype: torch.dtype
    ) -> TaskBatch:
        """See :meth:`Benchmark.draw`; made on the CPU in float64, so that every device gets the same tasks."""
        import torch

        from harness.problem.tasks import TaskBatch, random_normal, random_uniform

        option = self.options
        n, p = option.dim_w, option.dim_phi
        stream = SPLITS.index(split)
        task = torch.arange(first, first + tasks)
        row, column = torch.arange(n)[:, None], torch.arange(n)
        centre = random_normal(shape.seed, len(SPLITS), torch.arange(p + n))
        optimum = centre + random_normal(shape.seed, stream, 0, task[:, None], torch.arange(p + n))

        def points(part: int) -> tuple[torch.Tensor, torch.Tensor]:
            each = task[:, None, None]
            # One by one, and below no x @ optimum: both round otherwise where a task lies elsewhere in memory, so
            # that its numbers would depend on the tasks that are drawn with it.
            factors = [torch.linalg.qr(a) for a in random_normal(shape.seed, stream, part, each, row, column)]
            q, r = (torch.stack(kind) for kind in zip(*factors, strict=True))
            # With the signs of R's diagonal Q is uniform over the orthogonal matrices, and unique.
            q = q * torch.where(r.diagonal(dim1=1, dim2=2) < 0, -1.0, 1.0)[:, None, :]
            place = random_uniform(shape.seed, stream, part + 1, task[:, None], column)
            place[:, 0], place[:, -1] = 0.0, 1.0
            eigenvalues = torch.lerp(torch.full_like(place, option.mu), torch.full_like(place, option.L), place)
            # The mean squared error of n rows has the Hessian (2/n) X^T X.
            x_w = (n / 2) ** 0.5 * eigenvalues.sqrt()[:, :, None] * q.transpose(1, 2)
            x_phi = (
                option.coupling
                * (n / (2 * p)) ** 0.5
                * random_normal(shape.seed, stream, part + 2, each, row, torch.arange(p))
            )
            x = torch.cat([x_phi, x_w], dim=2)
            y = (x * optimum[:, None, :]).sum(2, keepdim=True)
            return x.to(device, dtype), y.to(device, dtype)

        return TaskBatch(*points(1), *points(4))
