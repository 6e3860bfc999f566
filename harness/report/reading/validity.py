"""A run's summary as a report takes it: held to its schema, and to the configuration beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from harness.store.records import RESULTS, SCHEMA, Seconds, Status, Summary
from harness.strangers.values import allowed

_SAME = {"algorithm": "algo", **{name: name for name in ("geometry", "benchmark", "inner_steps", "seed", "meta_batch")}}


def checked(found: Mapping[str, Any], config: Mapping[str, Any]) -> Summary | str:
    """The summary, or in a few words why its run cannot be reported.

    Seconds and memory of a run that went on elsewhere are those of no one machine: they are unknown.
    """
    if found.get("schema") != SCHEMA:
        return f"schema {_short(found.get('schema'))} of another version; this one reads {SCHEMA}"
    status = found.get("status")
    if status in (Status.INTERRUPTED, Status.STOPPED):
        done, of = _short(found.get("iterations_done")), _short(found.get("iterations"))
        why = f" ({_short(found['stopped'])})" if found.get("stopped") else ""
        return f"{status}{why} after {done} of {of} meta-iterations; go on with --resume"
    if status not in RESULTS:
        return f"summary.json: status is {_short(status)}; allowed: {', '.join(RESULTS)}"
    try:
        summary = Summary.model_validate(found)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        rule = allowed(Summary.model_fields[name], upper=False)
        return f"summary.json: {name} is {_short(found.get(name))}; allowed: {rule}"
    trained, asked = summary.iterations_done, summary.iterations
    if trained > asked or (summary.status == Status.COMPLETED and trained < asked):
        return f"summary.json: {summary.status} with {trained} of {asked} meta-iterations"
    for name, setting in _SAME.items():
        if config.get(setting) != (value := getattr(summary, name)):
            return f"config.yaml says {setting} {_short(config.get(setting))} and summary.json {_short(value)}"
    if summary.resumed_elsewhere:
        return summary.model_copy(update={"seconds": Seconds(), "peak_memory_bytes": None})
    return summary


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
