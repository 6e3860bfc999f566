"""Timing what Table 2 counts: native engine and peers side by side in one run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.problem.benchmark import Benchmark
    from harness.problem.models import ModelFactory
    from harness.timing.config import TimeConfig

#: part of what a timing means; raise it when the protocol changes
PROTOCOL = 4

#: kinds of evaluation, in the order of Table 2
KINDS = ("inner_gradient", "outer_gradient", "hessian_vector_product", "mixed_product")


def time_meta_gradients(
    config: TimeConfig,
    progress: Callable[[str], None] | None = None,
    *,
    model: ModelFactory | None = None,
    benchmark: Benchmark | None = None,
    origins: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Time every algorithm x N x engine of ``config`` in interleaved rounds.

    A cell's figure is the wall time of a meta-gradient, in a block of them as long as a warm one asks for, median
    over rounds; in each round every cell runs once, so that drift of the machine hits all alike. The native
    engine's kinds of evaluation are timed one by one in the same rounds, on CUDA by the device's events around
    several in a row. FLOPs and peak memory come from passes of their own.

    Returns ``{"environment", "protocol", "clocks", "ceiling", "rows", "warnings", ...}``; seconds and bytes
    throughout; ``clocks`` says which clock the meta-gradient and each kind was timed by. A row has ``algorithm``,
    ``geometry``, ``engine``, ``strategy``, ``inner_steps``, ``status`` ("ok", "not_supported: why" or
    "out_of_memory") and, where it is ok, ``meta_gradient`` {median, iqr, samples}, the kinds that its rule
    evaluates likewise with ``entries_per_second``, ``first_seconds`` (the cold first call, in no sample),
    ``peak_memory_bytes`` (of a meta-gradient, above its parameters and tasks), ``flops``, ``share_of_ceiling``
    (None where no convolution fitted), ``task_chunk`` (tasks evaluated at once) and ``ratio_to`` (this engine's
    time over each other engine's).
    ``model`` and ``benchmark`` are objects in place of those that ``config`` names, as :func:`harness.run` takes them;
    ``origins`` says where keys of ``config`` were given. A partition that a model does not have is "not_supported" in
    its row. Raises InputError for names that are not there, and where no cell is left.
    """
    from harness.timing.session import run_session

    return run_session(config, progress, model, benchmark, origins)
