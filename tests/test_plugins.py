"""Other people's plugins come through the same door, and a bad one does not stop the others."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.problem.algorithm import Algorithm
from harness.settings.registry import Registry, algorithms, benchmarks, engines

DOCUMENT = Path(__file__).parents[1] / "docs" / "adding-an-algorithm.md"


def documented(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[1]


def test_documented_algorithm_is_at_most_25_lines():
    assert len(documented("python").splitlines()) <= 25


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The package of the documentation, built and installed by pip into a folder of its own."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    (source / "my_algorithms.py").write_text(documented("python"))
    (source / "pyproject.toml").write_text(documented("toml"))
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--target", target, source]
    subprocess.run(command, check=True, capture_output=True)
    return target


def harness(*arguments: object, path: Path, cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(path), "HARNESS_DATA": str(cwd / "data")}
    command = [sys.executable, "-m", "harness", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_documented_algorithm_runs_from_another_package(installed, tmp_path):
    flags = "--benchmark sinusoid --iterations 3 --inner-steps 2 --inner-lr 0.01 --meta-batch 2 --eval-tasks 4 --json"
    done = harness("run", "--algo", "my_metasgd", *flags.split(), path=installed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["algorithm"] == "my_metasgd"
    assert summary["counts"]["hessian_vector_products"] == 3 * 2 * 2  # iterations x tasks x N
    assert summary["n_phi"] == summary["n_w"]  # its step sizes
    listed = json.loads(harness("list", "--json", path=installed, cwd=tmp_path).stdout)
    origins = {entry["name"]: entry["origin"] for entry in listed["algorithms"]}
    assert origins["my_metasgd"] == "my-algorithms"


def test_verify_holds_fast_paths_to_the_plain_oracle_under_a_strangers_rule(installed, tmp_path):
    done = harness("verify", "--algo", "my_metasgd", "--engine", "native", "--json", path=installed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {row["witness"] for row in report["rows"]} == {"own_forward", "plain_oracle", "through_adapt"}
    assert {row["strategy"] for row in report["rows"]} > {"linearised", "unrolled", "vmapped"}


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, "harness.algorithms")


class Unfinished(Algorithm):
    name = "unfinished"


class Fine(Algorithm):
    name = "fine"
    summary = "fine"
    geometries = {}

    def meta_gradient(self, oracle, inner_steps, inner_lr):
        raise NotImplementedError


def test_bad_plugins_are_warned_about_and_left_out(caplog):
    here = __name__
    entries = [
        entry("fine", f"{here}:Fine"),
        entry("broken", "no_such_module:Thing"),
        entry("stranger", "json:JSONDecoder"),
        entry("unfinished", f"{here}:Unfinished"),
        entry("misnamed", f"{here}:Fine"),
        entry("fine", "algorithms.maml:MAML"),
    ]
    with caplog.at_level(logging.WARNING, logger="harness"):
        registry = Registry("algorithm", Algorithm, "harness.algorithms", entries)
    assert registry.names() == ["fine"]
    text = caplog.text
    for part in ("no_such_module:Thing", "is no subclass", "does not define meta_gradient", "calls itself", "is taken"):
        assert part in text
    assert "unknown" in text  # the origin


def test_unknown_name_suggests_the_near_one():
    with pytest.raises(InputError, match=r"unknown algorithm 'fomml': did you mean 'fomaml'"):
        algorithms().get("fomml")


def test_the_projects_own_plugins_come_through_entry_points():
    assert {"maml", "fomaml", "anil"} <= set(algorithms().names())
    expected = {"glyphs", "omniglot", "fc100", "cifar_fs", "folder", "miniimagenet", "sinusoid", "quadratic", "table"}
    assert expected <= set(benchmarks().names())
    assert {"native", "higher", "learn2learn", "torchopt"} <= set(engines().names())
