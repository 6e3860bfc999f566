"""Reports: from run directories alone to tables, figures and one HTML page. Called, this room makes one."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Called(ModuleType):
    """``harness.report`` is this room, and in Python what the command of the same name does."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """See :func:`harness.report.inline.report`."""
        from harness.report.inline import report

        return report(*args, **options)


sys.modules[__name__].__class__ = _Called
