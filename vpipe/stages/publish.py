"""The publish stage of a live run: runs the tasks on what comes out of the models, and sends their messages on at once.

Messages go to the outlet, one packet each: the stream's number (u32, little endian), then the message. The outlet is
never waited for: what it does not take is dropped and counted. A frame counts once: those that a death further up has
made again are known by their rank in the epoch.

Orders: `open` (facts of a stream from an epoch on), `close` (with the last frame of each branch where they come still).
Reports: `sent` (messages and drops of each stream, once a second), `closed`.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import numpy as np

from vpipe.control import Message
from vpipe.frame import StreamInfo
from vpipe.metrics import Drop, State
from vpipe.stages.branchtask import BranchTask
from vpipe.task import Batch
from vpipe.trace import Span
from vpipe.worker import BEAT_MS, Context

HEAD = struct.Struct("<I")
OUTLET_BYTES = 1 << 20
"""Asked of the outlet's buffer: a reader that pauses for a moment loses nothing."""
EPOCHS = 4
"""Of a stream, whose facts are kept: frames of the last one may still be on their way when the next begins."""
TELL_S = 1.0
CLOSE_S = 2.0
"""How long the last frames of a stream that has ended are waited for."""


class _Stream:
    """A stream that is open."""

    def __init__(self, branches: int) -> None:
        self.epochs: dict[int, StreamInfo] = {}
        self.seen = [(0, -1)] * branches
        """By branch: epoch and rank of the newest frame."""
        self.sent = 0
        self.dropped = 0
        self.last: list[tuple[int, int]] | None = None
        """By branch: the frame to wait for before it is closed."""
        self.close_by_s = 0.0

    def take_counts(self) -> list[int]:
        """Return how many messages were sent, and how many dropped, since the last call."""
        counts = [self.sent, self.dropped]
        self.sent = self.dropped = 0
        return counts

    def finished(self, now_s: float) -> bool:
        """Whether it is to be closed now."""
        if self.last is None:
            return False
        return now_s > self.close_by_s or all(seen >= last for seen, last in zip(self.seen, self.last, strict=True))


class _Publish:
    def __init__(self, context: Context) -> None:
        self._context = context
        settings = context.assignment["settings"]
        self._branches = []
        for name, branch in settings["branches"].items():
            task = BranchTask(name, branch["task"], branch["options"], branch["labels"], context.counters)
            self._branches.append((task, context.readers[branch["ring"]]))
        self._outlet: socket.socket | None = None
        if settings["outlet"] is not None:
            self._outlet = socket.socket(fileno=settings["outlet"])
            self._outlet.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, OUTLET_BYTES)
        self._streams: dict[int, _Stream] = {}
        self._told_s = 0.0

    def _obey(self, order: Message) -> None:
        number: int = order["stream"]
        if order["op"] == "open":
            stream = self._streams.setdefault(number, _Stream(len(self._branches)))
            stream.epochs[order["epoch"]] = StreamInfo.from_dict(order["info"])
            for old in sorted(stream.epochs)[:-EPOCHS]:
                del stream.epochs[old]
        elif number in self._streams:
            last = order["last"]
            if last is None:
                self._close(number)
            else:
                self._streams[number].last = [(order["epoch"], rank) for rank in last]
                self._streams[number].close_by_s = time.monotonic() + CLOSE_S
        else:
            self._context.report("closed", stream=number, counts=[0, 0])

    def _close(self, number: int) -> None:
        for branch, _ in self._branches:
            branch.end_live(number)
        stream = self._streams.pop(number)
        self._context.report("closed", stream=number, counts=stream.take_counts())

    def _take(self) -> None:
        """Hand every result that is here to its task, and send what it makes of it."""
        for position, (branch, reader) in enumerate(self._branches):
            while (loan := reader.take()) is not None:
                with loan:
                    fields = {field.name: loan.field(field.name) for field in reader.spec.layout.fields}
                    self._publish(position, branch, Batch(frames=loan.frames, fields=fields))
                self._context.counters.add("items", 1)
                self._context.done(Span.TASK, loan.count)

    def _publish(self, position: int, branch: BranchTask, batch: Batch) -> None:
        for number, rows in self._runs(position, batch):
            stream = self._streams[number]
            frames = batch.frames[rows]
            part = Batch(frames=frames, fields={name: values[rows] for name, values in batch.fields.items()})
            messages = branch.on_live(stream.epochs[int(frames["epoch"][0])], part)
            for message in messages:
                self._send(number, stream, message)
            now_ns = time.time_ns()
            for arrival_ns in frames["arrival_ns"].tolist():
                self._context.counters.observe(max(0, now_ns - arrival_ns))
            self._context.counters.add("frames", len(frames))

    def _runs(self, position: int, batch: Batch) -> Iterator[tuple[int, slice]]:
        """Yield the new frames of open streams: the stream's number and rows that follow each other, in order of time.

        A batch has carried frames behind the others, so its rows are sorted first; what lies together goes together,
        uncopied.
        """
        frames = batch.frames
        numbers, epochs, ranks = frames["stream"].tolist(), frames["epoch"].tolist(), frames["index"].tolist()
        run: tuple[int, int, int, int] | None = None  # number, epoch, first row, row after the last
        for row in np.lexsort((ranks, epochs, numbers)).tolist():
            number, epoch = numbers[row], epochs[row]
            if not self._is_new(position, number, (epoch, ranks[row])):
                continue
            if run is not None and run[:2] == (number, epoch) and run[3] == row:
                run = (*run[:3], row + 1)
                continue
            if run is not None:
                yield run[0], slice(*run[2:])
            run = number, epoch, row, row + 1
        if run is not None:
            yield run[0], slice(*run[2:])

    def _is_new(self, position: int, number: int, mark: tuple[int, int]) -> bool:
        """Note a frame by its epoch and rank; returns whether it is to be published."""
        stream = self._streams.get(number)
        if stream is None or mark[0] not in stream.epochs:
            self._context.counters.drop(Drop.LOST)  # of a stream that has left
            return False
        if mark <= stream.seen[position]:
            self._context.counters.drop(Drop.REPEAT)
            return False
        stream.seen[position] = mark
        return True

    def _send(self, number: int, stream: _Stream, message: bytes) -> None:
        if self._outlet is None:
            return
        try:
            self._outlet.send(HEAD.pack(number) + message, socket.MSG_DONTWAIT)
            stream.sent += 1
        except OSError:  # full, or nobody reads any more: the run goes on
            stream.dropped += 1
            self._context.counters.drop(Drop.OUTLET)

    def _tell(self) -> None:
        """Close what is at its end, and tell the supervisor now and then how much was sent."""
        now = time.monotonic()
        for number in [number for number, stream in self._streams.items() if stream.finished(now)]:
            self._close(number)
        if self._streams and now - self._told_s >= TELL_S:
            self._told_s = now
            self._context.report("sent", counts={n: stream.take_counts() for n, stream in self._streams.items()})

    def run(self) -> None:
        """Work until the supervisor says stop."""
        self._context.ready()
        while True:
            # Before the results: what opens an epoch was sent before its first frame was written.
            self._context.hear()
            while (order := self._context.order()) is not None:
                self._obey(order)
            self._take()
            self._tell()
            closing = any(stream.last is not None for stream in self._streams.values())
            self._context.wait(100 if closing else BEAT_MS, State.WAITING if self._streams else State.IDLE)


def run(context: Context) -> None:
    """Publish until the supervisor says stop."""
    _Publish(context).run()
