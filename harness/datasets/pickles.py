"""Reads arrays out of pickles from elsewhere without running anything that they ask for."""

from __future__ import annotations

import math
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from harness.errors import InputError
from harness.store.foreign import open_plain

if TYPE_CHECKING:
    import numpy as np

#: miniImageNet's training images are 0.8 GB; CIFAR-100 takes 0.3 million steps
MAX_BYTES, MAX_STEPS = 1 << 31, 2_000_000

# Plain booleans, integers and floats: object and record types carry pointers and nested Python objects.
_NUMBER = re.compile(r"[<>|=]?([biuf][1248]|\?)")


class _Dtype:
    """Stands for ``numpy.dtype``, whose own ``__setstate__`` believes what it is told about memory."""

    def __init__(self, name: Any = None, *_: Any) -> None:
        name = name.decode("ascii") if isinstance(name, bytes) else name
        if not (isinstance(name, str) and _NUMBER.fullmatch(name)):
            raise pickle.UnpicklingError(f"it holds an array of type {name!r}, not of numbers")
        self.name: str = name

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order in ("<", ">"):
            self.name = order + self.name.lstrip("<>|=")


class _Array:
    """Stands for ``numpy.ndarray`` until everything is read; :meth:`value` makes the real one from the bytes."""

    def __init__(self, *_: Any) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.set(raw, dtype, shape, "F" if fortran else "C")

    def set(self, raw: Any, dtype: Any, shape: Any, order: str) -> None:
        """Check what the pickle says of the array and copy nothing."""
        import numpy as np

        # Python 2 wrote bytes as text; read with encoding="bytes" they are bytes again.
        real = np.dtype(dtype.name)
        shape = tuple(int(edge) for edge in shape)
        if min(shape, default=0) < 0 or math.prod(shape) * real.itemsize != len(raw):
            raise pickle.UnpicklingError(f"an array of shape {shape} and type {real} has {len(raw)} bytes")
        self.array = np.frombuffer(raw, real).reshape(shape, order="F" if order == "F" else "C")

    def value(self) -> np.ndarray:
        """The array; a pickle that never filled it is torn."""
        if self.array is None:
            raise pickle.UnpicklingError("an array has no content")
        return self.array


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any = "C") -> _Array:
    """Stands for ``numpy.core.numeric._frombuffer``, which protocol 5 uses."""
    array = _Array()
    array.set(raw, dtype, shape, order)
    return array


def _scalar(dtype: Any, raw: Any) -> Any:
    """Stands for ``numpy.core.multiarray.scalar``: one number."""
    array = _Array()
    array.set(raw, dtype, (1,), "C")
    return array.value()[0].item()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Stands for ``_codecs.encode``, with which Python 3 writes bytes into old protocols."""
    if not (isinstance(text, str) and encoding in ("latin1", "latin-1", b"latin1")):
        raise pickle.UnpicklingError("it encodes text in another way than latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stands for ``bytes``, which old protocols call for an empty string of bytes."""
    return b""


class _Mapping(dict[Any, Any]):
    """Stands for every dictionary. A tuple of tuples as a key would take for ever to hash."""

    def __init__(self, items: Any = ()) -> None:
        super().__init__()
        for key, value in items:
            self[key] = value

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, str | bytes | int):
            raise pickle.UnpicklingError(f"it holds a dictionary with a key of type {type(key).__name__}")
        super().__setitem__(key, value)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Mapping,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}
for _core in ("numpy.core", "numpy._core"):  # NumPy 2 renamed the package that pickles of NumPy 1 name
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _Array
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _from_buffer
_ALLOWED["numpy", "ndarray"] = _Array
_ALLOWED["numpy", "dtype"] = _Dtype


class _Unpickler(pickle._Unpickler):
    """Knows the names in ``_ALLOWED`` and no other, and does no more steps than a data set needs.

    The one in Python, because the one in C makes a table as long as the largest number that a pickle of a few bytes
    calls an object by, and because a dictionary's keys have to be looked at before they are hashed.
    """

    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]
    stack: list[Any]

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="bytes")
        self.steps = 0

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for what the pickle names."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _ALLOWED[module, name]

    def empty_dictionary(self) -> None:
        """The operation that makes a dictionary."""
        self.append(_Mapping())

    def dictionary(self) -> None:
        """The operation that makes a dictionary of the items on the stack."""
        items = self.pop_mark()
        mapping = _Mapping()
        for key, value in zip(items[::2], items[1::2], strict=True):
            mapping[key] = value
        self.append(mapping)

    def byte_array(self) -> None:
        """The operation for changeable bytes, which would be made in the size that is claimed before they are read."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))

    def build(self) -> None:
        """The operation that fills an object: the stand-ins alone are filled."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | _Dtype):
            raise pickle.UnpicklingError("it fills an object that is no array")
        self.stack[-1].__setstate__(state)

    def refused(self) -> None:
        """An operation for which no array and no plain container has a use."""
        raise pickle.UnpicklingError("it holds a set, or asks for something by number")


def _counted(operation: Callable[[Any], None]) -> Callable[[Any], None]:
    def step(unpickler: Any) -> None:
        unpickler.steps += 1
        if unpickler.steps > MAX_STEPS:
            raise pickle.UnpicklingError(f"it takes more than {MAX_STEPS} steps to read")
        operation(unpickler)

    return step


_OWN = {
    pickle.EMPTY_DICT: _Unpickler.empty_dictionary,
    pickle.DICT: _Unpickler.dictionary,
    pickle.BYTEARRAY8: _Unpickler.byte_array,
    pickle.BUILD: _Unpickler.build,
    **dict.fromkeys(
        (pickle.EMPTY_SET, pickle.FROZENSET, pickle.ADDITEMS, pickle.EXT1, pickle.EXT2, pickle.EXT4),
        _Unpickler.refused,
    ),
}
# STOP ends the reading by an exception of its own and is no step.
_Unpickler.dispatch = {
    code: operation if bytes([code]) == pickle.STOP else _counted(_OWN.get(bytes([code]), operation))
    for code, operation in pickle._Unpickler.dispatch.items()
}


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in the pickle at ``path``, its keys as text; values are arrays, numbers, bytes, lists, ....

    Text that Python 2 wrote comes as bytes. Raises :class:`InputError` when the file is missing, torn, or holds
    anything but arrays of numbers and plain containers; nothing that it names is imported or called.
    """
    try:
        with open_plain(path, MAX_BYTES) as file:
            loaded = _plain(_Unpickler(file).load(), {})
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a hostile or torn pickle may raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path} is refused: {reason}; allowed: arrays of numbers and plain containers") from error
    if not isinstance(loaded, dict):
        raise InputError(f"{path} is refused: it holds a {type(loaded).__name__}; expected: a dictionary")
    return loaded


def whole_numbers(values: Any) -> np.ndarray:
    """``values`` as int64; raises :class:`ValueError` for others, which NumPy would cut down to whole numbers."""
    import numpy as np

    found = np.asarray(values)
    if found.size and (found.dtype.kind not in "iu" or int(found.max()) > np.iinfo(np.int64).max):
        raise ValueError(f"labels are {found.dtype}; allowed: whole numbers")
    return found.astype(np.int64)


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """``value`` with real arrays for stand-ins and text for the bytes of keys; shared parts are walked once."""
    if id(value) in done:
        return done[id(value)]
    result: Any
    if isinstance(value, _Array):
        result = value.value()
    elif isinstance(value, dict):
        result = done[id(value)] = {}
        for key, item in value.items():
            result[key.decode("latin1") if isinstance(key, bytes) else key] = _plain(item, done)
    elif isinstance(value, list):
        result = done[id(value)] = []
        result.extend(_plain(item, done) for item in value)
    elif isinstance(value, tuple):
        result = tuple(_plain(item, done) for item in value)
    elif value is None or isinstance(value, bool | int | float | str | bytes | bytearray):
        return value
    else:
        raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")
    done[id(value)] = result
    return result
