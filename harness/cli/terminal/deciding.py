"""What ``harness plan`` and ``harness compare --until-decided`` show."""

from __future__ import annotations

import math
import re
from typing import Any

from rich.text import Text

from harness.cli.terminal import following
from harness.cli.terminal.console import console, print_json, show, table
from harness.cli.terminal.fitted import Fitted
from harness.cli.terminal.grid import GridView, grid_document, outcome_lines
from harness.decide.plan import Plan, Row
from harness.decide.power import POWER, SURE
from harness.decide.until import Outcome, until_decided
from harness.errors import InputError
from harness.experiment.in_words import clock
from harness.report.findings.claim import Claim
from harness.report.findings.looks import LEVEL_OF_LOOKS, LOOKS
from harness.store.records import FINISHED

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*(s|min|h|d)")


def seconds_of(text: str) -> float:
    """Seconds of a duration as a person writes it; raises :class:`InputError`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise InputError(f"--budget {text!r}: allowed: a time above 0 with its unit, such as 2h, 90min, 300s or 1d")
    return float(match[1]) * _UNITS[match[2]]


def compare_until(suite: str, json: bool, budget: str | None, **asked: Any) -> int:
    """``harness compare --until-decided``; ``asked`` are arguments of :func:`~harness.decide.until.until_decided`."""
    seconds = math.inf if budget is None else seconds_of(budget)
    out = console(to_stderr=True)
    with GridView(out, seconds).shown() as watch:
        found = until_decided(suite, budget=seconds, watch=watch, say=lambda line: out.print(Text(line)), **asked)
    if json:
        print_json(until_document(suite, found))
    failed = [entry for entry in found.entries if entry.state == "failed"]
    verdicts = [claims_table(found.claims)] if found.claims else []
    show([*(outcome_lines(failed)[1:]), *verdicts, f"{found.why}."], to_stderr=json)
    following.after_until(asked["results"], found.ended)
    return 0 if all(entry.summary.get("status") in FINISHED for entry in failed) else 1


def until_document(suite: str, found: Outcome) -> dict[str, Any]:
    """What ``harness compare --until-decided --json`` prints."""
    return {
        **grid_document(suite, found.entries),
        "ended": found.ended,
        "why": found.why,
        "looks": LOOKS,
        "level": LEVEL_OF_LOOKS,
        "claims": [
            {
                "problem": claim.problem,
                "sentence": claim.sentence,
                "verdict": claim.verdict,
                "interval": claim.interval_text,
                "seeds": claim.line.shared if claim.line is not None else 0,
            }
            for claim in found.claims
        ],
    }


def claims_table(claims: list[Claim]) -> Fitted:
    """Every claim with its verdict and the seeds that it is about."""
    rows = [
        (claim.verdict, claim.line.shared if claim.line is not None else 0, _named(claim, claims)) for claim in claims
    ]
    return table("Claims", ("verdict", "seeds", "claim"), rows, keys=2)


def plan_parts(plan: Plan) -> list[Fitted | str]:
    """A table, a row a claim, and what all of it takes."""
    claims = [row.claim for row in plan.rows]
    rows = [(_now(row), _needs(row), _time(row.seconds), _named(row.claim, claims)) for row in plan.rows]
    looks = f"{', '.join(map(str, LOOKS[:-1]))} and {LOOKS[-1]}"
    return [
        table("What decides each claim", ("now", "decided by", "takes", "claim"), rows, keys=3),
        f"Seeds that decide a claim with {100 * POWER:g} % power, if it is as the seeds at hand say, at the "
        f"{100 * LEVEL_OF_LOOKS:g} % intervals of looks at {looks} seeds. So few seeds know their spread badly: it is "
        f"taken larger, so that with {100 * SURE:g} % it is no larger still. Iterations and measurements that lack are "
        "doubled and quadrupled; what that brings is not known before it is done.",
        f"All that seeds decide by the last look: {plan.runs} runs, {_time(plan.seconds)} here."
        if plan.runs
        else "No more seeds are needed, or would help.",
    ]


def _now(row: Row) -> str:
    return row.verdict if row.verdict != "undecided" else f"{row.shared} seed{'s' * (row.shared != 1)}"


def _needs(row: Row) -> str:
    if row.verdict != "undecided":
        return ""
    if row.seeds is not None:
        return f"{row.seeds} seeds"
    if row.changes:
        return ", ".join(f"{name} {value}" for name, value in row.changes.items())
    return row.why


def _time(seconds: float) -> str:
    return "unknown" if math.isnan(seconds) else "" if not seconds else clock(seconds)


def _named(claim: Claim, among: list[Claim]) -> str:
    several = len({each.problem for each in among}) > 1
    return f"{claim.problem}: {claim.sentence}" if several else claim.sentence
