"""Other people's code: whatever it raises is one line that says whose it is, what it was and where."""

from __future__ import annotations

import re
import site
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import HarnessError, InputError, NotSupported
from harness.store.foreign import one_line

_INSTALLED = [*site.getsitepackages(), site.getusersitepackages(), *sysconfig.get_paths().values()]
_LONGEST = 300
_PACKAGES = ("harness", "algorithms", "benchmarks")
_OURS = [str(Path(__file__).parents[2] / name) for name in _PACKAGES]
_NO_DERIVATIVE = re.compile(r"derivative for '?(?:aten::)?(\w+)'? is not implemented")


@contextmanager
def blamed(who: str, raises: type[HarnessError] = InputError, file: str | None = None) -> Iterator[None]:
    """Raises ``raises``, one line with ``who``, kind, file and line, for whatever the code inside raises.

    ``sys.exit`` too. What is told already, an interruption and memory that ran out pass. ``file`` is where that code
    is, if one knows: what a person wrote elsewhere was called by it.
    """
    try:
        yield
    except (HarnessError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        if _out_of_memory(error):
            raise
        if found := _NO_DERIVATIVE.search(reason(error)):
            raise NotSupported(_no_derivative(who, found[1])) from error
        place, elsewhere = _where(error, file)
        did = "called code that failed" if elsewhere else "failed"
        raise raises(f"{who} {did} ({type(error).__name__}, {place}): {reason(error)}") from error


def strange(kind: type) -> bool:
    """Whether a plugin is not one of the project's own."""
    return kind.__module__.partition(".")[0] not in _PACKAGES


def reason(error: BaseException) -> str:
    """The first line of what ``error`` says, or its kind; printable."""
    try:
        text = str(error).strip().partition("\n")[0]
    except Exception:
        text = ""
    return one_line(text[:_LONGEST]) or type(error).__name__


def _where(error: BaseException, file: str | None) -> tuple[str, bool]:
    """File and line of the innermost call that a person wrote, else in ``file``; and whether it is not in ``file``."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file or _personal(frame.filename)]
    written = [frame for frame in own if frame.filename != file]
    frame = (written or own or [frame for frame in frames if not frame.filename.startswith("<")] or frames)[-1]
    return f"{one_line(Path(frame.filename).name)}:{frame.lineno}", bool(file and written)


def _personal(file: str) -> bool:
    return not file.startswith(("<frozen", *_OURS, *_INSTALLED))


def _no_derivative(who: str, operation: str) -> str:
    """Fused kernels have a first derivative alone."""
    name = operation.removesuffix("_backward").strip("_")
    advice = "try a rule without second-order terms such as --algo fomaml, or another layer"
    if "scaled_dot_product" in operation:
        advice += ", or torch.nn.attention.sdpa_kernel(SDPBackend.MATH) around the attention of the model's forward"
    return f"{who}: torch has no second derivative of {name}, which this meta-gradient needs; {advice}"


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from harness.measure.memory import is_out_of_memory

    return is_out_of_memory(error)
