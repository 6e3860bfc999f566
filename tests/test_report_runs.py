"""Run directories from anywhere: read, or skipped with the reason in one line, and never a traceback."""

import itertools
import json
import math
import os
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from fabricated import SIZES, first_below, seal, write_run
from hypothesis import given
from hypothesis import strategies as st
from search import search

import harness
from harness.errors import InputError
from harness.report.findings.costs import Target, cost_to
from harness.report.findings.groups import group_runs
from harness.report.findings.norms import has_block
from harness.report.reading.runs import read_runs

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def edited(folder: Path, **changes: object) -> None:
    path = folder / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def only(folder: Path):
    (run,), _ = read_runs([folder])
    return run


def keys(document: object) -> object:
    return {name: keys(value) for name, value in document.items()} if isinstance(document, dict) else None


@pytest.mark.slow
def test_a_fabricated_run_has_the_files_and_keys_of_a_real_one(tmp_path):
    config = harness.RunConfig(
        benchmark="sinusoid", iterations=2, eval_tasks=2, inner_lr=0.01, stationarity_every=1, stationarity_tasks=2
    )
    real = Path(harness.run(config, results=tmp_path / "real")["run_dir"])
    made = write_run(tmp_path / "made", iterations=2, stationarity_every=1)
    assert {file.name for file in real.iterdir()} - {file.name for file in made.iterdir()} == {"checkpoint.pt"}
    assert keys(json.loads((made / "summary.json").read_text())) == keys(
        json.loads((real / "summary.json").read_text())
    )
    assert yaml.safe_load((made / "config.yaml").read_text()).keys() == config.model_dump().keys()
    for name in ("metrics.jsonl", "stationarity.jsonl"):
        first, second = (json.loads((folder / name).read_text().splitlines()[0]) for folder in (real, made))
        assert first.keys() - {"L"} == second.keys()
        assert first["counts"].keys() == second["counts"].keys()
    run = only(real)
    assert run.metrics["iteration"].tolist() == [1, 2]
    assert [line["iteration"] for line in run.stationarity] == [0, 1, 2]
    assert not run.faults


def test_runs_are_found_below_a_folder_once_each_and_in_order(tmp_path):
    for name in ("b/second", "a/deep/first", "b/third"):
        write_run(tmp_path, name=name)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    found, skipped = read_runs([tmp_path, tmp_path / "link", tmp_path / "b" / "third"])
    assert [run.path.name for run in found] == ["first", "second", "third"]
    assert skipped == []


def test_links_are_not_followed(tmp_path):
    write_run(tmp_path / "there", name="run")
    write_run(tmp_path / "here", name="run")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there" / "run")
    assert len(read_runs([tmp_path / "here"])[0]) == 1


def test_every_folder_that_cannot_be_reported_is_named_with_its_reason(tmp_path):
    write_run(tmp_path, name="good")
    (tmp_path / "empty").mkdir()
    broken = {name: write_run(tmp_path, name=name) for name in ("half", "torn", "old", "interrupted", "odd", "seed")}
    (broken["half"] / "summary.json").unlink()
    (broken["torn"] / "summary.json").write_text('{"schema": 2, "sta')
    edited(broken["old"], schema=1)
    edited(broken["interrupted"], status="interrupted", iterations_done=3)
    (broken["odd"] / "config.yaml").write_text("- a list")
    edited(broken["seed"], seed=7)
    found, skipped = read_runs([tmp_path])
    assert [run.path.name for run in found] == ["good"]
    reasons = {Path(line.split(": ")[0]).name: line.split(": ", 1)[1] for line in skipped}
    assert reasons == {
        "empty": "empty folder",
        "half": "not finished",
        "torn": "summary.json: not readable as JSON",
        "old": "schema 1 of another version; this one reads 2",
        "interrupted": "interrupted after 3 of 100 meta-iterations; go on with --resume",
        "odd": "config.yaml: not a mapping",
        "seed": "config.yaml says seed 0 and summary.json 7",
    }


def test_nothing_to_report_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match=r"no finished run there \(1 skipped; the first: .*empty folder\)"):
        read_runs([tmp_path])
    with pytest.raises(InputError, match="no such folder"):
        read_runs([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"inner_steps": "5"}, "inner_steps is '5'; allowed: integer >= 0"),
        ({"inner_steps": True}, "inner_steps is True"),
        ({"inner_lr": None}, "inner_lr is None"),
        ({"w": [1]}, r"w is \[1\]"),
        ({"status": ["completed"]}, r"status is \['completed'\]"),
        ({"n_w": 10**30}, "n_w is 10"),
        ({"iterations_done": 7}, "completed with 7 of 100"),
    ],
)
def test_a_summary_that_does_not_say_what_the_run_is_is_skipped(tmp_path, changes, reason):
    write_run(tmp_path, name="good")
    edited(write_run(tmp_path, name="bad"), **changes)
    (line,) = read_runs([tmp_path])[1]
    assert re.search(reason, line)


def test_measured_numbers_of_the_wrong_type_are_not_measured(tmp_path):
    folder = write_run(tmp_path)
    edited(folder, seconds="fast", peak_memory_bytes=-1, accuracy={"mean": math.nan}, counts=None, train_loss=10**400)
    run = only(folder)
    assert math.isnan(run.number("seconds", "train"))
    assert run.summary.seconds.train is run.summary.accuracy.mean is run.summary.train_loss is None
    assert run.summary.peak_memory_bytes is None


def test_lines_that_cannot_be_trusted_are_left_out_and_named(tmp_path):
    folder = write_run(tmp_path, iterations=6)
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = "[1, 2]"
    lines[3] = lines[3].replace('"seconds": 0.04', '"seconds": "soon"')
    path.write_text("\n".join(lines) + '\n{"iteration": 7, "lo')
    run = only(folder)
    assert run.metrics["iteration"].tolist() == [1, 3, 5, 6]
    fault, edited = run.faults
    assert edited == f"{folder}: metrics.jsonl changed after the run ended"
    assert fault.endswith("metrics.jsonl: 3 lines left out, the first is line 2 (not a JSON object)")


def test_iterations_that_do_not_rise_are_left_out(tmp_path):
    folder = write_run(tmp_path, iterations=20)
    path = folder / "stationarity.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], *lines]) + "\n")
    run = only(folder)
    assert [line["iteration"] for line in run.stationarity] == [0, 5, 10, 15, 20]
    assert "3 lines left out, the first is line 4" in run.faults[0]


def test_a_negative_squared_norm_never_meets_epsilon(tmp_path):
    folder = write_run(tmp_path, iterations=20, rate=0.01)
    path = folder / "stationarity.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["grad_w_squared_norm"] = lines[1]["grad_phi_squared_norm"] = -1.0
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert cost_to(only(folder), Target("epsilon", 0.1)).iterations == math.inf


def test_k_is_the_first_measurement_with_both_norms_below_epsilon(tmp_path):
    run = only(write_run(tmp_path, algo="anil", rate=0.1))
    found = cost_to(run, Target("epsilon", 0.1))
    # phi has two of the three layers, so its norm is the larger
    assert found.iterations == first_below(0.1, 0.1, layers=2) == 30
    assert found.seconds == pytest.approx(0.3)
    assert found.gradient_entries == (5 * 10 + 100) * 4 * 30
    assert found.second_order_entries == 5 * 10 * 100 * 4 * 30
    assert found.flops == 30e6


def test_maml_is_measured_on_the_blocks_of_the_anil_it_is_compared_with(tmp_path):
    run = only(write_run(tmp_path, algo="maml", rate=0.1))
    target = Target("epsilon", 0.1)
    assert cost_to(run, target).iterations == first_below(0.1, 0.1, layers=3) == 35
    assert cost_to(run, target, w=["head.weight"]).iterations == first_below(0.1, 0.1, layers=2) == 30
    with pytest.raises(InputError, match=r"other\.weight are not those of this run"):
        cost_to(run, target, w=["other.weight"])


def test_a_target_never_reached_is_infinite_and_one_not_measured_is_unknown(tmp_path):
    target = Target("epsilon", 1e-9)
    assert cost_to(only(write_run(tmp_path / "a")), target).iterations == math.inf
    assert math.isnan(cost_to(only(write_run(tmp_path / "b", stationarity_every=0)), target).iterations)
    cut = write_run(tmp_path / "c")
    path = cut / "stationarity.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:5]) + "\n")
    assert math.isnan(cost_to(only(cut), target).iterations)
    assert cost_to(only(cut), Target("epsilon", 1.0)).iterations == 10


def test_a_fall_is_that_since_before_training(tmp_path):
    run = only(write_run(tmp_path, rate=0.1))  # the loss is 1 + 0.6 exp(-0.1 K)
    assert [cost_to(run, Target("fall", fall)).iterations for fall in (0.2, 0.3)] == [5, 10]


def test_an_accuracy_that_is_not_finite_once_was_measured_all_the_same(tmp_path):
    folder = write_run(tmp_path)
    for name in ("stationarity.jsonl", "metrics.jsonl"):
        lines = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        lines[1]["accuracy"] = None
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert cost_to(only(folder), Target("accuracy", 0.9)).iterations == math.inf
    assert cost_to(only(folder), Target("accuracy", 0.3)).iterations == 10  # 0.36 after five, which is not known


def test_a_diverged_run_never_reaches_what_it_had_not(tmp_path):
    run = only(write_run(tmp_path, status="diverged", done=12, inner_steps=30, geometry="nonconvex"))
    assert cost_to(run, Target("epsilon", 1e-3)).iterations == math.inf


def test_groups_differ_in_nothing_but_the_seed_and_say_in_what_they_differ(tmp_path):
    for seed in (1, 0):
        for rate in (0.1, 0.01):
            write_run(tmp_path, seed=seed, inner_lr=rate, threads=seed + 1)
    groups = group_runs(read_runs([tmp_path])[0])
    assert [group.label for group in groups] == ["anil convex N=5 inner_lr=0.01", "anil convex N=5 inner_lr=0.1"]
    assert groups[0].seeds == (0, 1)
    assert {group.problem for group in groups} == {"fc100"}


def test_a_setting_that_is_left_to_torch_is_the_same_as_one_that_was_not_there_yet(tmp_path):
    older = write_run(tmp_path, seed=0) / "config.yaml"
    older.write_text(older.read_text().replace("tf32: null\n", ""))
    seal(older.parent)
    write_run(tmp_path, seed=1)
    write_run(tmp_path, seed=0, tf32=False)
    groups = group_runs(read_runs([tmp_path])[0])
    assert {(group.label, group.seeds) for group in groups} == {
        ("anil convex N=5 tf32=null", (0, 1)),
        ("anil convex N=5 tf32=false", (0,)),
    }


def test_labelled_settings_go_by_their_label_alone(tmp_path):
    for label, rate in (("default", 0.1), ("tuned", 0.02), ("tuned", 0.03)):
        write_run(tmp_path, label=label, inner_lr=rate)
    labels = [group.label for group in group_runs(read_runs([tmp_path])[0])]
    found = ["anil convex N=5 default", "anil convex N=5 tuned inner_lr=0.02", "anil convex N=5 tuned inner_lr=0.03"]
    assert labels == found


def test_other_tasks_are_another_problem(tmp_path):
    write_run(tmp_path, shots=1)
    write_run(tmp_path, shots=5)
    assert [group.problem for group in group_runs(read_runs([tmp_path])[0])] == ["fc100 shots=1", "fc100 shots=5"]


def test_of_two_runs_with_one_seed_the_first_by_path_counts(tmp_path):
    write_run(tmp_path, name="b")
    write_run(tmp_path, name="a")
    (group,) = group_runs(read_runs([tmp_path])[0])
    assert group.seeds == (0, 0)
    assert group.by_seed[0].path.name == "a"


_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in itertools.pairwise("abcdefgh")
)


@pytest.mark.parametrize("config", ["[" * 4000, "[" * 20_000, "a: &a [*a]", "1: 2", "a: 2020-13-45", "\x00", _BOMB])
def test_a_hostile_configuration_is_skipped(tmp_path, config):
    write_run(tmp_path, name="good")
    (write_run(tmp_path, name="bad") / "config.yaml").write_text(config)
    found, skipped = read_runs([tmp_path])
    assert len(found) == len(skipped) == 1


def test_names_of_folders_cannot_break_a_line(tmp_path):
    write_run(tmp_path, name="good")
    (tmp_path / "evil\n\x1b[31m<b>").mkdir()
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    for line in read_runs([tmp_path])[1]:
        assert line.isprintable()
        line.encode()


def test_a_pipe_in_a_run_directory_does_not_hang(tmp_path):
    folder = write_run(tmp_path)
    (folder / "metrics.jsonl").unlink()
    os.mkfifo(folder / "metrics.jsonl")
    assert only(folder).metrics["loss"].size == 0


@search(30)
@given(data=st.data())
def test_no_content_of_a_summary_or_a_line_leads_to_a_traceback(tmp_path, data):
    folder = tmp_path / "runs"
    shutil.rmtree(folder, ignore_errors=True)
    write_run(folder, name="good", iterations=10)
    bad = write_run(folder, name="bad", iterations=10)
    for name in data.draw(st.sets(st.sampled_from(["summary.json", "metrics.jsonl", "stationarity.jsonl"]))):
        lines = (bad / name).read_text().splitlines()
        index = data.draw(st.integers(0, len(lines) - 1))
        record = json.loads(lines[index])
        key = data.draw(st.sampled_from(sorted(record)))
        inner = record[key]
        if isinstance(inner, dict) and inner and data.draw(st.booleans()):
            inner[data.draw(st.sampled_from(sorted(inner)))] = data.draw(_JSON)
        elif data.draw(st.booleans()):
            record[key] = data.draw(_JSON)
        else:
            del record[key]
        lines[index] = json.dumps(record)
        (bad / name).write_text("\n".join(lines) + "\n")
    found, skipped = read_runs([folder])
    assert len(found) + len(skipped) == 2
    for run in found:
        known = ["iteration", "gradient_entries"] + ([] if run.elsewhere else ["seconds"])
        assert all(np.isfinite(run.metrics[name]).all() for name in known)
        assert all(line.isprintable() for line in run.faults)
        cost_to(run, Target("epsilon", 0.5))
        if has_block(run, SIZES):
            cost_to(run, Target("epsilon", 0.5), w=SIZES)
    group_runs(found)


@search(30)
@given(
    seed=st.integers(0, 2**32),
    name=st.sampled_from(["config.yaml", "environment.json", "summary.json", "metrics.jsonl", "stationarity.jsonl"]),
)
def test_no_damage_to_a_file_leads_to_a_traceback(tmp_path, seed, name):
    folder = tmp_path / "runs"
    shutil.rmtree(folder, ignore_errors=True)
    write_run(folder, name="good", iterations=5)
    path = write_run(folder, name="bad", iterations=5) / name
    dice, content = random.Random(seed), bytearray(path.read_bytes())
    for _ in range(dice.randint(1, 5)):
        content[dice.randrange(len(content))] = dice.randrange(256)
    path.write_bytes(content[: dice.randrange(len(content))] if dice.random() < 0.3 else content)
    found, skipped = read_runs([folder])
    assert len(found) + len(skipped) == 2
    for run in found:
        assert all(line.isprintable() for line in [*run.faults, *skipped])
        cost_to(run, Target("loss", 1.2))
    group_runs(found)
