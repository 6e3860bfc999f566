"""Own models of every kind: trained as what they are, or refused in one line; nothing else."""

from __future__ import annotations

import random

import pytest
import strange_models as strange
import torch
from strange_models import (
    ODD,
    RANDOM,
    STATE,
    WRONG,
    Draws,
    Images,
    Numbers,
    Remembers,
    Vectors,
    image_model,
    plain_loop,
    vector_model,
)
from torch import nn

import harness
from harness import RunConfig
from harness.engines.chunks import TaskChunks
from harness.engines.native import Native
from harness.errors import InputError, NotSupported
from harness.experiment.evaluate import evaluate
from harness.experiment.progress import Silent
from harness.experiment.setup import set_up
from harness.problem.benchmark import TaskShape
from harness.problem.tasks import TaskBatch, draw
from harness.settings.resolve import resolve

STRATEGIES = ("auto", "unrolled", "recursion", "checkpointed", "linearised", "vmapped")
#: the parts of (w, phi), and what a refusal may be about even where a model could be trained
PARTITIONS = (
    ("maml", "nonconvex", None),
    ("fomaml", "nonconvex", None),
    ("anil", "convex", None),
    ("anil", "nonconvex", None),
    ("anil", "convex", r"bias$"),
)
MAY_BE_REFUSED = (
    "is tied to",
    "frozen parameters only",
    "layers, allowed",
    "matches no parameter",
    "inplace",
)


def tried(number: int, odd: tuple[str, ...], images: bool = False) -> str:
    """``refused: ...`` or ``equal``; anything else fails."""
    rng = random.Random(number)
    benchmark = Images() if images else rng.choice((Vectors, Numbers))()
    algo, geometry, adapt = rng.choice(PARTITIONS)
    strategy, steps = rng.choice(STRATEGIES), rng.randint(0, 3)
    make = image_model if images else vector_model

    def factory(input_shape, outputs):
        return make(random.Random(number), outputs, odd)

    config = RunConfig(
        algo=algo,
        geometry=geometry,
        adapt=adapt,
        strategy=strategy,
        inner_steps=steps,
        inner_lr=0.1,
        ways=3,
        shots=2,
        queries=2,
        meta_batch=2,
        dtype="float64",
    )
    resolved = resolve(config, model=factory, benchmark=benchmark)
    try:
        setup = set_up(resolved)
    except InputError as refusal:
        return f"refused: {refusal}"
    network = setup.problem.network
    batch = draw(benchmark, setup.config, "train", 5, 2, torch.device("cpu"), torch.float64)
    gradient, outcome = setup.engine.meta_gradient(setup.w, setup.phi, batch)
    adapted = setup.evaluator.oracle(setup.w, setup.phi, batch)
    after = adapted.evaluate(setup.problem.algorithm.adapt(adapted, steps, 0.1).detach()).loss
    names = [[slot.name for slot in slots] for slots in (network.w_slots, network.phi_slots)]
    trainable = {name for name, p in network.module.named_parameters() if p.requires_grad}
    assert set(names[0]) | set(names[1]) == trainable
    l2, first = setup.problem.algorithm.l2, algo == "fomaml"
    losses, w, phi = plain_loop(network.module, *names, benchmark.loss, steps, 0.1, l2, batch, first)
    for found, expected in ((outcome.loss, losses), (after, losses), (gradient.w, w), (gradient.phi, phi)):
        error = float((found - expected).norm() / expected.norm().clamp_min(1e-6))
        assert error < 1e-9, (number, odd, algo, geometry, adapt, strategy, steps, setup.route.words, error)
    return "equal"


def oddities(number: int) -> tuple[str, ...]:
    rng = random.Random(number + 10**6)
    odd = rng.sample(ODD, rng.choice((1, 1, 2, 3)))
    return tuple(odd + ([rng.choice(WRONG)] if rng.random() < 0.25 else []))


def kinds_of(number: int, odd: tuple[str, ...]) -> list[str]:
    layers = vector_model(random.Random(number), 3, odd).modules()
    return [layer.kind for layer in layers if isinstance(layer, Draws)]


def try_models(first: int, stop: int) -> None:
    equal = 0
    for number in range(first, stop):
        odd = oddities(number)
        result = tried(number, odd, images=number % 5 == 0)
        assert "\n" not in result
        if result == "equal":
            equal += 1
            refusable = set(odd) & {"random", "state", "tuple", "not a number", "detached"}
            # Images know not all of them; RReLU draws nothing for what is positive, as behind a sigmoid it is.
            assert not refusable or number % 5 == 0 or "rrelu" in kinds_of(number, odd), (number, odd)
        else:
            reasons = (*MAY_BE_REFUSED, "strategy 'linearised'", "strategy 'vmapped'")
            assert set(odd) & set(WRONG) or any(reason in result for reason in reasons), (number, odd, result)
    assert equal > (stop - first) / 2


def test_random_models_are_equal_to_a_plain_loop_over_their_own_forward_or_refused():
    try_models(0, 60)


@pytest.mark.slow
def test_two_thousand_random_models_are_equal_or_refused():
    try_models(60, 2100)


# One by one ---------------------------------------------------------------------------------------------------------


def one_activation(input_shape, outputs):
    act = nn.ReLU()
    return nn.Sequential(nn.Linear(6, 8), act, nn.Linear(8, 8), act, nn.Linear(8, outputs))


def nested_activation(input_shape, outputs):
    act = nn.ReLU()
    return nn.Sequential(nn.Sequential(nn.Linear(6, 8), act, nn.Linear(8, 8), act), nn.Linear(8, outputs))


def layer_twice(input_shape, outputs):
    layer = nn.Linear(8, 8)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(8, outputs))


def tied_over_the_cut(input_shape, outputs):
    first, last = nn.Linear(6, 6), nn.Linear(6, 6)
    last.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), last, nn.Tanh(), nn.Linear(6, outputs))


class Shifted(nn.Sequential):
    def forward(self, x):
        return super().forward((x - 0.5) / 0.25) * 2


def subclass(input_shape, outputs):
    return Shifted(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, outputs))


def hooked(input_shape, outputs):
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, outputs))
    model[0].register_forward_hook(lambda module, inputs, y: 3 * y)
    model.register_forward_pre_hook(lambda module, inputs: ((inputs[0] - 0.5) / 0.25,))
    return model


KINDS = (one_activation, nested_activation, layer_twice, tied_over_the_cut, subclass, hooked)
SMALL = {"ways": 3, "shots": 2, "queries": 2, "meta_batch": 2, "inner_steps": 2, "inner_lr": 0.1, "dtype": "float64"}
PEERS = ("higher", "learn2learn", "torchopt")


@pytest.mark.parametrize("engine", ["native", *(pytest.param(name, marks=pytest.mark.peers) for name in PEERS)])
@pytest.mark.parametrize("algo", ["anil", "maml", "fomaml"])
@pytest.mark.parametrize("factory", KINDS)
def test_a_run_trains_and_evaluates_the_model_itself(factory, algo, engine, tmp_path):
    """The first loss, and that of held-out tasks under the trained parameters, are the module's own."""
    config = RunConfig(
        algo=algo, engine=engine, iterations=3, eval_tasks=7, outer_lr_w=0.05, outer_lr_phi=0.05, **SMALL
    )
    try:
        summary = harness.run(config, model=factory, benchmark=Vectors(), results=tmp_path)
    except NotSupported as refused:
        refusal = str(refused)
    else:
        refusal = ""
    if refusal:
        assert engine in refusal.partition("allowed")[0]
        assert not list(tmp_path.iterdir())
        return
    module = factory((6,), 3).double()
    module.load_state_dict(harness.load_parameters(summary["run_dir"])["state_dict"])
    w = summary["w"]
    phi = [name for name, _ in module.named_parameters() if name not in w]
    l2 = 1e-3 if algo == "anil" else 0.0
    batch = Vectors().draw("test", 0, 7, TaskShape(0, ways=3, shots=2, queries=2), None, torch.float64)
    losses, *_ = plain_loop(module, w, phi, "cross_entropy", 2, 0.1, l2, batch, True)
    assert summary["loss"]["mean"] == pytest.approx(float(losses.mean()), rel=1e-9)


def refusal_of(factory, tmp_path, algo="anil", benchmark=None, **settings) -> str:
    config = RunConfig(algo=algo, iterations=2, eval_tasks=3, **{**SMALL, **settings})
    with pytest.raises(InputError) as refused:
        harness.run(config, model=factory, benchmark=benchmark or Vectors(), results=tmp_path)
    assert not list(tmp_path.iterdir())
    assert "\n" not in str(refused.value)
    return str(refused.value)


def with_layer(make):
    return lambda input_shape, outputs: nn.Sequential(nn.Linear(6, 8), make(), nn.Tanh(), nn.Linear(8, outputs))


@pytest.mark.parametrize("kind", RANDOM)
def test_random_numbers_are_refused_with_the_layer_that_draws_them(kind, tmp_path):
    message = refusal_of(with_layer(lambda: Draws(kind)), tmp_path)
    if kind == "own generator":  # nobody can look into it, but it gives something else each time
        assert "another prediction when it is called again" in message
    else:
        assert "draws random numbers in layer '1'" in message


@pytest.mark.parametrize("kind", STATE)
def test_a_state_that_evaluations_move_is_refused(kind, tmp_path):
    message = refusal_of(with_layer(lambda: Remembers(kind)), tmp_path)
    assert ("changes '1.mean'" if "buffer" in kind else "another prediction when it is called again") in message


class Dropping(nn.Module):
    """Dropout inside somebody else's layer."""

    def __init__(self, kind, outputs):
        super().__init__()
        lstm = nn.LSTM(1, 4, num_layers=2, dropout=0.3, batch_first=True)
        self.inside = lstm if kind == "lstm" else nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True)
        self.kind, self.enter, self.head = kind, nn.Linear(1, 4), nn.Linear(4, outputs)

    def forward(self, x):
        x = x[..., None]
        inside = self.inside(x)[0] if self.kind == "lstm" else self.inside(*3 * (self.enter(x),))[0]
        return self.head(inside[:, -1])


@pytest.mark.parametrize("kind", ["lstm", "attention"])
def test_dropout_within_a_layer_is_refused(kind, tmp_path):
    assert "draws random numbers in layer 'inside'" in refusal_of(lambda i, o: Dropping(kind, o), tmp_path)


class Attending(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.enter, self.head = nn.Linear(1, 4), nn.Linear(4, outputs)

    def forward(self, x):
        x = self.enter(x[..., None])
        return self.head(nn.functional.scaled_dot_product_attention(x, x, x).mean(1))


def test_what_has_no_second_derivative_is_refused_where_one_is_needed(tmp_path):
    message = refusal_of(lambda i, o: Attending(o), tmp_path, algo="maml")
    assert "no second derivative" in message
    assert "try --algo fomaml" in message
    config = RunConfig(algo="fomaml", iterations=2, eval_tasks=3, **SMALL)
    summary = harness.run(config, model=lambda i, o: Attending(o), benchmark=Vectors(), results=tmp_path)
    assert summary["status"] == "completed"


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: strange.Function(lambda x: (x, x)), "gives tuple"),
        (lambda: strange.Function(lambda x: x.argmax(-1)), "gives torch.int64"),
        (lambda: strange.Function(lambda x: x.detach()), "no trained parameter enters"),
        (lambda: strange.Function(lambda x: (x - 1e3).log()), "NaN or infinity in layer '2'"),
        (lambda: strange.Function(lambda x: x[:, :2]), "allowed: [6, 3]"),
        (lambda: strange.Function(lambda x: x[:0]), "allowed: [6, 3]"),
    ],
)
def test_predictions_that_nothing_can_be_done_with_are_refused(layer, words, tmp_path):
    assert words in refusal_of(lambda i, o: nn.Sequential(nn.Linear(6, o), nn.Tanh(), layer()), tmp_path, "maml")


def test_a_parameter_used_past_its_name_is_refused(tmp_path):
    def factory(input_shape, outputs):
        head = nn.Linear(6, outputs)
        return nn.Sequential(strange.Shift(head.weight), nn.Linear(6, 6), nn.Tanh(), head)

    assert "use every parameter by its own name" in refusal_of(factory, tmp_path)


class Flat(Numbers):
    """Targets without an axis for the outputs."""

    def outputs(self, ways):
        return 1

    def targets(self, ways, each, generator, dtype):
        return torch.randn(ways * each, generator=generator).to(dtype)


def test_targets_of_another_shape_than_the_predictions_are_refused(tmp_path):
    message = refusal_of(lambda i, o: nn.Linear(6, o), tmp_path, "maml", Flat())
    assert "support_y has shape [1, 6]; allowed: [1, 6, 1]" in message


def frozen(input_shape, outputs):
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, outputs))
    model[0].requires_grad_(False)
    model[4].bias.requires_grad_(False)
    model[0].register_buffer("table", torch.arange(3.0))
    return model


@pytest.mark.parametrize("algo", ["anil", "maml"])
def test_frozen_parameters_are_neither_trained_nor_counted(algo, tmp_path):
    config = RunConfig(algo=algo, iterations=5, eval_tasks=3, outer_lr_w=0.1, outer_lr_phi=0.1, **SMALL)
    summary = harness.run(config, model=frozen, benchmark=Vectors(), results=tmp_path)
    state = harness.load_parameters(summary["run_dir"])["state_dict"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = frozen((6,), 3).double()
    before = {name: part.clone() for name, part in module.state_dict().items()}
    module.load_state_dict(state)
    same = {name for name, part in before.items() if torch.equal(part, state[name])}
    assert same == {"0.weight", "0.bias", "0.table", "4.bias"}
    assert summary["n_w"] + summary["n_phi"] == 8 * 8 + 8 + 3 * 8
    assert summary["counts_per_task"]["gradient_entries"] == (2 + 1) * summary["n_w"] + summary["n_phi"]


def test_a_model_frozen_where_it_is_to_be_adapted_is_refused(tmp_path):
    def factory(input_shape, outputs):
        model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, outputs))
        model[1].requires_grad_(False)
        return model

    assert "names frozen parameters only" in refusal_of(factory, tmp_path)


def test_a_layer_tied_to_one_that_is_not_adapted_is_refused_or_adapted_in_both_places(tmp_path):
    def factory(input_shape, outputs):
        first, last = nn.Linear(6, outputs), nn.Linear(outputs, 6)
        model = nn.Sequential(first, nn.Tanh(), last, nn.Tanh(), nn.Linear(6, outputs))
        model[4].weight = first.weight
        return model

    assert "'4.weight' is tied to '0.weight'" in refusal_of(factory, tmp_path)
    config = RunConfig(algo="anil", adapt=r"^4\.", iterations=1, eval_tasks=3, **SMALL)
    summary = harness.run(config, model=factory, benchmark=Vectors(), results=tmp_path)
    assert summary["w"] == ["0.weight", "4.bias"]


def test_a_module_that_its_owner_keeps_comes_back_as_it_was(tmp_path):
    kept = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).eval()
    kept(torch.randn(4, 6))
    before = {name: part.clone() for name, part in kept.state_dict().items()}
    x = torch.randn(5, 6)
    predicted = kept(x)
    config = RunConfig(algo="anil", iterations=2, eval_tasks=3, **SMALL)
    harness.run(config, model=lambda i, o: kept, benchmark=Vectors(), results=tmp_path)
    assert not kept.training
    assert all(torch.equal(part, before[name]) for name, part in kept.state_dict().items())
    assert kept[1].num_batches_tracked.dtype == torch.int64
    assert torch.equal(kept(x), predicted)
    with pytest.raises(InputError):
        harness.run(config, model=lambda i, o: nn.Sequential(kept, nn.Linear(3, 5)), benchmark=Vectors())
    assert torch.equal(kept(x), predicted)


def test_the_summary_says_which_way_the_derivatives_take_and_why(tmp_path):
    def route(factory, **settings):
        config = RunConfig(algo="anil", iterations=1, eval_tasks=3, **{**SMALL, **settings})
        return harness.run(config, model=factory, benchmark=Vectors(), results=tmp_path)["route"]

    known = route(lambda i, o: nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, o)))
    assert known["layers"] == "written out"
    assert known["shared_body"]
    assert known["relative_error"] < 1e-12
    mish = route(lambda i, o: nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.Mish(), nn.Linear(8, o)))
    assert mish["layers"] == "adapted ones written out"
    assert mish["why"] == "layer '2' (Mish) has no written-out derivatives"
    own = route(subclass)
    assert own["shared_body"]
    assert "(GraphModule) has no written-out derivatives" in own["why"]
    assert not route(lambda i, o: Backbone(o, nn.Tanh(), looks=True), adapt="head")["shared_body"]
    # where batch norm's scale is 0 every maximum is a tie, and nobody's subgradient is another one's
    config = RunConfig(algo="maml", iterations=1, eval_tasks=3, **SMALL)
    zero = harness.run(config, model=zeroed, benchmark=Images(), results=tmp_path)["route"]
    assert zero["layers"] == "autograd"
    assert "another result than the model's own forward" in zero["why"]


def zeroed(input_shape, outputs):
    norm = nn.BatchNorm2d(3)
    nn.init.zeros_(norm.weight)
    nn.init.ones_(norm.bias)
    block = (nn.Conv2d(1, 3, 3, padding=1), norm, nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(*block, nn.Flatten(), nn.Linear(75, outputs))


class Drifting(Vectors):
    """A stream in which a task depends on how many are drawn with it, or on what was drawn before."""

    drawn = 0

    def draw(self, split, first, tasks, *more):
        batch = super().draw(split, first, tasks, *more)
        if self.kind == "together":
            return TaskBatch(batch.support_x * tasks, batch.support_y, batch.query_x, batch.query_y)
        self.drawn += 1
        return TaskBatch(batch.support_x, batch.support_y, batch.query_x + self.drawn, batch.query_y)


def test_a_stream_of_other_tasks_each_time_is_refused(tmp_path):
    drifting = Drifting()
    drifting.kind = "each time"
    message = refusal_of(one_activation, tmp_path, benchmark=drifting)
    assert "benchmark 'vectors': the first tasks of 'train' are others each time" in message


def test_a_stream_whose_tasks_depend_on_how_many_are_drawn_is_told(tmp_path):
    drifting = Drifting()
    drifting.kind = "together"
    config = RunConfig(algo="anil", iterations=1, eval_tasks=3, **SMALL)
    summary = harness.run(config, model=one_activation, benchmark=drifting, results=tmp_path)
    assert "task 1 of 'vectors' is another one when it is drawn alone" in summary["unknown"]["task_stream"]


def test_held_out_predictions_that_are_no_numbers_have_no_accuracy(tmp_path):
    config = RunConfig(algo="maml", iterations=1, eval_tasks=5, **{**SMALL, "inner_lr": 1e38, "inner_steps": 4})
    resolved = resolve(config, model=one_activation, benchmark=Vectors())
    setup = set_up(resolved)
    chunks = TaskChunks("auto", 2)
    found = evaluate(setup.evaluator, setup.w, setup.phi, resolved.benchmark, setup.config, "test", chunks)
    assert found["loss"] is None
    assert found["accuracy"] is None
    assert found["accuracy_ci95"] is None


def test_a_run_of_a_frozen_model_goes_on_with_what_was_frozen(tmp_path):
    """A factory that gives other frozen numbers the second time: the checkpoint's are used."""
    config = RunConfig(algo="anil", iterations=4, eval_tasks=3, checkpoint_every=1, **SMALL)
    whole = harness.run(config, model=frozen, benchmark=Vectors(), results=tmp_path / "whole")

    class Stopping(Silent):
        def trained(self, line):
            if line["iteration"] == 2:
                raise KeyboardInterrupt

    halted = harness.run(config, model=frozen, benchmark=Vectors(), results=tmp_path / "two", progress=Stopping())
    assert halted["status"] == "interrupted"
    resumed = harness.run(config, model=frozen, benchmark=Vectors(), results=tmp_path / "two", resume=True)
    states = [harness.load_parameters(summary["run_dir"])["state_dict"] for summary in (whole, resumed)]
    assert all(torch.equal(part, states[1][name]) for name, part in states[0].items())
    assert whole["loss"] == resumed["loss"]


class Backbone(nn.Module):
    """A body of a person's own, whose head is registered first and lies deep, and may not have the last word.

    ``looks``: at the numbers, so that nobody can follow what it does with them.
    """

    def __init__(self, outputs, after=None, looks=False):
        super().__init__()
        self.top = nn.ModuleDict({"head": nn.Linear(8, outputs)})
        self.first, self.second, self.after, self.looks = nn.Linear(6, 8), nn.Linear(8, 8), after, looks

    def forward(self, x):
        x = torch.sin(self.first(x))
        if self.looks and bool(x.isinf().any()):
            return x
        x = self.top["head"](x + torch.tanh(self.second(x)))
        return self.after(x) if self.after else x


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("engine", ["native", *(pytest.param(name, marks=pytest.mark.peers) for name in PEERS)])
def test_features_are_computed_once_whatever_the_module_is(engine, looks):
    """A model that is no Sequential: what enters its adapted layer is shared by all inner steps, peers' too."""

    def calls(steps):
        setup = set_up(resolve(config.model_copy(update={"inner_steps": steps}), model=factory, benchmark=Vectors()))
        seen = []
        setup.problem.network.module.first.register_forward_hook(lambda *_: seen.append(1))
        batch = draw(Vectors(), setup.config, "train", 0, 2, torch.device("cpu"), torch.float64)
        setup.engine.meta_gradient(setup.w, setup.phi, batch)
        assert setup.route.words["shared_body"]
        assert setup.problem.network.cut == ("head" if looks else "trace")
        return len(seen)

    def factory(input_shape, outputs):
        return Backbone(outputs, looks=looks)

    config = RunConfig(algo="anil", engine=engine, adapt="head", **SMALL)
    # the two examples sets of two tasks, one after the other or at once
    assert calls(1) == calls(7) == (1 if engine == "native" else 4)


@pytest.mark.parametrize("looks", [False, True])
def test_a_head_without_the_last_word_is_cut_off_only_with_what_comes_after_it(looks, tmp_path):
    config = RunConfig(algo="anil", adapt="head", iterations=1, eval_tasks=3, **SMALL)
    for after in (torch.tanh, lambda x: x / x.norm(dim=-1, keepdim=True)):

        def factory(input_shape, outputs, after=after):
            return Backbone(outputs, after, looks)

        summary = harness.run(config, model=factory, benchmark=Vectors(), results=tmp_path)
        assert summary["route"]["shared_body"] is not looks


def test_adapted_layers_in_the_middle_of_a_module_are_cut_off_where_they_begin(tmp_path):
    """Before the first adapted layer, whatever comes after it; the gradient is the plain loop's."""
    config = RunConfig(algo="anil", adapt="second|head", **{**SMALL, "inner_steps": 3})
    setup = set_up(resolve(config, model=lambda i, o: Backbone(o), benchmark=Vectors()))
    network = setup.problem.network
    assert (network.cut, list(network.body._modules)) == ("trace", ["first", "sin"])
    batch = draw(Vectors(), setup.config, "train", 0, 2, torch.device("cpu"), torch.float64)
    gradient, outcome = setup.engine.meta_gradient(setup.w.double(), setup.phi.double(), batch)
    names = [[slot.name for slot in slots] for slots in (network.w_slots, network.phi_slots)]
    network.module.double()
    l2 = setup.problem.inner.l2
    losses, w, phi = plain_loop(network.module, *names, "cross_entropy", 3, setup.config.inner_lr, l2, batch, False)
    for found, expected in ((outcome.loss, losses), (gradient.w, w), (gradient.phi, phi)):
        assert float((found - expected).norm()) <= 1e-9 * float(expected.norm())


@pytest.mark.parametrize(
    ("layer", "together"),
    [
        (nn.Identity, True),
        (lambda: nn.LayerNorm(8), True),
        (lambda: nn.BatchNorm1d(8), False),
        (lambda: strange.Function(lambda x: x / x.abs().max()), False),
        (lambda: strange.Function(lambda x: x[:6] + 0), False),
    ],
)
def test_examples_of_all_tasks_pass_at_once_only_where_none_sees_another(layer, together):
    """A body by autograd and a head that is written out behind it, against a plain loop over the module itself."""

    def factory(input_shape, outputs):
        return nn.Sequential(nn.Linear(6, 8), layer(), nn.Mish(), nn.Linear(8, outputs))

    setup = set_up(resolve(RunConfig(algo="anil", **{**SMALL, "inner_steps": 3}), model=factory, benchmark=Vectors()))
    assert setup.route.words["layers"] == "adapted ones written out"
    network = setup.problem.network
    assert (network.together > 0) is together
    names = [[slot.name for slot in slots] for slots in (network.w_slots, network.phi_slots)]
    batch = draw(Vectors(), setup.config, "train", 5, 3, torch.device("cpu"), torch.float64)
    l2, step = setup.problem.inner.l2, setup.config.inner_lr
    expected = plain_loop(network.module, *names, "cross_entropy", 3, step, l2, batch, False)
    for strategy in ("linearised", "unrolled", "recursion", "checkpointed"):
        gradient, outcome = Native(setup.problem, strategy).meta_gradient(setup.w, setup.phi, batch)
        for found, of in zip((outcome.loss, gradient.w, gradient.phi), expected, strict=True):
            assert float((found - of).norm()) <= 1e-9 * float(of.norm()), strategy
