"""Seconds of different machines do not compare: a report refuses to mix them unless told."""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import InputError
from harness.foreign import one_line
from harness.machines import PARTS, machine_in
from harness.report.runs import Run


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
            "allowed: one GPU model, CPU model, thread count and torch version, or --mix"
        )
    unknown = sum(not machine_in(run.environment) for run in runs)
    warnings = [f"machines are mixed ({differing}): seconds and memory do not compare"] if differing else []
    if unknown:
        warnings.append(f"environment.json of {unknown} run(s) cannot be read: their machine is unknown")
    return warnings
