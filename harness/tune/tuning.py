"""What ``harness tune`` does, as a function: studies one after the other, with equal budgets and the same seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from harness.experiment.setup import pick_device
from harness.grid.compare import shares, workers_for
from harness.tune.config import TRIALS, TuneConfig
from harness.tune.plan import StudyPlan, folder, plan
from harness.tune.result import result_of, write_suite
from harness.tune.space import overrides
from harness.tune.storage import open_storage
from harness.tune.study import check, check_sampler, enter, load
from harness.tune.trial_pool import TrialPool

#: is told which study an event is of
Watch = Callable[[StudyPlan, dict[str, Any]], None]


def tune(
    config: TuneConfig,
    *,
    seeds: Sequence[int] = (),
    out: str | Path = Path("results/tune"),
    space: Path | None = None,
    set_space: Iterable[str] = (),
    origins: Mapping[str, str] | None = None,
    scheduler: str | None = None,
    watch: Watch = lambda plan, event: None,
) -> list[dict[str, Any]]:
    """Do one study for every algorithm of ``config`` and write what it found under ``out``; returns the results.

    Args:
        config: settings of the trials, and how to search.
        seeds: do all of it once with each of them; with that of ``config`` by default.
        out: folder of the journal, and of a folder for every study.
        space: YAML file with parameters to narrow, widen or fix.
        set_space: the same as ``NAME=VALUE``, ``NAME=LOW..HIGH`` or ``NAME=A,B,C``.
        origins: where keys of ``config`` were given, for error messages.
        scheduler: of a Dask cluster whose workers do the trials: its address, or the file that it wrote.
        watch: is told every event.

    Raises:
        InputError: the request cannot be met, or a study of that name is another one; nothing was changed.
        KeyboardInterrupt: stopped by the user; the same command goes on.
    """
    out = Path(out) if scheduler is None else Path(out).absolute()
    asked = overrides(space, set_space)
    plans = [study for each in _one_each(config, seeds) for study in plan(each, origins or {}, asked)]
    places = shares(str(pick_device(config.device)), config.threads or 0, config.workers)
    for study in plans:
        check_sampler(study)
    where = config.storage or str(out / "journal.log")
    if scheduler is not None and "://" not in where:
        where = str(Path(where).absolute())
    storage = open_storage(where)
    for study in plans:
        check(storage, study)
    owners = out / "workers" if "://" in where else Path(f"{where}.workers")
    for study in plans:
        enter(storage, study)
    results = []
    for made in plans:
        loaded, _ = load(storage, made.name)
        request = {
            "module": "harness.tune.worker",
            "benchmark": made.base["benchmark"],
            "benchmark_options": made.base["benchmark_options"],
            "storage": where,
            "study": made.name,
            "owners": str(owners),
            "results": str(folder(out, made) / TRIALS),
            "trials": config.trials,
            "budget": config.budget_seconds,
        }

        def tell(event: dict[str, Any], made: StudyPlan = made) -> None:
            watch(made, event)

        tell({"event": "study", "study": loaded, "trials": config.trials})
        with closing(workers_for(places, scheduler, config.workers)) as workers:
            TrialPool(loaded, storage, request, workers, tell).work()
            results.append(result_of(loaded, made, folder(out, made), config.trials, config.test_seeds, workers, tell))
    write_suite(out, results)
    return results


def _one_each(config: TuneConfig, seeds: Sequence[int]) -> list[TuneConfig]:
    """``config`` with each of ``seeds``; a name of the study's own with it too, where there are several."""
    if len(seeds) < 2:
        return [config.model_copy(update={"seed": seed}) for seed in seeds] or [config]
    named = [{"study": f"{config.study}-s{seed}"} if config.study else {} for seed in seeds]
    return [config.model_copy(update={"seed": seed, **name}) for seed, name in zip(seeds, named, strict=True)]
