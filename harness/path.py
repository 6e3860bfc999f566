"""Where modules are imported from: never first from the folder in which somebody happens to work."""

from __future__ import annotations

import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def import_path() -> list[str]:
    """``sys.path`` with the current folder at its end, where ``python -m`` and prompts have it first.

    A ``yaml.py`` or a folder ``benchmarks`` there then stands behind the real one, and a model in it is still found. It
    stays where it is if this project lies in it, or ``$PYTHONPATH`` names it.
    """
    try:
        here = os.path.realpath(os.getcwd())
    except FileNotFoundError:  # it has been removed
        return list(sys.path)
    named = [os.path.realpath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if here == _ROOT or here in named:
        return [entry or here for entry in sys.path]
    elsewhere = [entry for entry in sys.path if os.path.realpath(entry) != here]
    return [*elsewhere, here] if len(elsewhere) < len(sys.path) else elsewhere
