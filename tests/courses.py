"""Runs in memory whose |grad L_meta|^2 is known, measured on few tasks with much noise, as real ones are."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from fabricated import _config, _each, _summary

from harness.report.reading.columns import Log
from harness.report.reading.runs import Run
from harness.store.records import Summary

GROUPS, DIMENSIONS = 16, 60


def measured_run(truth, noise: float, random: np.random.Generator, **settings) -> Run:
    """A run whose squared norms, in w and in phi, are ``truth`` ``[lines]``, on tasks that add ``noise`` = tr(Sigma)/T.

    The tasks are the same all along, so that what they add goes on from measurement to measurement (as AR(1), 0.9).
    """
    config = _config(settings)
    every = config["stationarity_every"]
    config["iterations"] = every * (len(truth) - 1)
    extra = {"status": "completed", "rate": 0.0, "seconds": 0.01, "accuracy": 0.5}
    summary = _summary(config, extra, config["iterations"], Path("run"))
    run = Run(Path("run"), Summary.model_validate(summary), config)
    names = ["head.weight", "block1.weight"]
    parts = [_products(truth, noise, random) for _ in names]
    lines = []
    for index, value in enumerate(truth):
        counts = {name: each * config["meta_batch"] * every * index for name, each in _each(config).items()}
        lines.append(
            {
                "iteration": every * index,
                "loss": None,
                "accuracy": None,
                "squared_norms": dict.fromkeys(names, value + noise),
                "products": {name: products[index] for name, products in zip(names, parts, strict=True)},
                "counts": counts,
                "seconds": 0.01 * every * index,
            }
        )
    run.__dict__["_stationarity"] = Log({}, lines, None)
    columns = {"iteration": np.arange(1, 101), "loss": np.linspace(1.7, 1, 100), "accuracy": np.full(100, 0.4)}
    run.__dict__["_metrics"] = Log(columns | {"seconds": 0.01 * np.arange(1, 101)}, [], None)
    run.__dict__["environment"] = {}
    return run


def _products(truth, noise: float, random: np.random.Generator) -> np.ndarray:
    """Products of the groups' gradients ``[lines, groups]``: the mean of all has ``noise`` on top of ``truth``."""
    lines = len(truth)
    fresh = random.standard_normal((lines, GROUPS, DIMENSIONS))
    along = np.empty_like(fresh)
    along[0] = fresh[0]
    for index in range(1, lines):
        along[index] = 0.9 * along[index - 1] + math.sqrt(1 - 0.9**2) * fresh[index]
    direction = np.ones(DIMENSIONS) / math.sqrt(DIMENSIONS)
    gradients = np.sqrt(np.asarray(truth))[:, None, None] * direction + along * math.sqrt(noise * GROUPS / DIMENSIONS)
    whole = gradients.sum(1, keepdims=True)
    return ((whole - gradients) * gradients).sum(2) / (GROUPS - 1)
