"""Images that a process holds for all benchmarks of one kind: read once for them, also in what it forks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.problem.benchmark import SPLITS

if TYPE_CHECKING:
    from harness.datasets.images import ImageBenchmark

#: options of the kind that was held last, and what an object of it has read
_HELD: dict[type, tuple[str, dict[str, Any]]] = {}


def hold(benchmark: ImageBenchmark) -> None:
    """Read all images of ``benchmark`` now, for later objects of its class and options; those of others are let go.

    Where nothing tells whether the files are still the same, nothing is held.
    """
    benchmark.identities()
    memory = benchmark._memory
    if memory["record"]:
        memory["held"] = {split: benchmark._take(split) for split in SPLITS}
        _HELD.clear()
        _HELD[type(benchmark)] = benchmark.options.model_dump_json(), memory


def held_for(benchmark: ImageBenchmark) -> dict[str, Any]:
    """What a new object has read already. It looks whether the files have changed, as one that is used twice does."""
    options, memory = _HELD.get(type(benchmark), ("", {}))
    if not memory or options != benchmark.options.model_dump_json():
        return {}
    return {**memory, "held": dict(memory["held"])}
