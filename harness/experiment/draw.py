"""The tasks that a configuration asks for, from its benchmark: the one place that spells out their shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.strangers import blamed

if TYPE_CHECKING:
    import torch

    from harness.problem.benchmark import Benchmark
    from harness.problem.tasks import TaskBatch
    from harness.settings.config import RunConfig


def draw(
    benchmark: Benchmark,
    config: RunConfig,
    split: str,
    first: int,
    tasks: int,
    device: torch.device,
    dtype: torch.dtype,
) -> TaskBatch:
    """Tasks ``first`` to ``first + tasks`` of ``split``, with the seed, ways, shots and queries of ``config``.

    Checked as they enter; on CUDA every number of the first ones of a split alone, as looking waits for the device.
    """
    from harness.problem.losses import stated
    from harness.problem.tasks import checked

    with blamed(f"benchmark {benchmark.name!r}"):
        batch = benchmark.draw(
            split,
            first,
            tasks,
            seed=config.seed,
            ways=config.ways,
            shots=config.shots,
            queries=config.queries,
            device=device,
            dtype=dtype,
        )
        shape, outputs = tuple(benchmark.input_shape), benchmark.outputs(config.ways)
    where = f"benchmark {benchmark.name!r}, {split} tasks from {first}"
    values = device.type == "cpu" or first == 0
    return checked(batch, where, shape, outputs, stated(benchmark, config), tasks, dtype, device, values)
