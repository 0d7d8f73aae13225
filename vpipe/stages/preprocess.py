"""The preprocess stage: gathers frames of all decode workers into batches.

One worker a branch. A batch is a tensor slot, filled in place and sent when it is full, when its first frame has
waited `max_wait_ms`, or when the supervisor says that nothing more comes for now. Frames that the model is to leave
out stand behind those that it takes; in a live run that has too much to do they are chosen here (`Ration`). Frame
slots are given back only after their batch is committed and announced: a worker that dies half-way leaves every frame
either in the frame rings or in the tensor ring.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.frame import PICTURE, FrameFlag, copy_headers
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
        self._count = 0
        """Frames in the batch."""
        self._held: list[ReadLoan] = []
        """Slots whose last frame is in the batch."""
        self._taken: tuple[int, ReadLoan] | None = None
        """The slot under way, and the number of its ring."""
        self._used = 0
        """Frames of it that are in a batch."""
        self._due_ns = 0
        self._next = 0
        self._carried = 0
        ration = settings["ration"]
        self._ration = None if ration is None else Ration(**ration, seats=len(self._readers))
        self.flushing = False

    def _take(self) -> tuple[int, ReadLoan] | None:
        """Take one slot of frames, the rings in turn, so that no decode worker is starved; also the ring's number."""
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
            self._taken = self._taken or self._take()
            if self._taken is None:
                return
            if not self._count:
                self._due_ns = time.monotonic_ns() + self._max_wait_ns
            seat, slot = self._taken
            first = self._used
            stop = min(slot.count, first + self._capacity - self._count)
            self._put(seat, slot, first, stop, self._batch.slot)
            self._used = stop
            if stop == slot.count:
                self._held.append(slot)
                self._taken, self._used = None, 0
            if self._count == self._capacity:
                self.send()

    def _put(self, seat: int, slot: ReadLoan, first: int, stop: int, batch: int) -> None:
        """Give frames of a slot their rows of the batch."""
        headers, items = slot.frames[first:stop], self._items[seat][slot.slot]
        flags = headers["flags"].tolist()
        if self._ration is not None or self._carried or any(each & _CARRIED for each in flags):
            for row, header in enumerate(headers, first):
                self._put_one(seat, header, [item[row] for item in items], batch)
            return
        at, until = self._count, self._count + stop - first
        copy_headers(headers, self._headers[at:until])
        rows = self._rows[batch]
        if self._has_picture:
            *rows, pictures = rows
            for row, each in enumerate(flags):
                if each & _PICTURE:
                    pictures[at + row] = items[-1][first + row]
        for target, item in zip(rows, items, strict=False):
            target[at:until] = item[first:stop]
        self._count = until

    def _put_one(self, seat: int, header: np.void, items: list[NDArray[Any]], batch: int) -> None:
        """Give a frame its row: at the end, or before the carried ones, the first of which then moves to the end."""
        at = self._count
        headers, rows = self._headers, self._rows[batch]
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
            row[at] = item
        self._count += 1

    @staticmethod
    def _leaves_out(ration: Ration, seat: int, header: np.void) -> bool:
        """Say whether the model is not to run on a frame because there is too much to do."""
        now_ns = time.monotonic_ns()
        stream = int(header["stream"]), int(header["epoch"])
        return ration.leaves_out(seat, stream, now_ns - int(header["made_ns"]), now_ns)

    def send(self) -> None:
        """Commit the batch, announce it, and only then give back the frame slots that are used up."""
        assert self._batch is not None
        count = self._count
        self._counters.add("frames", count)
        self._counters.add("items", 1)
        if self._carried:
            self._counters.add("carried", self._carried)
        self._batch.count = count
        self._batch.commit()
        self._batch = None
        self._count = self._carried = 0
        self._writer.flush()
        for loan in self._held:
            loan.release()
        self._context.done(Span.GATHER, count)
        self._held.clear()

    def wait_ms(self) -> float:
        """Return how long the stage may sleep."""
        if not self._count:
            return BEAT_MS
        return (self._due_ns - time.monotonic_ns()) / 1e6

    def run(self, context: Context) -> None:
        """Gather for ever."""
        while True:
            start = time.perf_counter_ns()
            self.gather()
            if self._count and (self.flushing or time.monotonic_ns() >= self._due_ns):
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
