"""The commit of the code that runs: that of its checkout, or the one left in it when it was built for installing.

Free of everything but Python, so that ``setup.py`` can ask it too.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("harness", "algorithms", "benchmarks")
#: what a build leaves in the package
LEFT = Path("harness", "measure", "commit.json")


@functools.cache
def git_state(root: Path = Path(__file__).parents[2]) -> dict[str, Any]:
    """``commit``, and whether the code was changed since (``dirty``); None where that is not known, and ``why``.

    ``contents`` then tells one such code from another. ``root`` is the folder that holds the packages.
    """
    state = checkout_state(root) if (root / ".git").exists() else _left(root)
    return state if "why" not in state else {**state, "contents": contents(root)}


def checkout_state(root: Path) -> dict[str, Any]:
    """The same of a checkout; whatever ``GIT_DIR`` and its like say, of this one alone."""
    asked = ["rev-parse", "--show-toplevel", "HEAD"]
    found, why = _git(root, *asked)
    top, _, commit = found.partition("\n")
    if not why and Path(top).resolve() != root.resolve():
        why = f"{root} is no checkout of its own"
    if why:
        return {"commit": None, "dirty": None, "why": why}
    changes, why = _git(root, "status", "--porcelain", "--", *PACKAGES)
    return {"commit": commit, "dirty": None, "why": why} if why else {"commit": commit, "dirty": bool(changes)}


def contents(root: Path) -> str:
    """A hash of every Python file of the packages in ``root``."""
    digest = hashlib.sha256()
    for file in sorted(file for package in PACKAGES for file in (root / package).rglob("*.py")):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode("utf-8", "surrogateescape"))
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def leave(root: Path, built: Path) -> None:
    """Write into a build of the checkout ``root`` what it was built from; a build of an archive has what that has."""
    state = checkout_state(root) if (root / ".git").exists() else _read(built)
    if state:
        (built / LEFT).write_text(json.dumps({**state, "contents": contents(built)}))


def _left(root: Path) -> dict[str, Any]:
    state = _read(root)
    if not state:
        return {"commit": None, "dirty": None, "why": "not installed from a checkout"}
    changed = state.pop("contents", None) != contents(root)
    return {**state, "dirty": True} if changed else state


def _read(root: Path) -> dict[str, Any]:
    try:
        found = json.loads((root / LEFT).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _git(root: Path, *words: str) -> tuple[str, str]:
    """What git says about ``root``, and why it says nothing."""
    # Where a repository lies is not for the environment to say; what may be trusted is.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or "_CONFIG_" in name}
    command = ["git", "-C", str(root), "-c", "core.fsmonitor=false", *words]
    try:
        done = subprocess.run(
            command,
            env={**kept, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"git: {getattr(error, 'strerror', None) or 'no answer'}"
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return "", (said[0] if said else f"git: exit status {done.returncode}")[:200]
    return done.stdout.strip(), ""
