"""Settings: layers, where an error was made, what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from harness.errors import InputError
from harness.settings.config import RunConfig
from harness.settings.layers import gather
from harness.settings.resolve import resolve


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_set_wins_over_flags_over_file_over_defaults(tmp_path):
    file = write(tmp_path / "a.yaml", "inner_steps: 1\nshots: 2\nways: 3\nalgo_options:\n  l2: 0.5\n")
    config, _ = gather(file, {"shots": "4", "ways": "6"}, ["ways=7", "algo_options.l2=1e-2"])
    assert (config.inner_steps, config.shots, config.ways, config.queries) == (1, 4, 7, 5)
    assert config.algo_options == {"l2": 0.01}


def test_benchmark_defaults_fill_only_what_the_user_left_open():
    assert resolve(RunConfig(benchmark="sinusoid")).config.ways == 1
    with pytest.raises(InputError, match="ways"):
        resolve(RunConfig(benchmark="sinusoid", ways=5))


def test_resolved_configuration_read_back_is_the_same(tmp_path):
    config = resolve(RunConfig(benchmark="sinusoid", algo="anil")).config
    file = write(tmp_path / "config.yaml", yaml.safe_dump(config.model_dump(), sort_keys=False))
    assert resolve(gather(file)[0]).config == config


def test_geometry_fills_the_partition():
    config = resolve(RunConfig(benchmark="sinusoid", geometry="nonconvex")).config
    assert (config.geometry, config.adapt) == ("nonconvex", "last:2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inner_stps: 3\n", r"a.yaml:1: inner_stps: .*did you mean 'inner_steps'"),
        ("seed: 1\ninner_lr: -1\n", r"a.yaml:2: inner_lr: -1 is not allowed; allowed: number > 0"),
        ("ways: [\n", r"a.yaml:\d: not readable as YAML"),
        ("- 1\n", r"a.yaml:1: not a mapping"),
        ("seed: 1\nseed: 2\n", r"a.yaml:2: seed: given twice"),
        ("inner_lr: .inf\n", r"inner_lr: inf is not allowed"),
    ],
)
def test_faults_in_a_file_are_one_line_that_says_where(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        gather(write(tmp_path / "a.yaml", text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        gather(tmp_path / "none.yaml")


@pytest.mark.parametrize("assignment", ["seed", "sed=1", "seed.x=1", "=3"])
def test_faults_in_an_assignment(assignment):
    with pytest.raises(InputError, match="--set"):
        gather(None, {}, [assignment])


def test_options_of_a_plugin_are_checked():
    with pytest.raises(InputError, match=r"algo_options.l22.*did you mean 'l2'"):
        resolve(RunConfig(benchmark="sinusoid", algo_options={"l22": 1}))
    with pytest.raises(InputError, match=r"algo_options.l2: -1 is not allowed; allowed: number >= 0"):
        resolve(RunConfig(benchmark="sinusoid", algo_options={"l2": -1}))


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValidationError):
        RunConfig().seed = 3


def test_the_model_of_quadratic_has_the_sizes_of_its_tasks():
    config = RunConfig(benchmark="quadratic", benchmark_options={"dim_phi": 3, "dim_w": 4})
    assert resolve(config).config.model_options == {"dim_phi": 3}
