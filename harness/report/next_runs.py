"""What to run next, as commands that can be copied: a suite for each remedy of an undecided claim, and its price."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.report.findings.claim import Claim
from harness.report.findings.groups import Setting
from harness.report.findings.remedies import Remedy, together
from harness.report.findings.statistics import ENOUGH
from harness.store.files import told, write

#: where its suites lie, in the folder of a report
FOLDER = "next"


@dataclass(frozen=True)
class Next:
    """A command, and what it takes in words; ``why`` is what it is for."""

    why: str
    command: str
    price: str


@dataclass(frozen=True)
class NextRuns:
    """For each claim that more runs would decide, the command; ``first`` decides so many in one go."""

    by_claim: dict[Claim, Next]
    first: Next | None = None
    decides: int = 0


NOTHING = NextRuns({})


def write_next_runs(claims: Iterable[Claim], folder: Path) -> tuple[NextRuns, list[Path]]:
    """Write a suite for every remedy into ``folder``/next; the commands name ``folder`` as it was given."""
    remedies = {claim: claim.remedy for claim in claims if claim.remedy is not None and claim.remedy.runs}
    if not remedies:
        return NOTHING, []
    first = together(remedies.values())
    made: dict[Remedy, Next] = {}
    files = []
    for remedy in dict.fromkeys([*filter(None, [first]), *remedies.values()]):
        path = folder / FOLDER / f"{len(made) + 1}.yaml"
        with told(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        write(path, _suite(remedy).encode())
        made[remedy] = _next(remedy, path)
        files.append(path)
    found = {claim: made[remedy] for claim, remedy in remedies.items()}
    if first is None:
        return NextRuns(found), files
    decided = [each for each in remedies.values() if each.seeds == first.seeds and {*each.wanted} <= {*first.wanted}]
    return NextRuns(found, made[first], len(decided)), files


def _suite(remedy: Remedy) -> str:
    settings = [each.setting for each in remedy.wanted]
    base = {name: value for name, value in settings[0].items() if all(_has(each, name, value) for each in settings)}
    grid = [{name: _one(value) for name, value in each.items() if name not in base} for each in settings]
    suite = {
        "title": remedy.why,
        "source": "runs at hand, and what they leave undecided",
        "base": base,
        "grid": grid,
        "seeds": list(remedy.seeds),
    }
    return yaml.dump(suite, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)


class _Plain(yaml.SafeDumper):
    """Writes a value again where others would refer to it."""

    def ignore_aliases(self, data: Any) -> bool:
        """All of them."""
        return True


def _has(setting: Setting, name: str, value: object) -> bool:
    return name in setting and setting[name] == value


def _one(value: object) -> object:
    """A list is one value here, which a suite would take for several."""
    return [value] if isinstance(value, list) else value


def _next(remedy: Remedy, path: Path) -> Next:
    places = Counter(str(run.path.parent) for each in remedy.wanted for run in each.group.runs)
    results = places.most_common(1)[0][0]
    seeds_alone = not any(each.changes for each in remedy.wanted)
    # who looks again at the same claim keeps its error only by a rule
    again = seeds_alone and all(len(each.group.by_seed) >= ENOUGH for each in remedy.wanted)
    rule = ["--until-decided"] if again else []
    command = shlex.join(["harness", "compare", str(path), "--results", results, *rule])
    runs = f"{remedy.runs} {'run' if remedy.runs == 1 else 'runs'}{' to the next look' if again else ''}"
    return Next(remedy.why, command, f"{runs}, {_time(remedy.seconds)}")


def _time(seconds: float) -> str:
    """``about 3 min one after the other``, as the runs at hand took."""
    if math.isnan(seconds):
        return "a time not known"
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"about {seconds / size:.0f} {unit} one after the other"
    return f"about {max(1, round(seconds))} s one after the other"
