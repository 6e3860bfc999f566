"""Section 4's claim that nonconvex ANIL diverges at large N."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.report.findings.claim import Claim
from harness.report.findings.descent import descent
from harness.report.findings.remedies import further_steps, more_seeds
from harness.report.findings.results import GroupResult
from harness.report.findings.series import series_of
from harness.report.findings.statistics import LEVEL, share
from harness.report.findings.verdicts import Verdict, seeds_text, verdict
from harness.report.tables.cells import interval_text

_LARGE_N = 30
_SECTION = "Section 4: experiments"


def divergence(problem: str, results: Sequence[GroupResult], level: float = LEVEL) -> list[Claim]:
    """One claim for every series with one step size that goes from a smaller N to 30 or more."""
    sentence = f"ANIL nonconvex diverges at N = {_LARGE_N} with the step size of smaller N"
    found = [
        series.results
        for series in series_of(results, "nonconvex")
        if series.steps[0] < _LARGE_N <= series.steps[-1]
        and len({result.group.same("inner_lr") for result in series.results}) == 1
    ]
    if not found:
        missing = f"missing: ANIL nonconvex runs with N = {_LARGE_N} and with a smaller N, all else equal"
        remedy = further_steps(missing, [result.group for result in results], "nonconvex", (_LARGE_N,))
        return [Claim(sentence, "undecided", "", missing, problem, "", _SECTION, remedy)]
    made = []
    for first, *_, last in found:
        small, large = (_diverged(each, level) for each in (first, last))
        decided = large if small == "refuted" or large == "refuted" else "undecided"
        counted = {each: Counter(map(descent, each.group.by_seed.values())) for each in (first, last)}
        gone = counted[last]["not finite"] + counted[last]["did not come down"]
        shares = share(gone, len(last.group.by_seed), level)
        text = f"share of seeds that diverged at N = {last.group.inner_steps}: {interval_text(shares)} (Wilson)"
        detail = f"α = {last.group.same('inner_lr'):g}; training loss, see docs: " + ", ".join(
            f"{count} {word} (N = {each.group.inner_steps})"
            for each, words in counted.items()
            for word, count in sorted(words.items())
        )
        mend = more_seeds([first.group, last.group], shares.seeds, level) if decided == "undecided" else None
        made.append(Claim(sentence, decided, f"{text}; {seeds_text(shares)}", detail, problem, "", _SECTION, mend))
    return made


def _diverged(result: GroupResult, level: float) -> Verdict:
    """Whether more than half of the seeds diverge, whatever the undecided ones did."""
    found = Counter(map(descent, result.group.by_seed.values()))
    gone, seeds = found["not finite"] + found["did not come down"], len(result.group.by_seed)
    if verdict(share(gone, seeds, level), 0.5) == "held":
        return "held"
    return "refuted" if verdict(share(gone + found["undecided"], seeds, level), 0.5) == "refuted" else "undecided"
