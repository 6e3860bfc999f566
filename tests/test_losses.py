"""Every loss: its meta-gradient against a plain loop, what is right under it, and what is refused."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from strange_models import Numbers, Vectors, plain_loop
from torch import nn

import harness
from harness import RunConfig
from harness.cli import main
from harness.engines.native import Native
from harness.errors import InputError
from harness.experiment.setup import set_up
from harness.problem.losses import LOSSES, Loss
from harness.problem.objective import accuracy, metrics
from harness.problem.tasks import TaskBatch, checked, draw
from harness.settings import registry
from harness.settings.resolve import resolve

SMALL = {"ways": 3, "shots": 2, "queries": 3, "meta_batch": 2, "inner_steps": 2, "inner_lr": 0.1, "dtype": "float64"}
CPU = torch.device("cpu")


class Padded(Vectors):
    """The first example of each task has no label."""

    def targets(self, ways, each, generator, dtype):
        labels = super().targets(ways, each, generator, dtype)
        labels[0] = -100
        return labels


class Soft(Vectors):
    """Labels are probabilities."""

    def targets(self, ways, each, generator, dtype):
        return torch.rand(ways * each, ways, generator=generator, dtype=torch.float64).softmax(-1).to(dtype)


class Several(Vectors):
    """Each example has any number of labels."""

    loss = "bce"

    def targets(self, ways, each, generator, dtype):
        return torch.randint(2, (ways * each, ways), generator=generator).to(dtype)


class One(Numbers):
    """One number to be predicted by two outputs."""

    loss = "own:of_numbers"

    def targets(self, ways, each, generator, dtype):
        return torch.randn(ways * each, generator=generator, dtype=torch.float64).to(dtype)


def focal(prediction, target, gamma=2.0):
    log_p = prediction.log_softmax(-1).gather(-1, target[:, None])
    return -((1 - log_p.exp()) ** gamma * log_p).mean()


def gaussian(prediction, target):
    return (((target - prediction[:, 0]) / prediction[:, 1].exp()).square() / 2 + prediction[:, 1]).mean()


def straight(prediction, target):
    """Linear in the prediction: no second derivative of its own."""
    return (prediction * F.one_hot(target, 3)).sum() / -len(prediction)


WEIGHTS = [0.5, 2.0, 1.3]
_weights = torch.tensor(WEIGHTS, dtype=torch.float64)
#: tasks, name or function, options, and the same in torch's own words
CASES = {
    "plain": (Vectors, "cross_entropy", {}, F.cross_entropy),
    "smooth": (Vectors, "cross_entropy", {"label_smoothing": 0.2}, partial(F.cross_entropy, label_smoothing=0.2)),
    "weights": (Vectors, "cross_entropy", {"class_weights": WEIGHTS}, partial(F.cross_entropy, weight=_weights)),
    "padding": (Padded, "cross_entropy", {"ignore_index": -100}, partial(F.cross_entropy, ignore_index=-100)),
    "all of them": (
        Padded,
        "cross_entropy",
        {"label_smoothing": 0.3, "class_weights": WEIGHTS, "ignore_index": -100},
        partial(F.cross_entropy, label_smoothing=0.3, weight=_weights),
    ),
    "soft": (Soft, "cross_entropy", {}, F.cross_entropy),
    "soft, smooth, weights": (
        Soft,
        "cross_entropy",
        {"label_smoothing": 0.3, "class_weights": WEIGHTS},
        partial(F.cross_entropy, label_smoothing=0.3, weight=_weights),
    ),
    "mse": (Numbers, "mse", {}, F.mse_loss),
    "l1": (Numbers, "l1", {}, F.l1_loss),
    "huber": (Numbers, "huber", {"delta": 0.7}, partial(F.huber_loss, delta=0.7)),
    "bce": (Several, "bce", {}, F.binary_cross_entropy_with_logits),
    "own": (Vectors, focal, {"gamma": 1.5}, partial(focal, gamma=1.5)),
    "own, of numbers": (One, gaussian, {}, gaussian),
    "own, linear": (Vectors, straight, {}, straight),
}
MODELS = {
    "written out": lambda i, o: nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, o)),
    "autograd": lambda i, o: nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Mish(), nn.Linear(5, o)),
}


def prepared(case, algo, model, **settings):
    tasks, loss, options, own = CASES[case]
    named = {"loss": loss} if isinstance(loss, str) else {}
    config = RunConfig(algo=algo, loss_options=options, **named, **{**SMALL, **settings})
    given = {} if named else {"loss": loss}
    setup = set_up(resolve(config, model=MODELS[model], benchmark=tasks(), **given))
    return setup, draw(tasks(), setup.config, "train", 5, 2, CPU, torch.float64), own


def off(setup, engine, batch, own):
    network, algorithm = setup.problem.network, setup.problem.algorithm
    names = [[slot.name for slot in slots] for slots in (network.w_slots, network.phi_slots)]
    first = algorithm.derivative == "first_order"
    losses, w, phi = plain_loop(network.module, *names, own, 2, 0.1, algorithm.l2, batch, first)
    gradient, outcome = engine.meta_gradient(setup.w, setup.phi, batch)
    pairs = ((outcome.loss, losses), (gradient.w, w), (gradient.phi, phi))
    return max(float((found - of).norm() / of.norm().clamp_min(1e-6)) for found, of in pairs)


ALGORITHMS = ("anil", "maml", "fomaml")
#: each loss under one algorithm, the others where there is time
_QUICK = [(case, ALGORITHMS[number % 3]) for number, case in enumerate(CASES)]
_OTHERS = [(case, algo) for case in CASES for algo in ALGORITHMS if (case, algo) not in _QUICK]


@pytest.mark.parametrize(
    ("case", "algo"), [*_QUICK, *(pytest.param(*other, marks=pytest.mark.slow) for other in _OTHERS)]
)
def test_every_loss_has_the_meta_gradient_of_a_plain_loop(case, algo):
    for model in MODELS:
        setup, batch, own = prepared(case, algo, model)
        by_autograd = "adapted ones written out" if algo == "anil" else "autograd"
        # the fast path stays, whatever the loss
        assert setup.route.words["layers"] == {"autograd": by_autograd}.get(model, model)
        strategies = ("auto", "unrolled", "recursion", "checkpointed", "vmapped")
        for strategy in strategies[: 4 if case == "own, linear" else 5]:  # F.one_hot is none of vmap's
            assert off(setup, Native(setup.problem, strategy), batch, own) < 1e-9, (model, strategy)


@pytest.mark.peers
@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("case", CASES)
def test_other_libraries_have_the_same_loss(case, algo):
    setup, batch, own = prepared(case, algo, "written out")
    for engine in ("learn2learn", "higher", "torchopt"):
        assert off(setup, registry.engines().get(engine)(setup.problem), batch, own) < 1e-9, engine


LINEAR = {
    "written out": lambda i, o: nn.Sequential(nn.Flatten(), nn.Linear(6, o)),
    "autograd": lambda i, o: nn.Linear(6, o),
}


@pytest.mark.parametrize("strategy", ["unrolled", "recursion", "checkpointed"])
def test_a_loss_linear_in_all_parameters_has_a_meta_gradient(strategy):
    for factory in LINEAR.values():
        config = RunConfig(algo="maml", strategy=strategy, **SMALL)
        setup = set_up(resolve(config, model=factory, benchmark=Vectors(), loss=straight))
        batch = draw(Vectors(), setup.config, "train", 5, 2, CPU, torch.float64)
        assert off(setup, setup.engine, batch, straight) < 1e-9


# What is right, and other metrics ----------------------------------------------------------------------------------


def test_padding_is_neither_right_nor_wrong():
    prediction = torch.eye(3)[None, [0, 1, 2, 0]]
    target = torch.tensor([[0, 1, 1, -100]])
    assert accuracy(Loss("cross_entropy", {"ignore_index": -100}), prediction, target).item() == pytest.approx(2 / 3)
    assert accuracy(Loss("mine:own"), prediction, target).item() == pytest.approx(2 / 3)
    prediction[0, 3] = torch.nan  # of padding nothing is asked
    assert accuracy(Loss("cross_entropy", {"ignore_index": -100}), prediction, target).item() == pytest.approx(2 / 3)
    prediction[0, 0] = torch.nan
    assert accuracy(Loss("cross_entropy", {"ignore_index": -100}), prediction, target).isnan()


def test_soft_labels_have_a_largest_share_and_several_labels_a_side():
    prediction = torch.tensor([[[2.0, -1.0, -1.0], [-1.0, 3.0, 1.0]]])
    soft = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]])
    assert accuracy("cross_entropy", prediction, soft).tolist() == [0.5]
    several = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]])
    assert accuracy("bce", prediction, several).tolist() == [pytest.approx(4 / 6)]
    # found 3, there 3, both 2
    assert metrics("bce", prediction, several)["f1"].tolist() == [pytest.approx(2 * 2 / 6)]
    assert metrics("bce", -torch.ones(1, 2, 3), torch.zeros(1, 2, 3))["f1"].tolist() == [1.0]
    assert accuracy("bce", prediction * torch.nan, several).isnan().all()
    assert metrics("bce", prediction * torch.nan, several)["f1"].isnan().all()


@pytest.mark.parametrize("loss", ["mse", "l1", "huber"])
def test_regression_has_no_accuracy_but_rmse_and_r2(loss):
    target = torch.tensor([[[1.0, 10.0], [3.0, 20.0]], [[5.0, 5.0], [5.0, 5.0]]])
    prediction = target + torch.tensor([[1.0, 1.0], [-1.0, 3.0]])
    found = metrics(loss, prediction, target)
    assert found["rmse"].tolist() == [pytest.approx(3**0.5)] * 2
    assert found["r2"][0].item() == pytest.approx(1 - 12 / (2 + 50))
    assert found["r2"][1].isnan()  # nothing varies there
    assert accuracy(loss, prediction, target).isnan().all()


@pytest.mark.parametrize(("algo", "case", "names"), [("maml", "l1", ["rmse", "r2"]), ("anil", "bce", ["f1"])])
def test_a_run_records_the_metrics_of_held_out_tasks(algo, case, names, tmp_path, capsys):
    from harness.cli.terminal.console import console
    from harness.cli.terminal.run import run_table

    tasks, loss, *_ = CASES[case]
    config = RunConfig(algo=algo, loss=loss, iterations=2, eval_tasks=5, eval_every=1, **SMALL)
    summary = harness.run(config, model=MODELS["written out"], benchmark=tasks(), results=tmp_path)
    assert summary["loss_function"] == loss
    assert list(summary["metrics"]) == names
    setup = set_up(resolve(config, model=MODELS["written out"], benchmark=tasks()))
    state = harness.load_parameters(summary["run_dir"])
    oracle = setup.evaluator.oracle(
        state["w"], state["phi"], draw(tasks(), setup.config, "test", 0, 5, CPU, torch.float64)
    )
    for when, w in (("before_adaptation", oracle.initial()), ("mean", setup.problem.algorithm.adapt(oracle, 2, 0.1))):
        for name, values in oracle.evaluate(w.detach()).metrics.items():
            assert summary["metrics"][name][when] == pytest.approx(float(values.mean()))
    lines = [
        json.loads(line) for line in (tmp_path / summary["run_dir"] / "evaluations.jsonl").read_text().splitlines()
    ]
    assert lines
    assert all(list(line["metrics"]) == names for line in lines)
    console().print(run_table(summary))
    assert f"{names[0]}, 5 held-out tasks" in capsys.readouterr().out


# Doors --------------------------------------------------------------------------------------------------------------

FOCAL = """
def focal(prediction, target, gamma=2.0):
    p = prediction.log_softmax(-1).gather(-1, target[:, None])
    return -((1 - p.exp()) ** gamma * p).mean()
"""
ONE = ["run", "--benchmark", "glyphs", "--model", "mlp", "--model-options", "{hidden: [4]}", "--ways", "3"]
ONE += ["--shots", "2", "--queries", "2", "--iterations", "1"]
ONE += [
    "--eval-tasks",
    "2",
    "--dtype",
    "float64",
    "--algo",
    "maml",
    "--inner-steps",
    "2",
    "--meta-batch",
    "2",
    "--json",
]


def ran(capsys, *words):
    """Status, and the summary or what was said on stderr."""
    status = main([*ONE, *words])
    printed = capsys.readouterr()
    return status, json.loads(printed.out) if status == 0 else printed.err.strip()


def test_an_own_loss_in_the_current_folder_trains_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = f"own_{tmp_path.name}"  # no other test's module
    (tmp_path / f"{name}.py").write_text(FOCAL)
    status, summary = ran(capsys, "--loss", f"{name}:focal", "--set", "loss_options.gamma=1.5")
    assert status == 0
    assert summary["loss_function"] == f"{name}:focal"
    assert summary["loss_options"] == {"gamma": 1.5}
    assert summary["route"]["layers"] == "written out"
    assert summary["accuracy"]["mean"] is not None
    setup = set_up(resolve(RunConfig(**yaml_of(summary))))
    batch = draw(registry.benchmarks().get("glyphs")(), setup.config, "train", 0, 2, CPU, torch.float64)
    network = setup.problem.network
    names = [slot.name for slot in network.w_slots]
    losses, w, _ = plain_loop(
        network.module, names, [], partial(focal, gamma=1.5), 2, setup.config.inner_lr, 0.0, batch, False
    )
    assert summary["train_loss"] == pytest.approx(float(losses.mean()), rel=1e-9)
    first = json.loads((tmp_path / summary["run_dir"] / "metrics.jsonl").read_text().splitlines()[0])
    assert first["grad_w_norm"] == pytest.approx(float(w.norm()), rel=1e-9)
    # the file by its path is the same loss, and an edited one is another run
    _, by_path = ran(capsys, "--loss", f"./{name}.py:focal")
    (tmp_path / f"{name}.py").write_text(FOCAL.replace("-((1 -", "-((1.5 -"))
    _, edited = ran(capsys, "--loss", f"./{name}.py:focal")
    assert by_path["key"] != edited["key"]
    assert by_path["train_loss"] != edited["train_loss"]


def yaml_of(summary):
    return yaml.safe_load((Path(summary["run_dir"]) / "config.yaml").read_text())


def test_losses_and_their_options_are_in_the_key():
    def key(**given):
        options = {"loss_options": given.pop("options", {})}
        config = RunConfig(algo="fomaml", **options, **SMALL)
        return set_up(resolve(config, model=MODELS["autograd"], benchmark=Vectors(), **given)).key_after(1)

    keys = [key(), key(options={"label_smoothing": 0.1}), key(loss=focal), key(loss=focal, options={"gamma": 1.0})]
    for power in (1, 2):  # one source, another number in it
        keys.append(key(loss=lambda p, t, power=power: F.cross_entropy(p, t) ** power))
    assert len(set(keys)) == len(keys)
    assert key(options={"label_smoothing": 0.0}) == keys[0]
    assert key(loss=focal) == keys[2]


def test_a_benchmark_brings_its_loss_and_options_but_not_to_another_loss(tmp_path):
    class Brings(Padded):
        defaults = {"loss_options": {"ignore_index": -100}}

    class Hubers(Numbers):
        loss = "huber"
        defaults = {"loss_options": {"delta": 0.5}}

    assert resolve(RunConfig(), benchmark=Brings()).config.loss_options["ignore_index"] == -100
    resolved = resolve(RunConfig(loss_options={"label_smoothing": 0.1}), benchmark=Brings())
    assert resolved.config.loss_options == {"label_smoothing": 0.1, "ignore_index": -100, "class_weights": None}
    assert resolve(RunConfig(), benchmark=Hubers()).config.loss_options == {"delta": 0.5}
    assert resolve(RunConfig(loss="l1"), benchmark=Hubers()).config.loss_options == {}


def test_what_is_not_known_of_an_own_loss_is_said(tmp_path):
    def unknown(algo, **loss):
        config = RunConfig(algo=algo, iterations=1, eval_tasks=2, **SMALL)
        return harness.run(config, model=MODELS["autograd"], benchmark=Vectors(), results=tmp_path, **loss)["unknown"]

    assert "whether 'test_losses:focal' is convex in the prediction" in unknown("anil", loss=focal)["convexity"]
    assert unknown("maml", loss=focal) == {}
    assert unknown("anil") == {}


# Refused ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--loss", "hubr"], "--loss: unknown loss 'hubr': did you mean 'huber'? allowed:"),
        (["--loss", "nowhere:f"], "--loss: loss 'nowhere:f' cannot be imported: No module named 'nowhere'"),
        (["--loss", "math:pi"], "--loss: loss 'math:pi' is not callable; allowed: a function (prediction, target)"),
        (["--set", "loss_options.label_smothing=0.1"], "did you mean 'label_smoothing'?"),
        (
            ["--set", "loss_options.label_smoothing=1"],
            "label_smoothing: 1 is not allowed; allowed: number >= 0 and < 1",
        ),
        (["--set", "loss_options.class_weights=[1, 2]"], "loss_options.class_weights: 2 numbers; allowed: 3, one for"),
        (["--loss", "mse"], "support_y has type int64; allowed: floating-point numbers as [1, 6, 3] for loss mse"),
        (["--loss", "bce", "--set", "loss_options.delta=1"], "unknown option of loss bce 'delta'"),
    ],
)
def test_losses_that_are_not_there_or_do_not_fit_are_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, error = ran(capsys, *words)
    assert status == 2
    assert said in error
    assert "\n" not in error
    assert not list(tmp_path.iterdir())


def raising(prediction, target):
    raise ValueError("of my own\nand more")


def counting(prediction, target, seen=[]):  # noqa: B006
    seen.append(1)
    return prediction.square().mean() * len(seen)


def moving(prediction, target):
    return prediction.square().mean() + target.add_(1).double().mean()


BAD = {
    "a vector": (lambda p, t: p.sum(-1), "gives a tensor of shape [6], torch.float64; allowed: one floating-point"),
    "None": (lambda p, t: None, "gives None"),
    "a float": (lambda p, t: 3.0, "gives 3.0"),
    "a count": (lambda p, t: (p.argmax(-1) == t).sum(), "gives a tensor of shape [], torch.int64"),
    "NaN": (lambda p, t: p.sum() * float("nan"), "gives nan on the first tasks; allowed: a finite number"),
    "detached": (lambda p, t: p.detach().sum(), "gives a number that the prediction does not enter"),
    "raises": (raising, "failed (ValueError, test_losses.py:"),
    "another one each time": (counting, "gives another number when it is called again"),
    "infinite slope": (lambda p, t: (p - p.detach()).square().sum().sqrt(), "has a gradient that is NaN or infinite"),
    "once": (lambda p, t: F.multi_margin_loss(p, t), "torch has no second derivative of multi_margin_loss"),
    "changes its target": (moving, "changes its target in place"),
    "options": (lambda p: p.sum(), "it is called as (prediction, target, **loss_options)"),
}


@pytest.mark.parametrize("bad", BAD)
def test_own_losses_that_nothing_can_be_done_with_are_one_line(bad, tmp_path):
    function, said = BAD[bad]
    config = RunConfig(algo="maml", iterations=1, eval_tasks=2, **SMALL)
    with pytest.raises(InputError) as refused:
        harness.run(config, model=MODELS["written out"], benchmark=Vectors(), loss=function, results=tmp_path)
    assert str(refused.value).startswith("loss 'test_losses:")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


TARGETS = {
    "padding without an index": (
        Padded,
        {},
        "classes from -100 to 2; allowed: 0 to 2, or one that loss_options.ignore",
    ),
    "nothing but padding": (Vectors, {"loss_options": {"ignore_index": 0}, "ways": 1}, "labels are all ignored"),
    "soft labels and an index": (Soft, {"loss_options": {"ignore_index": 0}}, "has probabilities; allowed: classes"),
    "numbers for soft labels": (Numbers, {"loss": "cross_entropy", "ways": 2}, "soft labels that are no probabilities"),
    "numbers for several labels": (Numbers, {"loss": "bce"}, "allowed: 0 to 1"),
    "one number for two outputs": (One, {"loss": "l1"}, "support_y has shape [1, 6]; allowed: [1, 6, 2]"),
    "classes for numbers": (Vectors, {"loss": "huber"}, "has type int64; allowed: floating-point numbers as [1, 6, 3]"),
}


@pytest.mark.parametrize("wrong", TARGETS)
def test_targets_that_do_not_fit_the_loss_are_one_line(wrong, tmp_path):
    tasks, settings, said = TARGETS[wrong]
    config = RunConfig(algo="fomaml", iterations=1, eval_tasks=2, **{**SMALL, **settings})
    with pytest.raises(InputError) as refused:
        harness.run(config, model=MODELS["autograd"], benchmark=tasks(), results=tmp_path)
    assert str(refused.value).startswith(f"benchmark '{tasks.name}', train tasks from 0: support_y ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_batch_of_own_targets_may_have_any_type_but_not_any_number():
    assert set(LOSSES) == {"cross_entropy", "mse", "l1", "huber", "bce"}
    x = torch.zeros(2, 3, 4)
    for y in (torch.zeros(2, 3), torch.zeros(2, 3, 7, dtype=torch.bool), torch.zeros(2, 3, dtype=torch.int32)):
        checked(TaskBatch(x, y, x, y), "who", (4,), 1, Loss("own:loss"), 2, torch.float32, CPU)
    y = torch.zeros(2, 2)
    with pytest.raises(InputError, match=r"who: support_y has type float32 and shape \[2, 2\]; allowed: \[2, 3, ...\]"):
        checked(TaskBatch(x, y, x, y), "who", (4,), 1, Loss("own:loss"), 2, torch.float32, CPU)
