"""Runs compared: targets, costs, factors, claims, findings and warnings, from run directories alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.errors import InputError
from harness.report.findings.caveats import caveats
from harness.report.findings.claim import Claim
from harness.report.findings.claims import claims
from harness.report.findings.costs import Measure, Target
from harness.report.findings.factors import FactorRow, factors
from harness.report.findings.groups import Group, group_runs
from harness.report.findings.overshoot import overshoots
from harness.report.findings.profiles import Profile, performance_profiles
from harness.report.findings.results import GroupResult, result_of
from harness.report.findings.sentences import findings
from harness.report.findings.statistics import LEVEL
from harness.report.findings.targets import Headline, Headlines, choose
from harness.report.reading.machines import check_machines
from harness.report.reading.runs import Run


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything that tables, figures and the page of a report show."""

    #: every target that some problem uses, strict ones last within their kind
    targets: list[Target]
    #: by problem (see :attr:`Group.problem`) and kind of target
    headlines: dict[str, Headlines]
    #: one a group, in the order of :func:`group_runs`
    results: list[GroupResult]
    factors: list[FactorRow]
    claims: list[Claim]
    #: sentences, the most important first
    findings: list[str]
    #: whatever weakens the comparison
    warnings: list[str]
    #: those warnings that name a folder that was left out (see :func:`read_runs`)
    skipped: list[str]

    @property
    def groups(self) -> list[Group]:
        """The groups of :attr:`results`."""
        return [result.group for result in self.results]

    @property
    def problems(self) -> list[str]:
        """The problems, in the report's order."""
        return list(self.headlines)

    @property
    def headline(self) -> Target | None:
        """The first problem's epsilon that findings are about; None where Definition 1 was not measured."""
        return next((kinds["epsilon"].target for kinds in self.headlines.values()), None)

    def headline_of(self, group: Group, kind: str = "epsilon") -> Headline:
        """The headline of a group's problem."""
        return self.headlines[group.problem][kind]

    def shown_problem(self, problem: str) -> str | None:
        """``problem``, or None in a report of one problem, where it goes without saying."""
        return problem if len(self.headlines) > 1 else None

    def of(self, problem: str) -> list[GroupResult]:
        """The results on one problem."""
        return [result for result in self.results if result.group.problem == problem]

    def profiles(self, measure: Measure = "gradient_entries") -> dict[str, Profile]:
        """Performance profiles of the methods over the problems, each method at its best N on each problem."""
        costs: dict[str, dict[str, float]] = {}
        for problem, kinds in self.headlines.items():
            target = kinds["epsilon"].target
            if target is not None:
                costs[problem] = _best(self.of(problem), target, measure)
        return performance_profiles(costs)


def compare_runs(
    runs: Iterable[Run],
    targets: Sequence[Target] | None = None,
    mix: bool = False,
    skipped: Sequence[str] = (),
    level: float = LEVEL,
) -> Comparison:
    """Compare runs group by group; ``skipped`` are lines of :func:`read_runs` to be warned of.

    ``targets`` are chosen from the data where they are not given (see :func:`harness.report.findings.targets.choose`).
    ``level`` is that of the intervals that decide claims: a stricter one where runs are looked at repeatedly.
    Raises :class:`InputError` where there are no runs, or runs of different machines would share a timing
    table and ``mix`` does not allow it.
    """
    runs = list(runs)
    if not runs:
        raise InputError("no runs to compare; allowed: at least one finished run")
    machines = check_machines(runs, mix)
    problems: dict[str, list[Group]] = defaultdict(list)
    for group in group_runs(runs):
        problems[group.problem].append(group)
    blocks = {problem: blocks_of(groups) for problem, groups in problems.items()}
    chosen = {problem: choose(groups, blocks[problem], targets) for problem, groups in problems.items()}
    used = list(dict.fromkeys(target for found, _ in chosen.values() for target in found))
    headlines = {problem: headline for problem, (_, headline) in chosen.items()}
    results: list[GroupResult] = []
    rows: list[FactorRow] = []
    claimed: list[Claim] = []
    for problem, groups in problems.items():
        mine = [result_of(group, used, blocks[problem]) for group in groups]
        epsilon = headlines[problem]["epsilon"]
        results += mine
        rows += (found := factors(mine, epsilon.target, epsilon.given))
        claimed += claims(problem, mine, headlines[problem], found, level)
    warnings = [
        *machines,
        *caveats(results, headlines, rows),
        *overshoots(result.group for result in results),
        *skipped,
    ]
    sentences = findings(results, headlines, rows, claimed)
    return Comparison(used, headlines, results, rows, claimed, sentences, warnings, list(skipped))


def nothing(skipped: Sequence[str]) -> Comparison:
    """A comparison of no runs: studies may still have something to show."""
    return Comparison([], {}, [], [], [], [], list(skipped), list(skipped))


def blocks_of(groups: Iterable[Group]) -> dict[str, list[str]]:
    """The w of every ANIL among ``groups`` by its method, and by ``adapt`` too where a method has several."""
    found: dict[str, dict[tuple[str, ...], str]] = defaultdict(dict)
    for group in groups:
        if group.algorithm == "anil":
            found[group.method].setdefault(tuple(group.same("w")), str(group.setting.get("adapt")))
    return {
        method if len(several) == 1 else f"{method} {adapt}": list(w)
        for method, several in found.items()
        for w, adapt in several.items()
    }


def _best(results: Iterable[GroupResult], target: Target, measure: Measure) -> dict[str, float]:
    """The least median cost of each method over its groups, on the block that costs most."""
    found: dict[str, float] = {}
    for result in results:
        cost = max(getattr(each.median, measure) for each in result.all_costs(target))
        if cost == cost:
            found[result.group.method] = min(cost, found.get(result.group.method, cost))
    return found
