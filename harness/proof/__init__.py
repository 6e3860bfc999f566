"""Proof that meta-gradients are right: against independent witnesses in float64, and as exact in float32 as others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.engines.engine import Engine
    from harness.problem.algorithm import Algorithm


def verify(
    algorithms: Sequence[str | type[Algorithm]] | None = None,
    engines: Sequence[str | type[Engine]] | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Compare every algorithm, geometry, engine and strategy with its witnesses on small problems in float64.

    Witnesses: ``own_forward``, the module itself with its parameters put in, as before every run;
    ``autograd``, a plain loop over tasks; ``finite_differences`` along random directions;
    ``closed_form`` on quadratic tasks; ``plain_oracle`` for an algorithm with a rule of its own, and ``through_adapt``,
    central differences of L_D(adapt(w, phi), phi), where it claims to be exact with an inner loop of its own.
    In float32 (:mod:`harness.proof.float32`) on a few tasks of every benchmark whose data are there, initial and
    trained: the median over tasks of the error against the witness in float64 may be twice the best peer's.
    ``algorithms`` and ``engines`` default to all that are registered and installed; either may also
    be given as a class.

    Returns ``{"ok": bool, "rows": [...]}`` with one row a comparison: ``algorithm``, ``geometry``,
    ``engine``, ``strategy``, ``problem``, ``witness``, ``relative_error``, ``tolerance``, ``ok``, ``dtype``,
    and in float32 the ``peer`` that set the tolerance (else None); and under ``"skipped"`` what has no implementation,
    no data, or claims no exact derivative, with the reason. Raises InputError for unknown names.
    """
    from harness.proof.table import rows_of

    return rows_of(algorithms, engines, seed, progress)
