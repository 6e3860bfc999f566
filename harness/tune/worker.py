"""One trial of a study, in a process of its own: see :mod:`harness.grid.serve`, whose forks have all this imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import harness.grid.worker  # noqa: F401  (imports what every run needs)
from harness.grid.serve import Events
from harness.tune.owners import Owner
from harness.tune.slots import claim
from harness.tune.storage import open_storage
from harness.tune.study import load
from harness.tune.trial import run_trial


def main(request: dict[str, Any], events: Events) -> None:
    """Do a trial, if a place of the study is free; those of single meta-iterations are told now and then."""

    def send(event: str, **content: Any) -> None:
        (events.now_and_then if event == "trained" else events.send)(event, **content)

    storage = open_storage(request["storage"])
    study, plan = load(storage, request["study"])
    owner = Owner(Path(request["owners"]))
    send("owner", name=owner.name)
    trial_id = claim(study, storage, plan, owner.name, request["trials"])
    if trial_id is not None:
        run_trial(study, storage, plan, trial_id, Path(request["results"]), request["device"], send)
    owner.leave()
