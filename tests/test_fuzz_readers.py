"""Every reader on damaged and on arbitrary bytes; ``tox -e fuzz`` searches them longer and knows where it has been."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search import search

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))
from targets import SEEDS, TARGETS, tried

PIECES = [b"", b"\x00", b"\xff", b"[" * 50, b"{", b"&a ", b"*a", b"!!int ", b"-1", b"9" * 30, b"1e999", b"NaN", b"\n"]


@st.composite
def damaged(draw, name):
    """An honest input with pieces taken out, put in, doubled or replaced."""
    content = draw(st.sampled_from(SEEDS[name]))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(content)))
        stop = draw(st.integers(start, min(len(content), start + 20)))
        piece = draw(st.one_of(st.binary(max_size=8), st.just(content[start:stop] * 2), st.sampled_from(PIECES)))
        content = content[:start] + piece + content[stop:]
    return content


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_refuses_what_it_cannot_read_in_one_line(name):
    @search(60)
    @given(content=st.one_of(damaged(name), damaged(name), st.binary(max_size=60)))
    def searched(content):
        tried(name, content)

    searched()


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_reads_what_is_honest(name):
    for content in SEEDS[name]:
        TARGETS[name](content)
