"""Whatever weakens a comparison, each in one line."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from harness.report.findings.costs import measured_to_end
from harness.report.findings.descent import descent
from harness.report.findings.factors import FactorRow
from harness.report.findings.groups import Group
from harness.report.findings.names import group_name, listed
from harness.report.findings.norms import is_unbiased
from harness.report.findings.results import GroupResult
from harness.report.findings.statistics import ENOUGH
from harness.report.findings.targets import Headlines
from harness.report.reading.machines import in_turn
from harness.report.reading.runs import Run
from harness.report.tables.cells import shown
from harness.store.foreign import one_line

_SPREAD, _RESOLUTION = 0.1, 10
_COMPARED = ("meta_batch", "iterations", "engine")


def caveats(results: Sequence[GroupResult], headlines: dict[str, Headlines], rows: Sequence[FactorRow]) -> list[str]:
    """Warnings about the runs of a comparison, those that may turn its result first."""
    groups = [result.group for result in results]
    runs = [run for group in groups for run in group.runs]
    return [
        *_few_seeds(groups),
        *_failures(results),
        *_unequal(groups),
        *_partners(rows),
        *_unknown(groups),
        *_other_functions(groups),
        *_unmeasured(results, headlines),
        *_resolution(results, headlines),
        *_noise(results),
        *_descents(results),
        *_duplicates(groups),
        *_spread(results),
        *_in_turn(rows),
        *_elsewhere(runs),
        *_counts(groups),
        *_sources(runs),
        *_unsealed(runs),
        *(fault for run in runs for fault in run.faults),
    ]


def _few_seeds(groups: Sequence[Group]) -> list[str]:
    few = [f"{group_name(group)}: {len(group.by_seed)}" for group in groups if len(group.by_seed) < ENOUGH]
    return [f"fewer than {ENOUGH} seeds carry no claim ({listed(few)})"] if few else []


def _failures(results: Iterable[GroupResult]) -> list[str]:
    words = {"diverged": "diverged (a number was not finite)", "out_of_memory": "ran out of memory"}
    return [
        f"{group_name(result.group)}: {count} of {len(result.group.by_seed)} runs {word}; "
        "its accuracy and loss are those of the others"
        for result in results
        for status, word in words.items()
        if (count := result.with_status(status))
    ]


def _unequal(groups: Sequence[Group]) -> list[str]:
    """Settings that should be equal within a problem and are not."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for group in groups:
        for name in _COMPARED:
            found[group.problem, name].add(one_line(group.same(name)))
    return [
        f"{problem}: {name} differs between groups ({', '.join(sorted(values))}); costs do not compare as they are"
        for (problem, name), values in found.items()
        if len(values) > 1
    ]


def _partners(rows: Iterable[FactorRow]) -> list[str]:
    lines = []
    for row in rows:
        pair = f"{group_name(row.anil)} and {group_name(row.maml)}"
        if row.differing:
            lines.append(f"{pair} differ in {', '.join(map(one_line, row.differing))}, not only in the method")
        if row.anil.by_seed.keys() != row.maml.by_seed.keys():
            lines.append(f"{pair} do not have the same seeds; their factor is over those of both")
    return lines


def _unknown(groups: Iterable[Group]) -> list[str]:
    """What was asked of runs and is not known: an uncounted evaluation is no evaluation saved."""
    words = {
        "counts": "how many evaluations it made is not known",
        "definition_1": "Definition 1 was not measured",
        "task_stream": "others may not have seen the same tasks",
    }
    return [
        f"{group_name(group)}: {word} ({listed(list(whys))})"
        for group in groups
        for name, word in words.items()
        if (whys := dict.fromkeys(run.unknown[name] for run in group.runs if name in run.unknown))
    ]


def _unmeasured(results: Sequence[GroupResult], headlines: dict[str, Headlines]) -> list[str]:
    """Groups without K(epsilon) beside others that have it, and runs whose measurements are not complete."""
    lines = []
    for problem, kinds in headlines.items():
        groups = [result.group for result in results if result.group.problem == problem]
        without = [group_name(group) for group in groups if not any(run.stationarity for run in group.runs)]
        if len(without) == len(groups):
            lines.append(f"{problem}: {kinds['epsilon'].reason}")
        elif without:
            lines.append(f"{problem}: Definition 1 was not measured for {listed(without)}")
    torn = [
        one_line(run.path)
        for result in results
        for run in result.group.runs
        if result.group.setting.get("stationarity_every") and not measured_to_end(run)
    ]
    if torn:
        lines.append(
            f"stationarity.jsonl does not reach the last meta-iteration; misses there are left out: {listed(torn)}"
        )
    return lines


def _noise(results: Iterable[GroupResult]) -> list[str]:
    """Groups whose Definition 1 is of an older version."""
    old = [
        group_name(result.group)
        for result in results
        if any(run.stationarity and not is_unbiased(run) for run in result.group.runs)
    ]
    return (
        [
            "Definition 1 was measured by an older version, with the noise of the sampled tasks in it, which K(ε) then "
            f"ranks by ({listed(old)})"
        ]
        if old
        else []
    )


def _descents(results: Iterable[GroupResult]) -> list[str]:
    """Groups of which some training curve did not come down, though every number was finite."""
    return [
        f"{group_name(result.group)}: training loss did not come down in {count} of {len(result.group.by_seed)} runs"
        for result in results
        if (count := sum(descent(run) == "did not come down" for run in result.group.by_seed.values()))
    ]


def _resolution(results: Iterable[GroupResult], headlines: dict[str, Headlines]) -> list[str]:
    coarse = []
    for result in results:
        target, every = (
            headlines[result.group.problem]["epsilon"].target,
            result.group.setting.get("stationarity_every"),
        )
        found = result.iterations_to(target) if target else math.nan
        if isinstance(every, int) and 0 < found < _RESOLUTION * every:
            coarse.append(f"{group_name(result.group)}: {shown(found)}, measured every {every}")
    return [f"K(ε) is known to the next measurement only ({listed(coarse)})"] if coarse else []


def _duplicates(groups: Iterable[Group]) -> list[str]:
    lines = []
    for group in groups:
        for seed, count in Counter(group.seeds).items():
            if count > 1:
                kept = one_line(group.by_seed[seed].path)
                lines.append(f"{group_name(group)}: {count} runs of seed {seed}, of which {kept} counts")
    return lines


def _spread(results: Iterable[GroupResult]) -> list[str]:
    wide = [
        f"{group_name(result.group)}: {result.spread['train']:.0%}"
        for result in results
        if result.spread["train"] > _SPREAD
    ]
    return [f"seconds per iteration differ between seeds by more than {_SPREAD:.0%} ({listed(wide)})"] if wide else []


def _in_turn(rows: Iterable[FactorRow]) -> list[str]:
    """Pairs whose seconds are those of two sittings, as far as it is known when runs began."""
    apart = []
    for row in rows:
        shared = row.anil.by_seed.keys() & row.maml.by_seed.keys()
        if in_turn(*([group.by_seed[seed] for seed in shared] for group in (row.anil, row.maml))) is False:
            apart.append(f"{group_name(row.anil)} and {group_name(row.maml)}")
    return [f"made at different times, load not known: the seconds of {listed(apart)} do not compare"] if apart else []


def _elsewhere(runs: Sequence[Run]) -> list[str]:
    """Runs of which one part was made on another machine or version than the next."""
    if not (found := [run for run in runs if run.elsewhere]):
        return []
    what = listed(list(dict.fromkeys(run.elsewhere for run in found)))
    return [f"{len(found)} of {len(runs)} runs were resumed elsewhere ({what}): their seconds and memory are left out"]


def _counts(groups: Iterable[Group]) -> list[str]:
    """Groups whose counted entries are not those of Table 2's formulas."""
    from harness.theory.bounds import evaluations

    lines = []
    for group in groups:
        counted = {
            kind: group.runs[0].number("counts_per_task", f"{kind}_entries") for kind in ("gradient", "second_order")
        }
        if group.algorithm not in ("maml", "fomaml", "anil") or any(map(math.isnan, counted.values())):
            continue
        exact = evaluations(group.algorithm, group.same("n_w"), group.same("n_phi"), group.inner_steps)
        lines += [
            f"{group_name(group)}: {shown(int(value))} {kind.replace('_', '-')} entries a task were counted, "
            f"and N, n_w and n_φ give {shown(getattr(exact, kind))}"
            for kind, value in counted.items()
            if value != getattr(exact, kind) and group.same("iterations_done")
        ]
    return lines


def _other_functions(groups: Iterable[Group]) -> list[str]:
    """Groups whose L_meta is not L_D after gradient descent, so that its gradient says nothing beside others'."""
    own = listed([group_name(group) for group in groups if group.same("plain_inner_loop") is False])
    return [f"with an inner problem of their own, L_meta is another function, and so is K(ε): {own}"] if own else []


def _unsealed(runs: Sequence[Run]) -> list[str]:
    count = sum(run.changed is None for run in runs)
    why = "runs of an older version, or not of this program"
    return (
        [f"{count} of {len(runs)} runs have no digests of their files ({why}): whether they were edited is unknown"]
        if count
        else []
    )


def _sources(runs: Sequence[Run]) -> list[str]:
    """Runs of changed or of different checkouts."""
    states = [state for run in runs if isinstance(state := run.environment.get("git"), dict)]
    commits = sorted({one_line(state["commit"])[:10] for state in states if isinstance(state.get("commit"), str)})
    dirty = sum(state.get("dirty") is True for state in states)
    lines = [f"{dirty} of {len(runs)} runs come from a checkout with uncommitted changes"] if dirty else []
    return lines + ([f"runs come from {len(commits)} commits ({listed(commits)})"] if len(commits) > 1 else [])
