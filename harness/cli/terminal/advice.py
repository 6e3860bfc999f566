"""The tables of ``harness theory --advise`` on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.padding import Padding
from rich.text import Text

from harness.cli.terminal.console import table
from harness.cli.terminal.fitted import Fitted

_ROWS = {"N": "inner_steps", "α": "inner_lr", "β_w": "outer_lr_w", "β_φ": "outer_lr_phi", "λ": "lambda"}


def advice_tables(advice: Mapping[str, Any]) -> list[Fitted | Padding]:
    """For each geometry what was measured at each N and what follows, then which is cheapest and what to mind."""
    shown: list[Fitted | Padding] = []
    for geometry, found in advice["geometries"].items():
        if "refused" in found:
            shown.append(_notes([f"ANIL {geometry}: {found['refused']}"]))
            continue
        shown += _geometry(geometry, found)
    return [*shown, _notes(_last(advice))]


def _geometry(geometry: str, found: Mapping[str, Any]) -> list[Fitted | Padding]:
    measured = found["measured"]
    rows = [
        [
            str(probe["inner_steps"]),
            *(_number(probe[key]) for key in ("loss", "smoothness_w", "smoothness_phi", "seconds")),
            _number(probe["seconds_over_epsilon"]),
        ]
        for probe in found["probes"]
    ]
    title = f"ANIL {geometry} at the initialisation with α = 1/L = {_number(measured['inner_lr'])}"
    columns = ("N", "L_meta", "S_w", "S_φ", "s an iteration", "s to ε, at most, times ε")
    number = {"convex": 1, "nonconvex": 2}.get(geometry)
    theorem, run = found["theorem"], found["run"]
    chosen = [
        [
            name,
            _theorem(name, theorem.get(key)),
            "" if name == "λ" and measured[key] is None else _number(measured[key]),
            f"{run[key]:g}",
        ]
        for name, key in _ROWS.items()
    ]
    return [
        table(title, columns, rows),
        table(f"Choices for ANIL {geometry}", ("", f"Theorem {number}", "as measured", "run"), chosen),
        _notes(_why(geometry, found)),
    ]


def _why(geometry: str, found: Mapping[str, Any]) -> list[str]:
    """Why the columns differ, and where the inner loop of the run overshoots."""
    theorem, run, measured = found["theorem"], found["run"], found["measured"]
    notes = []
    if geometry == "convex" and "inner_steps" not in theorem:
        notes.append("Theorem 1 needs μ > 0, and μ is not certainly positive here: a larger λ makes it so.")
    elif geometry == "convex":
        notes.append(
            f"Theorem 1 takes α = μ/L², {_number(theorem['L'] / theorem['mu'])} times below 1/L: "
            "its rate is that of the flattest direction, and a loss falls by the steep ones first."
        )
    else:
        notes.append("Theorem 2 lets K grow with N, so that its N is 1 wherever a step costs anything.")
    if found["alpha_L"] is None or found["alpha_L"] > 2:
        notes.append(
            f"! With α = {run['inner_lr']:g} the inner loop overshoots: αL reaches {_number(found['alpha_L'])} on its "
            f"way, above 2 a step moves away; allowed here: α up to {_number(measured['inner_lr'])} (αL = 1)."
        )
    return notes


def _last(advice: Mapping[str, Any]) -> list[str]:
    if advice["geometry"] is None:
        return ["No bound is finite here: no advice."]
    best = advice["geometries"][advice["geometry"]]
    notes = [
        f"By these bounds ANIL {advice['geometry']} with N = {best['measured']['inner_steps']} reaches Definition 1 in "
        "the least time; what accuracy it then has, they do not say.",
        "poly: the polynomials that the theorems leave open.",
    ]
    if best["run"]["outer_optimizer"] != "sgd":
        notes.append("β are steps of gradient descent (--outer-optimizer sgd). Adam scales its own: `harness tune`.")
    return notes


def _theorem(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"poly · {value:.4g}" if name.startswith("β") else _number(value)


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3g}"


def _notes(lines: list[str]) -> Padding:
    return Padding(Text("\n".join(lines)), (0, 0, 1, 2))
