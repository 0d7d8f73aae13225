"""The supervisor's side of a trace: a thread that drains all pages and writes the file."""

from __future__ import annotations

import json
import os
import struct
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.errors import ResourceError
from vpipe.memory import map_memory
from vpipe.trace.events import Events, Series, Text, named
from vpipe.trace.page import RECORDS, TracePage, records

LOOK_S = 0.2
"""How often counters are looked at and pages drained: each look wakes a thread beside the run."""
CHUNK = struct.Struct("=II")
"""Before each drained piece in the spool: whose it is, and its length in bytes."""
BLOCK_BYTES = 4096 * RECORDS.itemsize
"""So much of one worker is turned into text at a time: enough to share the cost of a step, few enough for the cache."""
SERIES = 4096
"""So many values of a counter are turned into text at a time."""


class _Ring:
    """How many slots of a ring are in use, read from its memory."""

    def __init__(self, memory_fd: int, slots: int, slot_bytes: int) -> None:
        memory = map_memory(memory_fd, slots * slot_bytes, "trace")
        # Each slot begins with its sequence, which is 0 while it is free.
        self._sequences: NDArray[np.uint64] = np.ndarray((slots,), np.uint64, memory, 0, (slot_bytes,))

    def fill(self) -> int:
        return int(np.count_nonzero(self._sequences))


class Tracer:
    """Writes one trace; its thread runs from `start` to `close`. Pages may be asked for at any time.

    The file is complete after `close` and absent before: a run that is killed leaves none. Records are kept as they are
    until then, since turning them into text takes time too, and the run is to be seen as it is without a trace.
    """

    def __init__(self, path: str | os.PathLike[str], facts: dict[str, Any], *, alone: bool = False) -> None:
        """Open the file; nothing is drained before `start`.

        Args:
            path: The trace file.
            facts: What is worth knowing of the run, for `otherData`.
            alone: The traced worker is this very process, which supervises nothing.

        Raises:
            ResourceError: The file cannot be written.
        """
        self.path = Path(os.path.abspath(path))
        # Always the same name: what a killed run left is overwritten by the next.
        self._part = self.path.with_name(f".{self.path.name}.part")
        try:
            self._file = open(self._part, "wb")  # noqa: SIM115 - closed by `close`
            self._spool = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 - it has no name to leave behind
        except OSError as error:
            raise ResourceError(
                f"--trace: {self.path} cannot be written: {error.strerror}; name a file in a directory of yours"
            ) from None
        self._origin_ns = time.monotonic_ns()
        self._facts = {**facts, "origin_monotonic_ns": self._origin_ns, "origin_unix_s": round(time.time(), 6)}
        self._own = os.getpid()
        self._lock = threading.Lock()
        self._pages: dict[str, tuple[TracePage, Events]] = {}
        self._rings: dict[str, _Ring] = {}
        self._shown: dict[str, int] = {}
        self._series: dict[tuple[str, int], Series] = {}
        self._cpu_ns: dict[int, tuple[int, int]] = {self._own: (self._origin_ns, time.process_time_ns())}
        """By process: when it was looked at last, and the CPU time it had taken by then."""
        self._failure: OSError | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="vpipe-trace", daemon=True)
        first = named(self._own, self._facts["pipeline"] if alone else "supervisor", 0)
        self._file.write(b'{"displayTimeUnit":"ms","traceEvents":[' + first.removeprefix(b","))

    def page(self, worker: str) -> TracePage:
        """Return a worker's page, made when it is first asked for and kept over the worker's restarts."""
        with self._lock:
            if worker not in self._pages:
                self._pages[worker] = (TracePage(worker), Events(worker, len(self._pages) + 1, self._origin_ns))
            return self._pages[worker][0]

    def ring(self, name: str, memory_fd: int, slots: int, slot_bytes: int) -> None:
        """Also note how full a ring is."""
        with self._lock:
            self._rings[name] = _Ring(memory_fd, slots, slot_bytes)

    def start(self) -> None:
        """Begin to drain."""
        self._thread.start()

    def close(self) -> None:
        """Drain what is left, when all workers have ended, and put the file in its place.

        Raises:
            ResourceError: The file could not be written, for example because the disk is full.
        """
        if self._done.is_set():
            return
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        self._drain(ended=True)
        self._unspool()
        for process, (looked_ns, _) in self._cpu_ns.items():
            self._add("cores", process, "cores", "%t", looked_ns, 0)  # the last value held until then
        self._write(series.text() for series in self._series.values())
        self._facts["lost_records"] = sum(page.lost for page, _ in self._pages.values())
        for page, _ in self._pages.values():
            page.close()
        self._rings.clear()
        self._write([f'\n],"otherData":{json.dumps(self._facts)}}}\n'.encode("ascii")])
        try:
            self._file.close()
        except OSError as error:
            self._failure = self._failure or error
        if self._failure is None:
            os.replace(self._part, self.path)
            return
        self._part.unlink(missing_ok=True)
        raise ResourceError(f"--trace: {self.path} could not be written: {self._failure.strerror}; the run is complete")

    def _watch(self) -> None:
        while not self._done.wait(LOOK_S):
            with self._lock:
                self._sample()
            self._drain()

    def _drain(self, *, ended: bool = False) -> None:
        with self._lock:
            pages = list(self._pages.values())
        for number, (page, _) in enumerate(pages):
            data = page.drain(ended=ended)
            if data and self._failure is None:
                try:
                    self._spool.write(CHUNK.pack(number, len(data)) + data)
                except OSError as error:
                    self._failure = error  # a trace that fails must not fail the run: told at the end

    def _unspool(self) -> None:
        """Turn all that was drained into events."""
        everyone = [(events, bytearray()) for _, events in self._pages.values()]
        if self._failure is None:
            self._spool.seek(0)
            while head := self._spool.read(CHUNK.size):
                number, length = CHUNK.unpack(head)
                events, data = everyone[number]
                data += self._spool.read(length)
                if len(data) >= BLOCK_BYTES:
                    self._write(events.text(records(data)))
                    everyone[number] = events, bytearray()
            for events, data in everyone:
                self._write(events.text(records(data)))
        self._spool.close()

    def _sample(self) -> None:
        """Note the rings whose fill has changed, and the cores that each process has taken since the last look."""
        for name, ring in self._rings.items():
            fill = ring.fill()
            if fill != self._shown.get(name):
                self._shown[name] = fill
                self._add(f"ring {name}", self._own, "slots", "%d", time.monotonic_ns(), fill)
        processes = dict(page.process for page, _ in self._pages.values())
        for process, began_ns in {**processes, self._own: self._origin_ns}.items():
            used = _cpu_ns(process) if process else None
            if used is None:
                continue
            now_ns = time.monotonic_ns()
            before_ns, before = self._cpu_ns.get(process, (began_ns, 0))
            self._cpu_ns[process] = (now_ns, used)
            millicores = round((used - before) / (now_ns - before_ns) * 1e3)
            self._add("cores", process, "cores", "%t", before_ns, millicores)

    def _add(self, name: str, process: int, what: str, place: str, at_ns: int, value: int) -> None:
        series = self._series.setdefault((name, process), Series(name, process, what, place))
        series.add(at_ns - self._origin_ns, value)
        if len(series) >= SERIES:
            self._write([series.text()])

    def _write(self, texts: Iterable[Text]) -> None:
        if self._failure is not None:
            return
        try:
            for text in texts:
                self._file.write(text)
        except OSError as error:
            self._failure = error


def _cpu_ns(process: int) -> int | None:
    """Return the CPU time of a process, all its threads together; None where it has ended."""
    # The clock of another process, as clock_getcpuclockid(3) makes its number on Linux: ~pid << 3 | CPUCLOCK_SCHED.
    try:
        return time.clock_gettime_ns(time.CLOCK_PROCESS_CPUTIME_ID if process == os.getpid() else ~process << 3 | 2)
    except OSError:
        return None
