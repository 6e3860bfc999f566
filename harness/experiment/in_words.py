"""A run in words: how far it is, and its result line by line, for terminals and notebooks."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.strangers.named import brief

if TYPE_CHECKING:
    from harness.experiment.progress import Measured
    from harness.settings.config import RunConfig

#: counts that most algorithms have none of
_OTHERS = {"solves": "inner problems solved", "pseudo_gradients": "pseudo-gradients"}


def setting(config: RunConfig) -> str:
    """``anil convex: glyphs, 5-way 5-shot, N = 5, engine native on cpu``."""
    task = f"{brief(config.benchmark)}, {config.ways}-way {config.shots}-shot, N = {config.inner_steps}"
    return f"{config.algo} {config.geometry}: {task}, engine {config.engine} on {config.device}"


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class InWords:
    """Loss, accuracy, tasks a second and the time left, in a line that :meth:`show` puts before a person."""

    def begin(self, config: RunConfig, done: int) -> None:
        """Training starts, or goes on after ``done`` iterations."""
        self._config, self._done, self._began = config, done, time.monotonic()

    def trained(self, record: dict[str, Any]) -> None:
        """A line of ``metrics.jsonl``."""
        config, iteration = self._config, record["iteration"]
        elapsed = max(time.monotonic() - self._began, 1e-9)
        rate = (iteration - self._done) / elapsed
        parts = [f"meta-iteration {iteration}/{config.iterations}"]
        if record["loss"] is not None:
            parts.append(f"loss {record['loss']:.4f}")
        if record["accuracy"] is not None:
            parts.append(f"accuracy {100 * record['accuracy']:.1f} %")
        parts.append(f"{rate * config.meta_batch:.1f} tasks/s")
        parts.append(f"{clock((config.iterations - iteration) / rate)} left")
        self.show("  ".join(parts), iteration, config.iterations)

    def evaluated(self, split: str, done: int, total: int) -> None:
        """``done`` of ``total`` tasks of ``split`` are evaluated."""
        self.show(f"evaluating on {split} tasks {done}/{total}", done, total)

    def measured(self, what: Measured, record: dict[str, Any]) -> str | None:
        """Nobody here stops a run."""
        return None

    def end(self) -> None:
        """Nothing more comes."""

    def show(self, line: str, done: int, total: int) -> None:
        """``done`` of ``total`` is what ``line`` says."""
        raise NotImplementedError


def result_title(summary: Mapping[str, Any]) -> str:
    """``anil convex on glyphs, 5-way 5-shot, N = 5``."""
    name = f"{summary['algorithm']} {summary['geometry']} on {brief(summary['benchmark'])}"
    return f"{name}, {summary['ways']}-way {summary['shots']}-shot, N = {summary['inner_steps']}"


def result_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The result of one run: accuracy or loss, sizes, counts, seconds, memory; each with its name."""
    counts, seconds = summary["counts"], summary["seconds"]
    per_task, several = summary["counts_per_task"], summary["ranks"] > 1
    found: list[tuple[str, str]] = [
        ("status", _status(summary)),
        (
            "meta-iterations",
            f"{summary['iterations_done']} of {summary['iterations']}, {summary['meta_batch']} tasks each",
        ),
    ]
    held_out = summary["accuracy"]["tasks"]
    if summary["accuracy"]["mean"] is not None:
        accuracy = summary["accuracy"]
        found += [
            (f"accuracy, {held_out} held-out tasks", _percent(accuracy["mean"], accuracy["ci95"])),
            ("  before adaptation", _percent(accuracy["before_adaptation"], accuracy["before_adaptation_ci95"])),
        ]
    if summary["loss"]["mean"] is not None:
        loss = summary["loss"]
        found += [
            (f"loss, {held_out} held-out tasks", interval(loss["mean"], loss["ci95"])),
            ("  before adaptation", interval(loss["before_adaptation"], loss["before_adaptation_ci95"])),
        ]
    for name, value in summary["metrics"].items():
        if value["mean"] is not None:
            found.append((f"{name}, {held_out} held-out tasks", interval(value["mean"], value["ci95"])))
    found += [
        ("n_w, n_phi", f"{summary['n_w']:,}, {summary['n_phi']:,}"),
        ("gradient entries", _count(counts, per_task, "gradient_entries")),
        ("second-order entries", _count(counts, per_task, "second_order_entries")),
        ("Hessian-vector products", _count(counts, per_task, "hessian_vector_products")),
        ("mixed products", _count(counts, per_task, "mixed_products")),
        *((words, _count(counts, per_task, name)) for name, words in _OTHERS.items() if counts.get(name)),
        ("seconds of training", f"{seconds['train']:.2f}"),
        ("  shared features", _seconds(seconds["features"])),
        ("  inner gradients", _seconds(seconds["inner_gradient"])),
        ("  outer gradients", _seconds(seconds["outer_gradient"])),
        ("  second order", _seconds(seconds["second_order"])),
        ("  outer update", _seconds(seconds["outer_update"])),
        *([("  exchange between ranks", _seconds(seconds["exchange"]))] if several else []),
        ("peak memory" + " of a rank" * several, f"{summary['peak_memory_bytes'] / 2**20:,.0f} MiB"),
        ("engine", f"{summary['engine']} ({summary['strategy']}) on {summary['device']}"),
        *([("ranks", str(summary["ranks"]))] if several else []),
        *_route(summary["route"]),
    ]
    return found


def _route(route: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Why derivatives or features take the slower way, where they do."""
    rows = []
    if route["why"]:
        rows.append(("  layers by autograd", route["why"]))
    if route["relative_error"] is None:
        rows.append(("  model's own forward", "not compared: out of memory"))
    return rows


def _status(summary: Mapping[str, Any]) -> str:
    divergence = summary["diverged"]
    if summary["status"] == "interrupted":
        return "interrupted; add --resume to go on"
    if summary["status"] == "stopped":
        return f"stopped ({summary['stopped']}); add --resume to go on"
    if summary["status"] == "out_of_memory" and summary.get("out_of_memory"):
        smaller = "--resume --task-chunk 1" if summary["task_chunk"] > 1 else "--resume, once there is more memory,"
        return f"out of memory ({summary['out_of_memory']['message']}); {smaller} goes on"
    if not divergence:
        return str(summary["status"])
    return f"diverged: {divergence['quantity']} is not finite at meta-iteration {divergence['iteration']}"


def _percent(mean: float, half: float | None) -> str:
    return f"{100 * mean:.2f} %" + (f" ± {100 * half:.2f}" if half is not None else "")


def interval(mean: float, half: float | None) -> str:
    """Both with the decimals that two digits of the half width have; four digits where there is none."""
    if not half or half < 1e-9 * abs(mean):
        return f"{mean:.4g}"
    digits = max(0, 1 - math.floor(math.log10(half)))
    return f"{mean:.{digits}f} ± {half:.{digits}f}" if digits < 10 else f"{mean:.4g} ± {half:.2g}"


def _count(counts: Mapping[str, int | None], per_task: Mapping[str, int | None], name: str) -> str:
    if counts[name] is None:
        return "unknown"
    return f"{counts[name]:,} ({per_task[name]:,} a task)"


def _seconds(value: float | None) -> str:
    return "not measured by this engine" if value is None else f"{value:.2f}"
