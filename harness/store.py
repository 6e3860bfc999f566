"""Run directories: written so that a kill at any moment leaves something that can be read and resumed."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from harness.errors import HarnessError, InputError
from harness.foreign import cannot_grow, open_plain, read_plain

log = logging.getLogger("harness")

#: a summary with one of these is a result and is never trained again by itself
FINISHED = ("completed", "diverged")
_FILES = (
    "config.yaml",
    "environment.json",
    "metrics.jsonl",
    "evaluations.jsonl",
    "stationarity.jsonl",
    "checkpoint.pt",
    "failure.json",
    "summary.json",
)


_MOST_JSON, _MOST_CHECKPOINT = 1 << 24, 1 << 36


class Locked(InputError):
    """Another process is working on this run."""


class RunDirectory:
    """One run's directory. Nothing is created before :meth:`begin`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def summary(self) -> dict[str, Any] | None:
        """``summary.json``, or None while there is none."""
        return read_json(self.path / "summary.json")

    @property
    def checkpoint_path(self) -> Path:
        """Where the checkpoint is, if there is one."""
        return self.path / "checkpoint.pt"

    def begin(self, config: Mapping[str, Any], environment: Mapping[str, Any], resume: bool) -> None:
        """Make the directory this process's own, emptied of an earlier run's files unless ``resume``."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--results {self.path.parent}: {error.strerror}; allowed: a writable folder") from error
        self._lock = _locked(self.path)
        for name in _FILES:
            if not resume or name == "summary.json":
                (self.path / name).unlink(missing_ok=True)
        write(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False).encode())
        write(self.path / "environment.json", _json(environment, indent=2))

    def discard(self) -> None:
        """Remove this run's files, and the directory where nothing else is in it."""
        for name in _FILES:
            (self.path / name).unlink(missing_ok=True)
        try:
            self.path.rmdir()
        except OSError:
            pass

    def close(self) -> None:
        """Let other processes work in this directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def append(self, name: str, records: Iterable[Mapping[str, Any]], durable: bool = False) -> None:
        """Append lines to one of the ``.jsonl`` files; ``durable``: and wait for the disk."""
        with (self.path / name).open("ab") as file:
            for record in records:
                file.write(_json(record) + b"\n")
            if durable:
                _sync(file)

    def cut(self, name: str, lines: int) -> None:
        """Keep the first ``lines`` lines, those that the checkpoint knows; a torn last line goes too."""
        path = self.path / name
        content = path.read_bytes() if path.exists() else b""
        kept = content.split(b"\n")[:-1]
        if content and not content.endswith(b"\n"):
            log.warning("%s: its last line was torn and has been removed", path)
        if len(kept) < lines:
            raise HarnessError(f"{path}: {len(kept)} lines, the checkpoint has {lines}; add --fresh to start anew")
        write(path, b"".join(line + b"\n" for line in kept[:lines]))

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Write ``checkpoint.pt`` atomically; it loads with ``weights_only=True``."""
        import io

        import torch

        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        write(self.checkpoint_path, buffer.getbuffer())

    def load_checkpoint(self) -> dict[str, Any]:
        """The checkpoint, its tensors on the CPU."""
        return load_checkpoint(self.checkpoint_path)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json``, the last file of a run."""
        write_json(self.path / "summary.json", summary)


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
    """Trained ``w`` ``[n_w]`` and ``phi`` ``[n_phi]`` of a run, and ``state_dict`` for its ``nn.Module``."""
    state = load_checkpoint(Path(run_dir) / "checkpoint.pt")
    tensors: dict[str, Any] = {}
    for part in ("w", "phi"):
        start = 0
        for name, shape in state["names"][part]:
            size = 1
            for edge in shape:
                size *= edge
            tensors[name] = state[part][start : start + size].view(shape)
            start += size
    return {"w": state["w"], "phi": state["phi"], "state_dict": tensors}


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write an indented JSON document atomically; folders on the way to it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, _json(document, indent=2) + b"\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none that can be read."""
    try:
        document = json.loads(read_plain(path, _MOST_JSON))
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def write(path: Path, content: bytes | memoryview) -> None:
    """Replace ``path`` by ``content`` in one step that survives a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        _sync(file)
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _json(document: Mapping[str, Any], indent: int | None = None) -> bytes:
    return json.dumps(document, indent=indent, allow_nan=False, default=str).encode()


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _locked(path: Path) -> int | None:
    """An exclusive lock on a directory for as long as it is open; None where there are no such locks."""
    try:
        import fcntl
    except ImportError:
        return None
    folder = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(folder)
        raise Locked(f"{path}: another process is working on this run; allowed: wait for it to end") from error
    return folder
