"""Spans and counters as events of the Chrome trace format, which Perfetto reads too; times are in microseconds.

A worker is a process of the trace, its own doing thread 0. Spans that overlap are laid out on further threads, as many
as were ever under way at once, so that no two slices of a thread overlap. Rings and cores are counters.

Everything here is text of events, each of which begins with the comma that parts it from the one before.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np

from vpipe.trace.page import Records, Span
from vpipe.trace.rows import Numbers, rows

Text = bytes | memoryview

_ARGUMENTS: dict[Span, tuple[str, str]] = {
    Span.DECODE: ("stream", "pts"),
    Span.VIEW: ("stream", "pts"),
    Span.GATHER: ("frames", ""),
    Span.INFER: ("frames", ""),
    Span.TASK: ("frames", ""),
    Span.COMMIT: ("stream", "segment"),
}
"""What `count` and `value` of a span are called; empty: not told."""


class Events:
    """Turns one worker's records into events.

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
        self._process = 0

    def text(self, records: Records) -> Iterator[Text]:
        """Yield the events of some records, which are in the order in which they were noted."""
        begins = np.flatnonzero(records["span"] == Span.PROCESS)
        for part in np.split(records, begins):
            if len(part) and part["span"][0] == Span.PROCESS:
                yield self._begin(int(part["value"][0]))
                part = part[1:]
            yield from self._slices(part)

    def _begin(self, process: int) -> bytes:
        """A process takes the worker's place: tracks of its own, named alike."""
        self._process = process
        self._lanes.clear()
        return named(process, self._name, self._rank) + self._thread(0, self._name)

    def _slices(self, records: Records) -> Iterator[Text]:
        lanes = np.zeros(len(records), np.int64)
        batches = records["span"] == Span.INFER
        found = []
        for start_ns, length_ns in records[["start_ns", "length_ns"]][batches].tolist():
            lane = self._free_lane(start_ns)
            if lane > len(self._lanes):
                self._lanes.append(0)
                yield self._thread(lane, f"batch {lane}")
            self._lanes[lane - 1] = start_ns + length_ns
            found.append(lane)
        lanes[batches] = found
        for number in np.unique(records["span"]):
            span = Span(number)
            chosen = records["span"] == number
            if span is Span.TURN or span.waits:
                yield from self._halves(span, records[chosen])
            else:
                yield self._rows(span, _ARGUMENTS.get(span, ()), records[chosen], lanes[chosen])

    def _halves(self, span: Span, records: Records) -> Iterator[Text]:
        """What took two spans' time and is one record: `value` says how much went into the first of them."""
        before, after = records.copy(), records.copy()
        before["length_ns"] = np.clip(records["value"], 0, records["length_ns"])
        after["start_ns"] += before["length_ns"]
        after["length_ns"] -= before["length_ns"]
        first, second, told = (Span.WORK, span, ()) if span.waits else (Span.DECODE, Span.VIEW, ("frames",))
        if span.waits:
            before = before[before["length_ns"] > 0]
        for kind, part in ((first, before), (second, after)):
            if len(part):
                yield self._rows(kind, told, part, np.zeros(len(part), np.int64))

    def _rows(self, span: Span, names: tuple[str, ...], records: Records, lanes: Numbers) -> Text:
        columns: list[Numbers] = [lanes, records["start_ns"] - self._origin_ns, records["length_ns"]]
        told = []
        for name, field in zip(names, ("count", "value"), strict=False):
            if name:
                told.append(f'"{name}":%d')
                columns.append(records[field].astype(np.int64))
        kind = "wait" if span.waits else "work"
        return rows(
            f',\n{{"ph":"X","name":"{span.label}","cat":"{kind}","pid":{self._process},"tid":%d,"ts":%t,"dur":%t,'
            f'"args":{{{",".join(told)}}}}}',
            columns,
        )

    def _free_lane(self, at_ns: int) -> int:
        """Return the first thread, from 1, on which nothing is under way at that time; it may be a new one."""
        free = (lane for lane, busy_until in enumerate(self._lanes, 1) if busy_until <= at_ns)
        return next(free, len(self._lanes) + 1)

    def _thread(self, number: int, name: str) -> bytes:
        return _line(ph="M", name="thread_name", pid=self._process, tid=number, args={"name": name})


class Series:
    """The values of one counter: collected as numbers, turned into text many at a time.

    Args:
        name: The counter.
        process: Whose it is.
        what: What it counts.
        place: How a value is told, as in `rows`.
    """

    def __init__(self, name: str, process: int, what: str, place: str = "%d") -> None:
        self._line = f',\n{{"ph":"C","name":{json.dumps(name)},"pid":{process},"ts":%t,"args":{{"{what}":{place}}}}}'
        self._at_ns = array("q")
        self._values = array("q")

    def __len__(self) -> int:
        return len(self._values)

    def add(self, at_ns: int, value: int) -> None:
        """Note a value, which holds from `at_ns` after the trace's beginning."""
        self._at_ns.append(at_ns)
        self._values.append(value)

    def text(self) -> Text:
        """Return the events of what was noted since the last call."""
        columns = [np.array(each, np.int64) for each in (self._at_ns, self._values)]
        del self._at_ns[:], self._values[:]
        return rows(self._line, columns) if len(columns[0]) else b""


def named(process: int, name: str, rank: int) -> bytes:
    """Return the events that name a process."""
    return _line(ph="M", name="process_name", pid=process, args={"name": name}) + _line(
        ph="M", name="process_sort_index", pid=process, args={"sort_index": rank}
    )


def _line(**values: Any) -> bytes:
    return b",\n" + json.dumps(values, separators=(",", ":")).encode("ascii")
