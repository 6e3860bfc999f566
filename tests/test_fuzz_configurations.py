"""Any combination of settings runs, or is refused with exit 2 in one line; never a traceback."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from search import search

from harness.cli import main
from harness.errors import InputError
from harness.settings.config import RunConfig
from harness.settings.layers import gather_as
from harness.timing.config import TimeConfig
from harness.tune.config import TuneConfig

_NAMES = st.sampled_from(
    ["", "x", "a:b", ":", "os:getcwd", "torch.nn:Identity", "a\0b", "\ud800", "é", "(", "[", "null"]
)
_ODD = st.one_of(
    st.sampled_from(
        [0, -1, 1.5, True, None, 2**63, 10**30, -(10**30), float("nan"), float("inf"), [], {}, [1], "-", ""]
    ),
    st.text(max_size=4),
)
_SMALL = st.integers(1, 3)
#: what makes no sense by far, where a sensible number would only take long
_VAST = st.sampled_from([10**9, 10**12, 2**62, 2**63 - 1])
_LINEAR = st.fixed_dictionaries({}, optional={"l2": st.sampled_from([0, 0.1, -1, "x", 1e308])})
_SIZES = st.fixed_dictionaries({}, optional={key: st.integers(-1, 3) for key in ("dim_w", "dim_phi")})
_CURVES = st.fixed_dictionaries(
    {}, optional={key: st.sampled_from([0, 0.1, 1, 1e300]) for key in ("mu", "L", "coupling")}
)

USUAL = {
    "algo": st.sampled_from(["anil", "maml", "fomaml"]),
    "geometry": st.sampled_from(["convex", "nonconvex", None]),
    "adapt": st.sampled_from(
        ["all", "last:1", "last:2", "last:99", "last:", "head", "linear1|head", "(", "", "shared"]
    ),
    "benchmark": st.sampled_from(["sinusoid", "quadratic"]),
    "model": st.one_of(st.sampled_from(["mlp", "coupled", "cnn", None]), _NAMES),
    "model_options": st.one_of(
        st.just({}),
        st.fixed_dictionaries({"hidden": st.lists(st.integers(-1, 4), max_size=3)}),
        st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    ),
    "algo_options": st.one_of(_LINEAR, st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)),
    "benchmark_options": st.one_of(st.just({}), _SIZES, _CURVES),
    "ways": st.sampled_from([1, 2]),
    "shots": st.one_of(_SMALL, _VAST),
    "queries": st.one_of(_SMALL, _VAST),
    "inner_steps": st.integers(0, 3),
    "inner_lr": st.sampled_from([1e-3, 0.1, 10.0, 1e300, 5e-324]),
    "meta_batch": st.one_of(_SMALL, _VAST),
    "iterations": _SMALL,
    "outer_optimizer": st.sampled_from(["adam", "sgd"]),
    "outer_schedule": st.sampled_from(["constant", "cosine"]),
    "outer_lr_w": st.sampled_from([1e-3, 1e300]),
    "outer_lr_phi": st.sampled_from([1e-3, 1e300]),
    "norm_statistics": st.sampled_from(["separate", "joint"]),
    "seed": st.integers(0, 2**63 - 1),
    "device": st.sampled_from(["cpu", "auto", "cuda:99", "cuda:" + "9" * 30]),
    "dtype": st.sampled_from(["float32", "float64"]),
    "tf32": st.sampled_from([None, False, True]),
    "engine": st.sampled_from(["native", "higher"]),
    "strategy": st.sampled_from(["auto", "linearised", "recursion", "checkpointed", "unrolled"]),
    "threads": st.sampled_from([1, 2, 2**31, 2**63]),
    "eval_tasks": st.integers(2, 3),
    "eval_every": st.one_of(_SMALL, _VAST),
    "stationarity_every": st.integers(0, 2),
    "stationarity_tasks": st.integers(1, 2),
    "checkpoint_every": st.one_of(_SMALL, _VAST),
    "task_chunk": st.sampled_from(["auto", 1, 2]),
}
CHEAP = {"benchmark": "sinusoid", "iterations": 2, "eval_tasks": 2, "inner_steps": 1, "device": "cpu"}


def text_of(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, dict | list | bool) or value is None else str(value)


def called(*words: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(list(words))
    return status, out.getvalue(), err.getvalue()


def refused(status: int, err: str) -> bool:
    """Whether it was refused, and then as it has to be."""
    if status == 2:
        assert err.count("\n") == 1, err
        assert err.startswith("error: "), err
    return status == 2


@st.composite
def layers(draw, schema, cheap):
    """Words of a command, and a YAML document, with the keys of ``schema`` set here or there or twice."""
    keys = draw(st.lists(st.sampled_from(sorted(set(schema.model_fields) & set(USUAL))), max_size=7, unique=True))
    odd = draw(st.sampled_from(keys)) if keys and draw(st.integers(0, 3)) == 0 else None
    file, words = dict(cheap), []
    for key in keys:
        value = draw(_ODD if key == odd else USUAL[key])
        place = draw(st.integers(0, 2))
        if place == 0:
            file[key] = value
            continue
        file.pop(key, None)
        if place == 1 and value is not None:
            words.append(f"--{key.replace('_', '-')}={text_of(value)}")
        elif isinstance(value, dict) and value:
            words += [word for name, part in value.items() for word in ("--set", f"{key}.{name}={text_of(part)}")]
        else:
            words += ["--set", f"{key}={text_of(value)}"]
    return file, words


@search(60)
@given(given=layers(RunConfig, CHEAP))
@example(given=({**CHEAP, "shots": 10**12}, []))
@example(given=({**CHEAP, "meta_batch": 10**30}, []))
@example(given=({**CHEAP, "model_options": {"hidden": [0]}}, []))
@example(given=({**CHEAP, "model": "cnn"}, []))
@example(given=({**CHEAP, "model": "coupled"}, []))
@example(given=({**CHEAP, "algo_options": {"l2": 1e308}}, []))
@example(given=({**CHEAP, "seed": 2**63 - 1}, []))
@example(given=({**CHEAP, "threads": 2**63}, []))
def test_any_run_ends_with_a_summary_or_is_refused_in_one_line(tmp_path, given):
    document, words = given
    shutil.rmtree(tmp_path, ignore_errors=True)
    tmp_path.mkdir()
    (tmp_path / "run.yaml").write_bytes(yaml.safe_dump(document, allow_unicode=False).encode())
    results = tmp_path / "results"
    status, out, err = called("run", "--config", str(tmp_path / "run.yaml"), "--json", f"--results={results}", *words)
    if refused(status, err):
        assert not results.exists()
        assert out == ""
    else:
        summary = json.loads(out)
        assert (Path(summary["run_dir"]) / "summary.json").is_file()
        assert status == (0 if summary["status"] in ("completed", "diverged") else 1)


@search(40)
@given(given=layers(TimeConfig, {}))
def test_any_timing_fits_the_schema_or_is_an_input_error(tmp_path, given):
    document, words = given
    (tmp_path / "time.yaml").write_bytes(yaml.safe_dump(document).encode())
    with contextlib.suppress(InputError):
        gather_as(TimeConfig, tmp_path / "time.yaml", {}, [word for word in words if not word.startswith("--")])


@pytest.mark.slow
@search(12)
@given(
    given=layers(TuneConfig, {**CHEAP, "trials": 1, "test_seeds": 0, "eval_tasks": 2, "iterations": 1}),
    space=st.dictionaries(
        st.sampled_from(["inner_lr", "inner_steps", "meta_batch", "algo_options.l2", "x", "seed", "adapt"]),
        st.sampled_from(
            ["1..2", "2..1", "0.1..0.2 log", "0..1 log", "1,2", "all,last:1", "3", "a..b", "[", "1e999..2", ""]
        ),
        max_size=2,
    ),
    objective=st.sampled_from(
        ["loss", "accuracy", "loss,accuracy", "seconds@loss=1", "x", "loss@", "entries@epsilon=nan"]
    ),
)
def test_any_study_is_refused_in_one_line_or_searched(tmp_path, given, space, objective):
    document, words = given
    shutil.rmtree(tmp_path, ignore_errors=True)
    tmp_path.mkdir()
    (tmp_path / "tune.yaml").write_bytes(yaml.safe_dump({**document, "objective": objective}).encode())
    overrides = [word for name, value in space.items() for word in ("--set-space", f"{name}={value}")]
    out = tmp_path / "out"
    status, _, err = called("tune", "--config", str(tmp_path / "tune.yaml"), f"--out={out}", *words, *overrides)
    if refused(status, err):
        assert not list(out.rglob("*.yaml"))


@search(60)
@given(
    base=layers(RunConfig, CHEAP),
    grid=st.lists(layers(RunConfig, {}), max_size=2),
    seeds=st.one_of(st.lists(st.integers(-1, 2**64), max_size=2), _ODD),
    extra=st.dictionaries(st.sampled_from(["published", "chosen_here", "title", "source", "x"]), _ODD, max_size=2),
)
def test_any_suite_is_planned_or_refused_in_one_line(tmp_path, base, grid, seeds, extra):
    entries = [{key: [value] for key, value in entry.items()} for entry, _ in grid]
    document = {"title": "t", "base": base[0], "grid": entries, "seeds": seeds, **extra}
    (tmp_path / "suite.yaml").write_bytes(yaml.safe_dump(document).encode())
    results = tmp_path / "results"
    status, _, err = called("compare", str(tmp_path / "suite.yaml"), "--dry-run", f"--results={results}")
    assert refused(status, err) or status == 0
    assert not results.exists()
