"""Every number of a run against a plain loop that shares nothing with it but the tasks (plain_run.py)."""

from __future__ import annotations

import json
import math
import signal
import zlib
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from plain_run import PlainRun
from torch import nn

import harness
from benchmarks.sinusoid import Sinusoid
from harness import RunConfig
from harness.experiment.progress import Silent
from harness.measure.clocks import CpuClock, CudaClock, make_clock, seconds_of
from harness.measure.memory import freed_memory_kept
from harness.store.directory import load_parameters

FIRST_FIXED = 2**40  # docs/decisions.md: tasks of the training stream that are never trained on
FIXED, HELD_OUT, SEED = 4, 4, 3
BASE = {
    "dtype": "float64",
    "device": "cpu",
    "threads": 1,
    "seed": SEED,
    "iterations": 3,
    "meta_batch": 3,
    "inner_steps": 2,
    "inner_lr": 0.3,
    "outer_lr_w": 0.003,
    "outer_lr_phi": 0.02,
    "eval_tasks": HELD_OUT,
    "eval_every": 2,
    "stationarity_every": 2,
    "stationarity_tasks": FIXED,
    "checkpoint_every": 2,
}


class Shapes(harness.Benchmark):
    """Noisy pictures around one picture a class; remembers what was drawn, and calls ``watch`` whenever it draws."""

    name, summary, version = "shapes", "noise around random pictures", "1"

    def __init__(self, edge: int = 6, watch=lambda split, first, tasks: None) -> None:
        super().__init__()
        self.edge, self.watch, self.drawn = edge, watch, []

    @property
    def input_shape(self):
        return (2, self.edge, self.edge)

    def check(self, ways, shots, queries):
        pass

    def draw(self, split, first, tasks, shape, device, dtype):
        self.drawn.append((split, first, tasks))
        self.watch(split, first, tasks)
        parts = [
            self.task(f"{shape.seed} {split} {t}", shape.ways, (shape.shots, shape.queries))
            for t in range(first, first + tasks)
        ]
        return harness.TaskBatch(*(torch.stack(part).to(device) for part in zip(*parts, strict=True)))

    def task(self, name, ways, sizes):
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        centres = torch.randn(ways, 1, *self.input_shape, generator=generator, dtype=torch.float64)
        parts = []
        for each in sizes:
            noise = torch.randn(ways, each, *self.input_shape, generator=generator, dtype=torch.float64)
            parts += [(centres + 2 * noise).flatten(0, 1), torch.arange(ways).repeat_interleave(each)]
        return parts


def block(inputs: int, outputs: int) -> nn.Module:
    layers = {"conv": nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), "norm": nn.BatchNorm2d(outputs)}
    return nn.Sequential(OrderedDict(**layers, relu=nn.ReLU(), pool=nn.MaxPool2d(2)))


def convolutions(input_shape, outputs):
    return nn.Sequential(
        OrderedDict(first=block(2, 3), second=block(3, 3), flatten=nn.Flatten(), head=nn.Linear(3, outputs))
    )


def tanh(input_shape, outputs):
    return nn.Sequential(
        OrderedDict(one=nn.Linear(1, 6), a=nn.Tanh(), two=nn.Linear(6, 5), b=nn.Tanh(), head=nn.Linear(5, outputs))
    )


class Residual(nn.Module):
    """No sequence of layers: only its own forward knows what it does."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.enter, self.around, self.head = nn.Linear(72, 5), nn.Linear(5, 5), nn.Linear(5, outputs)

    def forward(self, x):
        h = torch.tanh(self.enter(x.flatten(1)))
        return self.head(h + 0.5 * torch.sin(self.around(h)))


def residual(input_shape, outputs):
    return Residual(outputs)


IMAGES = {"ways": 3, "shots": 2, "queries": 4}
WAVES = {"shots": 6, "queries": 7, "inner_lr": 0.05}
CONVEX, NONCONVEX = {"geometry": "convex", "algo_options": {"l2": 0.3}}, {"geometry": "nonconvex"}
SGD = {"outer_optimizer": "sgd"}
HEAD, BEHIND = ("head.",), ("second.", "head.")


def case(name, model, adapted, **settings):
    return pytest.param(model, adapted, settings, id=name)


CASES = [
    case("maml", convolutions, ("",), algo="maml", **IMAGES),
    case("maml, sgd, one task at a time", convolutions, ("",), algo="maml", task_chunk=1, **IMAGES, **SGD),
    case("fomaml", convolutions, ("",), algo="fomaml", **IMAGES),
    case("anil convex", convolutions, HEAD, **CONVEX, **IMAGES),
    case(
        "anil convex, sgd, two tasks at a time",
        convolutions,
        HEAD,
        task_chunk=2,
        meta_batch=5,
        **CONVEX,
        **IMAGES,
        **SGD,
    ),
    case("anil nonconvex", convolutions, BEHIND, **NONCONVEX, **IMAGES),
    case("anil convex, joint", convolutions, HEAD, norm_statistics="joint", **CONVEX, **IMAGES),
    case("anil nonconvex, joint, sgd", convolutions, BEHIND, norm_statistics="joint", **NONCONVEX, **IMAGES, **SGD),
    case("anil joint, unrolled", convolutions, HEAD, norm_statistics="joint", strategy="unrolled", **CONVEX, **IMAGES),
    case("phi in the tail", convolutions, ("head.weight",), adapt=r"head\.weight", **CONVEX, **IMAGES),
    case("own forward, maml", residual, ("",), algo="maml", **IMAGES),
    case("own forward, anil", residual, HEAD, **CONVEX, **IMAGES, **SGD),
    case("regression, maml", tanh, ("",), algo="maml", **WAVES),
    case("regression, fomaml, sgd", tanh, ("",), algo="fomaml", **WAVES, **SGD),
    case("regression, anil convex", tanh, HEAD, **CONVEX, **WAVES, **SGD),
    case("regression, anil nonconvex", tanh, ("two.", "head."), strategy="checkpointed", **NONCONVEX, **WAVES),
    case("falling steps, maml", tanh, ("",), algo="maml", outer_schedule="cosine", **WAVES),
    case("falling steps, anil, sgd", tanh, HEAD, outer_schedule="cosine", **CONVEX, **WAVES, **SGD),
    case("no inner step", convolutions, HEAD, inner_steps=0, **CONVEX, **IMAGES),
]


def benchmark_of(settings, **more):
    return Shapes(**more) if "ways" in settings else Sinusoid()


def initial(model, input_shape, outputs):
    """What a run starts from: the model as its factory makes it under the run's seed."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return model(input_shape, outputs).double()


def plain(module, adapted, config, benchmark):
    """The plain loop of the same run."""

    def draw(split, number):
        shape = harness.TaskShape(config.seed, config.ways, config.shots, config.queries)
        batch = benchmark.draw(split, number, 1, shape, torch.device("cpu"), torch.float64)
        return batch.support_x[0], batch.support_y[0], batch.query_x[0], batch.query_y[0]

    names = [name for name, _ in module.named_parameters() if name.startswith(adapted)]
    layers = [name for name, _ in module.named_children()]
    together = min(layers.index(name.partition(".")[0]) for name in names) if config.norm_statistics == "joint" else 0
    return PlainRun(
        module=module,
        adapted=names,
        draw=draw,
        classifies=not isinstance(benchmark, Sinusoid),
        inner_steps=config.inner_steps,
        inner_lr=config.inner_lr,
        meta_batch=config.meta_batch,
        adam=config.outer_optimizer == "adam",
        lr_w=config.outer_lr_w,
        lr_phi=config.outer_lr_phi,
        falls_over=config.iterations if config.outer_schedule == "cosine" else 0,
        l2=config.algo_options["l2"] if config.geometry == "convex" else 0.0,
        first_order=config.algo == "fomaml",
        together=together,
    )


def files_of(witness: PlainRun, config: RunConfig) -> dict[str, list[dict]]:
    """What the run writes, by the plain loop: its files' lines, validations and measurements every two iterations."""
    fixed, groups = range(FIRST_FIXED, FIRST_FIXED + FIXED), [1] * FIXED
    metrics, evaluations, stationarity = [], [], [witness.measure(fixed, groups)]
    for iteration in range(1, config.iterations + 1):
        metrics.append(witness.step())
        if iteration % 2 == 0 or iteration == config.iterations:
            stationarity.append(witness.measure(fixed, groups))
            evaluations.append(witness.evaluate("validation", config.eval_tasks))
    evaluations.append(witness.evaluate("test", config.eval_tasks))
    return {"metrics": metrics, "evaluations": evaluations, "stationarity": stationarity}


def lines(summary: dict, name: str) -> list[dict]:
    return [json.loads(line) for line in (Path(summary["run_dir"]) / f"{name}.jsonl").read_text().splitlines()]


def near(expected):
    """``expected`` to nine digits; in a file None stands for what is no number."""
    if isinstance(expected, dict):
        return {key: near(value) for key, value in expected.items()}
    if isinstance(expected, float):
        return None if math.isnan(expected) else pytest.approx(expected, rel=1e-9, abs=1e-13)
    return expected


def picked(line: dict, numbers: dict) -> dict:
    """What ``numbers`` has of ``line``."""
    return {key: picked(line[key], value) if isinstance(value, dict) else line[key] for key, value in numbers.items()}


COPIED = """
    geometry engine benchmark model adapt ways shots queries inner_steps inner_lr meta_batch iterations seed dtype
"""


def agree(summary: dict, witness: PlainRun, config: RunConfig) -> None:
    """Files, checkpoint and summary of a whole run against the plain loop, which is run here."""
    found = files_of(witness, config)
    for name, expected in found.items():
        written = lines(summary, name)
        assert len(written) == len(expected), name
        for line, numbers in zip(written, expected, strict=True):
            assert picked(line, numbers) == near(numbers), name

    saved = load_parameters(summary["run_dir"])["state_dict"]
    assert set(saved) == set(witness.parameters)
    for name, value in witness.parameters.items():
        torch.testing.assert_close(saved[name], value, rtol=1e-9, atol=1e-11)

    written = yaml.safe_load((Path(summary["run_dir"]) / "config.yaml").read_text())
    assert picked(written, config.model_dump(exclude_unset=True)) == config.model_dump(exclude_unset=True)
    assert {name: summary[name] for name in COPIED.split()} == {name: written[name] for name in COPIED.split()}
    assert (summary["algorithm"], summary["device"], summary["schema"]) == (written["algo"], "cpu", 2)

    last, test = found["metrics"][-1], found["evaluations"][-1]
    assert summary["status"] == "completed"
    assert (summary["n_w"], summary["n_phi"], summary["w"]) == (witness.n_w, witness.n_phi, witness.adapted)
    assert summary["iterations_done"] == config.iterations
    usual = 1 if (summary["engine"], summary["strategy"]) == ("native", "unrolled") else config.meta_batch
    assert summary["task_chunk"] == (usual if config.task_chunk == "auto" else config.task_chunk)
    assert summary["stopped"] is summary["diverged"] is summary["out_of_memory"] is None
    assert summary["train_loss"] == near(last["loss"])
    assert summary["counts"] == last["counts"]
    tasks = config.iterations * config.meta_batch
    assert summary["counts_per_task"] == {name: count / tasks for name, count in last["counts"].items()}
    for quantity in ("loss", "accuracy"):
        names = {"mean": "", "ci95": "_ci95", "before_adaptation": "_before_adaptation"}
        names["before_adaptation_ci95"] = "_before_adaptation_ci95"
        expected = {name: near(test[f"{quantity}{suffix}"]) for name, suffix in names.items()}
        assert summary[quantity] == expected | ({"tasks": HELD_OUT} if quantity == "accuracy" else {})


def configured(settings) -> RunConfig:
    return RunConfig(**{**BASE, "benchmark": "shapes" if "ways" in settings else "sinusoid", "ways": 1, **settings})


@pytest.mark.parametrize(("model", "adapted", "settings"), CASES)
def test_a_run_is_the_plain_loop(tmp_path, model, adapted, settings):
    config, benchmark = configured(settings), benchmark_of(settings)
    summary = harness.run(config, results=tmp_path, model=model, benchmark=benchmark)
    module = initial(model, benchmark.input_shape, benchmark.outputs(config.ways))
    agree(summary, plain(module, adapted, config, benchmark), config)


@pytest.mark.peers
@pytest.mark.parametrize("engine", ["higher", "learn2learn", "torchopt"])
@pytest.mark.parametrize(
    ("model", "adapted", "settings"),
    [case("maml", tanh, ("",), algo="maml", **WAVES), case("anil", tanh, HEAD, **CONVEX, **WAVES)],
)
def test_a_run_on_another_library_is_the_plain_loop(tmp_path, engine, model, adapted, settings):
    config = configured({**settings, "engine": engine})
    summary = harness.run(config, results=tmp_path, model=model)
    agree(summary, plain(initial(model, (1,), 1), adapted, config, Sinusoid()), config)


class ByHand(nn.Module):
    """The four-block CNN, written out; takes the parameters of ``module`` and nothing else of it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        for name, child in module.named_children():
            self.add_module(name, child)

    def forward(self, x):
        """Convolution, batch norm, ReLU and 2x2 max-pool four times; then the classifier."""
        for layer in (self.block1, self.block2, self.block3, self.block4):
            x = nn.functional.conv2d(x, layer.conv.weight, layer.conv.bias, padding=1)
            mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
            x = (x - mean) / (variance + 1e-5).sqrt() * layer.norm.weight[:, None, None] + layer.norm.bias[
                :, None, None
            ]
            x = x.clamp(min=0).unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).amax((3, 5))
        return x.flatten(1) @ self.classifier.weight.T + self.classifier.bias


@pytest.mark.parametrize(
    ("adapted", "settings"),
    [
        pytest.param(("classifier.",), CONVEX, id="convex"),
        pytest.param(("block4.", "classifier."), NONCONVEX, id="nonconvex"),
        pytest.param(("",), {"algo": "maml"}, id="maml"),
    ],
)
def test_the_default_model_does_what_its_layers_say(tmp_path, adapted, settings):
    """Under SGD: a bias before batch norm has no gradient, and Adam makes steps of the rounding errors."""
    from harness.problem.nets import cnn

    settings = {"model": "cnn", "model_options": {"filters": 2}, "iterations": 2, **IMAGES, **SGD, **settings}
    config, benchmark = configured(settings), Shapes(edge=16)
    module = ByHand(initial(lambda shape, outputs: cnn(shape, outputs, filters=2), benchmark.input_shape, 3))
    agree(harness.run(config, results=tmp_path, benchmark=benchmark), plain(module, adapted, config, benchmark), config)


class Killed(Silent):
    """Ends a run at a line of its metrics, as a second Ctrl-C does: what came after the checkpoint is lost."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def trained(self, record):
        if record["iteration"] == self.iteration:
            raise KeyboardInterrupt


class Enough(Silent):
    """Ends a run after its first validation."""

    def measured(self, what, record):
        return "enough" if what == "validation" else None


@pytest.mark.parametrize("how", ["killed", "asked to stop", "stopped"])
def test_a_run_that_was_interrupted_is_the_plain_loop(tmp_path, how):
    """In iteration 4 of 5, with a checkpoint at 2; the other two save one where they end."""

    def watch(split, first, tasks):
        if how == "asked to stop" and first == 3 * config.meta_batch:
            signal.raise_signal(signal.SIGINT)

    config = configured({**IMAGES, **CONVEX, "iterations": 5})
    benchmark = Shapes(watch=watch)
    progress = {"killed": Killed(4), "stopped": Enough()}.get(how)
    first = harness.run(config, results=tmp_path, model=convolutions, benchmark=benchmark, progress=progress)
    ended = {"killed": ("interrupted", 4), "asked to stop": ("interrupted", 4), "stopped": ("stopped", 2)}[how]
    assert (first["status"], first["iterations_done"]) == ended
    assert (first["accuracy"]["mean"], first["accuracy"]["tasks"]) == (None, 0)
    assert first["stopped"] == ("enough" if how == "stopped" else None)
    benchmark.watch = lambda split, first, tasks: None
    summary = harness.run(config, results=tmp_path, model=convolutions, benchmark=benchmark, resume=True)
    agree(summary, plain(initial(convolutions, benchmark.input_shape, 3), HEAD, config, benchmark), config)


def test_training_takes_every_task_once_and_held_out_tasks_are_those_of_their_split(tmp_path):
    benchmark, told, drawn = Shapes(), [], []

    class Told(Silent):
        def begin(self, config, done):
            benchmark.drawn.clear()  # what the model was tried on

        def end(self):
            drawn[:] = benchmark.drawn

        def evaluated(self, *so_far):
            told.append(so_far)

        def trained(self, record):
            told.append(("trained", record["iteration"], benchmark.drawn[-1]))

        def measured(self, what, record):
            told.append(("measured", what, record["iteration"]))

    config = configured({**IMAGES, **CONVEX, "iterations": 4, "eval_every": 4, "eval_tasks": 7})
    harness.run(config, results=tmp_path, model=convolutions, benchmark=benchmark, progress=Told())
    assert told[0] == ("trained", 1, ("train", 0, 3))  # at once
    measured = [one[1:] for one in told if one[0] == "measured"]
    assert measured == [("stationarity", 2), ("stationarity", 4), ("validation", 4)]
    trained = [(first, tasks) for split, first, tasks in drawn if split == "train" and first < FIRST_FIXED]
    assert trained == [(0, 3), (3, 3), (6, 3), (9, 3)]
    for split in ("validation", "test"):
        assert [one[1:] for one in drawn if one[0] == split] == [(0, 3), (3, 3), (6, 1)]
        assert [one[1:] for one in told if one[0] == split] == [(3, 7), (6, 7), (7, 7)]
    fixed = [first + task for split, first, tasks in drawn if first >= FIRST_FIXED for task in range(tasks)]
    assert fixed == [*range(FIRST_FIXED, FIRST_FIXED + FIXED)] * 3


@pytest.mark.parametrize(("tasks", "groups"), [(21, [1] + [1, 1, 2] * 5), (48, [3] * 16)])
def test_the_noise_of_more_tasks_is_taken_out_in_sixteen_groups(tmp_path, tasks, groups):
    config = configured({**WAVES, **CONVEX, "stationarity_tasks": tasks, "iterations": 1, "inner_steps": 1})
    summary = harness.run(config, results=tmp_path, model=tanh)
    witness = plain(initial(tanh, (1,), 1), HEAD, config, Sinusoid())
    expected = witness.measure(range(FIRST_FIXED, FIRST_FIXED + tasks), groups)
    line, after = lines(summary, "stationarity")
    assert picked(line, expected) == near(expected)
    products = {name: sum(each) / 16 for name, each in line["unbiased"]["products"].items()}
    for part, names in (("w", witness.adapted), ("phi", set(products) - set(witness.adapted))):
        assert sum(products[name] for name in names) == near(expected["unbiased"][part])
    # eight Lanczos steps find what six parameters have
    assert line["L"] == near(max(witness.curvature(FIRST_FIXED + task) for task in range(config.meta_batch)))
    assert (line["smoothness_w"], line["smoothness_phi"]) == (None, None)

    witness.step()
    witness.measure(range(FIRST_FIXED, FIRST_FIXED + tasks), groups)
    assert picked(after, witness.secants) == near(witness.secants)


@pytest.fixture
def hours(monkeypatch):
    """The time of a run's clocks in a list: it passes only where a test lets it."""
    now = [1000.0]
    monkeypatch.setattr("harness.experiment.train.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("harness.measure.clocks.time", SimpleNamespace(perf_counter_ns=lambda: round(now[0] * 1e9)))
    return now


class Slow(nn.Module):
    """A linear model whose forward pass takes a second; no sequence, so that every evaluation is one pass a task."""

    def __init__(self, now) -> None:
        super().__init__()
        self.body, self.head, self.now = nn.Linear(1, 2), nn.Linear(2, 1), now

    def forward(self, x):
        self.now[0] += 1 if len(x) else 0  # which nobody can follow
        return self.head(self.body(x)) + 0.5  # so that the head has not the last word, and every step passes here


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize("every", [2, 5])
def test_only_training_is_timed(tmp_path, monkeypatch, hours, every, interrupted):
    """Held-out and fixed tasks, checkpoints and every line written take an hour each, a training batch a minute."""
    from harness.store.directory import RunDirectory

    def taking(seconds, call):
        def slow(*args, **kwargs):
            hours[0] += seconds
            return call(*args, **kwargs)

        return slow

    class Waves(Sinusoid):
        def draw(self, split, first, tasks, *more):
            hours[0] += 60 if split == "train" and first < FIRST_FIXED else 3600
            return super().draw(split, first, tasks, *more)

    for name in ("append", "save_checkpoint"):
        monkeypatch.setattr(RunDirectory, name, taking(3600, getattr(RunDirectory, name)))
    monkeypatch.setattr(torch.optim.Adam, "step", taking(5, torch.optim.Adam.step))
    settings = {**WAVES, **CONVEX, "strategy": "recursion", "iterations": 6, "eval_every": every}
    settings |= {"stationarity_every": every, "checkpoint_every": every, "inner_steps": 3}
    config, factory = configured(settings), lambda shape, outputs: Slow(hours)
    progress = Killed(6) if interrupted else None
    summary = harness.run(config, results=tmp_path, model=factory, benchmark=Waves(), progress=progress)
    if interrupted:  # once more from the last checkpoint
        summary = harness.run(config, results=tmp_path, model=factory, benchmark=Waves(), resume=True)
    # of each of three tasks: N passes for gradients, N for second-order products, one for the outer gradient
    phases = {"inner_gradient": 9, "second_order": 9, "outer_gradient": 3, "outer_update": 5}
    lap = 60.0 + sum(phases.values())
    assert [line["seconds"] for line in lines(summary, "metrics")] == [near(lap * done) for done in range(1, 7)]
    for line in lines(summary, "stationarity"):
        assert line["seconds"] == near(lap * line["iteration"])
    seconds = summary["seconds"]
    assert seconds["train"] == near(6 * lap)
    assert seconds["first_iteration"] == near(lap)
    assert {phase: seconds[phase] for phase in phases} == {phase: near(6.0 * each) for phase, each in phases.items()}
    assert seconds["features"] == 0


def test_wall_seconds_have_everything_in_them(tmp_path, hours):
    begun = []

    class Waves(Sinusoid):
        def draw(self, split, first, tasks, *more):
            hours[0] += 60
            return super().draw(split, first, tasks, *more)

    class Begin(Silent):
        def begin(self, config, done):
            begun.append(hours[0])

    config = configured({**WAVES, **CONVEX, "stationarity_every": 0})
    summary = harness.run(config, results=tmp_path, benchmark=Waves(), progress=Begin())
    # three meta-iterations, and two validations and a test of four tasks, three at a time
    assert summary["seconds"]["wall"] == hours[0] - begun[0] == 60 * (3 + 3 * 2)


def test_calls_in_a_row_are_timed_together(hours):
    def call():
        hours[0] += 5

    assert seconds_of(call, torch.device("cpu")) == near(5.0)
    assert seconds_of(call, torch.device("cpu"), times=3) == near(15.0)
    assert hours[0] == 1020


def test_a_gpu_has_its_own_clock():
    kinds = {name: type(make_clock(torch.device(name))) for name in ("cpu", "cuda")}
    assert kinds == {"cpu": CpuClock, "cuda": CudaClock}


MIB = 2**20


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="elsewhere the process's own peak is all there is"
)
def test_peak_memory_is_that_of_training(tmp_path):
    """Adam's two moments and a gradient are the least; what came before, or held-out tasks need, does not count."""
    assert torch.ones(160 * MIB, dtype=torch.uint8).any()
    with freed_memory_kept():  # a hole in the heap, as a process has that has done much before
        below = [torch.ones(MIB, dtype=torch.uint8) for _ in range(200)]
        above = torch.ones(MIB, dtype=torch.uint8)
        del below

    class Waves(Sinusoid):
        def draw(self, split, first, tasks, *more):
            if split == "validation" and tasks > 1:  # not where the run is set up
                assert torch.ones(96 * MIB, dtype=torch.uint8).any()
            return super().draw(split, first, tasks, *more)

    def peak(width):
        settings = {**WAVES, "algo": "maml", "model_options": {"hidden": (width, width)}, "stationarity_every": 0}
        summary = harness.run(configured(settings), results=tmp_path, benchmark=Waves())
        return summary["peak_memory_bytes"], 8 * summary["n_w"]

    (small, _), (large, weights) = peak(10), peak(300)
    assert small < large
    assert 3 * weights < large < 80 * MIB
    del above
