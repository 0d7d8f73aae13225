"""The page on which one worker notes its spans, and which the supervisor drains.

    page    0   written   u64  records so far, but for those of the last `HELD_NS`; only the worker writes it
            8   taken     u64  records drained so far; only the supervisor writes it
            16  lost      u64  records for which there was no place
            24  process   u64  the worker's process number, 0 before the first
            32  began_ns  u64  CLOCK_MONOTONIC of that process's start
            64  records, one behind the other, from the start again after the last
    record  0   span      i64  Span
            8   count     i64  what it was about: see Span
            16  value     i64
            24  end_ns    i64  CLOCK_MONOTONIC, which is one clock for all processes

A span begins where the one before it ended, but for those that overlap. A full page costs records, never time: the
worker counts what it lost and goes on. The supervisor takes only what was written before its last look, so nothing
rests on the order in which two cores see stores. A worker that is started again goes on where its predecessor stopped;
what it had not told of at its death is overwritten.
"""

from __future__ import annotations

import contextlib
import enum
import os
import struct
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.memory import create_memory, map_memory

FIELDS = ("span", "count", "value", "end_ns")
RECORDS = np.dtype([(name, "<i8") for name in FIELDS])
Records = NDArray[np.void]
"""Of `RECORDS`."""
HEADER_BYTES = 64
CAPACITY = 8192
"""Records of a page: at 5 looks a second there is room for 20,000 a second and more."""
PAGE_BYTES = HEADER_BYTES + CAPACITY * RECORDS.itemsize

_WRITTEN, _TAKEN, _LOST, _PROCESS, _BEGAN = range(5)
_SIZE = RECORDS.itemsize
_WIDTH = len(FIELDS)
HELD_NS = 50_000_000
"""So long at most the supervisor does not hear of a record while others follow."""
SHORT_NS = 20_000
"""A wait that is shorter is no record of its own: nothing but looking takes as long."""


class Span(enum.IntEnum):
    """What a stretch of a worker's time was for."""

    PROCESS = 0
    """A process begins; not a stretch of time. value: its number."""
    START = 1
    """The interpreter starts and the worker's imports are done."""
    SETUP = 2
    """The stage gets ready: it loads its model, its decoder, its task."""
    WORK = 3
    """Whatever has no name of its own."""
    DECODE = 4
    """Decoding, up to a frame that is taken. count: stream; value: pts."""
    VIEW = 5
    """Making the view of a frame. count: stream; value: pts."""
    GATHER = 6
    """Moving frames into a batch, up to its dispatch. count: frames."""
    INFER = 7
    """A batch in the model, from its submission to its result; several may be under way. count: frames; value: when it
    was submitted."""
    TASK = 8
    """The product's code on a batch. count: frames."""
    COMMIT = 9
    """A segment's results into the ledger. count: stream; value: segment."""
    INFER_ALONE = 10
    """An inference that the worker does itself, or stands still for."""
    TURN = 11
    """Decoding frames that take little time each, and making their views. count: frames; value: for how much of it they
    were decoded, in nanoseconds."""
    LOST = 12
    """Time of which the records found no place; not shown."""
    WAIT = 32
    """Waiting, for no particular reason. value, of this one and all below: when it began; before it was work."""
    WAIT_ORDER = 33
    """Waiting for something to do."""
    WAIT_SLOT = 34
    """Waiting for a free slot: whoever reads the ring is slower."""
    WAIT_FRAME = 35
    """Waiting for a frame or a batch: whoever writes the ring is slower."""
    WAIT_MODEL = 36
    """Waiting for a result of the model."""

    @property
    def label(self) -> str:
        """Words for people."""
        return _LABELS.get(self, self.name.lower())

    @property
    def waits(self) -> bool:
        """It is time spent waiting."""
        return self >= Span.WAIT

    @property
    def overlaps(self) -> bool:
        """Spans of this kind may be under way at the same time in one worker."""
        return self is Span.INFER


_LABELS = {
    Span.INFER_ALONE: "infer",
    Span.WAIT: "wait",
    Span.WAIT_ORDER: "wait: nothing to do",
    Span.WAIT_SLOT: "wait: ring full",
    Span.WAIT_FRAME: "wait: ring empty",
    Span.WAIT_MODEL: "wait: model",
}


class Recorder:
    """The worker's side of its page.

    Beside a worker's own doing this code is never in the caches, and each function that is called takes 2 us (measured
    within runs that were traced half of the time). So whoever notes much calls `note`, looks at `due_ns` himself, and
    then `flush`.

    The supervisor hears of a record when `HELD_NS` have gone by since it last heard of any, and the next one is noted:
    whoever dies without a word leaves none of that last while.

    Args:
        memory: The page, zeros at first.
        since_ns: When the process was started, CLOCK_MONOTONIC.
    """

    def __init__(self, memory: Any, since_ns: int) -> None:
        self._memory = memory
        self._cells = memoryview(memory)[:HEADER_BYTES].cast("Q")
        self._noted: list[int] = [Span.PROCESS, 0, os.getpid(), since_ns]
        """The fields of the records that the supervisor has not heard of, one behind the other."""
        self.note: Callable[[tuple[int, int, int, int]], None] = self._noted.extend
        """Notes that all time since the last record went into a span; takes the fields of one record."""
        self.due_ns = 0
        """From when on the supervisor is to hear of what is noted."""
        self._cells[_BEGAN] = since_ns
        self._cells[_PROCESS] = os.getpid()
        self.flush(since_ns)

    def mark(self, span: int, count: int = 0, value: int = 0) -> None:
        """Note that all time since the last record went into `span`, and let the supervisor hear of it in time."""
        now_ns = monotonic_ns()
        self.note((span, count, value, now_ns))
        if now_ns > self.due_ns:
            self.flush(now_ns)

    def flush(self, now_ns: int) -> None:
        """Let the supervisor have what is noted; where there is no room for it, it is lost, and counted."""
        self.due_ns = now_ns + HELD_NS
        noted, cells = self._noted, self._cells
        count, written = len(noted) // _WIDTH, cells[_WRITTEN]
        if count > cells[_TAKEN] + CAPACITY - written:
            cells[_LOST] += count - (noted[0] == Span.LOST)
            noted[:] = Span.LOST, 0, 0, noted[-1]  # the next span does not begin before
            return
        at = written % CAPACITY
        behind = min(count, CAPACITY - at) * _WIDTH
        struct.pack_into(f"{behind}q", self._memory, HEADER_BYTES + at * _SIZE, *noted[:behind])
        struct.pack_into(f"{len(noted) - behind}q", self._memory, HEADER_BYTES, *noted[behind:])
        cells[_WRITTEN] = written + count
        noted.clear()

    def close(self) -> None:
        """Let the supervisor have what is noted, and let go of the page."""
        self.flush(monotonic_ns())
        self._cells.release()


class TracePage:
    """The supervisor's side of a page; it also owns the memory."""

    def __init__(self, name: str) -> None:
        self.fd = create_memory(f"trace {name}", PAGE_BYTES)
        """The descriptor that the worker inherits."""
        self._memory = map_memory(self.fd, PAGE_BYTES, f"trace {name}")
        self._cells = memoryview(self._memory)[:HEADER_BYTES].cast("Q")
        self._seen = 0

    @property
    def lost(self) -> int:
        """Records for which there was no place."""
        return self._cells[_LOST]

    @property
    def process(self) -> tuple[int, int]:
        """Number of the worker's process, 0 before the first, and CLOCK_MONOTONIC of its start."""
        return self._cells[_PROCESS], self._cells[_BEGAN]

    def recorder(self) -> Recorder:
        """Return a recorder on this page, for a program that traces itself."""
        return Recorder(self._memory, monotonic_ns())

    def drain(self, *, ended: bool = False) -> bytes:
        """Return the records that were there at the last look; all of them where the worker has `ended`."""
        written, taken = self._cells[_WRITTEN], self._cells[_TAKEN]
        upto, self._seen = (written if ended else self._seen), written
        # A decode worker reads untrusted media: what is in its page is not to be trusted either.
        if not taken <= upto <= taken + CAPACITY:
            self._cells[_TAKEN] = written
            return b""
        found = b""
        while taken < upto:
            at = taken % CAPACITY
            count = min(upto - taken, CAPACITY - at)
            start = HEADER_BYTES + at * _SIZE
            found += self._memory[start : start + count * _SIZE]
            taken += count
        self._cells[_TAKEN] = taken
        return found

    def close(self) -> None:
        """Let go of the memory."""
        self._cells.release()
        with contextlib.suppress(BufferError):  # a recorder of this process still holds it
            self._memory.close()
        os.close(self.fd)


_KNOWN = [int(span) for span in Span]


def records(data: bytes | bytearray) -> Records:
    """Return drained records; those of an unknown kind are left out."""
    found = np.frombuffer(data, RECORDS)
    return found[np.isin(found["span"], _KNOWN)]
