"""Proof that meta-gradients are right: against independent witnesses in float64, and as exact in float32 as others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.engines.engine import Engine
    from harness.problem.algorithm import Algorithm
    from harness.problem.benchmark import Benchmark
    from harness.problem.nets import ModelFactory
    from harness.proof.config import ProofConfig
    from harness.settings.config import RunConfig


def verify(
    algorithms: Sequence[str | type[Algorithm]] | None = None,
    engines: Sequence[str | type[Engine]] | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    *,
    config: RunConfig | ProofConfig | None = None,
    model: ModelFactory | None = None,
    benchmark: Benchmark | None = None,
    loss: Callable[..., Any] | None = None,
    origins: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Compare every algorithm, geometry, engine and strategy with its witnesses on small problems in float64.

    Witnesses: ``own_forward``, the module itself with its parameters put in, as before every run;
    ``autograd``, a plain loop over tasks; ``finite_differences`` along random directions;
    ``closed_form`` on quadratic tasks; ``plain_oracle`` for an algorithm with a rule of its own, and ``through_adapt``,
    central differences of L_D(adapt(w, phi), phi), where it claims to be exact with an inner loop of its own.
    In float32 (:mod:`harness.proof.float32`) on a few tasks of every benchmark whose data are there, initial and
    trained: the median over tasks of the error against the witness in float64 may be twice the best peer's.
    ``algorithms`` (``anil`` or ``anil:convex``) and ``engines`` default to all registered and installed; either may be
    given as a class.

    Returns ``{"ok": bool, "rows": [...]}`` with one row a comparison: ``algorithm``, ``geometry``,
    ``engine``, ``strategy``, ``problem``, ``witness``, ``relative_error``, ``tolerance``, ``ok``, ``dtype``,
    and in float32 the ``peer`` that set the tolerance (else None); and under ``"skipped"`` what has no implementation,
    no data, or claims no exact derivative, with the reason.

    With ``config``, ``model``, ``benchmark`` or ``loss`` (as :func:`harness.run` takes them; ``config`` says nothing
    of the algorithm) these are looked at instead, on the first training tasks at initialisation: in float64 against
    ``own_forward`` and ``autograd`` at N = 1 and the configuration's N and alpha, and how far float32 is off there.
    ``views`` then says for every algorithm and geometry how the model is seen: names of the parameters in ``w`` and
    ``phi``, ``frozen`` and ``tied`` ones, ``buffers``, ``body`` (None: nothing is computed once a task) and ``head``,
    the ``strategy`` that a run takes, whether its ``layers`` are "written out" or differentiated by "autograd", and
    ``why``; ``warnings``, where float32 loses more than 1 %. What is refused is ``skipped``, and an InputError where
    nothing is left.

    Raises InputError for unknown names.
    """
    from harness.proof.table import rows_of

    objects = {"model": model, "benchmark": benchmark, "loss": loss}
    if config is not None or any(thing is not None for thing in objects.values()):
        from harness.proof.config import ProofConfig
        from harness.proof.own import own_rows

        config = config or ProofConfig(seed=seed)
        return own_rows(config, algorithms, engines, progress or (lambda line: None), objects, origins)
    return rows_of(algorithms, engines, seed, progress)
