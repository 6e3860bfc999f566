"""Files from a stranger: none runs code, writes elsewhere, hangs, or takes more memory than an honest file would."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import optuna
import pytest
import torch
from fabricated import write_run
from PIL import Image

from harness.cli import main
from harness.datasets.class_images import ClassImages
from harness.datasets.pictures import read_picture
from harness.datasets.store import stored
from harness.datasets.zips import read_zip
from harness.errors import HarnessError, InputError
from harness.report.reading.runs import read_runs
from harness.settings.layers import read
from harness.store.directory import load_checkpoint
from harness.store.files import write
from harness.tune.storage import open_storage

GIB = 1 << 30


@pytest.fixture(autouse=True)
def patience():
    """Whatever waits for a pipe or loops for ever fails."""

    def late(*_):
        raise TimeoutError("a hostile file takes for ever")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def sparse(path: Path, size: int = 64 * GIB, start: bytes = b"") -> Path:
    """A file that takes no room on the disk."""
    path.unlink(missing_ok=True)
    path.write_bytes(start)
    os.truncate(path, size)
    return path


def pipe(path: Path) -> Path:
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def link(path: Path, target: str | Path) -> Path:
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    return path


def command(capsys, *words) -> str:
    """The one line with which a command refuses."""
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    assert status in (1, 2)
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("error: ")
    return captured.err


# ---------------------------------------------------------------- run directories

FILES = ("summary.json", "config.yaml", "environment.json", "metrics.jsonl", "stationarity.jsonl")
DAMAGES = {
    "a pipe": pipe,
    "a sparse file of 64 GiB": sparse,
    "a link to /dev/zero": lambda path: link(path, "/dev/zero"),
    "a link elsewhere": lambda path: link(path, path.parent.parent / "good" / path.name),
    "a link to itself": lambda path: link(path, path),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_run_that_is_no_plain_file_is_left_out_and_named(tmp_path, name, damage):
    write_run(tmp_path, name="good")
    folder = write_run(tmp_path, name="run")
    DAMAGES[damage](folder / name)
    runs, skipped = read_runs([tmp_path])
    if name in ("summary.json", "config.yaml"):
        assert [run.path.name for run in runs] == ["good"]
        assert skipped[0].startswith(f"{folder}: {name}: ")
    else:
        run = next(run for run in runs if run.path == folder)
        assert not run.environment if name == "environment.json" else run.faults


def test_a_link_brings_no_secret_into_a_report(tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"token": "hunter2"}))
    folder = write_run(tmp_path / "runs", name="run")
    link(folder / "environment.json", secret)
    assert read_runs([tmp_path / "runs"])[0][0].environment == {}


@pytest.mark.parametrize("levels", [60, 900, 100_000])
def test_a_bottomless_document_is_left_out(tmp_path, levels):
    folder = write_run(tmp_path, name="run")
    (folder / "environment.json").write_text('{"a":' * levels + "1" + "}" * levels)
    (folder / "metrics.jsonl").write_text('{"a":' * levels + "1" + "}" * levels + "\n")
    ((run,), _) = read_runs([tmp_path])
    assert run.environment == {}
    assert run.metrics["loss"].size == 0


def test_a_line_that_is_too_long_ends_the_reading(tmp_path):
    folder = write_run(tmp_path, name="run", iterations=5)
    path = folder / "metrics.jsonl"
    path.write_text(path.read_text() + '{"iteration": 6, "x": [' + "[]," * 1_000_000 + "[]]}\n")
    ((run,), _) = read_runs([tmp_path])
    assert run.metrics["iteration"].tolist() == [1, 2, 3, 4, 5]
    assert "line 6 (beyond" in run.faults[0]


@pytest.mark.slow
def test_a_report_shows_names_that_are_code_as_text_and_writes_in_its_own_folder_alone(tmp_path, capsys):
    html, latex = "<script>alert(1)</script>", r"\input{/etc/passwd}\write18{id}"
    for seed in (0, 1):
        for algo in (html, latex):
            write_run(tmp_path / "runs", algo=algo, name=f"{seed}{algo}".replace("/", "|"), seed=seed)
    folder = write_run(tmp_path / "runs", name="../../etc", benchmark="../../../evil")
    (folder / "environment.json").write_text('{"a":' * 900 + "1" + "}" * 900)
    out = tmp_path / "report"
    out.mkdir()
    mine = tmp_path / "mine"
    for name in ("report.html", "tables.tex", "tables.md"):
        mine.write_text("mine")
        link(out / name, mine)
    before = sorted(path for path in tmp_path.rglob("*") if out not in path.parents)
    assert main(["report", str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert sorted(path for path in tmp_path.rglob("*") if out not in path.parents) == before
    assert mine.read_text() == "mine"
    page = (out / "report.html").read_text()
    assert html not in page
    assert "&lt;script&gt;alert(1)" in page
    tex = (out / "tables.tex").read_text()
    assert r"\input" not in tex.replace(r"\inputenc", "").replace("inputenc", "")
    assert r"\write" not in tex
    assert r"\textbackslash{}input" in tex


# ---------------------------------------------------------------- results folders and checkpoints

RUN = ("run", "--benchmark", "sinusoid", "--iterations", "2", "--eval-tasks", "2", "--checkpoint-every", "1")


class Payload:
    """Pickles to a call of ``os.system``."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self):
        return (os.system, (f"touch {self.flag}",))


@pytest.fixture
def unfinished(tmp_path, capsys):
    """The directory of a run that is not finished, and the command that goes on with it."""
    words = (*RUN, "--results", str(tmp_path / "results"))
    assert main(list(words)) == 0
    (folder,) = (tmp_path / "results").iterdir()
    (folder / "summary.json").unlink()
    capsys.readouterr()
    return folder, (*words, "--resume")


def checkpoints(folder: Path):
    """Checkpoints that do something, or grow, or never end."""
    path, flag = folder / "checkpoint.pt", folder / "executed"
    torch.save({"w": Payload(flag)}, path)
    yield path
    torch.save({"w": Payload(flag)}, path, _use_new_zipfile_serialization=False)
    yield path
    path.write_bytes(pickle.dumps(Payload(flag)))
    yield path
    torch.save({"w": torch.zeros(1 << 20)}, path)
    members = {name: zipfile.ZipFile(path).read(name) for name in zipfile.ZipFile(path).namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert path.stat().st_size < 20_000  # it would grow to 4 MiB
    yield path
    yield pipe(path)
    yield sparse(path, start=b"PK\x03\x04")


def test_a_checkpoint_with_a_payload_is_one_line_and_runs_nothing(unfinished, capsys):
    folder, words = unfinished
    for path in checkpoints(folder):
        assert str(path) in command(capsys, *words)
        assert not (folder / "executed").exists()
        with pytest.raises(HarnessError, match="not a readable checkpoint"):
            load_checkpoint(path)
        path.unlink()


@pytest.mark.parametrize("content", ["[]", "3", "[" * 100_000, '{"status": []}', '{"status": "completed'])
def test_an_odd_summary_in_the_results_is_no_result(unfinished, content):
    folder, words = unfinished
    (folder / "summary.json").write_text(content)
    assert main(list(words)) == 0
    assert json.loads((folder / "summary.json").read_text())["status"] == "completed"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*FILES, "evaluations.jsonl", "checkpoint.pt", "failure.json", "lock.json"])
def test_going_on_beside_a_file_that_is_no_plain_file_is_over_soon_and_leads_nowhere(unfinished, capsys, name, damage):
    folder, words = unfinished
    other = folder.parent / "good" / name
    other.parent.mkdir()
    other.write_text("mine")
    DAMAGES[damage](folder / name)
    if main(list(words)):
        captured = capsys.readouterr().err
        assert captured.startswith("error: ")
        assert captured.count("\n") == 1
        assert name in captured
    else:  # nothing in it was needed
        assert name != "metrics.jsonl"
        assert json.loads((folder / "summary.json").read_text())["status"] == "completed"
    assert other.read_text() == "mine"


def test_a_pipe_that_somebody_reads_gets_nothing(unfinished, capsys):
    folder, words = unfinished
    reader = os.open(pipe(folder / "evaluations.jsonl"), os.O_RDONLY | os.O_NONBLOCK)
    assert "evaluations.jsonl: not a plain file" in command(capsys, *words)
    assert os.read(reader, 100) == b""
    os.close(reader)


def test_a_result_replaces_no_device(tmp_path):
    with pytest.raises(HarnessError, match="not a plain file"):
        write(pipe(tmp_path / "null"), b"{}")
    assert (tmp_path / "null").is_fifo()


def test_a_suite_of_a_million_million_runs_is_refused_at_once(tmp_path, capsys):
    began = time.process_time()
    names = ("inner_lr", "outer_lr_w", "outer_lr_phi", "seed", "eval_tasks", "iterations")
    grid = {name: [0.001 * n for n in range(1, 101)] for name in names}
    (tmp_path / "suite.yaml").write_text(json.dumps({"title": "t", "grid": [grid]}))
    line = command(capsys, "compare", tmp_path / "suite.yaml", "--results", tmp_path / "runs")
    assert "suite.yaml: grid: 1,000,000,000,000 runs; allowed: 10,000" in line
    (tmp_path / "suite.yaml").write_text(json.dumps({"title": "t", "grid": [{f"k{n}": [1, 2] for n in range(2000)}]}))
    assert "grid: more than 10^15 runs" in command(capsys, "compare", tmp_path / "suite.yaml")
    assert time.process_time() - began < 20


# ---------------------------------------------------------------- YAML

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
YAML = {
    "an object": "!!python/object/apply:os.system ['touch executed']",
    "an object as a value": "model: !!python/object/apply:os.system ['touch executed']",
    "a module": "model: !!python/module:antigravity",
    "a name": "model: !!python/name:os.system",
    "aliases that grow": BOMB,
    "merges that grow": MERGE_BOMB,
    "a document in itself": "model_options: &a {b: *a}",
    "a list in itself": "model_options: {b: &a [*a]}",
    "lists in lists": "a: " + "[" * 5000 + "]" * 5000,
    "open lists": "[" * 20_000,
    "indents": "\n".join(" " * n + "a:" for n in range(500)),
    "a number of many digits": "ways: " + "9" * 5000,
    "a hexadecimal number of many digits": "ways: 0x" + "f" * 5000,
    "no number": "ways: !!int ''",
    "no truth": "ways: !!bool maybe",
    "a day": "ways: 2020-12-30",
    "a day by its tag": "model_options: {a: !!timestamp 2020-01-01}",
    "a set": "!!set {a, b}",
    "bytes": "model_options: {a: !!binary aGk=}",
    "a key that is no text": "algo_options: {1: 2}",
    "a key that is a list": "? [a]\n: 1",
    "colours in a key": '"\\e[31m": 1',
    "half a letter": 'model_options: {"\\ud800": "\\ud800"}',
    "a null byte": "a: \x00",
    "Latin-1": "a: \xe9",
}


@pytest.mark.parametrize("name", YAML)
def test_a_hostile_configuration_is_refused_in_one_line_and_nothing_happens(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "evil.yaml"
    file.write_bytes(YAML[name].encode("latin-1"))
    line = command(capsys, *RUN, "--config", file)
    assert str(file) in line
    assert line[:-1].isprintable()
    assert "evil.yaml" in command(capsys, "compare", file)
    assert "evil.yaml" in command(capsys, "tune", "--benchmark", "sinusoid", "--space", file)
    assert [path.name for path in tmp_path.iterdir()] == ["evil.yaml"]


@pytest.mark.parametrize("damage", ["a pipe", "a sparse file of 64 GiB", "a link to /dev/zero", "a link to itself"])
def test_a_configuration_that_is_no_plain_file_is_refused(tmp_path, capsys, damage):
    file = DAMAGES[damage](tmp_path / "evil.yaml")
    assert str(file) in command(capsys, *RUN, "--config", file)
    for given in ("evil.yaml", "../" * 30 + "dev/zero", "/proc/self/mem", ".", "a\0b"):
        (tmp_path / "suite.yaml").write_text(json.dumps({"title": "t", "grid": [{"config": given}]}))
        assert "allowed: a readable YAML file" in command(capsys, "compare", tmp_path / "suite.yaml")


@pytest.mark.parametrize("text", ["[" * 5000, "!!python/name:os.system", "&a [*a]", "9" * 5000, "!!int ''", "{1: 2}"])
def test_a_hostile_assignment_is_refused_in_one_line(tmp_path, capsys, text):
    results = ("--results", tmp_path / "results")
    command(capsys, *RUN, *results, "--set", f"model_options={text}")
    command(capsys, *RUN, *results, f"--model-options={text}")
    command(capsys, "tune", "--benchmark", "sinusoid", "--out", tmp_path / "out", "--set-space", f"adapt={text},{text}")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- journals


@pytest.mark.parametrize(
    "line",
    [
        b'{"op_code": 0, "study_name": [], "directions": "x", "worker_id": 3}',
        b'{"op_code": 99}',
        b'{"op_code": "__import__"}',
        b'{"op_code": 6, "trial_id": {}, "state": null, "values": "a", "worker_id": "a"}',
        b"\x80\x04N.",
        b"[" * 100_000,
    ],
)
def test_a_strangers_journal_is_refused_in_one_line(tmp_path, capsys, line):
    (tmp_path / "journal.log").write_bytes(line + b"\n")
    assert "journal.log" in command(capsys, "tune", "--benchmark", "sinusoid", "--trials", "1", "--out", tmp_path)


JOURNALS = {
    "a pipe": pipe,
    "a sparse file of 20 GiB": lambda path: sparse(path, 20 * GIB),
    "a device": lambda path: link(path, "/dev/zero"),
    "a link that leads nowhere": lambda path: link(path, path.parent / "elsewhere"),
}


@pytest.mark.parametrize("damage", JOURNALS)
def test_a_journal_that_is_no_plain_file_is_refused_in_one_line(tmp_path, capsys, damage):
    words = ("tune", "--benchmark", "sinusoid", "--trials", "1", "--out", tmp_path / "out")
    path = JOURNALS[damage](tmp_path / "journal.log")
    assert "journal.log" in command(capsys, *words, "--storage", path)
    assert [file.name for file in tmp_path.iterdir() if file.name != "out"] == ["journal.log"]
    if damage == "a pipe":
        assert "not a plain file" in command(capsys, *words, "--storage", f"sqlite:///{path}")
        assert "not a plain file" in command(capsys, *words, "--storage", "/dev/zero")


def test_a_lock_of_a_journal_that_leads_nowhere_holds_nobody(tmp_path, monkeypatch):
    """What a killed process leaves of Optuna's own lock where the journal's path was a relative one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    link(tmp_path / "out" / "journal.log.lock", "out/journal.log")
    optuna.create_study(storage=open_storage("out/journal.log"))
    assert not os.path.lexists(tmp_path / "out" / "journal.log.lock")


# ---------------------------------------------------------------- pictures, zips and kept images


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_no_cut_or_changed_picture_leads_to_another_error(kind):
    file = io.BytesIO()
    Image.effect_noise((40, 40), 50).save(file, kind)
    content = file.getvalue()
    for place in range(0, len(content), 7):
        for bad in (content[:place], content[:place] + b"\xff\x00" + content[place + 2 :]):
            with contextlib.suppress(InputError):
                assert read_picture(bad, "a", "RGB", 28).shape == (3, 28, 28)


def test_a_picture_that_is_a_pipe_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a plain file"):
        read_picture(pipe(tmp_path / "a.png"), "a.png", "L", 28)


def test_a_link_in_a_zip_is_a_picture_that_cannot_be_read(tmp_path):
    entry = zipfile.ZipInfo("a/b/c.png")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    ((name, content),) = read_zip(tmp_path / "z.zip", ".png")
    assert content == b"/etc/passwd"
    with pytest.raises(InputError, match="no readable PNG"):
        read_picture(content, name, "L", 28)
    assert [path.name for path in tmp_path.iterdir()] == ["z.zip"]


def test_a_zip_of_another_compression_or_of_many_gibibytes_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.png", b"1")
    for path in (tmp_path / "z.zip", sparse(tmp_path / "s.zip", start=b"PK"), pipe(tmp_path / "p.zip")):
        with pytest.raises(InputError, match=str(path)):
            list(read_zip(path, ".png"))


def test_kept_images_that_lie_are_made_anew(tmp_path, monkeypatch):
    import numpy as np

    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache")
    honest = ClassImages(np.zeros((2, 1, 3, 3), np.uint8), (1, 1), ("a", "b"))
    path = tmp_path / "kept"
    stored(tmp_path, "kept", lambda: honest)
    magic, header, pixels = path.read_bytes().split(b"\n", 2)
    for changes in ({"shape": [1 << 40]}, {"shape": [-1, -18]}, {"counts": [2, 1]}, {"names": ["a"]}, {"shape": "x"}):
        lie = json.dumps({**json.loads(header), **changes}).encode()
        path.write_bytes(b"\n".join([magic, lie, pixels]))
        assert stored(tmp_path, "kept", lambda: honest) is honest
    sparse(path, start=magic + b"\n" + header + b"\n")
    assert stored(tmp_path, "kept", lambda: honest) is honest
    pipe(path)
    assert stored(tmp_path, "kept", lambda: honest) is honest
    path.write_bytes(magic + b"\n" + b"[" * 100_000 + b"\n")
    assert stored(tmp_path, "kept", lambda: honest) is honest


# ---------------------------------------------------------------- what it costs

_BOMBS = """
import pickle, resource, sys, time
from pathlib import Path
from harness.errors import InputError
from harness.datasets.pickles import _encode, read_pickle
folder = Path(sys.argv[1])
(folder / "warm").write_bytes(pickle.dumps([]))
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for path in [folder / "warm", *sorted(folder.glob("bomb*"))]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read_pickle(path)
    except InputError as error:
        print(path.name, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, error)
    assert _encode.__defaults__ == ("latin1",), "a function was changed"
"""


def test_no_pickle_of_a_few_bytes_takes_more_than_a_few_mebibytes_or_a_minute(tmp_path):
    twice = b"".join(b"\x86q" + bytes([n]) + b"h" + bytes([n]) for n in range(40))
    bombs = {
        "a table as long as an index": b"\x80\x02Nr\x00\x00\x00\x04.",
        "changeable bytes of a claimed size": b"\x80\x05\x96" + (3 << 30).to_bytes(8, "little") + b".",
        "bytes of a claimed size": b"\x80\x04\x8e" + (3 << 30).to_bytes(8, "little") + b".",
        "a frame of a claimed size": b"\x80\x04\x95" + (3 << 30).to_bytes(8, "little") + b".",
        "a key of pairs of pairs": b"\x80\x02}NN" + twice + b"0Ns.",
        "a set of pairs of pairs": b"\x80\x04\x8fNN" + twice + b"0(h\x27\x90.",
        "millions of dictionaries": b"\x80\x02(" + b"}" * 20_000_000 + b".",
        "changed functions": b"\x80\x02c_codecs\nencode\nN}X\x0c\x00\x00\x00__defaults__Ns\x86b.",
        "an object by number": b"\x80\x02\x82\x01.",
    }
    for number, content in enumerate(bombs.values()):
        (tmp_path / f"bomb{number}").write_bytes(content)
    done = subprocess.run([sys.executable, "-c", _BOMBS, tmp_path], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == len(bombs) + 1, f"stopped after {len(lines)}: {done.stderr[-500:]}"
    for name, line in zip(["warm", *bombs], lines, strict=True):
        allowed = 900 if name == "millions of dictionaries" else 100
        assert int(line.split()[1]) < allowed, f"{name}: {line}"


def test_reading_hostile_yaml_is_over_soon(tmp_path):
    began = time.process_time()
    for content in (BOMB, MERGE_BOMB, "a: [" + "x, " * 40_000 + "]"):
        (tmp_path / "evil.yaml").write_text(content)
        with pytest.raises(InputError):
            read(tmp_path / "evil.yaml")
    assert time.process_time() - began < 60
