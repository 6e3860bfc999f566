"""Two sets of results: which differences are beyond noise."""

import shutil

import pytest
from fabricated import write_run

from harness.errors import InputError
from harness.report.findings.against import compare_sets
from harness.report.reading.runs import read_runs


def begun(minute, parts=1):
    sittings = [{"started": f"2026-01-01T{minute // 60:02}:{minute % 60:02}:00+00:00", "load_average": 0.5}] * parts
    return {"sittings": sittings}


def write_set(folder, seeds=5, at=range(0, 100, 10), **options):
    """Seeds that begin in these minutes."""
    for seed in range(seeds):
        given = {"accuracy": 0.5 + 0.01 * seed, "seconds": 0.01 * (1 + 0.001 * seed), "rate": 0.1 * (1 + 0.01 * seed)}
        write_run(folder, seed=seed, **{**given, "environment": begun(at[seed]), **options})


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
    write_set(tmp_path / "other", at=range(5, 100, 10), rate=0.05, seconds=0.02, accuracy=0.3)
    found = against(tmp_path / "other", base)
    assert list(verdicts(found).items()) == [
        ("accuracy", "lower"),
        ("K", "higher"),
        ("seconds per iteration", "higher"),
        ("peak bytes", "within noise"),
    ]
    assert found.sentences[-1] == "3 of 4 differences are beyond noise."
    assert any("seconds per iteration is higher, 0.0200 against 0.0100" in sentence for sentence in found.sentences)
    assert len(found.table.rows) == 4


SITTINGS = {
    "one after the other": ([0, 10, 20, 30, 40], [50, 60, 70, 80, 90], "made at different times, load not known"),
    "in two blocks each": ([0, 10, 40, 50, 60], [20, 30, 70, 80, 90], "made at different times, load not known"),
    "turn and turn about": ([0, 20, 40, 60, 80], [10, 30, 50, 70, 90], None),
    "turn about, the first one changing": ([0, 30, 40, 70, 80], [10, 20, 50, 60, 90], None),
}


@pytest.mark.parametrize("name", SITTINGS)
def test_seconds_are_compared_only_where_both_sets_took_turns(name, tmp_path):
    mine, theirs, why = SITTINGS[name]
    write_set(tmp_path / "base", at=mine)
    write_set(tmp_path / "other", at=theirs, seconds=0.02)
    found = against(tmp_path / "other", tmp_path / "base")
    assert verdicts(found)["seconds per iteration"] == (f"not compared: {why}" if why else "higher")
    assert {verdicts(found)[name] for name in ("accuracy", "K", "peak bytes")} == {"within noise"}
    row = next(row for row in found.differences if row.quantity == "seconds per iteration")
    assert (row.first, row.other) == pytest.approx((0.02, 0.01002))  # what changed is shown all the same
    assert ("Seconds of 1 setting are not compared" in found.sentences[-1]) == bool(why)
    assert found.sentences[0 if why else -1] == f"{0 if why else 1} of {3 if why else 4} differences are beyond noise."


@pytest.mark.parametrize(
    "environment", [{}, begun(0, parts=2), {"sittings": [None]}, {"sittings": "x"}, {"sittings": [{"started": 3}]}]
)
def test_seconds_of_unknown_times_and_of_several_sittings_are_not_compared(environment, base, tmp_path):
    write_set(tmp_path / "other", environment=environment, seconds=0.02)
    found = verdicts(against(base, tmp_path / "other"))["seconds per iteration"]
    assert found == "not compared: when they were made is not known"


def test_time_counts_as_the_same_within_one_percent_and_accuracy_does_not(tmp_path):
    for name, longer, better, minute in (("base", 1, 0, 0), ("other", 1.005, 0.005, 5)):
        for seed in range(5):
            write_run(
                tmp_path / name,
                seed=seed,
                seconds=0.01 * (1 + 0.2 * seed) * longer,
                accuracy=0.5 + 0.1 * (seed == 4) + better,
                environment=begun(10 * seed + minute),
            )
    found = against(tmp_path / "other", tmp_path / "base")
    assert verdicts(found)["seconds per iteration"] == "within noise"
    assert verdicts(found)["accuracy"] == "higher"
    assert next(row.change.low for row in found.differences if row.quantity == "seconds per iteration") > 1
    accuracy = found.differences[0]
    assert (accuracy.first, accuracy.other) == pytest.approx((0.525, 0.52))  # means, where medians are 0.505 and 0.5


def test_of_skewed_costs_the_medians_are_shown(base, tmp_path):
    for seed, seconds in enumerate([0.02, 0.02, 0.02, 0.02, 0.9]):
        write_run(tmp_path / "other", seed=seed, seconds=seconds, environment=begun(10 * seed + 5))
    found = against(tmp_path / "other", base).differences
    assert next(row.first for row in found if row.quantity == "seconds per iteration") == pytest.approx(0.02)


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
