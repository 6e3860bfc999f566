"""Searches every reader with atheris: python tests/fuzz [--seconds 60] [--only NAME]; exit 1 where one has a fault."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

#: where the search wants to know which ways an input has taken
SEEN = ("harness", "benchmarks", "yaml", "zipfile", "pickle", "json", "csv", "optuna.storages.journal", "PIL")


def search(name: str, corpus: str) -> None:
    """Search one reader in this process, which libFuzzer ends; its options are in ``sys.argv``."""
    import atheris

    with atheris.instrument_imports(include=list(SEEN)):
        from targets import SEEDS, tried

        import harness.store.directory
        import harness.tune.storage  # noqa: F401  (what a reader would import late would not be instrumented)
    for number, seed in enumerate(SEEDS[name]):
        Path(corpus, str(number)).write_bytes(seed)
    atheris.Setup([sys.argv[0], corpus, *sys.argv[3:]], lambda content: tried(name, content))
    atheris.Fuzz()


def main() -> int:
    """Search all readers, one process each, for an equal share of the time; prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for all readers together, less their start")
    parser.add_argument("--only", help="one reader")
    given = parser.parse_args()
    from targets import TARGETS

    names = [given.only] if given.only else list(TARGETS)
    faults = 0
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            limits = [f"-max_total_time={max(1, given.seconds // len(names))}", "-rss_limit_mb=4096", "-timeout=30"]
            command = [sys.executable, __file__, "search", name, *limits, "-seed=1", "-max_len=20000"]
            command.append(f"-artifact_prefix={folder}/")
            corpus = tempfile.mkdtemp(dir=folder)
            done = subprocess.run(
                [*command[:3], f"{name}:{corpus}", *command[4:]], capture_output=True, text=True, check=False
            )
            runs = re.findall(r"^#(\d+)", done.stderr, re.MULTILINE)
            covered = re.findall(r"cov: (\d+)", done.stderr)
            verdict = "no fault" if done.returncode == 0 else f"FAULT\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            for fault in Path(folder).glob("*-*"):
                verdict += f"\n{fault.name}: {fault.read_bytes()[:2000]!r}"
            count = runs[-1] if runs else "0"
            print(f"{name}: {count} inputs, {covered[-1] if covered else 0} edges, {verdict}", flush=True)
            faults += done.returncode != 0
    return 1 if faults else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    if sys.argv[1:2] == ["search"]:
        search(*sys.argv[2].split(":", 1))
    else:
        sys.exit(main())
