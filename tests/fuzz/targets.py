"""The readers of files from elsewhere, each as a function of bytes that it may refuse in one line, and no worse."""

from __future__ import annotations

import atexit
import io
import json
import pickle
import shutil
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.miniimagenet import _listed
from harness.datasets.class_images import ClassImages
from harness.datasets.pickles import read_pickle
from harness.datasets.pictures import read_picture
from harness.datasets.store import _read, _write
from harness.datasets.zips import read_zip
from harness.errors import HarnessError, InputError
from harness.report.findings.groups import group_runs
from harness.report.reading.runs import read_runs
from harness.settings.layers import read
from harness.settings.suites import plan
from harness.store.yaml_core import parse
from harness.tune.space import narrowed, overrides

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


def _file(content: bytes, name: str) -> Path:
    path = FOLDER / name
    path.write_bytes(content)
    return path


def configuration(content: bytes) -> None:
    """``harness run --config FILE``."""
    read(_file(content, "run.yaml"))


def suite(content: bytes) -> None:
    """``harness compare FILE``, up to its list of runs."""
    plan(str(_file(content, "suite.yaml")))


def space(content: bytes) -> None:
    """``harness tune --space FILE``."""
    narrowed({}, overrides(_file(content, "space.yaml"), []))


def assignment(content: bytes) -> None:
    """``harness run --set KEY=VALUE``."""
    parse(content.decode("utf-8", "surrogateescape"), "--set")


def run_directory(content: bytes) -> None:
    """``harness report FOLDER``, up to its groups; the first byte says which file of a run it is."""
    from fabricated import write_run

    folder = FOLDER / "runs"
    if not folder.exists():
        write_run(folder, name="good", iterations=5)
        write_run(folder, name="bad", iterations=5)
        shutil.copytree(folder / "bad", FOLDER / "kept")
    names = ("summary.json", "config.yaml", "environment.json", "metrics.jsonl", "stationarity.jsonl")
    for name in names:
        shutil.copy(FOLDER / "kept" / name, folder / "bad" / name)
    (folder / "bad" / names[content[0] % len(names) if content else 0]).write_bytes(content[1:])
    runs, skipped = read_runs([folder])
    assert len(runs) + len(skipped) == 2
    for run in runs:
        assert np.isfinite(run.metrics["iteration"]).all()
        assert all(line.isprintable() for line in [*run.faults, *skipped])
        json.dumps([run.environment, run.stationarity], default=np.ndarray.tolist)
    group_runs(runs)


def pickled(content: bytes) -> None:
    """A pickled data set."""
    read_pickle(_file(content, "data.pickle"))


def picture(content: bytes) -> None:
    """A picture of a data set."""
    assert read_picture(content, "a.png", "RGB", 28).shape == (3, 28, 28)


def archive(content: bytes) -> None:
    """A zip of pictures."""
    for _, member in read_zip(_file(content, "data.zip"), ".png"):
        assert len(member) <= 1 << 20


def kept(content: bytes) -> None:
    """Images that the project has kept."""
    found = _read(_file(content, "kept.bin"))
    assert found is None or sum(found.counts) == len(found.images)


def table(content: bytes) -> None:
    """The list of images of a split."""
    (FOLDER / "images").mkdir(exist_ok=True)
    for files in _listed(_file(content, "val.csv").parent, "validation").values():
        assert all(path.parent == FOLDER / "images" for path in files)


def checkpoint(content: bytes) -> None:
    """``checkpoint.pt`` of a run."""
    from harness.store.directory import load_checkpoint

    load_checkpoint(_file(content, "checkpoint.pt"))


def journal(content: bytes) -> None:
    """``journal.log`` of a study."""
    from harness.tune.storage import open_storage

    open_storage(str(_file(content, "journal.log")))


def _seeds() -> dict[str, list[bytes]]:
    """Honest inputs to begin from, of every reader."""
    from fabricated import write_run

    run = write_run(FOLDER / "seed", iterations=3)
    names = ("summary.json", "config.yaml", "environment.json", "metrics.jsonl", "stationarity.jsonl")
    pictures = []
    for kind in ("PNG", "JPEG"):
        file = io.BytesIO()
        Image.new("RGB", (9, 9), (1, 2, 3)).save(file, kind)
        pictures.append(file.getvalue())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/b/c.png", pictures[0])
    array = np.arange(6, dtype=np.uint8)
    data = OrderedDict(data=array, labels=[1, 2.5, "x", None, (1,)], scalar=np.int64(3), more=array.astype(">i4"))
    _write(FOLDER / "honest.bin", ClassImages(array.reshape(2, 3), (1, 1), ("a", "b")))
    line = {"op_code": 0, "worker_id": "w", "study_name": "s", "directions": [1]}
    attribute = {"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"harness": {}}}
    return {
        "configuration": [(run / "config.yaml").read_bytes(), b"a: &a {b: [1, 2.5e-3, null]}\nc: {<<: *a}\n"],
        "suite": [b"title: t\nbase: {benchmark: sinusoid}\ngrid:\n- {inner_steps: [1, 2]}\nseeds: [0, 1]\n"],
        "space": [b"inner_lr: {low: 0.1, high: 1, log: true}\nalgo_options: {l2: 0.1..0.2 log}\ninner_steps: [1, 2]\n"],
        "assignment": [b"{a: [1, 2.0, x]}", b"0x10", b"1e-3", b"!!int 3"],
        "run_directory": [bytes([number]) + (run / name).read_bytes() for number, name in enumerate(names)],
        "pickled": [pickle.dumps(data, protocol) for protocol in range(6)],
        "picture": pictures,
        "archive": [packed.getvalue()],
        "kept": [(FOLDER / "honest.bin").read_bytes()],
        "table": [b"filename,label\nn1.jpg,n1\nn2.jpg,n2\n"],
        "checkpoint": [_checkpoint()],
        "journal": [b"".join(json.dumps(part).encode() + b"\n" for part in (line, attribute))],
    }


def _checkpoint() -> bytes:
    import torch

    file = io.BytesIO()
    torch.save({"w": torch.zeros(2), "iteration": 1}, file)
    return file.getvalue()


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        *(configuration, suite, space, assignment, run_directory, pickled),
        *(picture, archive, kept, table, checkpoint, journal),
    )
}
SEEDS = _seeds()


def tried(name: str, content: bytes) -> None:
    """Give ``content`` to a reader; whatever it raises but an error of one line is a fault of the reader."""
    expected = HarnessError if name == "checkpoint" else InputError
    try:
        TARGETS[name](content)
    except expected as error:
        if not str(error) or "\n" in str(error):
            raise AssertionError("not one line") from error
    finally:
        with suppress(OSError):
            (FOLDER / "journal.log.torn").unlink()
