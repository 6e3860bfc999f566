"""Training as Figures 1 and 2 ask for it: seconds of a meta-iteration, and what a run costs beside them."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.datasets.class_images import ClassImages
from harness.datasets.images import ImageBenchmark
from harness.experiment.run import run
from harness.settings import registry
from harness.settings.config import RunConfig

if TYPE_CHECKING:
    from benchmarks.suites.gpu.bench import Part

BENCHMARKS = ("fc100", "miniimagenet")
STEPS = {"convex": (1, 10), "nonconvex": (1, 10, 30)}
#: images of a class, where they are random
EACH = 40


def figures(part: Part) -> None:
    """Fill the part ``figures``."""
    dry = part.bench.dry
    shape: dict[str, Any] = {"meta_batch": 2 if dry else 32, "iterations": 3 if dry else 60}
    shape |= {"eval_tasks": 4 if dry else 600, "model_options": {"filters": 3 if dry else 64}}
    settings = [(geometry, steps) for geometry in STEPS for steps in STEPS[geometry]]
    for name in BENCHMARKS:
        benchmark, what = images_of(name)
        for geometry, steps in part.while_time(settings, seconds=40):
            with part.row(benchmark=name, geometry=geometry, inner_steps=steps, tasks=what) as row:
                config = RunConfig(
                    algo="anil", geometry=geometry, inner_steps=steps, norm_statistics="joint",
                    device=str(part.bench.device), **shape,
                )  # fmt: skip
                begin = time.perf_counter()
                with tempfile.TemporaryDirectory() as folder:
                    summary = run(config, benchmark=benchmark, results=Path(folder))
                row["seconds_in_all"] = time.perf_counter() - begin
                row["ms_per_iteration"] = summary["seconds"]["train"] / summary["iterations"] * 1e3
                row |= {key: summary[key] for key in ("status", "seconds", "peak_memory_bytes")}


def images_of(name: str) -> tuple[ImageBenchmark, str]:
    """The benchmark called ``name`` where its data are there, else random images of its shape; and which it is."""
    kind: type[ImageBenchmark] = registry.benchmarks().get(name)
    if kind().missing() is None:
        return kind(), f"tasks of {name}"

    class Random(kind):  # type: ignore[misc, valid-type]
        """Random images of the same shape in as many classes."""

        def missing(self) -> str | None:
            return None

        def load_split(self, split: str) -> ClassImages:
            import numpy as np

            count = self.classes[split]
            images = np.random.default_rng([*split.encode()]).integers(
                0, 256, (count * EACH, *self.shape), dtype=np.uint8
            )
            return ClassImages(images, (EACH,) * count, tuple(map(str, range(count))))

    return Random(), f"random images of the shape of {name}"
