"""What a worker did, in shared memory that the supervisor reads at will.

One page a worker, of 64-bit integers that only the worker writes. Each is written whole (aligned, one store), so a
reader needs no lock and sends no message; two cells may be a moment apart, which no counter minds.

    page = [ beat_ns | state | totals ... | drops by reason ... | histogram of work time ]

The histogram has 8 buckets an octave from 1 us (2**10 ns) to 1100 s (2**40 ns), so a quantile is right to within 13 %.
A worker that is started again on the same page goes on counting where its predecessor stopped.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import time
from collections.abc import Mapping
from typing import Any, Self

from vpipe.errors import VpipeError

LOW_BITS = 10
HIGH_BITS = 40
BUCKETS = (HIGH_BITS - LOW_BITS) * 8 + 2
"""The first holds all below 2**10 ns, the last all from 2**40 ns on."""

CPU_EVERY_NS = 50_000_000
"""The CPU clocks are system calls, unlike the others, so while it works `beat` reads them no more often than this."""


class State(enum.IntEnum):
    """What a worker is at."""

    STARTING = 0
    IDLE = 1
    """Nothing to do."""
    WAITING = 2
    """Has work, and waits for a peer: a loan, a credit, a completion."""
    WORKING = 3
    STOPPED = 4


_WORKING = State.WORKING  # an enumeration's member takes 0.2 us to look up


class Drop(enum.StrEnum):
    """Why a frame was not used."""

    LATE = "late"
    """Live: a fresher frame took its place."""
    SKIPPED = "skipped"
    """Live: not decoded, so that decoding keeps up with what arrives."""
    OUTLET = "outlet"
    """Live: whoever reads the messages did not take this one in time."""
    LOST = "lost"
    """It was in a worker or a ring that was reset."""
    REPEAT = "repeat"
    """A retried segment delivered it a second time."""


TOTALS = ("frames", "items", "corrupt", "carried", "work_ns", "wait_ns", "cpu_ns", "own_ns", "observed_ns")
"""frames: handled by this worker; items: units of work (batches, segments); corrupt: frames found damaged;
carried: frames that the model is not run on (counted where batches are made);
own_ns: of cpu_ns what vpipe's own code took, around the parts: the decoder and views, the model, the product's task;
observed_ns: sum of what is in the histogram (units that overlap count in full, unlike in work_ns)."""

_BEAT, _STATE = 0, 1
_TOTAL = {name: 2 + i for i, name in enumerate(TOTALS)}
_DROP = {reason: 2 + len(TOTALS) + i for i, reason in enumerate(Drop)}
_HISTOGRAM = 2 + len(TOTALS) + len(Drop)
_CELLS = _HISTOGRAM + BUCKETS
_CPU, _OWN, _OBSERVED = _TOTAL["cpu_ns"], _TOTAL["own_ns"], _TOTAL["observed_ns"]
_FIRST = _HISTOGRAM - 8 * (LOW_BITS + 1) + 1

PAGE_BYTES = -(-_CELLS * 8 // 4096) * 4096
"""Size of a worker's page."""


def _cells(buffer: Any) -> memoryview:
    view = memoryview(buffer).cast("B")
    if len(view) < PAGE_BYTES:
        raise VpipeError(f"metrics: a page of {len(view)} bytes is too small; {PAGE_BYTES} are needed")
    return view[: _CELLS * 8].cast("q")


class Counters:
    """The worker's side of its page. Every call takes about a microsecond at most.

    Args:
        buffer: Writable memory of at least `PAGE_BYTES`, zeros at first, aligned to 8 bytes.
    """

    def __init__(self, buffer: Any) -> None:
        self._cells = _cells(buffer)
        self._clock = time.monotonic_ns
        self._cpu_base = self._cells[_CPU]
        self._cpu_read = 0
        self._own_since = time.thread_time_ns()
        self._in_part = False
        self._every = self._turn = 1

    @property
    def part(self) -> Self:
        """Open while this thread is at one of the parts, not at vpipe's own; what other threads do always is a part.

        Read on both sides of it, the thread's CPU clock takes a microsecond, and several where caches are cold.
        """
        return self  # it is opened for every frame: no other object, and no further call

    def __enter__(self) -> None:
        if self._turn == self._every:
            self._read_own()
            self._turn = 0
        self._in_part = True

    def __exit__(self, *_: object) -> None:
        self._in_part = False
        self._turn += 1
        if self._turn == self._every:
            # To read it, Linux brings the thread's account up to date, and where its slice is found used up, another
            # has its turn before the call returns: so twice, or what that costs would always be laid to vpipe.
            time.thread_time_ns()
            self._own_since = time.thread_time_ns()

    def beat(self, state: State | None = None) -> int:
        """Show that the worker lives, and what it is at; returns the time, CLOCK_MONOTONIC in nanoseconds."""
        now = self._clock()
        cells = self._cells
        cells[_BEAT] = now
        if state is not None:
            cells[_STATE] = state
        if now - self._cpu_read > CPU_EVERY_NS or (state is not None and state is not _WORKING):
            self._cpu_read = now
            cells[_CPU] = self._cpu_base + time.process_time_ns()
            if not self._in_part and self._every == 1:
                self._read_own()
        return now

    def sample_parts(self, every: int) -> None:
        """From here on read the clock before one of so many parts, and count what went before it so many times.

        Call it outside of parts. A turn of the work should not have a number of parts that divides `every`.
        """
        if self._every == 1:
            self._read_own()
        self._own_since = time.thread_time_ns()
        self._every, self._turn = every, 1 if every == 1 else 0

    def _read_own(self) -> None:
        now = time.thread_time_ns()
        self._cells[_OWN] += (now - self._own_since) * self._every
        self._own_since = now

    def add(self, name: str, count: int = 1) -> None:
        """Count: `name` is one of `TOTALS`."""
        self._cells[_TOTAL[name]] += count

    def drop(self, reason: Drop, count: int = 1) -> None:
        """Count frames that were not used."""
        self._cells[_DROP[reason]] += count

    def observe(self, ns: int, count: int = 1) -> None:
        """Count units of work that took `ns` nanoseconds each in the histogram."""
        cells = self._cells
        cells[_OBSERVED] += ns * count
        bits = ns.bit_length()
        if bits <= LOW_BITS:
            cells[_HISTOGRAM] += count
        elif bits > HIGH_BITS:
            cells[_CELLS - 1] += count
        else:
            cells[_FIRST + 8 * bits + (ns >> (bits - 4) & 7)] += count

    def close(self) -> None:
        """Let go of the memory."""
        self._cells.release()


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """A page at one moment; the difference of two is what happened between them, the sum is that of several workers."""

    beat_ns: int
    """CLOCK_MONOTONIC of the last sign of life; 0: none yet."""
    state: State
    frames: int
    items: int
    corrupt: int
    carried: int
    work_ns: int
    wait_ns: int
    cpu_ns: int
    own_ns: int
    observed_ns: int
    dropped: Mapping[str, int]
    """Frames by reason."""
    histogram: tuple[int, ...]
    """Units of work by time; `BUCKETS` long."""

    def _combine(self, other: Snapshot, sign: int, latest: Snapshot) -> Snapshot:
        return Snapshot(
            beat_ns=latest.beat_ns,
            state=latest.state,
            dropped={reason: count + sign * other.dropped[reason] for reason, count in self.dropped.items()},
            histogram=tuple(a + sign * b for a, b in zip(self.histogram, other.histogram, strict=True)),
            **{name: getattr(self, name) + sign * getattr(other, name) for name in TOTALS},
        )

    def __sub__(self, earlier: Snapshot) -> Snapshot:
        """Return what happened since `earlier`; beat and state are the present ones."""
        return self._combine(earlier, -1, self)

    def __add__(self, other: Snapshot) -> Snapshot:
        """Return the totals of two workers; beat and state are those of the one that was heard of longer ago."""
        return self._combine(other, 1, min(self, other, key=lambda snapshot: snapshot.beat_ns))

    @property
    def observed(self) -> int:
        """Units of work in the histogram."""
        return sum(self.histogram)

    def quantile(self, q: float) -> float:
        """Return the time, in seconds, that a share `q` of the units of work did not exceed; 0 without any."""
        rank = q * self.observed
        below = 0
        for bucket, count in enumerate(self.histogram):
            if count and below + count >= rank:
                low, high = edges_ns(bucket)
                return (low + (high - low) * max(0.0, rank - below) / count) * 1e-9
            below += count
        return 0.0


def edges_ns(bucket: int) -> tuple[int, int]:
    """Return the shortest time in a bucket and the shortest beyond it, in nanoseconds."""
    if bucket == 0:
        return 0, 1 << LOW_BITS
    if bucket == BUCKETS - 1:
        return 1 << HIGH_BITS, 1 << HIGH_BITS
    octave, part = divmod(bucket - 1, 8)
    step = 1 << (LOW_BITS + octave - 3)
    return (8 + part) * step, (9 + part) * step


def peek(buffer: Any, name: str) -> int:
    """Read one of `beat_ns` and `TOTALS` off a worker's page, in a fiftieth of the time that `read` takes."""
    at = _BEAT if name == "beat_ns" else _TOTAL[name]
    return int.from_bytes(buffer[8 * at : 8 * at + 8], sys.byteorder)


def read(buffer: Any) -> Snapshot:
    """Read a worker's page; at any time, from any process."""
    with _cells(buffer) as cells:
        values = cells.tolist()
    return Snapshot(
        beat_ns=values[_BEAT],
        state=State(values[_STATE]),
        dropped={str(reason): values[at] for reason, at in _DROP.items()},
        histogram=tuple(values[_HISTOGRAM:_CELLS]),
        **{name: values[at] for name, at in _TOTAL.items()},
    )
