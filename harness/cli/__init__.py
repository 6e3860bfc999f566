"""Commands: parse, call, print. Importing this module must not import torch."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

import harness
from harness.cli.streams import leave, nowhere, standard
from harness.cli.terminal import following
from harness.cli.terminal.encoding import show_anything
from harness.errors import HarnessError, InputError
from harness.experiment.interrupts import INTERRUPTED, terminable
from harness.experiment.ranks import RankLost, ranks, speaks
from harness.store.foreign import one_line

_HELP = "What MAML, FOMAML and ANIL cost, how fast they converge, and whether their gradients are right."

_WORDS = Parameter(json_list=False, json_dict=False)  # a folder called [x] is a folder
app = App(
    name="harness",
    help=_HELP,
    version=harness.__version__,
    suppress_keyboard_interrupt=False,
    default_parameter=_WORDS,
)
data = App(name="data", help="Data sets: what is there, fetch it, check it.", default_parameter=_WORDS)
app.command(data)

Json = Annotated[
    bool, Parameter(name="--json", negative=(), show_default=False, help="print one JSON document on stdout")
]
Name = Annotated[str, Parameter(help="a benchmark of harness list")]


# Loaded when called: their options come from schemas that --help of the others can do without.
app.command("harness.cli.commands:run", name="run", help="Train, evaluate on held-out tasks and write a run directory.")
app.command(
    "harness.cli.commands:time", name="time", help="Time gradient and second-order evaluations beside the peers."
)
app.command("harness.cli.many:compare", name="compare", help="Do every run of a suite that is not finished yet.")
app.command("harness.cli.many:plan", name="plan", help="Say how many seeds decide each claim, and what they take.")
app.command("harness.cli.many:tune", name="tune", help="Search the settings of each algorithm with Optuna.")
app.command("harness.cli.many:report", name="report", help="Write Tables 1 and 2, the figures and report.html.")
app.command("harness.cli.commands:verify", name="verify", help="Hold gradients to witnesses, your own model's too.")
app.command("harness.cli.commands:theory", name="theory", help="Print the paper's bounds and estimate their constants.")


@app.command(name="list")
def list_(*, json: Json = False) -> int:
    """Show algorithms, geometries, benchmarks, engines and suites."""
    from harness.cli.terminal.console import listing_tables, print_json, show
    from harness.settings.listing import listing

    document = listing()
    if json:
        print_json(document)
        return 0
    show(listing_tables(document))
    following.after_list(any(benchmark["missing"] for benchmark in document["benchmarks"]))
    return 0


@data.command
def status(*, json: Json = False) -> int:
    """Show which data sets are there, and where the missing ones belong."""
    from harness.cli.data import status as data_status

    return _show(data_status(), json)


@data.command
def prepare(name: Name, /, *, json: Json = False) -> int:
    """Download, unpack or render the data of one benchmark."""
    from harness.cli.data import prepare as prepare_data

    with _blamed(name):
        document = prepare_data(name)
    return _show(document, json)


@data.command(name="verify")
def verify_data(name: Name, /, *, path: str | None = None, json: Json = False) -> int:
    """Read all data of one benchmark, or those in path, and compare counts and class splits with the published ones."""
    from harness.cli.data import verify as check_data

    with _blamed(name):
        report = check_data(name, path)
    return _show(report, json) or (0 if report["ok"] else 1)


def _blamed(name: str) -> AbstractContextManager[None]:
    """Inside, whatever another person's benchmark raises is one line."""
    from harness.settings.registry import benchmarks
    from harness.strangers.blame import blamed, strange

    return blamed(f"benchmark {name!r}") if strange(benchmarks().get(name)) else nullcontext()


def _show(document: Any, json: bool) -> int:
    from harness.cli.terminal.console import data_table, print_json, show

    if json:
        print_json(document)
    else:
        show([data_table(document)])
    return 0


class _Line(logging.Formatter):
    """One line a message, and nothing in it that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(" ".join(super().format(record).split()))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 for success, 2 for bad input, 1 for failure, 130 where it was interrupted."""
    token = following.words.set(())
    try:
        with standard():
            show_anything()
            return _main(argv)
    finally:
        following.words.reset(token)


def _main(argv: Sequence[str] | None) -> int:
    handler = logging.StreamHandler()
    handler.setFormatter(_Line("%(levelname)s: %(message)s"))
    for level in (logging.INFO, logging.WARNING):
        logging.addLevelName(level, logging.getLevelName(level).lower())
    # Threads that wait by spinning make a run ten times slower where cores are shared with others.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    log = logging.getLogger("harness")
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO if speaks() else logging.ERROR)
    try:
        words = [_at_home(word) for word in (sys.argv[1:] if argv is None else argv)]
        following.words.set(tuple(words))
        # Terminable, so that whatever draws on the terminal leaves it as it was.
        with terminable(), ranks() as group, _output_for(words):
            if group.size > 1 and words and words[0] != "run" and not words[0].startswith("-"):
                raise InputError(f"harness {words[0]} by {group.size} processes of torchrun; allowed: harness run")
            status = app(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()  # a full disk shows here, and not after this program's last word
        return status if isinstance(status, int) and speaks() else 0
    except CycloptsError as error:
        return _fail(str(error), 2)
    except (MemoryError, RuntimeError) as error:
        from harness.measure.memory import first_sentence, is_out_of_memory

        if "can't start new thread" in str(error):
            return _fail(f"{error}: the system allows this user no more threads or processes", 1)
        if not is_out_of_memory(error):
            raise
        return _fail(f"out of memory ({first_sentence(error)})", 1)
    except RankLost as error:  # this may be the only one left
        return _fail(str(error), error.exit_status, always=True)
    except HarnessError as error:
        return _fail(str(error), error.exit_status)
    except KeyboardInterrupt:
        if not speaks():
            return 0
        _fail("interrupted", INTERRUPTED)
        following.after_interrupt()
        return INTERRUPTED
    except BrokenPipeError:
        leave(sys.stdout)
        return 1
    except OSError as error:  # a full disk, a folder that is gone: the machine's fault, not the program's
        return _fail(str(error), 1)


def _at_home(word: str) -> str:
    """``~/x`` and ``--option=~/x`` with the home directory, of which shells expand the first alone."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return option + equals + os.path.expanduser(value)


def _output_for(argv: Sequence[str]) -> AbstractContextManager[None]:
    if not speaks():
        return nowhere()
    if "--json" not in argv:
        return nullcontext()
    from harness.cli.terminal.console import stdout_kept

    return stdout_kept()


def _fail(message: str, status: int, always: bool = False) -> int:
    """``status``; 0 where another rank says the same, as torchrun ends all of them when one ends with more."""
    if not (always or speaks()):
        return 0
    print("error: " + one_line(" ".join(message.split())), file=sys.stderr)
    return status
