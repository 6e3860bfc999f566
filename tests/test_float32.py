"""Float32, in which everybody trains: exact whatever a BLAS does, and ``verify`` sees where it is not."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.utils._python_dispatch import TorchDispatchMode

from algorithms.anil import ANIL
from algorithms.maml import MAML
from benchmarks.suites.precision import table
from harness.cli.terminal.proof import proof_tables
from harness.engines.native import Native
from harness.engines.native.activations import Rectifier
from harness.engines.native.first_block import FirstBlock
from harness.experiment.records import _norm
from harness.measure.precision import tf32
from harness.proof import verify
from harness.proof.float32 import FLOOR, cut, errors

REFERENCE = Path(__file__).parents[1] / "results" / "reference" / "float32.json"
PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.bmm.default)


class PlainSums(TorchDispatchMode):
    """Matrix products that add one row after the other, in float32, as some BLAS does on some CPU."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function not in PRODUCTS or arguments[0].dtype != torch.float32:
            return function(*arguments, **(keywords or {}))
        a, b = arguments
        total = a.new_zeros(*a.shape[:-1], b.shape[-1])
        for left, right in zip(a.mT.unbind(-2), b.unbind(-2), strict=True):
            total += left[..., :, None] * right[..., None, :]
        return total


class OnPlainSums(Native):
    """The native engine, on such a BLAS."""

    name = "on_plain_sums"

    def meta_gradient(self, *arguments):
        with PlainSums():
            return super().meta_gradient(*arguments)


@pytest.mark.parametrize(("algorithm", "geometry"), [(ANIL, "convex"), (MAML, "nonconvex")])
def test_the_sums_of_a_plain_blas_cost_no_digits_of_the_native_gradient(algorithm, geometry):
    """Glyphs are grey, mostly background: 19,600 patches of a task summed one by one put MAML off by 10 % and more."""
    witness, found = errors(cut("glyphs", 0, tasks=3), "initial", algorithm(geometry), geometry, [OnPlainSums])
    assert witness == "autograd"
    assert found["on_plain_sums"].typical < 5 * FLOOR
    assert found["on_plain_sums"].typical < 2 * found["autograd"].typical


class HalfMoments(Native):
    """Keeps the covariance of the patches in half the digits, in float32 only: in float64 nothing is wrong."""

    name = "half_moments"

    def meta_gradient(self, *arguments):
        whole = FirstBlock._patch_moments

        def half(block, state):
            whole(block, state)
            if state.covariance.dtype == torch.float32:
                state.covariance = state.covariance.half().float()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FirstBlock, "_patch_moments", half)
            return super().meta_gradient(*arguments)


def test_verify_fails_on_lost_digits_that_float64_does_not_show():
    result = verify(algorithms=["maml"], engines=[HalfMoments])
    wrong = {(row["dtype"], row["problem"]) for row in result["rows"] if not row["ok"]}
    assert not result["ok"]
    assert {("float32", "glyphs initial"), ("float32", "glyphs trained")} <= wrong
    assert not wrong & {("float32", "sinusoid initial"), ("float32", "quadratic initial")}
    assert all(dtype == "float32" for dtype, _ in wrong)


def test_verify_says_which_peer_set_the_bar_and_where_data_are_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    result = verify(algorithms=["fomaml"], engines=["native"])
    rows = [row for row in result["rows"] if row["dtype"] == "float32"]
    assert result["ok"]
    assert {row["problem"] for row in rows} >= {"glyphs initial", "glyphs trained", "sinusoid initial"}
    assert all(row["witness"] == "autograd" and row["peer"] for row in rows)
    missing = {entry["problem"]: entry["reason"] for entry in result["skipped"] if entry["engine"] == "*"}
    assert {"omniglot", "fc100", "cifar_fs", "miniimagenet"} <= set(missing)
    assert str(tmp_path) in missing["omniglot"]


def test_a_peer_is_measured_and_not_judged():
    pytest.importorskip("higher")
    assert {row["dtype"] for row in verify(algorithms=["fomaml"], engines=["higher"])["rows"]} == {"float64"}


class Precisions(TorchDispatchMode):
    """What convolutions and matrix products may round to, one after the other."""

    def __init__(self):
        super().__init__()
        self.convolutions, self.products = [], []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function is torch.ops.aten.convolution.default:
            self.convolutions.append(torch.backends.cudnn.allow_tf32)
        if function in PRODUCTS:
            self.products.append(torch.get_float32_matmul_precision())
        return function(*arguments, **(keywords or {}))


def test_a_run_that_allows_tf32_has_its_moments_in_full():
    """Their convolution is the one that reads off the patches; the one that the network is made of may round."""
    conv = torch.nn.Conv2d(3, 2, 3, padding=1)
    block = FirstBlock(["weight", "bias", "gamma", "beta"], conv, 1e-5, Rectifier(0.0), 2)
    p = [torch.randn(1, 2, 3, 3, 3), torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1, 2)]
    with tf32(True), Precisions() as seen:
        block.forward(torch.rand(4, 3, 16, 16), p, 2)
        assert torch.backends.cudnn.allow_tf32
    assert seen.convolutions == [False, True]
    assert set(seen.products) == {"highest"}


def test_the_table_reads_at_80_columns():
    row = {"algorithm": "fomaml", "geometry": "nonconvex", "engine": "native", "strategy": "checkpointed", "ok": True}
    double = {"problem": "quadratic", "witness": "finite_differences", "dtype": "float64", "peer": None}
    single = {"problem": "miniimagenet trained", "witness": "autograd", "dtype": "float32", "peer": "learn2learn"}
    rows = [{**row, **kind, "relative_error": 1.25e-6, "tolerance": 1e-5} for kind in (double, single)]
    text = io.StringIO()
    for part in proof_tables({"rows": rows}):
        Console(file=text, width=80).print(part)
    shown = text.getvalue()
    assert max(map(len, shown.splitlines())) <= 80
    for word in ("fomaml", "nonconvex", "differences", "miniimagenet", "trained", "1.25e-06", "learn2learn"):
        assert word in shown.split()


def test_in_the_reference_no_kernels_and_threads_make_native_less_exact_than_twice_the_best_peer():
    """And the table that the documents quote says what the rows say."""
    document = json.loads(REFERENCE.read_text())
    rows = [row["median"] for part in document["parts"] for row in part["rows"]]
    peers = [{program: error for program, error in row.items() if program != "native"} for row in rows]
    assert {"higher", "learn2learn", "torchopt"} <= set.intersection(*map(set, peers))
    assert all(row["native"] <= max(FLOOR, 2 * min(of.values())) for row, of in zip(rows, peers, strict=True))
    assert document["table"] == table(document["parts"])


def test_a_recorded_norm_of_a_million_entries_is_right_in_float32():
    vector = torch.full((10**6,), 0.1)
    assert float(_norm(vector)) == pytest.approx(float(vector.double().norm()), rel=1e-6)
