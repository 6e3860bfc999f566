"""Seconds of different machines or sittings do not compare: a report refuses to mix machines unless told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from harness.errors import InputError
from harness.report.reading.runs import Run
from harness.store.environments import PARTS, SITTINGS, machine_in
from harness.store.foreign import one_line


def differences(runs: Sequence[Run]) -> list[str]:
    """What differs between the machines of ``runs``, such as ``torch: 2.14.0, 2.15.0``.

    Unknown ones are left out, and runs that went on elsewhere: they have no seconds that could be mixed.
    """
    machines = [machine for run in runs if not run.elsewhere and (machine := machine_in(run.environment))]
    found = {name: sorted({one_line(machine[name]) for machine in machines}) for name in PARTS}
    return [f"{name}: {', '.join(values)}" for name, values in found.items() if len(values) > 1]


def check_machines(runs: Sequence[Run], mix: bool) -> list[str]:
    """Warnings about the machines; raises :class:`InputError` where they differ, unless ``mix``."""
    differing = "; ".join(differences(runs))
    if differing and not mix:
        raise InputError(
            f"runs of different machines would share a timing table ({differing}); "
            "allowed: one GPU model, CPU model, thread count, torch version and number of ranks, or --mix"
        )
    unknown = sum(not machine_in(run.environment) for run in runs)
    warnings = [f"machines are mixed ({differing}): seconds and memory do not compare"] if differing else []
    if unknown:
        warnings.append(f"environment.json of {unknown} run(s) cannot be read: their machine is unknown")
    return warnings


def in_turn(first: Sequence[Run], other: Sequence[Run]) -> bool | None:
    """Whether the runs of two sets, one of each for every seed, took turns; None where a time is not known.

    Runs of one sitting share the load of the machine, which no interval over seeds can see. In order of their
    beginning, sets that took turns change over as often as there are seeds or more often, one after the other once.
    """
    began = [(_began(run), which) for which, runs in enumerate((first, other)) for run in runs]
    known = sorted((at, which) for at, which in began if at is not None)
    if len(known) < len(began):
        return None
    return sum(before != after for (_, before), (_, after) in pairwise(known)) >= len(first)


def _began(run: Run) -> float | None:
    """Seconds since the epoch; None where it is not known, or the run went on later."""
    found = run.environment.get(SITTINGS)
    only = found[0] if isinstance(found, list) and len(found) == 1 else None
    try:
        return datetime.fromisoformat(only["started"]).timestamp() if isinstance(only, dict) else None
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None
