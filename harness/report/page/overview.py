"""What the page says before any plot: the answer, what to run next, findings, claims and warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.report.findings.answer import Answer, answers, sentence
from harness.report.findings.claim import Claim
from harness.report.findings.comparison import Comparison
from harness.report.findings.names import method_name
from harness.report.next_runs import Next, NextRuns
from harness.report.page.picture import Picture, pictures
from harness.report.page.tables import readable

#: so many lines of a list are open to the eye, the rest folds
SHOWN = 4
_VERDICTS = ("held", "refuted", "undecided")


@dataclass(frozen=True)
class Card:
    """A verdict, why it is so, what would decide it, and the claims that share all that: mostly one.

    With each claim the problem that it is about, None where there is one only, and the rest of its numbers.
    """

    verdict: str
    why: str
    next: Next | None
    claims: list[tuple[str, str | None, list[str]]]


@dataclass(frozen=True)
class Section:
    """Claims of one theorem or section, decided ones first; ``counts`` is how many are what."""

    title: str
    counts: str
    cards: list[Card]


@dataclass(frozen=True)
class Overview:
    """Names and numbers for the head of the page, as text."""

    title: str
    facts: list[str]
    answers: list[str]
    pictures: list[Picture]
    next: NextRuns
    undecided: int
    differences: list[str]
    findings: list[str]
    sections: list[Section]
    warnings: list[str]
    skipped: list[str]
    shown: int = SHOWN


def overview(comparison: Comparison, next_runs: NextRuns, differences: Sequence[str] = ()) -> Overview:
    """The head of the page of ``comparison``, and of what was found against other results."""
    groups, problems = comparison.groups, comparison.problems
    statuses = Counter(run.summary.status.replace("_", " ") for group in groups for run in group.runs)
    skipped = set(comparison.skipped)
    found = answers(comparison)
    return Overview(
        _in_words(list(dict.fromkeys(method_name(group.method) for group in groups))),
        [
            ", ".join(problems),
            f"{len(groups)} settings",
            ", ".join(f"{count} {status}" for status, count in statuses.items()),
        ]
        if groups
        else [],
        list(_answers(found, problems)),
        pictures(found),
        next_runs,
        sum(claim.verdict == "undecided" for claim in comparison.claims),
        list(map(readable, differences)),
        [readable(finding) for finding in comparison.findings],
        list(_sections(comparison, next_runs)),
        [readable(warning) for warning in comparison.warnings if warning not in skipped],
        comparison.skipped,
    )


def _answers(found: Sequence[Answer], problems: Sequence[str]) -> Iterator[str]:
    """A sentence for each problem on which a target was chosen."""
    for problem in dict.fromkeys(answer.problem for answer in found):
        said = sentence([answer for answer in found if answer.problem == problem])
        yield readable(f"{problem}: {said}" if len(problems) > 1 else said)


def _sections(comparison: Comparison, next_runs: NextRuns) -> Iterable[Section]:
    titles = dict.fromkeys(claim.section for claim in comparison.claims)
    for title in titles:
        claims = [claim for claim in comparison.claims if claim.section == title]
        counted = Counter[str](claim.verdict for claim in claims)
        counts = ", ".join(f"{counted[verdict]} {verdict}" for verdict in _VERDICTS if counted[verdict])
        claims.sort(key=lambda claim: claim.verdict == "undecided")
        cards: dict[object, Card] = {}
        for index, claim in enumerate(claims):
            next_, why = next_runs.by_claim.get(claim), _why(claim)
            key = (why, next_) if claim.verdict == "undecided" else index
            card = cards.setdefault(key, Card(claim.verdict, readable(why), next_, []))
            numbers = [readable(text) for text in (claim.interval_text, claim.detail, claim.conditions) if text]
            more = [text for text in numbers if text != card.why]
            card.claims.append((readable(claim.sentence), comparison.shown_problem(claim.problem), more))
        yield Section(title or "The paper's claims", counts, list(cards.values()))


def _why(claim: Claim) -> str:
    """What decides it, or why nothing does."""
    return claim.remedy.why if claim.remedy is not None else claim.interval_text or claim.detail


def _in_words(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
