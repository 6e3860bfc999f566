"""A model with a state: by the batch's own statistics, or as ``module.eval()`` has it, by an option that is stated."""

from __future__ import annotations

import pytest
import torch
from strange_models import Vectors, plain_loop
from torch import nn

import harness
from harness import RunConfig
from harness.errors import InputError
from harness.experiment.setup import set_up
from harness.problem.tasks import draw
from harness.settings.resolve import resolve

SMALL = {"ways": 3, "shots": 2, "queries": 2, "meta_batch": 2, "inner_steps": 2, "inner_lr": 0.1, "dtype": "float64"}
EVAL = {**SMALL, "model_mode": "eval"}


class Moves(nn.Module):
    """A running mean of its own, moved in training mode."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((8,), 0.3))

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x - self.mean


def pretrained(frozen=False):
    """A backbone that has seen data, and dropout in two places."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        body = [nn.Linear(6, 8), nn.BatchNorm1d(8), Moves(), nn.ReLU(), nn.Dropout(0.5)]
        model = nn.Sequential(*body, nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
        for _ in range(5):
            model(2 + 3 * torch.randn(20, 6))
    model[:5].requires_grad_(not frozen)
    return model


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("algo", ["anil", "maml", "fomaml"])
def test_in_eval_mode_the_model_is_what_it_is_in_eval_mode(algo, frozen):
    """By running statistics, without dropout: the plain loop over the user's own module, its state left as it was."""
    own = pretrained(frozen).double().eval()
    setup = set_up(resolve(RunConfig(algo=algo, **EVAL), model=lambda i, o: pretrained(frozen), benchmark=Vectors()))
    network, algorithm = setup.problem.network, setup.problem.algorithm
    names = [[slot.name for slot in slots] for slots in (network.w_slots, network.phi_slots)]
    batch = draw(Vectors(), setup.config, "train", 5, 3, torch.device("cpu"), torch.float64)
    first = algorithm.derivative == "first_order"
    expected = plain_loop(own, *names, "cross_entropy", 2, 0.1, algorithm.l2, batch, first)
    gradient, outcome = setup.engine.meta_gradient(setup.w, setup.phi, batch)
    for found, of in zip((outcome.loss, gradient.w, gradient.phi), expected, strict=True):
        assert float((found - of).norm()) <= 1e-9 * max(float(of.norm()), 1e-6)
    buffers = dict(network.module.named_buffers())
    assert all(torch.equal(part.to(buffers[name]), buffers[name]) for name, part in own.named_buffers())


def test_buffers_are_in_the_checkpoint_and_of_the_run_that_goes_on(tmp_path):
    config = RunConfig(algo="anil", iterations=2, eval_tasks=3, checkpoint_every=1, **EVAL)
    summary = harness.run(config, model=lambda i, o: pretrained(), benchmark=Vectors(), results=tmp_path)
    state = harness.load_parameters(summary["run_dir"])["state_dict"]
    own = pretrained().double()
    assert {name for name, _ in own.named_buffers()} <= set(state)
    assert all(torch.equal(state[name], part.to(state[name])) for name, part in own.named_buffers())
    own.load_state_dict(state)
    batch = draw(Vectors(), config, "test", 0, 3, torch.device("cpu"), torch.float64)
    losses, *_ = plain_loop(own.eval(), summary["w"], [], "cross_entropy", 2, 0.1, 1e-3, batch, True)
    assert summary["loss"]["mean"] == pytest.approx(float(losses.mean()), rel=1e-9)


def test_modes_are_different_runs_and_training_mode_says_what_can_be_done(tmp_path):
    def norms(input_shape, outputs):
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, outputs))

    runs = []
    for mode in ("train", "eval"):
        config = RunConfig(algo="anil", iterations=1, eval_tasks=2, **{**SMALL, "model_mode": mode})
        runs.append(harness.run(config, model=norms, benchmark=Vectors(), results=tmp_path))
    assert runs[0]["run_dir"] != runs[1]["run_dir"]
    assert runs[0]["loss"] != runs[1]["loss"]
    with pytest.raises(InputError, match="or --set model_mode=eval"):
        set_up(resolve(RunConfig(algo="anil", **SMALL), model=lambda i, o: pretrained(), benchmark=Vectors()))
    moving = lambda i, o: nn.Sequential(nn.Linear(6, 8), Moves(), nn.Linear(8, o))  # noqa: E731
    with pytest.raises(InputError, match=r"changes '1\.mean'.*or --set model_mode=eval"):
        set_up(resolve(RunConfig(algo="anil", **SMALL), model=moving, benchmark=Vectors()))


def test_a_module_that_its_owner_keeps_comes_back_as_it_was(tmp_path):
    kept = pretrained().train()
    before = {name: part.clone() for name, part in kept.state_dict().items()}
    config = RunConfig(algo="anil", iterations=1, eval_tasks=2, **EVAL)
    harness.run(config, model=kept, benchmark=Vectors(), results=tmp_path)
    assert kept.training
    assert all(
        torch.equal(part, before[name]) and part.dtype == before[name].dtype for name, part in kept.state_dict().items()
    )
