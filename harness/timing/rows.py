"""The rows of a timing table: what is done with their samples, ratios between them, and what to be warned of."""

from __future__ import annotations

import statistics
from typing import Any

from harness.timing.cells import Name

#: spread above which a median is warned about
NOISY = 0.10


def summary(samples: list[float]) -> dict[str, Any]:
    """Median, interquartile range and the samples themselves."""
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else (samples[0],) * 3
    return {"median": statistics.median(samples), "iqr": high - low, "samples": samples}


def add_ratios(rows: list[dict[str, Any]]) -> None:
    """This row's seconds over those of every other engine on the same algorithm and N."""
    for row in rows:
        for other in rows:
            same = all(row[key] == other[key] for key in ("algorithm", "geometry", "inner_steps"))
            if same and row["engine"] != other["engine"] and row["meta_gradient"] and other["meta_gradient"]:
                row["ratio_to"][other["engine"]] = row["meta_gradient"]["median"] / other["meta_gradient"]["median"]


def warnings_of(rows: list[dict[str, Any]]) -> list[str]:
    """A line for every median whose samples are far apart."""
    found = []
    for row in rows:
        timed = row["meta_gradient"]
        if timed and timed["iqr"] > NOISY * timed["median"]:
            name = Name(*(row[key] for key in ("algorithm", "geometry", "inner_steps", "engine", "strategy")))
            found.append(f"{label(name)}: IQR is {timed['iqr'] / timed['median']:.0%} of the median")
    return found


def label(name: Name) -> str:
    """``name`` in words."""
    return f"{name.algorithm} {name.geometry} N={name.inner_steps} {name.engine}/{name.strategy}"
