"""The rooms as docs/architecture.md shows them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def floors() -> list[set[str]]:
    """From the top, as the contract has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [layers] = [contract["layers"] for contract in settings["contracts"] if contract["id"] == "floors"]
    return [set(layer.split(" | ")) for layer in layers]


def test_the_page_has_the_floors_of_the_contract():
    shown = [
        set(re.findall(r"`(\w+)(?:\.py)?`", line.split("|")[2]))
        for line in PAGE.splitlines()
        if re.match(r"\| \d", line)
    ]
    assert shown == floors()
    written = {"thirteen": 13, "nineteen": 19}
    words = re.search(r"`harness/` is (\w+) rooms on (\w+) floors", PAGE).groups()
    assert [written[word] for word in words] == [sum(map(len, floors())), len(floors())]


def test_every_file_that_the_page_names_is_there():
    named = re.findall(r"`((?:\w+/)+\w*(?:\.py)?)(?::(\w+))?`", PAGE)
    assert len(named) > 20
    for path, name in named:
        [file] = [place for place in (ROOT / "harness" / path, ROOT / path) if place.exists()]
        assert not name or re.search(rf"^(def|class) {name}\b", file.read_text(), re.M), (path, name)


def test_no_file_is_longer_than_a_person_reads():
    long = {
        str(file.relative_to(ROOT)): n
        for file in (ROOT / "harness").rglob("*.py")
        if (n := len(file.read_text().splitlines())) > 250
    }
    assert not long


@pytest.mark.parametrize(
    "room", sorted(path.name for path in (ROOT / "harness").iterdir() if (path / "__init__.py").exists())
)
def test_every_room_says_what_lives_there(room):
    assert (ROOT / "harness" / room / "__init__.py").read_text().startswith('"""')
