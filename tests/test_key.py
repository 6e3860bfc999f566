"""The run key: another one for what changes the numbers, the same one for what does not; nothing stale comes back."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import json
import linecache
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness import RunConfig
from harness.experiment import packages, sources
from harness.experiment.key import run_key
from harness.experiment.setup import complete
from harness.experiment.trees import tree_digest
from harness.grid.compare import grid
from harness.settings.resolve import resolve

TINY = {"benchmark": "sinusoid", "iterations": 2, "meta_batch": 1, "eval_tasks": 2, "inner_steps": 1, "threads": 1}


def key(**settings) -> str:
    return run_key(*complete(resolve(RunConfig(**{**TINY, **settings}))))


@pytest.fixture
def key_with(monkeypatch):
    """The key where the file of a module had another content, read by a process that has just begun."""

    def with_edit(module: str, edit, **settings) -> str:
        path, read = Path(importlib.import_module(module).__file__), Path.read_bytes

        def edited(self: Path) -> bytes:
            content = read(self)
            if self != path:
                return content
            changed = edit(content.decode())
            assert changed != content.decode(), "nothing was edited"
            return changed.encode()

        with monkeypatch.context() as patch:
            patch.setattr(sources, "_specs", {})
            patch.setattr(sources, "_files", {})
            patch.setattr(Path, "read_bytes", edited)
            return key(**settings)

    return with_edit


CHANGES = {
    "a wrong sign in Proposition 1": (
        "harness.problem.meta_gradient",
        lambda text: text.replace("g_phi - inner_lr * mixed_u", "g_phi + inner_lr * mixed_u"),
    ),
    "weight decay in the outer loop": (
        "harness.experiment.train",
        lambda text: text.replace("foreach=False", "weight_decay=1.0"),
    ),
    "other groups in Definition 1": (
        "harness.experiment.unbiased",
        lambda text: text.replace("/ (m - 2)", "/ (m - 1)"),
    ),
    "tasks drawn otherwise": (
        "harness.problem.tasks",
        lambda text: text.replace("TaskShape.of(config)", "TaskShape(0, 5, 5, 5)"),
    ),
    "held-out tasks": ("harness.experiment.evaluate", lambda text: text.replace("split, first", "'train', first", 1)),
    "a layer of the engine": ("harness.engines.native.losses", lambda text: text + "\nSCALE = 2\n"),
    "the loss": ("harness.problem.objective", lambda text: text.replace("square()", "abs()")),
    "the algorithm": ("algorithms.anil", lambda text: text + "\nN = 1\n"),
    "what it is built on": ("algorithms.maml", lambda text: text + "\nN = 1\n"),
    "the benchmark": ("benchmarks.sinusoid", lambda text: text.replace("5.0", "6.0", 1)),
    "the model": ("harness.problem.nets", lambda text: text.replace("(40, 40)", "(40, 41)")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_computes_changes_the_key(key_with, change):
    assert key_with(*CHANGES[change]) != key()


SAME = {
    "a letter in a docstring": ("algorithms.maml", lambda text: text.replace('"""', '"""x', 1)),
    "comments": ("harness.experiment.train", lambda text: text.replace("\n\n", "\n\n# a comment\n")),
    "formatting": ("harness.problem.meta_gradient", lambda text: ast.unparse(ast.parse(text))),
    "formatting with f-strings": ("harness.engines.engine", lambda text: ast.unparse(ast.parse(text))),
    "what type checkers read": (
        "harness.problem.tasks",
        lambda text: text.replace("if TYPE_CHECKING:\n", "if TYPE_CHECKING:\n    import decimal\n"),
    ),
    "how files are written": ("harness.store.files", lambda text: text + "\nN = 1\n"),
    "a report": ("harness.report.tables.build", lambda text: text + "\nN = 1\n"),
    "the terminal": ("harness.cli.terminal.console", lambda text: text + "\nN = 1\n"),
    "tuning": ("harness.tune.space", lambda text: text + "\nN = 1\n"),
    "another engine": ("harness.engines.torchopt", lambda text: text + "\nN = 1\n"),
    "another benchmark": ("benchmarks.fc100", lambda text: text + "\nN = 1\n"),
}


@pytest.mark.parametrize("change", SAME)
def test_what_computes_nothing_here_keeps_the_key(key_with, change):
    assert key_with(*SAME[change]) == key()


def test_versions_of_what_computes_are_in_the_key(monkeypatch):
    before = key()
    with monkeypatch.context() as patch:
        patch.setattr(
            "harness.experiment.key.version", lambda name: "9.9" if name == "torch" else packages.version(name)
        )
        assert key() != before
    with monkeypatch.context() as patch:
        patch.setattr(
            "harness.experiment.key.version", lambda name: "9.9" if name == "pydantic" else packages.version(name)
        )
        assert key() == before


TRICKY = r'''
"""A docstring."""
from __future__ import annotations
import typing
if typing.TYPE_CHECKING:
    import decimal
def f(x: "int" = 1_000, *, y=0.1 + 2j, **more) -> None:
    """Another."""
    # a comment
    assert x, (f"a {x!r:>{y}} 'b' " "c" f"{more['k']}" "")
    return f"{x = }" + rb"\n".decode() + u"ü" if x else [*more, ..., None, True]
class A(object, metaclass=type):
    """Text."""
    n: int = 3
    """What n is."""
    @property
    def g(self): "only this"
match [1]:
    case [int(), *rest] if rest: pass
    case {"a": 1.5e-300, **kw}: pass
try: pass
except* ValueError: pass
'''
TRICKY_DIGEST = "159dd6ce1d3014537d10a82965e69babd85f0be9858d0c2e7c79e2f26417553d"


def test_a_syntax_tree_has_one_hash_on_every_version_of_python(tmp_path):
    (tmp_path / "tricky.py").write_text(TRICKY)
    root = Path(harness.__file__).parents[1]
    files = [tmp_path / "tricky.py", *sorted((root / "harness").rglob("*.py"))]
    program = (
        f"import ast, sys; sys.path.insert(0, {str(root)!r}); from harness.experiment.sources import tree_digest\n"
        "for file in sys.argv[1:]: print(tree_digest(ast.parse(open(file, 'rb').read())))"
    )
    here = [tree_digest(ast.parse(file.read_bytes())) for file in files]
    assert here[0] == TRICKY_DIGEST
    for version in ("3.11", "3.12", "3.13", "3.14"):
        if python := shutil.which(f"python{version}"):
            done = subprocess.run([python, "-c", program, *map(str, files)], capture_output=True, text=True)
            if done.returncode == 0:  # else no more than the name of a Python
                assert done.stdout.split() == here, version


MODEL = """
from torch import nn
def net(shape, outputs):
    return nn.Sequential(nn.Linear(1, {width}), nn.Linear({width}, outputs))
"""
#: files of a model before and after, by how it gets at what changes
HELPED = {
    "a module beside it": {
        "mine.py": MODEL.format(width="width()") + "from helper import width\n",
        "helper.py": ("def width(): return 2", "def width(): return 3"),
    },
    "inside a function": {
        "mine.py": MODEL.format(width="width()") + "def width():\n    from helper import width\n    return width()\n",
        "helper.py": ("def width(): return 2", "def width(): return 3"),
    },
    "two modules away": {
        "mine.py": "from near import net\n",
        "near.py": MODEL.format(width="far.WIDTH") + "import far\n",
        "far.py": ("WIDTH = 2", "WIDTH = 3"),
    },
    "relative, in a package": {
        "mine.py": "from pack.nets.model import net\n",
        "pack/__init__.py": "",
        "pack/nets/__init__.py": "",
        "pack/nets/model.py": MODEL.format(width="size.WIDTH") + "from .. import size\n",
        "pack/size.py": ("WIDTH = 2", "WIDTH = 3"),
    },
    "behind a decorator": {
        "mine.py": "import functools\nfrom helper import WIDTH\n@functools.lru_cache"
        + MODEL.format(width="WIDTH").replace("from torch import nn", "")
        + "from torch import nn\n",
        "helper.py": ("WIDTH = 2", "WIDTH = 3"),
    },
    "what acts in backward alone": {
        "mine.py": MODEL.format(width="2").replace("nn.Linear(2,", "Times(), nn.Linear(2,")
        + "from helper import Times\n",
        "helper.py": (
            "import torch\nclass F(torch.autograd.Function):\n    @staticmethod\n    def forward(c, x): return x * 1\n"
            "    @staticmethod\n    def backward(c, g): return g * 1\n"
            "class Times(torch.nn.Module):\n    def forward(self, x): return F.apply(x)\n",
            "import torch\nclass F(torch.autograd.Function):\n    @staticmethod\n    def forward(c, x): return x * 1\n"
            "    @staticmethod\n    def backward(c, g): return g * 2\n"
            "class Times(torch.nn.Module):\n    def forward(self, x): return F.apply(x)\n",
        ),
    },
    "weights in a file": {
        "mine.py": MODEL.format(width="2").replace("return nn", "m = nn")
        + "    v = float(open(FILE).read())\n    nn.init.constant_(m[0].weight, v)\n    return m\n"
        "import os\nFILE = os.path.join(os.path.dirname(__file__), 'weight.txt')\n",
        "weight.txt": ("0.5", "0.51"),
    },
    "a number in a file, used in forward alone": {
        "mine.py": "from torch import nn\nimport os\nFILE = os.path.join(os.path.dirname(__file__), 'scale.txt')\n"
        "class Net(nn.Module):\n    def __init__(self, outputs):\n        super().__init__()\n"
        "        self.a, self.b = nn.Linear(1, 2), nn.Linear(2, outputs)\n"
        "    def forward(self, x): return self.b(self.a(x)) * float(open(FILE).read())\n"
        "def net(shape, outputs): return Net(outputs)\n",
        "scale.txt": ("1.0", "2.0"),
    },
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that modules can be imported from; they are gone from this process afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    forget(tmp_path)


def forget(folder: Path) -> None:
    """As in a new process."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(folder)):
            del sys.modules[name]
    importlib.invalidate_caches()
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)


@pytest.mark.parametrize("how", HELPED)
def test_a_run_whose_model_changed_is_done_anew_and_the_old_one_stays(folder, how, monkeypatch):
    # of two sources of one second and one length Python takes the first one's bytecode
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run(number: int) -> dict:
        forget(folder)
        for name, content in HELPED[how].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content if isinstance(content, str) else content[number])
        return harness.run(RunConfig(**TINY, model="mine:net"), results=folder / "runs")

    first, second = run(0), run(1)
    assert first["run_dir"] != second["run_dir"]
    assert run(0) == first
    assert run(1) == second
    assert len(list((folder / "runs").iterdir())) == 2


def test_a_trial_whose_model_changed_unseen_is_refused(folder):
    files = HELPED["weights in a file"]
    (folder / "mine.py").write_text(files["mine.py"])
    (folder / "weight.txt").write_text("0.5")
    harness.run(RunConfig(**TINY, model="mine:net"), results=folder / "runs", trial=True)
    (folder / "weight.txt").write_text("0.6")
    with pytest.raises(harness.InputError, match=r"began with other initial parameters; give the same, .*--out"):
        harness.run(RunConfig(**TINY, model="mine:net"), results=folder / "runs", trial=True)


def test_an_installed_model_is_known_by_its_distribution(folder, monkeypatch):
    """Its other modules are not read: version, and the hashes that the installer has written, stand for them."""
    installed = [*sources._folders(), folder]
    monkeypatch.setattr(sources, "_folders", lambda: installed)
    monkeypatch.setattr(sources, "_files", {})
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").write_text("")
    (folder / "shop" / "nets.py").write_text(MODEL.format(width="size.WIDTH") + "from shop import size\n")
    (folder / "shop" / "size.py").write_text("WIDTH = 2")

    def key_of(version: str, record: str) -> str:
        for cached in (packages.version, packages.contents):
            cached.cache_clear()
        info = folder / "shop-1.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: shop\nVersion: {version}\n")
        (info / "RECORD").write_text(f"shop/nets.py,sha256={record},5\nshop-1.dist-info/INSTALLER,sha256=z,4\n")
        return key(model="shop.nets:net")

    one = key_of("1.0", "a")
    (folder / "shop" / "size.py").write_text("WIDTH = 3")
    assert key_of("1.0", "a") == one
    assert len({one, key_of("1.1", "a"), key_of("1.0", "b")}) == 3
    for cached in (packages.version, packages.contents):
        cached.cache_clear()


# Models, and all else, given as objects.


def plain(shape, outputs):
    return nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, outputs))


def scaled(by):
    class Net(nn.Sequential):
        def forward(self, x):
            return super().forward(x) * by

    return lambda shape, outputs: Net(*plain(shape, outputs))


def parts(shape, outputs, layers=2, *, last=None):
    return nn.Sequential(nn.Linear(1, 2), nn.Linear(2, outputs))


class Callable_:
    def __init__(self, held):
        self.held = held

    def __call__(self, shape, outputs):
        return plain(shape, outputs)


def key_of(model) -> str:
    return run_key(*complete(resolve(RunConfig(**TINY), model=model)))


HELD = {
    "closures": lambda by: scaled(by),
    "partial": lambda by: functools.partial(parts, layers=by),
    "defaults": lambda by: lambda shape, outputs, held=by: plain(shape, outputs),
    "an object": lambda by: Callable_(by),
    "a method": lambda by: Callable_(by).__call__,
    "tensors": lambda by: Callable_(torch.full((3,), float(by))),
    "arrays": lambda by: Callable_({"a": np.full(3, by)}),
    "functions": lambda by: Callable_(scaled(by)),
    "sets": lambda by: Callable_({"a", "b", str(by)}),
    "something that holds itself": lambda by: (lambda held: held.append(held) or Callable_(held))([by]),
}


@pytest.mark.parametrize("made", HELD.values(), ids=list(HELD))
def test_objects_are_told_apart_by_what_they_hold(made):
    assert key_of(made(1)) == key_of(made(1))
    assert key_of(made(1)) != key_of(made(2))


def typed(text: str, name: str | None) -> dict:
    """What was typed into a prompt: into a notebook, which keeps its source under ``name``, or elsewhere."""
    if name:
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    scope = {"__name__": "__main__", "nn": nn}
    exec(compile(text, name or "<stdin>", "exec"), scope)
    return scope


CELL = """
WIDTH = {width}
def inner(x):
    {comment}
    return x * {factor}
class Net(nn.Sequential):
    def forward(self, x):
        return inner(super().forward(x))
def net(shape, outputs):
    '''{text}'''
    return Net(nn.Linear(1, WIDTH), nn.Linear(WIDTH, outputs))
"""


@pytest.mark.parametrize("notebook", [True, False])
def test_what_was_typed_in_is_told_apart_by_itself_and_by_the_globals_that_it_names(notebook):
    def key_typed(number: int, width=2, factor=1, text="a", comment="") -> str:
        cell = CELL.format(width=width, factor=factor, text=text, comment=comment)
        return key_of(typed(cell, f"<cell {number}>" if notebook else None)["net"])

    first = key_typed(1)
    assert key_typed(2) == first
    assert key_typed(3, width=3) != first
    assert key_typed(4, factor=2) != first  # in a function that a method of a class calls
    if notebook:
        assert key_typed(5, text="b", comment="# c") == first


def test_what_nobody_can_tell_apart_has_a_key_of_its_own_each_time(caplog):
    held = Callable_(part for part in ())
    with caplog.at_level(logging.WARNING, logger="harness"):
        assert key_of(held) != key_of(held)
    assert "builtins.generator" in caplog.text
    assert len(caplog.records) == 2  # one line each


def test_benchmarks_given_as_objects_are_told_apart_by_their_tasks(tmp_path):
    from benchmarks.sinusoid import Sinusoid

    class Scaled(Sinusoid):
        scale = 1.0

        def draw(self, *args, **kwargs):
            batch = super().draw(*args, **kwargs)
            return harness.TaskBatch(batch.support_x, batch.support_y * self.scale, batch.query_x, batch.query_y)

    one, other = Scaled(), Scaled()
    other.scale = 2.0
    first = harness.run(RunConfig(**TINY), results=tmp_path, benchmark=one)
    assert harness.run(RunConfig(**TINY), results=tmp_path, benchmark=Scaled()) == first
    assert harness.run(RunConfig(**TINY), results=tmp_path, benchmark=other)["run_dir"] != first["run_dir"]


# What a process had set before.


def states() -> tuple:
    from harness.measure.precision import _PRECISIONS

    precisions = [place.fp32_precision for place in _PRECISIONS]
    return precisions, torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(), np.geterr()


@pytest.fixture
def usual():
    """Afterwards all is as it was."""
    precision, errors = torch.get_float32_matmul_precision(), np.geterr()
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    for place in (torch.backends, torch.backends.cudnn, torch.backends.mkldnn):
        place.fp32_precision = "none"
    for place in (torch.backends.mkldnn.conv, torch.backends.mkldnn.rnn):
        place.fp32_precision = "none"
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision(precision)
    torch.use_deterministic_algorithms(False)
    np.seterr(**errors)


SETTINGS = {
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "precision of products": lambda: torch.set_float32_matmul_precision("medium"),
    "precision by its newer name": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "precision of one backend": lambda: setattr(torch.backends.mkldnn.conv, "fp32_precision", "bf16"),
    "errors of numpy": lambda: np.seterr(all="raise"),
}


@pytest.mark.usefixtures("usual")
@pytest.mark.parametrize("what", SETTINGS)
def test_a_run_sets_what_changes_numbers_and_leaves_it_as_it_was(tmp_path, what):
    usual = harness.run(RunConfig(**TINY), results=tmp_path / "usual")
    SETTINGS[what]()
    before = states()
    found = harness.run(RunConfig(**TINY), results=tmp_path / "set")
    assert states() == before
    assert (found["key"], found["loss"]) == (usual["key"], usual["loss"])


def test_contexts_around_a_run_change_nothing_in_it(tmp_path):
    usual = harness.run(RunConfig(**TINY), results=tmp_path / "usual")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        assert harness.run(RunConfig(**TINY), results=tmp_path / "autocast")["loss"] == usual["loss"]
    with torch.inference_mode():
        assert harness.run(RunConfig(**TINY), results=tmp_path / "inference")["loss"] == usual["loss"]


@pytest.mark.usefixtures("usual")
def test_flags_that_a_run_leaves_alone_are_in_its_key():
    before = key()
    torch.use_deterministic_algorithms(True)
    assert key() != before


@pytest.mark.usefixtures("usual")
def test_what_a_model_sets_when_it_is_imported_is_no_part_of_a_run(folder):
    (folder / "mine.py").write_text(MODEL.format(width="2") + "import torch; torch.set_default_dtype(torch.float64)\n")
    first = harness.run(RunConfig(**TINY, model="mine:net"), results=folder / "runs")
    torch.set_default_dtype(torch.float32)
    again = harness.run(RunConfig(**TINY, model="mine:net"), results=folder / "again")
    assert (again["key"], again["loss"]) == (first["key"], first["loss"])
    start = json.loads((Path(first["run_dir"]) / "environment.json").read_text())["start"]
    assert start["computed"]["loss"] > 0


def test_a_grid_does_not_reuse_a_run_whose_model_read_another_file(folder):
    files = HELPED["weights in a file"]
    (folder / "mine.py").write_text(files["mine.py"])
    (folder / "suite.yaml").write_text(
        json.dumps({"title": "t", "base": {**TINY, "model": "mine:net"}, "grid": [{"algo": "anil"}]})
    )

    def entry():
        forget(folder)
        [found] = grid(str(folder / "suite.yaml"), folder / "runs")
        return found

    (folder / "weight.txt").write_text("0.5")
    first = harness.run(RunConfig(**TINY, model="mine:net"), results=folder / "runs")
    assert (entry().state, str(entry().directory)) == ("cached", first["run_dir"])
    (folder / "weight.txt").write_text("0.6")
    assert entry().state == "new"
    second = harness.run(RunConfig(**TINY, model="mine:net"), results=folder / "runs")
    assert (entry().state, str(entry().directory)) == ("cached", second["run_dir"])


def test_a_module_loaded_by_its_path_has_one_key_wherever_it_lies_and_its_helpers_are_read(tmp_path):
    def key_in(folder: str, width: int) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "mine.py").write_text(
            MODEL.format(width="width()") + "def width():\n    from aside import WIDTH\n    return WIDTH\n"
        )
        (tmp_path / folder / "aside.py").write_text(f"WIDTH = {width}")
        name = f"mine_{folder}"
        spec = importlib.util.spec_from_file_location(name, tmp_path / folder / "mine.py")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            return key_of(module.net)
        finally:
            del sys.modules[name]

    # its name is in the configuration, as that of every model
    configured = {"model": "mine_x:net"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.settings.resolve._name_of", lambda factory: configured["model"])
        assert key_in("here", 2) == key_in("there", 2) != key_in("here", 3)


def test_a_module_edited_in_a_session_is_another_once_it_is_loaded_anew(folder):
    (folder / "mine.py").write_text("from helper import net\n")
    (folder / "helper.py").write_text(MODEL.format(width="2"))
    first = key(model="mine:net")
    (folder / "helper.py").write_text(MODEL.format(width="3"))
    assert key(model="mine:net") == first  # what is loaded is what would run
    importlib.reload(sys.modules["helper"])
    importlib.reload(sys.modules["mine"])
    assert key(model="mine:net") != first
