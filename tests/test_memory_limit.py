"""Memory that really runs out: an address-space limit in a process of its own, and what is left behind."""

from __future__ import annotations

import json
import platform
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.errors import OutOfMemory
from harness.grid.compare import grid
from harness.measure.memory import bytes_asked, first_sentence, is_out_of_memory

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc and address limits")
MIB = 2**20
#: a MAML whose 64 tasks need several hundred MiB together, and a few each
WIDE = {
    "algo": "maml",
    "benchmark": "sinusoid",
    "model_options": {"hidden": [256, 256]},
    "inner_lr": 0.001,
    "meta_batch": 64,
    "iterations": 3,
    "checkpoint_every": 1,
    "eval_tasks": 4,
    "threads": 1,
    "dtype": "float64",
}
LIMIT = '''
import json, resource, sys
from pathlib import Path
import harness
from harness import RunConfig
from harness.experiment.progress import Silent

def limit(more):
    """Allow this process so many bytes more than it has now; None: as many as there are."""
    size = int(open("/proc/self/status").read().partition("VmSize:")[2].split()[0]) * 1024
    allowed = resource.RLIM_INFINITY if more is None else size + more
    resource.setrlimit(resource.RLIMIT_AS, (allowed, resource.RLIM_INFINITY))

class LimitAfter(Silent):
    def __init__(self, iteration, more):
        self.iteration, self.more = iteration, more
    def trained(self, record):
        if record["iteration"] == self.iteration:
            limit(self.more)

config = RunConfig(**json.loads(sys.argv[1]))
results = sys.argv[2]
'''


def in_a_process(script: str, config: dict, results: Path) -> tuple[dict, str]:
    """What ``script`` prints as JSON, and its stderr; its ``config`` and ``results`` are these."""
    command = [sys.executable, "-c", LIMIT + script, json.dumps(config), str(results)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def metrics(run_dir: str) -> list[dict]:
    lines = (Path(run_dir) / "metrics.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": 0} for line in lines]


@pytest.mark.slow
def test_a_run_out_of_memory_keeps_its_checkpoint_and_goes_on_with_fewer_tasks_at_once(tmp_path):
    script = """
whole = harness.run(config, results=results + "/whole")
short = harness.run(config, results=results, progress=LimitAfter(1, 60 * 2**20))
saved = harness.store.directory.load_checkpoint(Path(short["run_dir"]) / "checkpoint.pt")
short["saved"] = saved["totals"]["iteration"]
more = harness.run(config.model_copy(update={"task_chunk": 1}), results=results, resume=True)
print(json.dumps([whole, short, more]))
"""
    (whole, short, more), _ = in_a_process(script, {**WIDE, "task_chunk": 64}, tmp_path)
    assert (short["status"], short["iterations_done"], short["task_chunk"]) == ("out_of_memory", 1, 64)
    assert short["out_of_memory"]["asked_bytes"] > 0
    assert "can't allocate memory" in short["out_of_memory"]["message"]
    assert short["counts"]["hessian_vector_products"] == 64 * 5
    assert short["saved"] == 1
    assert (more["status"], more["iterations_done"], more["task_chunk"]) == ("completed", 3, 1)
    assert more["out_of_memory"] is None
    assert more["run_dir"] == short["run_dir"]
    assert more["counts"] == whole["counts"]
    assert more["loss"]["mean"] == pytest.approx(whole["loss"]["mean"], rel=1e-10)
    found, expected = metrics(more["run_dir"]), metrics(whole["run_dir"])
    assert [line["loss"] for line in found] == pytest.approx([line["loss"] for line in expected], rel=1e-10)


@pytest.mark.slow
def test_auto_halves_the_tasks_at_once_until_they_fit_and_says_so(tmp_path):
    script = """
whole = harness.run(config, results=results + "/whole")
limit(80 * 2**20)
print(json.dumps([whole, harness.run(config, results=results)]))
"""
    (whole, found), said = in_a_process(script, WIDE, tmp_path)
    assert found["status"] == "completed"
    assert whole["task_chunk"] == 64
    assert found["task_chunk"] in (1, 2, 4, 8, 16, 32)
    assert "out of memory with 64 tasks at once, going on with 32 " in said
    assert found["counts"] == whole["counts"]
    assert found["loss"]["mean"] == pytest.approx(whole["loss"]["mean"], rel=1e-10)


@pytest.fixture(scope="module")
def enough(tmp_path_factory) -> int:
    """Address space in bytes of a process that has done a small run."""
    script = """
harness.run(config, results=results)
print(int(open("/proc/self/status").read().partition("VmPeak:")[2].split()[0]) * 1024)
"""
    return in_a_process(script, {**WIDE, "meta_batch": 1, "iterations": 1}, tmp_path_factory.mktemp("probe"))[0]


def limited(command: list[str], size: int) -> subprocess.CompletedProcess:
    """``command`` in a process that may have ``size`` bytes, as may those that it starts."""
    return subprocess.run(
        [sys.executable, "-m", "harness", *command],
        capture_output=True,
        text=True,
        timeout=250,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY)),
    )


@pytest.mark.slow
def test_a_run_of_a_grid_that_does_not_fit_leaves_the_memory_to_the_next(tmp_path, enough):
    base = {**WIDE, "iterations": 2}
    entries = [
        {"algo": base.pop("algo"), "task_chunk": 64},
        {"algo": "maml", "inner_steps": 1, "model_options": {"hidden": [9000, 9000]}},  # not even the model fits
        {"algo": "maml", "inner_steps": 4},
    ]
    suite = tmp_path / "suite.yaml"
    suite.write_text(yaml.safe_dump({"title": "t", "base": base, "seeds": [0], "grid": entries}))
    command = ["compare", str(suite), "--json", "--workers", "1", "--results", str(tmp_path / "runs")]
    done = limited(command, enough + 250 * MIB)
    assert done.returncode == 1, done.stderr
    runs = json.loads(done.stdout)["runs"]
    assert [run["status"] for run in runs] == ["out_of_memory", "out_of_memory", "completed"]
    assert [run["state"] for run in runs] == ["failed", "failed", "cached"]
    assert "before the first meta-iteration" in runs[1]["message"]
    assert "Traceback" not in done.stderr
    summary = json.loads((Path(runs[2]["run_dir"]) / "summary.json").read_text())
    assert summary["task_chunk"] < 64
    assert [entry.state for entry in grid(str(suite), tmp_path / "runs")] == ["failed", "failed", "cached"]


@pytest.mark.slow
def test_a_model_that_does_not_fit_is_one_line(tmp_path, enough):
    command = ["run", "--benchmark", "sinusoid", "--threads", "1", "--results", str(tmp_path / "runs")]
    done = limited([*command, "--set", "model_options.hidden=[9000, 9000]"], enough + 250 * MIB)
    assert done.returncode == 1
    assert re.fullmatch(
        r"error: out of memory before the first meta-iteration \(.* tried to allocate \d+ bytes\)\n", done.stderr
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_timing_marks_a_cell_that_does_not_fit_and_frees_its_memory_for_the_next(enough):
    command = "time --benchmark sinusoid --ways 1 --shots 10 --queries 10 --threads 1 --meta-batch 256 --rounds 1"
    command += " --dtype float64 --inner-steps 5 --algo maml,anil:convex,maml,anil --memory false --json"
    done = limited([*command.split(), "--model-options", "{hidden: [256, 256]}"], enough + 450 * MIB)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["status"] for row in rows] == ["out_of_memory", "ok", "out_of_memory", "ok"]
    assert [row["meta_gradient"] is None for row in rows] == [True, False, True, False]


@pytest.mark.slow
@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="glibc's limits")
@pytest.mark.parametrize(("strategy", "left"), [("linearised", 64), ("checkpointed", 32)])
def test_a_strategy_that_saves_memory_gives_back_what_it_frees(strategy, left):
    """Half of 64 blocks of one MiB are freed within a meta-gradient, between those that stay."""
    script = """
import sys, torch
from algorithms.maml import MAML
from harness.engines.engine import Problem
from harness.engines.native import Native
from harness.measure.memory import freed_memory_kept
from harness.problem.models import build
from harness.problem.nets import mlp
from harness.problem.oracle import Inner
from harness.problem.partition import Network
from harness.problem.tasks import TaskBatch

def resident():
    return int(open("/proc/self/status").read().partition("VmRSS:")[2].split()[0]) / 1024

class Freeing(MAML):
    def meta_gradient(self, oracle, inner_steps, inner_lr):
        found = super().meta_gradient(oracle, inner_steps, inner_lr)
        before = resident()
        blocks = [torch.ones(2**18) for _ in range(64)]
        del blocks[::2]
        print(resident() - before)
        return found

module = build(mlp, (1,), 1, {}, seed=0, device=torch.device("cpu"), dtype=torch.float32)
engine = Native(Problem(Freeing("nonconvex"), Network(module, "all"), Inner("mse", 1, 0.01)), sys.argv[1])
x = torch.ones(1, 4, 1)
with freed_memory_kept():
    engine.meta_gradient(*engine.problem.network.initial(), TaskBatch(x, x, x, x))
"""
    done = subprocess.run([sys.executable, "-c", script, strategy], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(left, abs=4)


SHORTAGES = [
    (MemoryError(), None),
    (OutOfMemory("out of memory before the first meta-iteration"), None),
    (OSError(12, "Cannot allocate memory"), None),
    (RuntimeError("std::bad_alloc"), None),
    (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be ..."), None),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), None),
    (RuntimeError("CUDA driver error: out of memory"), None),
    (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"), None),
    (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), None),
    (
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 9830400 bytes. Error code 12 (Cannot allocate memory)"
        ),
        9830400,
    ),
    (RuntimeError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has ... 3 GiB"), 2.5 * 2**30),
]
OTHERS = [
    RuntimeError("could not create a primitive"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    RuntimeError("can't start new thread"),
    RuntimeError("CUDA driver error: invalid argument"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
    OSError(28, "No space left on device"),
    ValueError("Cannot allocate memory"),
    ImportError("no module named x"),
]


@pytest.mark.parametrize(("error", "asked"), SHORTAGES)
def test_a_shortage_is_known_by_what_torch_and_the_system_say(error, asked):
    import torch

    if "Tried" in str(error):
        error = torch.OutOfMemoryError(str(error))
    assert is_out_of_memory(error)
    assert bytes_asked(error) == asked
    assert "\n" not in first_sentence(error)
    assert "GPU 0" not in first_sentence(error)


@pytest.mark.parametrize("error", OTHERS)
def test_a_plain_fault_is_no_shortage(error):
    assert not is_out_of_memory(error)
