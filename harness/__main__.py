"""``python -m harness`` is the ``harness`` command."""

import sys

from harness.path import import_path

if __name__ == "__main__":
    sys.path[:] = import_path()
    from harness.cli import main

    raise SystemExit(main())
