"""Two sets of results: which differences are beyond noise."""

import shutil

import pytest
from fabricated import write_run

from harness.errors import InputError
from harness.report.against import compare_sets
from harness.report.runs import read_runs


def write_set(folder, seeds=5, **options):
    for seed in range(seeds):
        given = {"accuracy": 0.5 + 0.01 * seed, "seconds": 0.01 * (1 + 0.001 * seed), "rate": 0.1 * (1 + 0.01 * seed)}
        write_run(folder, seed=seed, **{**given, **options})


def against(first, other, **options):
    return compare_sets(read_runs([first])[0], read_runs([other])[0], **options)


def verdicts(found):
    return {row.quantity.partition("(")[0]: row.verdict for row in found.differences}


@pytest.fixture
def base(tmp_path):
    write_set(tmp_path / "base")
    return tmp_path / "base"


def test_a_set_against_itself_differs_in_nothing(base, tmp_path):
    shutil.copytree(base, tmp_path / "copy")
    found = against(base, tmp_path / "copy")
    assert set(verdicts(found).values()) == {"within noise"}
    assert found.sentences == ["0 of 4 differences are beyond noise."]
    assert found.warnings == []


def test_what_changed_is_said_with_its_direction(base, tmp_path):
    write_set(tmp_path / "other", rate=0.05, seconds=0.02, accuracy=0.3)
    found = against(tmp_path / "other", base)
    assert verdicts(found) == {
        "accuracy": "lower",
        "K": "higher",
        "seconds per iteration": "higher",
        "peak bytes": "within noise",
    }
    assert found.sentences[-1] == "3 of 4 differences are beyond noise."
    assert any("seconds per iteration is higher, 0.02 against 0.01" in sentence for sentence in found.sentences)
    assert len(found.table.rows) == 4


def test_a_difference_smaller_than_the_noise_is_none(base, tmp_path):
    for seed, accuracy in enumerate([0.52, 0.49, 0.55, 0.50, 0.55]):
        write_run(tmp_path / "other", seed=seed, accuracy=accuracy)
    assert verdicts(against(tmp_path / "other", base))["accuracy"] == "within noise"


def test_few_seeds_say_nothing(base, tmp_path):
    write_set(tmp_path / "other", seeds=3, accuracy=0.1)
    found = against(tmp_path / "other", base)
    assert set(verdicts(found).values()) == {"too few seeds"}
    assert found.sentences == ["0 of 4 differences are beyond noise; 4 have too few seeds to say."]


def test_settings_of_one_set_alone_are_named_and_none_in_common_is_refused(base, tmp_path):
    write_set(tmp_path / "other", inner_steps=1)
    with pytest.raises(InputError, match="no setting in common"):
        against(base, tmp_path / "other")
    write_set(tmp_path / "other")
    assert against(base, tmp_path / "other").warnings == ["only in the other set: ANIL convex (N = 1)"]


def test_two_machines_are_compared_with_a_warning_and_mixed_sets_refused(base, tmp_path):
    change = {"packages": {"torch": "2.14.0"}}
    write_set(tmp_path / "other", environment=change)
    assert "torch: 2.14.0, 2.15.0" in against(base, tmp_path / "other").warnings[0]
    write_set(tmp_path / "other", environment={}, name=None, inner_steps=1)
    with pytest.raises(InputError, match="--mix"):
        against(base, tmp_path / "other")
