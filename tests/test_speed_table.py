"""The speed table's script: parts are kept as they are done, and what was measured before is still read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.suites import speed

REFERENCE = Path(__file__).parents[1] / "results" / "reference" / "speed-cpu.json"


def measure(monkeypatch, out, *words):
    monkeypatch.setattr("sys.argv", ["speed", "--out", str(out), "--device", "cpu", *words])
    speed.main()


def test_a_part_is_kept_though_the_next_is_cut_off(tmp_path, monkeypatch):
    ratios = {"ratios": [1.0, 1.1]}

    def cut_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(speed.PARTS, "drawing", lambda *_: None)
    monkeypatch.setitem(speed.PARTS, "overhead", cut_off)
    out = tmp_path / "deep" / "speed.json"
    with pytest.raises(KeyboardInterrupt):
        measure(monkeypatch, out, "--parts", "overhead", "drawing")
    kept = json.loads(out.read_text())
    assert kept["drawing"] is None
    assert "overhead" not in kept
    assert ["drawing FC100 tasks", "not measured: the data are not there"] in kept["table"]
    monkeypatch.setitem(speed.PARTS, "overhead", lambda *_: ratios)
    measure(monkeypatch, out, "--parts", "overhead")
    both = json.loads(out.read_text())
    assert both["overhead"] == ratios
    assert "drawing" in both
    assert len(both["commands"]) == 2


def test_files_of_an_earlier_protocol_are_read():
    stored = json.loads(REFERENCE.read_text())
    assert [list(line) for line in speed.table(stored)] == stored["table"]
