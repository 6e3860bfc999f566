"""What is adapted, by name; and convex only where it was seen to be."""

from __future__ import annotations

import pytest
import torch
from strange_models import Vectors
from torch import nn

import harness
from harness import RunConfig
from harness.errors import InputError
from harness.problem.adapt import select

SMALL = {"ways": 3, "shots": 2, "queries": 2, "meta_batch": 2, "inner_steps": 2, "inner_lr": 0.1, "dtype": "float64"}


class Adapter(nn.Module):
    """A linear layer with a low-rank adapter, its parameters called as PEFT calls them."""

    def __init__(self, inside, outside):
        super().__init__()
        self.base_layer = nn.Linear(inside, outside).requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(inside, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, outside, bias=False)})

    def forward(self, x):
        return self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))


class Backbone(nn.Module):
    """Its head is registered first, and its classifier has two layers."""

    def __init__(self, outputs):
        super().__init__()
        self.classifier = nn.Sequential(nn.Linear(8, 8), nn.Hardswish(), nn.Linear(8, outputs))
        self.enter, self.norm, self.adapter = nn.Linear(6, 8), nn.LayerNorm(8), Adapter(8, 8)

    def forward(self, x):
        return self.classifier(self.adapter(self.norm(torch.tanh(self.enter(x)))))


NAMED = {
    "norm": ["norm.weight", "norm.bias"],
    "bias": ["classifier.0.bias", "classifier.2.bias", "enter.bias", "norm.bias"],
    "lora": ["adapter.lora_A.default.weight", "adapter.lora_B.default.weight"],
    "last:1": ["classifier.0.weight", "classifier.0.bias", "classifier.2.weight", "classifier.2.bias"],
    r"classifier\.2": ["classifier.2.weight", "classifier.2.bias"],
}


@pytest.mark.parametrize("adapt", NAMED)
def test_what_is_adapted_is_named(adapt, tmp_path):
    assert select(Backbone(3), adapt) == NAMED[adapt]
    config = RunConfig(algo="anil", geometry="nonconvex", adapt=adapt, iterations=2, eval_tasks=2, **SMALL)
    summary = harness.run(config, model=lambda i, o: Backbone(o), benchmark=Vectors(), results=tmp_path)
    assert summary["w"] == NAMED[adapt]
    assert summary["route"]["shared_body"] is (adapt != "bias")  # the first layer has one
    assert summary["route"]["relative_error"] < 1e-9


@pytest.mark.parametrize(
    ("adapt", "words"),
    [
        ("norm", "no scale or shift"),
        ("lora", "no adapter called lora_A"),
        ("not last:1", "adapts nothing: the model has no other layers"),
    ],
)
def test_a_name_of_what_is_not_there_is_refused(adapt, words):
    with pytest.raises(InputError, match=words):
        select(nn.Sequential(nn.Linear(2, 2)), adapt)


def test_an_embedding_of_attention_and_recurrence_have_their_biases():
    assert select(nn.MultiheadAttention(4, 2), "bias") == ["in_proj_bias", "out_proj.bias"]
    assert select(nn.LSTM(2, 3), "bias") == ["bias_ih_l0", "bias_hh_l0"]


@pytest.mark.parametrize(
    ("adapt", "convex"), [("last:1", False), (r"classifier\.2", True), ("norm", False), ("lora", False)]
)
def test_convex_is_claimed_where_the_prediction_is_linear_in_w(adapt, convex, tmp_path):
    """The last layer by its place is a classifier of two."""
    config = RunConfig(algo="anil", geometry="convex", adapt=adapt, iterations=1, eval_tasks=2, **SMALL)
    summary = harness.run(config, model=lambda i, o: Backbone(o), benchmark=Vectors(), results=tmp_path)
    assert ("convexity" in summary["unknown"]) is not convex
    if not convex:
        assert "in which the prediction is not linear" in summary["unknown"]["convexity"]


def test_a_model_that_is_a_single_layer_is_its_last():
    layer = nn.Linear(3, 2)
    assert select(layer, "last:1") == ["weight", "bias"]
    with pytest.raises(InputError, match="this model has 1 layers"):
        select(layer, "last:2")
    with pytest.raises(InputError, match="no other layers"):
        select(layer, "not last:1")
