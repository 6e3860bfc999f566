"""What was found, in plain words, the most important first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from harness.report.findings.claim import Claim
from harness.report.findings.costs import Target
from harness.report.findings.factors import Factor, FactorRow
from harness.report.findings.groups import rank
from harness.report.findings.names import group_name, method_name
from harness.report.findings.results import GroupResult, MedianCost, at_chance
from harness.report.findings.statistics import ENOUGH, Interval
from harness.report.findings.targets import Headlines
from harness.report.tables.cells import ends_text, shown


def findings(
    results: Sequence[GroupResult],
    headlines: dict[str, Headlines],
    rows: Sequence[FactorRow],
    claims: Sequence[Claim],
) -> list[str]:
    """Sentences about every problem: factors, then time, then accuracy, then the paper's claims."""
    found = []
    for problem, kinds in headlines.items():
        before = f"{problem}: " if len(headlines) > 1 else ""
        mine = [result for result in results if result.group.problem == problem]
        target = kinds["epsilon"].target
        sentences = []
        if target is None:
            sentences.append(f"Cost to ε is not known: {kinds['epsilon'].reason}.")
        else:
            sentences += _factors([row for row in rows if row.problem == problem], mine, target)
            sentences += _fastest(mine, target)
        sentences += _accuracy(mine)
        sentences += _claims([claim for claim in claims if claim.problem == problem])
        found += [before + sentence for sentence in sentences]
    return found


def _factors(rows: Sequence[FactorRow], results: Sequence[GroupResult], target: Target) -> list[str]:
    """For each geometry the N at which ANIL needed the fewest gradient entries, of those that compare anything."""
    entries = {result.group: result.costs[target].median.gradient_entries for result in results}
    sentences = []
    for geometry in ("convex", "nonconvex"):
        mine = [row for row in rows if row.geometry == geometry]
        if mine:
            best = min(mine, key=lambda row: (bool(row.doubt), _or_infinity(entries[row.anil])))
            sentences.append(_factor(best, best.target or target))
    return sentences


def _factor(row: FactorRow, target: Target) -> str:
    anil, gradient, second = group_name(row.anil), row.gradient, row.second_order
    if row.doubt:
        return f"{anil} and MAML do not compare at {target}: {row.doubt}."
    if math.isnan(gradient.measured.value):
        return f"Neither {anil} nor MAML at that N reached {target} in its median run."
    return (
        f"MAML needed {_times(gradient)} the gradient entries of {anil} to reach {target} "
        f"({_ends(gradient.measured)}); predicted {_predicted(row, gradient)}. Of the second-order entries it needed "
        f"{_times(second)} as many; predicted {_predicted(row, second)}. {_missed(row)}There ANIL had "
        f"{_state(row.anil_cost)}, MAML {_state(row.maml_cost)}."
    )


def _missed(row: FactorRow) -> str:
    """Which of the two did not get there, if one did not."""
    missed = {"at least": "MAML", "at most": "ANIL"}.get(row.gradient.is_)
    return f"{missed} did not get there in its median run within the iterations given. " if missed else ""


def _state(cost: MedianCost) -> str:
    """``loss 1.21 and accuracy 44.1%``."""
    accuracy = f" and accuracy {cost.state.accuracy:.1%}" if math.isfinite(cost.state.accuracy) else ""
    return f"loss {shown(cost.state.loss)}{accuracy}"


def _times(factor: Factor) -> str:
    """``at least 5.76 times``: MAML's over ANIL's, as in every table."""
    value = factor.measured.value
    return "an unknown number of times" if math.isnan(value) else f"{factor.is_} {shown(value)} times".strip()


def _predicted(row: FactorRow, factor: Factor) -> str:
    bound = "at least " if row.is_bound else ""
    return "nothing" if math.isnan(factor.predicted) else f"{bound}{shown(factor.predicted)} times"


def _ends(interval: Interval) -> str:
    seeds = f"{interval.seeds} {'seed' if interval.seeds == 1 else 'seeds'}"
    few = "" if interval.enough else f", fewer than the {ENOUGH} a claim needs"
    if math.isnan(interval.low):
        return seeds + few
    return f"95 % interval {shown(interval.low)} to {shown(interval.high)}, {seeds}{few}"


def _fastest(results: Sequence[GroupResult], target: Target) -> list[str]:
    """Each method at the N that took the fewest seconds, of those at which it had learnt anything."""

    def seconds(result: GroupResult) -> float:
        return max(_or_infinity(cost.median.seconds) for cost in result.all_costs(target))

    learnt = [
        result for result in results if not any(at_chance(result.group, cost) for cost in result.all_costs(target))
    ]
    best = sorted(_best(learnt, lambda result: -seconds(result)), key=seconds)
    reached = [
        f"{group_name(result.group)} {shown(seconds(result))} s ({_state(result.all_costs(target)[0])})"
        for result in best
        if seconds(result) < math.inf
    ]
    missed = [
        method_name(result.group.method)
        for result in best
        if seconds(result) == math.inf and not math.isfinite(result.iterations_to(target))  # else its time is unknown
    ]
    names = {result.group.method for result in learnt}
    idle = dict.fromkeys(method_name(result.group.method) for result in results if result.group.method not in names)
    sentences = [f"Time to {target}, each method at its fastest N: {', '.join(reached)}."] if reached else []
    if missed:
        sentences.append(f"Not at {target} in the median run at any N: {', '.join(missed)}.")
    if idle:
        sentences.append(f"At chance level where {target} was met, or at the end, at every N: {', '.join(idle)}.")
    return sentences


def _accuracy(results: Sequence[GroupResult]) -> list[str]:
    """Each method at the N with the highest held-out accuracy."""
    known = [result for result in results if result.accuracy is not None]
    best = _best(known, lambda result: result.accuracy.value if result.accuracy else -math.inf)
    parts = [
        f"{group_name(result.group)} {result.accuracy.value:.1%}" + (f" ({ends})" if (ends := _percent(result)) else "")
        for result in best
        if result.accuracy
    ]
    return [f"Held-out accuracy, each method at its best N: {', '.join(parts)}."] if parts else []


def _percent(result: GroupResult) -> str:
    found = result.accuracy
    if found is None or ends_text(found) is None or math.isnan(found.low):
        return ""
    return f"{found.low:.1%} to {found.high:.1%}"


def _claims(claims: Sequence[Claim]) -> list[str]:
    if not claims:
        return []
    counted = Counter(claim.verdict for claim in claims)
    parts = [f"{count} {verdict}" for verdict in ("held", "refuted", "undecided") if (count := counted[verdict])]
    refuted = [claim.sentence for claim in claims if claim.verdict == "refuted"]
    tail = f" Refuted: {'; '.join(refuted)}." if refuted else ""
    return [f"Of the paper's claims tested: {', '.join(parts)}.{tail}"]


def _best(results: Iterable[GroupResult], score: Callable[[GroupResult], float]) -> list[GroupResult]:
    """For each method the result with the highest score, in the order of the paper's tables."""
    found: dict[str, GroupResult] = {}
    for result in results:
        method = result.group.method
        if method not in found or score(result) > score(found[method]):
            found[method] = result
    return [found[method] for method in sorted(found, key=rank)]


def _or_infinity(value: float) -> float:
    return math.inf if math.isnan(value) else value
