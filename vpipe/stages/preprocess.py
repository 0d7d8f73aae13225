"""The preprocess stage: gathers frames of all decode workers into batches.

One worker a branch. A batch is a tensor slot, filled in place and sent when it is full, when its first frame has
waited `max_wait_ms`, or when the supervisor says that nothing more comes for now. Frames that the model is to leave
out stand behind those that it takes; in a live run that has too much to do they are chosen here (`Ration`). Frame
slots are given back only after their batch is committed and announced: a worker that dies half-way leaves every frame
either in the frame rings or in the tensor ring.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from vpipe.frame import PICTURE, FrameFlag
from vpipe.media.timing import Ration
from vpipe.ring import ReadLoan, RingReader, WriteLoan
from vpipe.trace import Span
from vpipe.worker import BEAT_MS, Context

_CARRIED, _PICTURE = int(FrameFlag.CARRIED), int(FrameFlag.PICTURE)


class _Gatherer:
    def __init__(self, context: Context) -> None:
        settings = context.assignment["settings"]
        self._context = context
        self._counters = context.counters
        self._max_wait_ns = int(settings["max_wait_ms"] * 1e6)
        self._readers: list[RingReader] = list(context.readers.values())
        (self._writer,) = context.writers.values()
        self._capacity = self._writer.spec.layout.capacity
        # The view becomes the model's one input; companions keep their names. Arrays are looked up once: this runs for
        # every frame. The picture comes last, and is copied only where there is one.
        names = [field.name for field in self._readers[0].spec.layout.fields]
        targets = [field.name for field in self._writer.spec.layout.fields]
        self._has_picture = PICTURE in names
        self._rows = [[*slot.values()] for slot in self._writer.slot_arrays(targets)]
        self._items = [[[*slot.values()] for slot in reader.slot_arrays(names)] for reader in self._readers]
        self._batch: WriteLoan | None = None
        self._headers: NDArray[np.void]
        """Of the batch's frames."""
        self._held: list[ReadLoan] = []
        self._due_ns = 0
        self._next = 0
        self._carried = 0
        ration = settings["ration"]
        self._ration = None if ration is None else Ration(**ration, seats=len(self._readers))
        self.flushing = False

    def _take(self) -> tuple[int, ReadLoan] | None:
        """Take one frame, the rings in turn, so that no decode worker is starved; also the number of its ring."""
        for _ in self._readers:
            seat = self._next
            self._next = (seat + 1) % len(self._readers)
            loan = self._readers[seat].take()
            if loan is not None:
                return seat, loan
        return None

    def gather(self) -> None:
        """Move what is there into batches, as far as tensor slots go."""
        while True:
            if self._batch is None:
                if not self._writer.ready:
                    return
                self._batch = self._writer.loan()
                self._headers = self._batch.frames
            taken = self._take()
            if taken is None:
                return
            seat, frame = taken
            if not self._held:
                self._due_ns = time.monotonic_ns() + self._max_wait_ns
            self._put(seat, frame, self._batch.slot)
            self._held.append(frame)
            if len(self._held) == self._capacity:
                self.send()

    def _put(self, seat: int, frame: ReadLoan, slot: int) -> None:
        """Give the frame its row: at the end, or before the carried ones, the first of which then moves to the end."""
        at = len(self._held)
        headers, rows = self._headers, self._rows[slot]
        header, items = frame.frames[0], self._items[seat][frame.slot]
        flags = int(header["flags"])
        left_out = self._ration is not None and not flags & _CARRIED and self._leaves_out(self._ration, seat, header)
        if left_out:
            flags |= _CARRIED
        if flags & _CARRIED:
            self._carried += 1
        elif self._carried:
            first = at - self._carried
            for row in (headers, *rows):
                row[at] = row[first]
            at = first
        headers[at] = header
        if left_out:
            headers["flags"][at] = flags
        if self._has_picture and not flags & _PICTURE:
            rows = rows[:-1]
        for row, item in zip(rows, items, strict=False):
            row[at] = item[0]

    @staticmethod
    def _leaves_out(ration: Ration, seat: int, header: np.void) -> bool:
        """Say whether the model is not to run on a frame because there is too much to do."""
        now_ns = time.monotonic_ns()
        stream = int(header["stream"]), int(header["epoch"])
        return ration.leaves_out(seat, stream, now_ns - int(header["made_ns"]), now_ns)

    def send(self) -> None:
        """Commit the batch, announce it, and only then give its frame slots back."""
        assert self._batch is not None
        self._counters.add("frames", len(self._held))
        self._counters.add("items", 1)
        if self._carried:
            self._counters.add("carried", self._carried)
        self._batch.count = len(self._held)
        self._batch.commit()
        self._batch = None
        self._carried = 0
        self._writer.flush()
        for loan in self._held:
            loan.release()
        self._context.done(Span.GATHER, len(self._held))
        self._held.clear()

    def wait_ms(self) -> float:
        """Return how long the stage may sleep."""
        if not self._held:
            return BEAT_MS
        return (self._due_ns - time.monotonic_ns()) / 1e6

    def run(self, context: Context) -> None:
        """Gather for ever."""
        while True:
            start = time.perf_counter_ns()
            self.gather()
            if self._held and (self.flushing or time.monotonic_ns() >= self._due_ns):
                self.send()
            if self._batch is not None:  # else frames may be left that found no tensor slot
                self.flushing = False
            self._counters.observe(time.perf_counter_ns() - start)
            full = self._batch is None and not self._writer.ready
            context.wait(self.wait_ms(), what=Span.WAIT_SLOT if full else Span.WAIT_FRAME)
            if context.order() is not None:  # there is only one: `flush`
                self.flushing = True


def run(context: Context) -> None:
    """Batch frames until the supervisor says stop."""
    gatherer = _Gatherer(context)
    context.ready()
    gatherer.run(context)
