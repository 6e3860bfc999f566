"""What the project is installed from, and that it asks the network for nothing but data sets."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
#: modules that open connections, besides libraries' own
NETWORK = {
    *("socket", "socketserver", "ssl", "http", "urllib", "ftplib", "smtplib", "poplib", "imaplib", "telnetlib"),
    *("xmlrpc", "webbrowser", "requests", "httpx", "aiohttp", "urllib3", "websockets", "paramiko", "huggingface_hub"),
    *("torch.hub", "torch.utils.model_zoo", "torchvision.datasets", "torchvision.models"),
}
# the two data sets that torchvision knows ask it where they are
ALLOWED = {"harness/datasets/downloads.py", "harness/datasets/cifar100.py", "benchmarks/omniglot.py"}


def imported(path: Path) -> set[str]:
    """Modules that a file imports, at its top or later."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {str(node.module), *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if name in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
    return found


def test_no_module_but_the_one_that_downloads_imports_what_opens_connections():
    users = set()
    for package in ("harness", "algorithms", "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            for name in imported(path):
                if any(name == part or name.startswith(f"{part}.") for part in NETWORK):
                    users.add(path.relative_to(ROOT).as_posix())
    assert users == ALLOWED


_HOOK = """
import os, sys
ASKED = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request")
def hook(event, arguments):
    if event in ASKED and not (event == "socket.connect" and isinstance(arguments[1], str | bytes)):
        with open(os.environ["NETWORK_LOG"], "a") as file:
            file.write(f"{event} {arguments!r}\\n")
        raise OSError("no network here")
sys.addaudithook(hook)
"""
_COMMANDS = """
import sys
from harness.cli import main
usual = "--benchmark sinusoid --iterations 2 --eval-tasks 2 --inner-steps 1 --device cpu --threads 1".split()
for words in (
    ["run", *usual, "--results", "runs"],
    ["compare", "suite.yaml", "--results", "runs", "--workers", "1"],
    ["tune", *usual, "--trials", "1", "--test-seeds", "0", "--out", "tune"],
    ["report", "runs", "--out", "report"],
    ["list"],
    ["data", "status"],
):
    assert main(words) == 0, words
assert main(["data", "prepare", "fc100"]) == int(sys.argv[1])
"""


@pytest.mark.slow
def test_no_command_asks_the_network_but_data_prepare(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(_HOOK)
    (tmp_path / "suite.yaml").write_text(
        "title: t\nbase: {benchmark: sinusoid, iterations: 2, eval_tasks: 2, stationarity_every: 1, "
        "stationarity_tasks: 2, threads: 1, device: cpu}\ngrid: [{algo: [anil, maml], inner_steps: 1}]\n"
    )
    log = tmp_path / "asked.log"
    environment = {
        **os.environ,
        "NETWORK_LOG": str(log),
        "HARNESS_DATA": str(tmp_path / "data"),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", _COMMANDS, "1"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    asked = log.read_text().splitlines()
    assert asked[0].startswith("urllib.Request ('https://www.cs.toronto.edu/")
    assert all("toronto.edu" in line for line in asked), asked
    assert "CIFAR-100 could not be downloaded" in done.stderr
    assert (tmp_path / "report" / "report.html").is_file()


# ---------------------------------------------------------------- constraints


def pinned(file: str = "constraints.txt") -> dict[str, list[Requirement]]:
    """The lines of a constraints file by name."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / file).read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def required() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(part for extra in project["optional-dependencies"].values() for part in extra)]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_constraints_file_pins_every_dependency_at_a_version_that_is_allowed(python):
    machine = {"sys_platform": "linux", "platform_machine": "x86_64", "implementation_name": "cpython"}
    here = {**machine, "python_version": python, "python_full_version": f"{python}.9"}
    pins = pinned()
    for requirement in required():
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate(here):
            continue
        chosen = [pin for pin in pins.get(name, []) if pin.marker is None or pin.marker.evaluate(here)]
        assert len(chosen) == 1, f"{name}: run the command at the head of constraints.txt"
        (version,) = (part.version for part in chosen[0].specifier)
        assert str(chosen[0].specifier) == f"=={version}"
        assert requirement.specifier.contains(version), f"{name}: run the command at the head of constraints.txt"


def test_what_is_tested_at_its_lowest_version_is_the_lowest_that_is_allowed():
    pins = pinned("constraints-lowest.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = (project["optional-dependencies"][name] for name in ("test", "tune", "torchopt"))
    for text in [*project["dependencies"], *(part for extra in extras for part in extra)]:
        requirement = Requirement(text)
        (pin,) = pins[canonicalize_name(requirement.name)]
        (bound,) = (Version(part.version) for part in requirement.specifier if part.operator == ">=")
        (lowest,) = (Version(part.version) for part in pin.specifier)
        assert bound == lowest, f"{pin}: run the command at the head of that file"


def test_the_constraints_file_says_how_it_was_made():
    head = (ROOT / "constraints.txt").read_text().splitlines()[1]
    assert re.fullmatch(r"#\s+uv pip compile --universal .* -o constraints.txt pyproject.toml", head)


def test_every_dependency_has_a_lower_bound():
    for requirement in required():
        typing = requirement.name.startswith("types-")
        assert typing or any(part.operator == ">=" for part in requirement.specifier), requirement
