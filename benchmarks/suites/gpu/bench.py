"""What the parts share: the device and its clock, the time that is left, the file that a part's rows go to."""

from __future__ import annotations

import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from harness.errors import NotSupported
from harness.measure.clocks import device_seconds_of
from harness.measure.memory import free_memory
from harness.measure.precision import tf32
from harness.store.directory import write_json

T = TypeVar("T")
#: a figure is the median of so many samples, each of calls in a row that take about so many seconds, at most so many
SAMPLES, SECONDS, MOST = 3, 0.05, 20


@dataclass
class Bench:
    """Where and for how long is measured; ``deadline`` is one of ``time.monotonic``."""

    device: torch.device
    dry: bool
    out: Path
    deadline: float
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def say(self, line: str) -> None:
        """One line for whoever watches."""
        print(f"[{time.monotonic() - self.began:5.0f} s] {line}", file=sys.stderr, flush=True)

    @property
    def modes(self) -> tuple[str, ...]:
        """The kinds of float32 arithmetic that the device has."""
        return ("tf32", "float32") if self.device.type == "cuda" else ("float32",)

    def milliseconds(self, call: Callable[[], object]) -> float:
        """Of one call, by the device's own clock, once it is warm."""
        call()
        once = device_seconds_of(call, self.device)
        if self.dry or once > SECONDS:
            return once * 1e3
        times = min(MOST, round(SECONDS / once))
        return statistics.median(device_seconds_of(call, self.device, times) / times for _ in range(SAMPLES)) * 1e3

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Part:
    """One part and its file ``OUT/NAME.json``, which holds at any time every row that is done."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench, self.name = bench, name
        self.rows: list[dict[str, Any]] = []
        #: what the file holds beside the rows
        self.document: dict[str, Any] = {"part": name, "device": str(bench.device), "dry": bench.dry}

    def measured(self, measure: Callable[[Part], None]) -> bool:
        """Do it; returns whether all went well. An error is written down, so that the next part can begin."""
        self.bench.say(self.name)
        self._write("unfinished")
        try:
            measure(self)
        except Exception:
            self.document["error"] = traceback.format_exc()
            self.bench.say(f"{self.name} FAILED: {self.document['error'].splitlines()[-1]}")
        self._write("failed" if "error" in self.document else "done")
        failed = "error" in self.document or any("failed" in row for row in self.rows)
        return not failed and bool(self.document.get("ok", True))

    @contextmanager
    def row(self, **name: object) -> Iterator[dict[str, Any]]:
        """A row called ``name``, to be filled inside. What cannot be done is said in it, and the next one goes on.

        Where the name has a ``mode``, what is done inside is computed in it.
        """
        row: dict[str, Any] = dict(name)
        try:
            with tf32({"tf32": True, "float32": False}.get(str(name.get("mode")))):
                yield row
        except NotSupported as error:
            row["skipped"] = str(error)
        except Exception as error:
            row["failed"] = f"{type(error).__name__}: {str(error)[:300]}"
        self._add(row)

    @contextmanager
    def attempt(self, **name: object) -> Iterator[None]:
        """What fails inside and in no row of its own is a row called ``name``, and what comes after goes on."""
        failed = None
        try:
            yield
        except Exception as error:
            failed = {**name, "failed": f"{type(error).__name__}: {str(error)[:300]}"}
        if failed:
            self._add(failed)

    def while_time(self, items: Iterable[T], seconds: float) -> Iterator[T]:
        """Each of ``items`` as long as there are so many ``seconds`` for it."""
        for item in items:
            if self.bench.left < seconds:
                self.document["cut"] = f"no time left from {item} on"
                return
            yield item

    def _add(self, row: dict[str, Any]) -> None:
        if "failed" in row:
            free_memory()  # out here, where the error no longer holds what it was raised among
        self.rows.append(row)
        self._write("unfinished")
        self.bench.say(f"{self.name}: " + ", ".join(f"{key} {shown(value)}" for key, value in row.items()))

    def _write(self, status: str) -> None:
        write_json(self.bench.out / f"{self.name}.json", {**self.document, "status": status, "rows": self.rows})


def shown(value: object) -> str:
    """A value in few letters; what is long by its length."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"({len(value)})" if isinstance(value, list | dict) else str(value)
