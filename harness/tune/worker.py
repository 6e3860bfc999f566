"""A process that works on one study: a request on stdin, events on a pipe, a stop when stdin closes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TextIO

from harness.grid.worker import Events, accept

#: exit status after a crash of a trial: whatever it left in this process shall not meet the next one
SPOILT = 3


class Now(Events):
    """Events of a trial; those of single meta-iterations now and then."""

    def __call__(self, event: str, **content: Any) -> None:
        """Write one event."""
        if event == "trained":
            self._now_and_then(event, **content)
        else:
            self.send(event, **content)


def main(channel: int) -> int:
    """Do trials until every place of the study is taken or its budget is spent."""
    return work(*accept(channel))


def work(request: dict[str, Any], out: TextIO) -> int:
    """See :func:`main`."""
    from harness.tune.owners import Owner
    from harness.tune.slots import claim, spent
    from harness.tune.storage import open_storage
    from harness.tune.study import load
    from harness.tune.trial import run_trial

    send = Now(out)
    storage = open_storage(request["storage"])
    study, plan = load(storage, request["study"])
    owner = Owner(Path(request["owners"]))
    send("owner", name=owner.name)
    budget = request["budget"]
    while budget is None or spent(study) < budget:
        trial_id = claim(study, storage, plan, owner.name, request["trials"])
        if trial_id is None:
            break
        outcome = run_trial(study, storage, plan, trial_id, Path(request["results"]), request["device"], send)
        if outcome in ("interrupted", "crashed"):
            owner.leave()
            return SPOILT
    owner.leave()
    return 0
