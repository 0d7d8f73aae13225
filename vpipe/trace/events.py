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

from vpipe.trace.page import FIELDS, Records, Span
from vpipe.trace.rows import Numbers, rows

Text = bytes | memoryview

_ARGUMENTS: dict[Span, tuple[str, ...]] = {
    Span.DECODE: ("stream", "pts"),
    Span.VIEW: ("stream", "pts"),
    Span.GATHER: ("frames",),
    Span.INFER: ("frames",),
    Span.TASK: ("frames",),
    Span.COMMIT: ("stream", "segment"),
}
"""What `count` and `value` of a span are called, where they are told."""


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
        self._since_ns = 0
        """When the last span ended, but for those that overlap."""

    def text(self, records: Records) -> Iterator[Text]:
        """Yield the events of some records, which are in the order in which they were noted."""
        begins = np.flatnonzero(records["span"] == Span.PROCESS)
        for part in np.split(records, begins):
            if len(part) and part["span"][0] == Span.PROCESS:
                self._since_ns = int(part["end_ns"][0])
                yield self._begin(int(part["value"][0]))
                part = part[1:]
            yield from self._slices(part)

    def _begin(self, process: int) -> bytes:
        """A process takes the worker's place: tracks of its own, named alike."""
        self._process = process
        self._lanes.clear()
        return named(process, self._name, self._rank) + self._thread(0, self._name)

    def _slices(self, records: Records) -> Iterator[Text]:
        spans, count, value, end_ns = (np.ascontiguousarray(records[name]) for name in FIELDS)
        start_ns = value.copy()
        own = np.flatnonzero(spans != Span.INFER)
        if len(own):
            start_ns[own[0]] = self._since_ns
            start_ns[own[1:]] = end_ns[own[:-1]]
            self._since_ns = int(end_ns[own[-1]])
        length_ns = end_ns - start_ns
        spans = np.where(length_ns < 0, Span.LOST, spans)  # whoever decodes untrusted media may write anything here
        # Not np.unique, which loads numpy.ma when it is first called.
        for number in np.flatnonzero(np.bincount(spans)).tolist():
            span, chosen = Span(number), np.flatnonzero(spans == number)
            times = start_ns[chosen], length_ns[chosen]
            if span is Span.TURN:
                yield from self._turns(*times, count[chosen], value[chosen])
            elif span.waits:
                yield from self._waits(span, *times, value[chosen])
            elif span is not Span.LOST:
                told = zip(_ARGUMENTS.get(span, ()), (count, value), strict=False)
                arguments = {name: column[chosen] for name, column in told}
                known = len(self._lanes)
                lanes = self._lay_out(*times) if span.overlaps else None
                for lane in range(known + 1, len(self._lanes) + 1):
                    yield self._thread(lane, f"batch {lane}")
                yield self._rows(span, *times, arguments, lanes)

    def _turns(self, start_ns: Numbers, length_ns: Numbers, frames: Numbers, decoding_ns: Numbers) -> Iterator[Text]:
        """Each is a stretch of decoding and one of making views."""
        decoding_ns = np.clip(decoding_ns, 0, length_ns)
        yield self._rows(Span.DECODE, start_ns, decoding_ns, {"frames": frames})
        yield self._rows(Span.VIEW, start_ns + decoding_ns, length_ns - decoding_ns, {"frames": frames})

    def _waits(self, span: Span, start_ns: Numbers, length_ns: Numbers, began_ns: Numbers) -> Iterator[Text]:
        """Before most of them was work that nobody named."""
        working_ns = np.clip(began_ns - start_ns, 0, length_ns)
        worked = np.flatnonzero(working_ns)
        if len(worked):
            yield self._rows(Span.WORK, start_ns[worked], working_ns[worked], {})
        yield self._rows(span, start_ns + working_ns, length_ns - working_ns, {})

    def _rows(
        self, span: Span, start_ns: Numbers, length_ns: Numbers, told: dict[str, Numbers], lanes: Numbers | None = None
    ) -> Text:
        lanes = np.zeros_like(length_ns) if lanes is None else lanes
        columns = [lanes, start_ns - self._origin_ns, length_ns, *told.values()]
        arguments = ",".join(f'"{name}":%d' for name in told)
        kind = "wait" if span.waits else "work"
        return rows(
            f',\n{{"ph":"X","name":"{span.label}","cat":"{kind}","pid":{self._process},"tid":%d,"ts":%t,"dur":%t,'
            f'"args":{{{arguments}}}}}',
            columns,
        )

    def _lay_out(self, start_ns: Numbers, length_ns: Numbers) -> Numbers:
        """Return a thread for each of some spans, from 1: the first on which nothing is under way; it may be new."""
        lanes, found = self._lanes, []
        for start, end in zip(start_ns.tolist(), (start_ns + length_ns).tolist(), strict=True):
            lane = next((lane for lane, busy_until in enumerate(lanes) if busy_until <= start), len(lanes))
            lanes[lane : lane + 1] = [end]
            found.append(lane + 1)
        return np.array(found, np.int64)

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
