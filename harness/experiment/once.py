"""A run is done once: what its directory holds is given back, gone on from, or repeated where that is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness.errors import InputError
from harness.experiment.interrupts import terminable
from harness.experiment.longer import begin_from_shorter
from harness.experiment.start import place_of
from harness.store.directory import RunDirectory, changed, outcome
from harness.store.files import refuse_link
from harness.store.records import FINISHED, Status

if TYPE_CHECKING:
    from harness.experiment.setup import Setup

log = logging.getLogger("harness")


def once(
    directory: RunDirectory,
    setup: Setup,
    resume: bool,
    fresh: bool,
    replaces: Mapping[str, Any] | None,
    trial: bool,
    train: Callable[[RunDirectory, bool], dict[str, Any]],
) -> dict[str, Any]:
    """The summary of the run in ``directory``, if it is finished, or of ``train(directory, resume)`` there."""
    refuse_link(directory.path)
    if not fresh:
        directory = _of_this_start(directory, setup, trial)

    def again() -> bool:
        return fresh or (replaces is not None and outcome(directory.path) == replaces)

    if not again() and (finished := _finished(directory)):
        return finished
    with terminable(), directory.claim():
        # Another process may have finished it, or left a checkpoint, until the directory became this one's.
        repeat = again()
        if not repeat and (finished := _finished(directory)):
            return finished
        if directory.checkpoint_path.exists() and not (resume or repeat):
            raise InputError(f"{directory.path} holds an unfinished run; add --resume or --fresh")
        edited = repeat and replaces is not None and replaces["status"] == Status.CHANGED
        resume = resume and directory.checkpoint_path.exists() and not (fresh or edited)
        if not (resume or repeat):
            resume = begin_from_shorter(directory, setup)
        return train(directory, resume)


def _of_this_start(directory: RunDirectory, setup: Setup, trial: bool) -> RunDirectory:
    """``directory``, or another one where the run in it began with another model or other data than its key shows."""
    place, why = place_of(directory.path, setup.start)
    if why is None:
        return directory
    if trial:
        raise InputError(f"{directory.path} began with {why}; give the same, or another --study or --out")
    log.info("%s began with %s than there are now: this run is %s", directory.path, why, place.name)
    refuse_link(place)
    return RunDirectory(place)


def _finished(directory: RunDirectory) -> dict[str, Any] | None:
    """The summary of a run that is not to be repeated; without digests of its files it says nothing."""
    summary = directory.summary()
    if summary is None or summary.get("status") not in FINISHED:
        return None
    edited = changed(directory.path, summary.get("files"))
    if edited is None:
        return None
    if edited:
        raise InputError(f"{directory.path}: {', '.join(edited)} changed after the run ended; add --fresh")
    log.info("%s was finished before; add --fresh to run it again", directory.path)
    return {**summary, "run_dir": str(directory.path)}
