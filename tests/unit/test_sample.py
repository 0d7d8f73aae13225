"""The sampling rules, against their one-line definitions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpipe.errors import UsageError
from vpipe.media import Sample

STREAM = st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=60, unique=True).map(sorted)
BASE = st.sampled_from([Fraction(1, 90000), Fraction(1, 1000), Fraction(1, 25), Fraction(1001, 30000)])


@pytest.mark.parametrize("text", ["every", "keyframes", "2/s", "1/3/s", "n=32"])
def test_what_is_parsed_is_printed_the_same(text: str) -> None:
    assert str(Sample.parse(text)) == text
    assert Sample.parse(str(Sample.parse(text))) == Sample.parse(text)


def test_decimal_rate_is_exact() -> None:
    assert Sample.parse("0.1/s").rate == Fraction(1, 10)


@pytest.mark.parametrize(
    "text", ["", "2", "0/s", "n=0", "-1/s", "2/0/s", "1e3/s", "sometimes", "n=", "0.0/s", "every "]
)
def test_anything_else_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(UsageError, match="use every, keyframes"):
        Sample.parse(text)


@given(STREAM, BASE, st.fractions(Fraction(1, 10), 60, max_denominator=12))
def test_rate_takes_the_first_frame_of_each_cell_of_time(pts: list[int], base: Fraction, rate: Fraction) -> None:
    chosen = Sample("rate", rate=rate).choose(pts, [False] * len(pts), base)
    cells = [math.floor((value - pts[0]) * base * rate) for value in pts]
    assert chosen == [rank for rank in range(len(pts)) if cells[rank] > max(cells[:rank], default=-1)]


@given(st.integers(0, 500), st.integers(1, 80))
def test_count_spreads_over_the_stream(total: int, count: int) -> None:
    ranks = sorted(Sample("count", count=count).ranks(total))
    assert ranks == sorted({math.floor((i + Fraction(1, 2)) * total / count) for i in range(count) if total})
    assert len(ranks) == min(total, count)
    if ranks:
        assert 0 <= ranks[0] <= ranks[-1] < total


def test_every_and_keyframes_take_what_they_say() -> None:
    keys = [True, False, False, True]
    assert Sample.parse("every").choose([0, 1, 2, 3], keys, Fraction(1)) == [0, 1, 2, 3]
    assert Sample.parse("keyframes").choose([0, 1, 2, 3], keys, Fraction(1)) == [0, 3]


def test_rate_above_the_frame_rate_takes_all() -> None:
    assert Sample.parse("100/s").choose([0, 40, 80], [True] * 3, Fraction(1, 1000)) == [0, 1, 2]
