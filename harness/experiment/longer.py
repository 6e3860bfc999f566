"""A run of more meta-iterations goes on from a finished one that differs in nothing else, and ends as if it had not."""

from __future__ import annotations

import glob
import logging
from pathlib import Path

from harness.experiment.setup import Setup
from harness.experiment.start import place_of
from harness.settings.config import RunConfig
from harness.store.directory import RunDirectory, changed
from harness.store.files import write
from harness.store.foreign import open_plain
from harness.store.records import Status

log = logging.getLogger("harness")
#: the checkpoint last: whatever ends this in between, without it nothing has begun
_FILES = ("metrics.jsonl", "evaluations.jsonl", "stationarity.jsonl", "environment.json", "checkpoint.pt")
_MOST_BYTES = 1 << 36


def begin_from_shorter(directory: RunDirectory, setup: Setup) -> bool:
    """Copy the state of the longest finished run that this one has as its beginning; whether there was one.

    A run measures once more after its last meta-iteration. Where this run does not measure there, its beginning
    would not look like that, so that it starts anew, and says so.
    """
    found = _shorter(directory.path, setup)
    fitting = [(done, shorter) for done, shorter in found if _measures_after(setup.config, done)]
    if not fitting:
        for done, shorter in found[:1]:
            log.info(
                "%s holds the first %d meta-iterations and, after them, a measurement that this run does not make: "
                "it starts anew",
                *(shorter, done),
            )
        return False
    done, shorter = fitting[0]
    for name in _FILES:
        try:
            with open_plain(shorter / name, _MOST_BYTES, links=False) as file:
                content = file.read()
        except FileNotFoundError:  # not every run has every file
            continue
        except OSError as error:
            log.info("%s cannot be gone on from (%s): this run starts anew", shorter / name, error.strerror)
            return False
        write(directory.path / name, content)
    log.info("going on from the %d meta-iterations of %s", done, shorter)
    return True


def _shorter(path: Path, setup: Setup) -> list[tuple[int, Path]]:
    """Finished runs beside ``path`` that are its beginning, and their meta-iterations; the longest first."""
    found: list[tuple[int, Path]] = []
    if setup.config.outer_schedule != "constant":  # its steps are others from the first on
        return found
    name = path.name.rpartition("-")[0]
    for folder in path.parent.glob(f"{glob.escape(name)}-*"):
        run = RunDirectory(folder)
        summary = run.summary() or {}
        done = summary.get("iterations")
        if summary.get("status") != Status.COMPLETED or not isinstance(done, int) or done >= setup.config.iterations:
            continue
        if folder.name != f"{name}-{setup.key_after(done)}" or not run.checkpoint_path.exists():
            continue
        edited = changed(folder, summary.get("files"))
        if edited or edited is None:
            log.info("%s: %s changed after it ended: this run starts anew", folder, ", ".join(edited or ["its files"]))
        elif place_of(folder, setup.start)[0] == folder:
            found.append((done, folder))
    return sorted(found, reverse=True)


def _measures_after(config: RunConfig, iteration: int) -> bool:
    return not any(every and iteration % every for every in (config.eval_every, config.stationarity_every))
