"""The four kinds of evaluation that Table 2 counts, each timed by itself on the native oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.engines.native import Native
from harness.problem.tasks import TaskBatch
from harness.timing.cells import Cell


def evaluations(cell: Cell, batch: TaskBatch) -> Iterator[tuple[str, Callable[[], object], int]]:
    """Name, call and entries (in the paper's unit, for the tasks of ``batch``) of each kind that the rule asks for.

    None for other engines: nobody sees into them.

    All are evaluated at w_0, the products along the outer gradient. An outer gradient includes its way
    back through the shared body; a product is timed with the linearisation that the strategy keeps.
    """
    if not isinstance(cell.engine, Native):
        return
    oracle = cell.engine.oracle(cell.w, cell.phi, batch)
    if oracle.differentiation in ("unrolled", "vmapped"):
        return  # the reverse pass through the loop has no separate kinds
    w = oracle.initial()
    n_w, n_phi, tasks = oracle.n_w, oracle.n_phi, oracle.tasks
    oracle.inner_gradient(w, linearise=True)
    u, _ = oracle.outer_gradient(w)

    def outer() -> None:
        again = cell.engine.oracle(cell.w, cell.phi, batch)  # type: ignore[attr-defined]
        again.phi_gradient(again.outer_gradient(w)[1])

    kinds: list[tuple[str, Callable[[], object], int]] = [
        ("inner_gradient", lambda: oracle.inner_gradient(w, linearise=True), tasks * n_w),
        ("outer_gradient", outer, tasks * (n_w + n_phi)),
        ("hessian_vector_product", lambda: oracle.hessian_product(w, u), tasks * n_w**2),
        ("mixed_product", lambda: oracle.mixed_product(w, u), tasks * n_w * (n_phi - oracle.n_own)),
    ]
    yield from (kind for kind in kinds if kind[0] in cell.kinds)
