"""The run key: a hash of what determines the numbers of a run, not of where they are stored.

It is made of the configuration, the version that a benchmark gives its data, code, and torch's flags that a run leaves
alone. Code is every module that a run executes, followed by imports from :data:`ROOTS`, the plugins and the model (see
:mod:`.sources`), but for :data:`BOOKKEEPING`; and the versions of installed packages that compute. The key is
the same on every machine and, but for objects whose source nobody has, on every version of Python, and known before
anything is built. What no source shows is measured when a run starts, see :mod:`harness.experiment.start`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any

from harness.experiment.byvalue import Description
from harness.experiment.packages import contents, version
from harness.experiment.sources import OWN, closure
from harness.measure.precision import flags
from harness.strangers.named import is_named, module_of

if TYPE_CHECKING:
    from harness.problem.nets import ModelFactory
    from harness.settings.resolve import Resolved

log = logging.getLogger("harness")

#: one run from configuration to summary, and what it computes; peers are engines, which are plugins
ROOTS = ("harness.experiment.run", "harness.engines.native")
#: change no number: what a run is asked for is in the key by value, and where and how its numbers are kept is not
BOOKKEEPING = frozenset(
    f"harness.{name}".rstrip(".")
    for name in (
        *("", "cli", "errors", "settings", "store", "strangers"),
        *(
            f"experiment.{name}"
            for name in (
                *("byvalue", "in_words", "interrupts", "key", "notebook", "packages", "progress", "sources"),
                *("trackers", "trees"),
            )
        ),
        *("datasets.downloads", "measure.checkout", "measure.environment", "measure.nvml"),
    )
)
#: installed packages that compute what the project's own code asks of them; others read, check or draw
_COMPUTE = ("torch", "numpy", "scipy")

# Settings that change the numbers by no more than rounding. What task_chunk does to the seconds, the summary says.
_NOT_HASHED = {"checkpoint_every", "task_chunk", "label"}


def run_key(resolved: Resolved, factory: ModelFactory, fingerprint: str = "") -> str:
    """Ten hexadecimal digits.

    ``fingerprint`` stands for what no source shows: the parameters and tasks of Python objects.
    """
    config = {name: value for name, value in resolved.config.model_dump().items() if name not in _NOT_HASHED}
    config["device"] = config["device"].partition(":")[0]
    options, places = config["benchmark_options"], resolved.benchmark.places
    config["benchmark_options"] = {name: value for name, value in options.items() if name not in places}
    document = {
        "config": config,
        "benchmark_version": resolved.benchmark.version,
        "code": code(resolved, factory),
        "flags": flags(),
        "fingerprint": fingerprint,
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def code(resolved: Resolved, factory: ModelFactory) -> dict[str, Any]:
    """What a run executes: its modules, its packages, and what it was given as objects."""
    described = Description()
    names = {"benchmark": resolved.config.benchmark, "model": resolved.config.model, "loss": resolved.config.loss}
    named = [name for kind, name in names.items() if name and kind not in resolved.objects]
    described.modules |= {module_of(name): None for name in named if is_named(name)}
    loss = [resolved.loss.function] if resolved.loss.function else []
    for thing in (type(resolved.algorithm), type(resolved.benchmark), resolved.engine, factory, *loss):
        described.add(thing)
    for kind in dict.fromkeys(described.unknown):
        log.warning("nobody can tell one %s from another: this run will not be found again by its key", kind)
    modules, packages = closure([*ROOTS, *described.modules], _bookkeeping)
    _, of_strangers = closure([name for name in described.modules if not _own(name)], _own)
    library = (resolved.engine.requires or ("",))[0]
    computing = packages & {*_COMPUTE, library, *of_strangers}
    given = {name.partition(".")[0] for name in described.modules}  # may be installed again under the same version
    versions = {name: [version(name), contents(name) if name in given else ""] for name in computing}
    return {"modules": modules, "packages": versions, "objects": described.digest()}


def _bookkeeping(name: str) -> bool:
    return name in BOOKKEEPING or ".".join(name.split(".")[:2]) in BOOKKEEPING


def _own(name: str) -> bool:
    return name.partition(".")[0] in OWN
