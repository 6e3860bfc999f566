"""Run directories: written so that a kill at any moment leaves something that can be read and resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.store.files import MOST_LOG, append, cut, mark, refuse_link, sweep, told, write
from harness.store.foreign import cannot_grow, open_plain, read_json_object
from harness.store.lock import HOLDER, Lease, locked
from harness.store.records import FINISHED, Status
from harness.store.yaml_core import dumped

#: a summary with one of these is a result and is never trained again by itself
_LOGS = ("metrics.jsonl", "evaluations.jsonl", "stationarity.jsonl")
#: what a model or a plugin printed, where a grid did the run
OUTPUT = "output.txt"
_DIGESTED = ("config.yaml", "environment.json", *_LOGS)
_FILES = (*_DIGESTED, "checkpoint.pt", OUTPUT, "failure.json", "summary.json")
_MOST_JSON, _MOST_CHECKPOINT = 1 << 24, 1 << 36


class RunDirectory:
    """One run's directory. Nothing is created before :meth:`claim`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lease: Lease | None = None

    def summary(self) -> dict[str, Any] | None:
        """``summary.json``, or None while there is none."""
        return read_json(self.path / "summary.json")

    def environment(self) -> dict[str, Any] | None:
        """``environment.json``, or None while there is none."""
        return read_json(self.path / "environment.json")

    @property
    def checkpoint_path(self) -> Path:
        """Where the checkpoint is, if there is one."""
        return self.path / "checkpoint.pt"

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Inside, the directory is this process's own; it is made if need be. Raises as :func:`locked` does."""
        self._lease = locked(self.path)
        try:
            with told(self.path):
                sweep(self.path, (*_FILES, HOLDER))
            yield
        finally:
            self._lease.release()
            self._lease = None

    def begin(self, config: Mapping[str, Any], environment: Mapping[str, Any], resume: bool) -> None:
        """Empty the directory of an earlier run's files unless ``resume``, and say what is run here, on what."""
        if resume:
            for name in _FILES:
                refuse_link(self.path / name)
        with told(self.path):
            for name in ("summary.json",) if resume else _FILES:
                (self.path / name).unlink(missing_ok=True)
        write(self.path / "config.yaml", dumped(dict(config)))
        write(self.path / "environment.json", _json(environment, indent=2))

    def discard(self) -> None:
        """Remove this run's files, and the directory where nothing else is in it; not if it is another's by now."""
        if self._lease is not None and not self._lease.mine():
            return
        for name in (*_FILES, HOLDER):
            (self.path / name).unlink(missing_ok=True)
        try:
            self.path.rmdir()
        except OSError:
            pass

    def append(self, name: str, records: Iterable[Mapping[str, Any]], durable: bool = False) -> None:
        """Append lines to one of the ``.jsonl`` files; ``durable``: and wait for the disk."""
        self._check()
        append(self.path / name, b"".join(_json(record) + b"\n" for record in records), durable)

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Write ``checkpoint.pt`` atomically; it loads with ``weights_only=True``.

        It also knows how long the ``.jsonl`` files are, see :meth:`restore`.
        """
        import io

        import torch

        self._check()
        logs = {name: mark(self.path / name) for name in _LOGS}
        buffer = io.BytesIO()
        torch.save({**state, "logs": logs}, buffer)
        write(self.checkpoint_path, buffer.getbuffer(), self._check)

    def load_checkpoint(self) -> dict[str, Any]:
        """The checkpoint, its tensors on the CPU."""
        return load_checkpoint(self.checkpoint_path)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Cut the ``.jsonl`` files back to what they were at this checkpoint, in a time that does not depend on them.

        Raises :class:`HarnessError` where they are not the files that it knows.
        """
        for name in _LOGS:
            size, tail = state["logs"][name]
            cut(self.path / name, (size, tail))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``, the last file of a run."""
        write(self.path / "summary.json", _json(summary, indent=2) + b"\n", self._check)

    def _check(self) -> None:
        if self._lease is not None:
            self._lease.check()


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of what a run's summary belongs to: its configuration, its environment and its course."""
    found = {}
    for name in _DIGESTED:
        try:
            with open_plain(folder / name, MOST_LOG, links=False) as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # no BinaryIO
        except FileNotFoundError:
            continue
        except OSError as error:
            found[name] = error.strerror or "not readable"
    return found


def changed(folder: Path, known: object) -> list[str] | None:
    """Names of files that are not what they were when the run ended, which ``known`` of its summary says, or None."""
    if not isinstance(known, dict) or "config.yaml" not in known:
        return None
    now = digests(folder)
    return [name for name in _DIGESTED if now.get(name) != known.get(name)]


def outcome(folder: Path) -> dict[str, Any] | None:
    """What became of a run: its summary, or its failure; None while neither can be relied on."""
    summary = read_json(folder / "summary.json")
    if summary is not None and summary.get("status") in FINISHED:
        edited = changed(folder, summary.get("files"))
        if edited:
            what = f"{', '.join(edited)} changed after the run ended"
            return {"status": Status.CHANGED, "message": what, "run_dir": str(folder)}
        summary = None if edited is None else summary
    return summary or read_json(folder / "failure.json")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's dictionary; raises :class:`HarnessError` where it cannot be read."""
    import torch

    try:
        with open_plain(path, _MOST_CHECKPOINT) as file:
            if not cannot_grow(file):
                raise ValueError("no zip of members as they are")
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several kinds for a damaged file
        raise HarnessError(
            f"{path}: not a readable checkpoint ({type(error).__name__}); add --fresh to start anew"
        ) from error
    return state


def load_parameters(run_dir: str | Path) -> dict[str, Any]:
    """Trained ``w`` ``[n_w]`` and ``phi`` ``[n_phi]`` of a run, and the ``state_dict`` of its ``nn.Module``: frozen
    parameters, buffers and every name of tied ones too. ``own``: the algorithm's meta-parameters by name, which are no
    module's.
    """
    state = load_checkpoint(Path(run_dir) / "checkpoint.pt")
    tensors: dict[str, Any] = dict(state.get("fixed", {}))  # of checkpoints before there was such a thing
    for part in ("w", "phi"):
        start = 0
        for name, shape in state["names"][part]:
            size = 1
            for edge in shape:
                size *= edge
            tensors[name] = state[part][start : start + size].view(shape)
            start += size
    tensors |= {name: tensors[first] for name, first in state.get("tied", {}).items()}
    own = {name: tensors.pop(name) for name in state.get("own", ())}
    return {"w": state["w"], "phi": state["phi"], "state_dict": tensors, "own": own}


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write an indented JSON document atomically; folders on the way to it are made."""
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write(path, _json(document, indent=2) + b"\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none that can be read; a symbolic link is none."""
    try:
        return read_json_object(path, _MOST_JSON, links=False)
    except (OSError, ValueError):
        return None


def _json(document: Mapping[str, Any], indent: int | None = None) -> bytes:
    return json.dumps(document, indent=indent, allow_nan=False, default=str).encode()
