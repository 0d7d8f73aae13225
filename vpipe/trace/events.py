"""Spans as events of the Chrome trace format, which Perfetto reads too; times in microseconds since the trace began.

A worker is a process of the trace, its own doing thread 0. Spans that overlap are laid out on further threads, as many
as were ever under way at once, so that no two slices of a thread overlap. Rings and cores are counters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from vpipe.trace.page import Record, Span

_ARGUMENTS: dict[Span, tuple[str, str]] = {
    Span.DECODE: ("stream", "pts"),
    Span.VIEW: ("stream", "pts"),
    Span.GATHER: ("frames", ""),
    Span.INFER: ("frames", ""),
    Span.TASK: ("frames", ""),
    Span.COMMIT: ("stream", "segment"),
}
"""What `count` and `value` of a span are called; empty: not told."""


def _slice(span: Span) -> str:
    """Return the event of a span, with places for process, thread, start, length, count and value."""
    first, second = _ARGUMENTS.get(span, ("", ""))
    told = (f'"{first}":%d' if first else "%.0s") + (f',"{second}":%d' if second else "%.0s")
    kind = "wait" if span.waits else "work"
    return f'{{"ph":"X","name":"{span.label}","cat":"{kind}","pid":%d,"tid":%d,"ts":%.3f,"dur":%.3f,"args":{{{told}}}}}'


# By hand, and once: there are thousands of slices a second, and json.dumps takes five times as long.
_SLICES = {int(span): _slice(span) for span in Span}
_OVERLAPPING = frozenset(int(span) for span in Span if span.overlaps)


class Events:
    """Turns one worker's records into lines of JSON, each an event.

    Args:
        name: The worker, for people.
        rank: Its place from top to bottom.
        origin_ns: CLOCK_MONOTONIC of the trace's beginning.
    """

    def __init__(self, name: str, rank: int, origin_ns: int) -> None:
        self._name = name
        self._rank = rank
        self._origin_ns = origin_ns
        self._lanes: list[int] = []
        self.process = 0
        """Its process number, once there is one."""

    def lines(self, records: Iterable[Record]) -> Iterator[str]:
        """Yield the events of some records, in the order in which they were noted."""
        for start_ns, length_ns, number, count, value in records:
            if number == Span.PROCESS:
                yield from self._begin(value)
                continue
            lane = 0
            if number in _OVERLAPPING:
                lane = self._lane(start_ns, start_ns + length_ns)
                if lane == len(self._lanes):
                    yield _line(ph="M", name="thread_name", pid=self.process, tid=lane, args={"name": f"batch {lane}"})
            yield _SLICES[number] % (
                self.process,
                lane,
                (start_ns - self._origin_ns) / 1e3,
                length_ns / 1e3,
                count,
                value,
            )

    def _begin(self, process: int) -> Iterator[str]:
        """A process takes the worker's place: tracks of its own, named alike."""
        self.process = process
        self._lanes.clear()
        yield _line(ph="M", name="process_name", pid=process, args={"name": self._name})
        yield _line(ph="M", name="process_sort_index", pid=process, args={"sort_index": self._rank})
        yield _line(ph="M", name="thread_name", pid=process, tid=0, args={"name": self._name})

    def _lane(self, start_ns: int, end_ns: int) -> int:
        """Return the first thread, from 1, on which nothing is under way at `start_ns`."""
        for lane, busy_until in enumerate(self._lanes):
            if busy_until <= start_ns:
                self._lanes[lane] = end_ns
                return lane + 1
        self._lanes.append(end_ns)
        return len(self._lanes)


def counter(name: str, process: int, at_us: float, values: dict[str, float]) -> str:
    """Return the event of a counter's value."""
    return _line(ph="C", name=name, pid=process, ts=round(at_us, 3), args=values)


def named(process: int, name: str, rank: int) -> list[str]:
    """Return the events that name a process which notes no spans."""
    return [
        _line(ph="M", name="process_name", pid=process, args={"name": name}),
        _line(ph="M", name="process_sort_index", pid=process, args={"sort_index": rank}),
    ]


def _line(**values: Any) -> str:
    return json.dumps(values, separators=(",", ":"))
