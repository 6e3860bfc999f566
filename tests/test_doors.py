"""Flags, ``--set`` and YAML read the same text as the same value, by YAML 1.2's core schema, or all refuse it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from search import search

from harness import RunConfig
from harness.cli import main
from harness.errors import InputError
from harness.report.reading.documents import read_mapping
from harness.settings.config import validate
from harness.settings.layers import gather, gather_as, read
from harness.settings.resolve import resolve
from harness.settings.suites import plan
from harness.store.yaml_core import MOST_BYTES, MOST_DIGITS, dumped, load, parse
from harness.timing.config import TimeConfig
from harness.tune.config import TuneConfig
from harness.tune.space import narrowed, overrides

REFUSED = "refused"


def told(read, *arguments):
    try:
        return repr(read(*arguments))
    except InputError:
        return REFUSED


def at_every_door(folder: Path, field: str, text: str, schema=RunConfig) -> set[str]:
    """What ``text`` is to a file, a flag, an assignment and a suite's base."""
    file = folder / "run.yaml"
    file.write_text(f"{field}: {text}\n", encoding="utf-8")
    doors = [(file,), (None, {field: text}), (None, {}, [f"{field}={text}"])]
    found = {told(lambda *door: getattr(gather_as(schema, *door)[0], field), *door) for door in doors}
    if schema is RunConfig:
        (folder / "suite.yaml").write_text(f"title: t\nbase:\n  {field}: {text}\ngrid: [{{}}]\n", encoding="utf-8")
        found.add(told(lambda: getattr(validate(read(folder / "suite.yaml")[0]["base"]), field)))
    return found


TEXTS = [
    *(
        "010",
        "0o10",
        "0x10",
        "0b1",
        "08",
        "1:30",
        "12:30:45",
        "1_000",
        "\uff15",
        "²",
        " 5 ",
        "5 # x",
        "5#",
        "5.0",
        "5.5",
    ),
    *("1e3", "1e-3", "1E3", "1.e3", ".5", "+1", "-0", "-0.0", "+.5", "1e999", "1e", "e3", "0x", "--1", "+", "1 2"),
    *(".inf", "-.inf", ".INF", "inf", "infinity", ".nan", "nan", "NaN", "true", "True", "TRUE", "tRue", "false"),
    *("yes", "no", "on", "off", "y", "null", "Null", "~", "", "none", "None", "2020-01-01", "=", "<<", "auto", "adam"),
    *("cpu", "'5'", '"5"', "[5]", "{}", "{a: 1}", "[", "a: b", "- 1", "#1", "!!int 5", "!!float 5", "!!str 5", "&a 5"),
    *("*a", "|", ">", "%", "@", "`", "5\t", "\t5", "999999999999999999999999", "9" * 101, "---", "...", "? x", "é"),
]
FIELDS = sorted(RunConfig.model_fields)
_LETTERS = "0123456789+-.eExonaiftrus_:~#'\"[]{}, \t!&*|>%@`\\u\uff15é=<"


@search(150)
@given(field=st.sampled_from(FIELDS), text=st.one_of(st.sampled_from(TEXTS), st.text(_LETTERS, max_size=6)))
@example(field="seed", text="010")
@example(field="tf32", text="1")
def test_every_field_reads_any_text_alike_at_every_door(tmp_path, field, text):
    tmp_path.mkdir(exist_ok=True)
    found = at_every_door(tmp_path, field, text)
    assert len(found) == 1, found


KINDS = ("algo", "geometry", "model_options", "seed", "inner_lr", "tf32", "threads", "task_chunk", "dtype", "device")


@pytest.mark.parametrize("field", KINDS)
def test_every_text_of_a_list_is_read_alike_at_every_door(tmp_path, field):
    for text in TEXTS:
        found = at_every_door(tmp_path, field, text)
        assert len(found) == 1, (text, found)


@pytest.mark.parametrize(
    ("schema", "fields"),
    [
        (TimeConfig, ("algo", "inner_steps", "memory", "task_chunk")),
        (TuneConfig, ("budget_seconds", "storage", "trials")),
    ],
)
def test_times_and_studies_read_alike_too(tmp_path, schema, fields):
    for field in fields:
        for text in (*TEXTS, "1,5", "maml,anil:convex", "1, 010"):
            found = at_every_door(tmp_path, field, text, schema)
            assert len(found) == 1, (field, text, found)


VALUES = {
    "seed": {"010": 10, "0o10": 8, "0x10": 16, "+1": 1, "-0": 0, "1e3": 1000, "5.0": 5, " 5 ": 5, "5 # x": 5}
    | dict.fromkeys(
        ("1:30", "on", "true", "1_000", "\uff15", "5.5", ".inf", ".nan", "2020-01-01", "null", "0b1"), REFUSED
    ),
    "inner_lr": {"1e-3": 0.001, ".5": 0.5, "1": 1.0, "0x10": 16.0, "1.e-2": 0.01}
    | dict.fromkeys(("true", ".inf", ".nan", "inf", "nan", "1e999", "1:30", "yes", "'1'"), REFUSED),
    "tf32": {"true": True, "FALSE": False, "null": None, "~": None, "": None}
    | dict.fromkeys(("1", "0", "yes", "on", "off", "1.0", "'true'"), REFUSED),
    "label": {"on": "on", "2020-01-01": "2020-01-01", "1:30": "1:30", "'010'": "010", "null": None, "inf": "inf"}
    | dict.fromkeys(("010", "true", "1e3", ".inf"), REFUSED),
    "adapt": {"block[34]": "block[34]", "last:2": "last:2", "'[wx].*'": "[wx].*"} | dict.fromkeys(("[wx].*",), REFUSED),
    "task_chunk": {"auto": "auto", "2": 2, "2.0": 2} | dict.fromkeys(("true", "2.5", "yes", "null"), REFUSED),
}


@pytest.mark.parametrize("field", VALUES)
def test_what_texts_mean(tmp_path, field):
    for text, value in VALUES[field].items():
        expected = {value if value == REFUSED else repr(value)}
        assert at_every_door(tmp_path, field, text) == expected, text


@pytest.mark.parametrize("given", [{"seed": True}, {"seed": "5"}, {"tf32": 1}, {"inner_lr": True}, {"label": 5}])
def test_python_is_a_door_too(given):
    with pytest.raises(ValidationError):
        RunConfig(**given)
    assert RunConfig(iterations=1e3).iterations == 1000


@search(100)
@given(text=st.one_of(st.sampled_from(TEXTS), st.text(_LETTERS, max_size=6)))
def test_options_of_plugins_and_models_are_read_alike_and_strictly(tmp_path, text):
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "run.yaml").write_text(f"benchmark: sinusoid\nalgo_options:\n  l2: {text}\n", encoding="utf-8")

    def value(*door):
        return resolve(gather(*door)[0]).config.algo_options["l2"]

    found = {
        told(value, tmp_path / "run.yaml"),
        told(value, None, {"benchmark": "sinusoid"}, [f"algo_options.l2={text}"]),
    }
    assert len(found) == 1, found
    if parse_or_none(text) in (True, False) and isinstance(parse_or_none(text), bool):
        assert found == {REFUSED}


def parse_or_none(text):
    try:
        return parse(text, "")
    except InputError:
        return None


@pytest.mark.parametrize(
    "option", ["filters=true", "filters=32.5", "filters='32'", "filters=.inf", "hidden=[40, true]"]
)
def test_options_of_a_model_are_strict_too(tmp_path, capsys, option):
    model = "mlp" if "hidden" in option else "cnn"
    words = ["--model", model, "--set", f"model_options.{option}", "--results", str(tmp_path / "runs")]
    assert main(["run", *words]) == 2
    error = capsys.readouterr().err
    assert f"model_options.{option.partition('=')[0]}" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_suite_reads_its_seeds_and_lists_the_same_way(tmp_path):
    (tmp_path / "suite.yaml").write_text(
        "title: t\nbase: {benchmark: sinusoid}\nseeds: [010, 1e1]\ngrid: [{inner_lr: [1e-3, .5], inner_steps: [3.0]}]\n"
    )
    configs = [run.config for run in plan(str(tmp_path / "suite.yaml")).runs]
    assert {config.seed for config in configs} == {10}
    assert {config.inner_lr for config in configs} == {0.001, 0.5}
    (tmp_path / "suite.yaml").write_text("title: t\nbase: {benchmark: sinusoid, queries: on}\ngrid: [{}]\n")
    with pytest.raises(InputError, match=r"suite.yaml:2: base.queries: 'on' is not allowed; allowed: integer >= 1"):
        plan(str(tmp_path / "suite.yaml"))


@pytest.mark.parametrize("log", ["yes", "no", "1", "'true'", "on"])
def test_a_range_is_logarithmic_by_true_and_false_alone(tmp_path, log):
    (tmp_path / "space.yaml").write_text(f"inner_lr: {{low: 0.1, high: 1, log: {log}}}\n")
    with pytest.raises(InputError, match=r"space.yaml:1: inner_lr: log .* allowed: true or false"):
        narrowed({}, overrides(tmp_path / "space.yaml", []))


@pytest.mark.parametrize("text", ["\uff11..2", "1_0..20", "1:30..2", "true..2"])
def test_ends_of_a_range_are_numbers_as_everywhere(text):
    space, fixed = narrowed({}, overrides(None, [f"inner_lr={text}"]))
    assert (space, fixed) == ({}, {"inner_lr": text})  # text, which no step size is
    with pytest.raises(InputError):
        validate(fixed)


@pytest.mark.parametrize("words", [["verify", "--seed"], ["report", "--epsilon"], ["compare", "quick", "--workers"]])
@pytest.mark.parametrize("text", ["1:30", "true", "1_000", "\uff15", "yes", "'1'"])
def test_options_without_a_schema_refuse_the_same(capsys, words, text):
    assert main([*words, text]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@search(100)
@given(
    document=st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.one_of(st.sampled_from(TEXTS), st.text(max_size=6), st.integers(), st.floats(), st.booleans(), st.none()),
        max_size=4,
    )
)
def test_what_is_written_is_read_back_by_both_versions_of_yaml(document):
    text = dumped(document).decode()
    if any(len(part) > MOST_DIGITS for part in map(str, document.values())):
        return
    _, found = load(text, "x")
    assert repr(found) == repr(document)
    assert repr(yaml.safe_load(text)) == repr(document)


@pytest.mark.parametrize("text", ["1e-3", "010", "0o7", "on", "null", "1:30", "2020-01-01", "~", "x # y", ""])
def test_text_that_looks_like_something_else_survives_a_run_directory(tmp_path, text):
    (tmp_path / "config.yaml").write_bytes(dumped({"label": text}))
    assert read_mapping(tmp_path / "config.yaml") == ({"label": text}, None)


def test_a_run_with_a_long_setting_is_written_and_read(tmp_path, capsys):
    words = ["run", "--benchmark", "sinusoid", "--iterations", "1", "--eval-tasks", "2", "--results", str(tmp_path)]
    assert main([*words, "--adapt", "|".join(["head"] * 3000), "--json"]) == 0
    run_dir = Path(json.loads(capsys.readouterr().out)["run_dir"])
    assert (run_dir / "config.yaml").stat().st_size > 4096
    config, fault = read_mapping(run_dir / "config.yaml")
    assert fault is None
    assert config["adapt"].count("head") == 3000


def test_what_could_be_written_and_not_read_again_is_refused(tmp_path, capsys):
    words = ["run", "--benchmark", "sinusoid", "--iterations", "1", "--results", str(tmp_path / "runs")]
    assert main([*words, "--adapt", "head" * (MOST_BYTES // 4)]) == 2
    assert f"allowed: {MOST_BYTES}" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_help_shows_what_the_command_would_do(capsys):
    """The numbers of the default benchmark and not of the schema."""
    shown = resolve(RunConfig()).config
    main(["run", "--help"])
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    differs = {
        name: getattr(shown, name)
        for name, field in RunConfig.model_fields.items()
        if field.default not in (None, {}) and getattr(shown, name) != field.default
    }
    assert differs
    for name, value in differs.items():
        option = words.partition(f"--{name.replace('_', '-')} ")[2].partition(" --")[0]
        assert f"[default: {value} ({shown.benchmark})]" in option, name
    main(["theory", "--help"])
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "[default: float64]" in words.partition("--dtype ")[2].partition(" --")[0]
    main(["tune", "--help"])
    assert "[default: 30]" in capsys.readouterr().out  # a study's own, which no benchmark replaces
