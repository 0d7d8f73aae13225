"""The postprocess stage: runs the tasks and commits their results, a segment at a time.

Results come in any order and, after a death further up, more than once: a frame counts once, by its pts. A segment
is complete when the supervisor has said how many frames it has and that many different ones are here. Committed
segments are in the ledger and are never looked at again; all else can be made again from the file.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.control import Message
from vpipe.frame import FrameFlag, StreamInfo
from vpipe.ledger import Ledger, join_columns
from vpipe.metrics import State
from vpipe.stages.branchtask import BranchTask
from vpipe.task import Batch, Columns
from vpipe.trace import Span
from vpipe.worker import BEAT_MS, Context

_FIRST = int(FrameFlag.FIRST)

KEPT_BYTES = 16 << 20
"""Columns of an open stream that are remembered; beyond it they are read back from the ledger."""


COUNTS = ("seen", "taken", "corrupt", "cpu_s")
"""Facts of segments whose sums go into the stream's row."""


class _Segment:
    """The frames of one segment that have come so far, for one branch."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._chunks: list[Columns] = []
        self._attempt = -1
        self._followed: set[int] = set()

    def follows(self, attempt: int, pts: int, first: bool) -> bool:
        """Return whether a frame is a new one of an attempt that was seen from its first frame on."""
        if attempt > self._attempt and first:
            self._attempt = attempt
            self._followed = set()
        elif attempt != self._attempt or pts in self._followed:
            return False
        self._followed.add(pts)
        return True

    def add(self, columns: Columns) -> None:
        """Keep the rows whose pts is new."""
        pts = columns["pts"].tolist()
        new = [pts_ not in self._seen for pts_ in pts]
        if not all(new):
            mask = np.array(new)
            columns = {name: values[mask] for name, values in columns.items()}
        self._seen.update(pts)
        if any(new):
            self._chunks.append(columns)

    def __len__(self) -> int:
        return len(self._seen)

    def columns(self) -> Columns:
        """Return all rows in order of pts."""
        if not self._chunks:
            return {"pts": np.empty(0, np.int64), "index": np.empty(0, np.int64), "flags": np.empty(0, np.uint32)}
        joined = {name: np.concatenate([chunk[name] for chunk in self._chunks]) for name in self._chunks[0]}
        order = np.argsort(joined["pts"], kind="stable")
        return {name: values[order] for name, values in joined.items()}


class _Stream:
    """One open stream: which segments are wanted and what has come of them."""

    def __init__(self, order: Message) -> None:
        self.info = StreamInfo.from_dict(order["info"])
        self.keys: dict[str, dict[str, str]] = order["keys"]
        self.committed: set[int] = set(order["committed"])
        self.expected: dict[int, Message] = {}
        self._parts: dict[tuple[int, str], _Segment] = {}
        self._kept: dict[tuple[int, str], Columns] = {}
        self._kept_bytes = 0

    def seconds(self, pts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return seconds since the stream's first frame."""
        numerator, denominator = self.info.time_base
        return (pts - self.info.start_pts) * numerator / denominator

    def part(self, segment: int, branch: str) -> _Segment:
        """Return the frames of a segment for a branch."""
        return self._parts.setdefault((segment, branch), _Segment())

    def keep(self, segment: int, branch: str, columns: Columns) -> None:
        """Remember a committed segment's columns while they are small: they are wanted again at the stream's end."""
        self._kept_bytes += sum(values.nbytes for values in columns.values())
        if self._kept_bytes <= KEPT_BYTES:
            self._kept[segment, branch] = columns

    def columns(self, branch: str, ledger: Ledger) -> Columns:
        """Return a branch's columns of all segments, joined in order of time."""
        numbers = range(self.info.segments)
        if any((number, branch) not in self._kept for number in numbers):  # another run's, or too large
            return ledger.columns(self.keys[branch]["work"], numbers)
        return join_columns(self._kept[number, branch] for number in numbers)

    def drop(self, segment: int, branches: list[BranchTask]) -> None:
        """Forget a committed segment's frames."""
        for branch in branches:
            self._parts.pop((segment, branch.name), None)
        del self.expected[segment]
        self.committed.add(segment)

    def complete(self, branches: list[BranchTask]) -> list[int]:
        """Return the segments that are all here, in order of time."""
        done = [
            number
            for number, expected in self.expected.items()
            if all(len(self.part(number, branch.name)) >= expected["taken"][branch.name] for branch in branches)
        ]
        return sorted(done)


class _Postprocess:
    def __init__(self, context: Context) -> None:
        settings = context.assignment["settings"]
        self._context = context
        self._ledger = Ledger.open(Path(settings["out"]))
        self._branches = []
        self._rings = []
        for name, branch in settings["branches"].items():
            labels = {output: tuple(values) for output, values in branch["labels"].items()}
            self._branches.append(BranchTask(name, branch["task"], branch["options"], labels, context.counters))
            self._rings.append((self._branches[-1], context.readers[branch["ring"]]))
        self._streams: dict[int, _Stream] = {}

    def take(self) -> None:
        """Hand every result that is here to its task."""
        for branch, reader in self._rings:
            while (loan := reader.take()) is not None:
                with loan:
                    fields = {field.name: loan.field(field.name) for field in reader.spec.layout.fields}
                    self._sort(branch, Batch(frames=loan.frames, fields=fields))
                    # The oldest frame's age is this stage's unit: how long a frame takes from its view to its result.
                    self._context.counters.observe(time.monotonic_ns() - int(loan.frames["made_ns"].min()))
                self._context.counters.add("items", 1)
                self._context.done(Span.TASK, loan.count)

    def _sort(self, branch: BranchTask, batch: Batch) -> None:
        """Run the task on a batch and put its rows with their segments."""
        if branch.in_sequence:
            batch = self._due(branch, batch)
            if not len(batch):
                return
        frames = batch.frames
        columns = branch.on_batch(batch)
        columns["pts"] = frames["pts"].copy()
        columns["index"] = frames["index"].copy()
        columns["flags"] = frames["flags"].copy()
        self._context.counters.add("frames", len(batch))
        ids = frames["stream"].astype(np.int64) << 32 | frames["segment"]
        for number in dict.fromkeys(ids.tolist()):
            stream = self._streams.get(number >> 32)
            segment = number & 0xFFFFFFFF
            if stream is None or segment in stream.committed:
                continue  # a repeat of something finished or given up
            mask = ids == number
            rows = columns if mask.all() else {name: values[mask] for name, values in columns.items()}
            stream.part(segment, branch.name).add(rows)

    def _due(self, branch: BranchTask, batch: Batch) -> Batch:
        """Return the frames that a task which works in sequence has to see, those of each attempt in order."""
        frames = batch.frames
        attempt = frames["attempt"], frames["segment"], frames["stream"]
        # Looked up in lists: a field of a header takes ten times as long.
        attempts, segments, streams = (values.tolist() for values in attempt)
        times, flags = frames["pts"].tolist(), frames["flags"].tolist()
        rows = []
        # In the order in which they were decoded: that of their times may be another where a container tells lies.
        for row in np.lexsort((frames["made_ns"], *attempt)).tolist():
            stream, segment = self._streams.get(streams[row]), segments[row]
            if stream is None or segment in stream.committed:
                continue
            if stream.part(segment, branch.name).follows(attempts[row], times[row], bool(flags[row] & _FIRST)):
                rows.append(row)
        # Mostly every attempt's frames are in order, mixed with those of others: then nothing has to be copied.
        if rows == np.lexsort(attempt).tolist():
            return batch
        return Batch(frames[rows], {name: values[rows] for name, values in batch.fields.items()})

    def commit(self) -> None:
        """Commit every segment that is complete."""
        for stream in self._streams.values():
            if not stream.expected:
                continue
            for number in stream.complete(self._branches):
                if not self._in_turn(stream, number):
                    break
                for branch in self._branches:
                    columns = stream.part(number, branch.name).columns()
                    columns["pts_s"] = stream.seconds(columns["pts"])
                    expected = stream.expected[number]
                    facts = {**expected["facts"], "taken": expected["taken"][branch.name]}
                    # The engine's own facts about a segment travel with it, one value a segment.
                    told = {f"_{name}": np.array([np.nan if value is None else value]) for name, value in facts.items()}
                    kept = branch.on_segment(stream.info, columns | told) | told
                    self._ledger.commit_segment(stream.keys[branch.name]["work"], number, kept)
                    stream.keep(number, branch.name, kept)
                stream.drop(number, self._branches)
                self._context.done(Span.COMMIT, stream.info.stream, number)
                self._context.report("committed", stream=stream.info.stream, segment=number)

    def _in_turn(self, stream: _Stream, number: int) -> bool:
        ordered = any(branch.ordered for branch in self._branches)
        return not ordered or all(earlier in stream.committed for earlier in range(number))

    def obey(self, order: Message) -> None:
        """Carry out one order of the supervisor."""
        number: int = order["stream"]
        if order["op"] == "open":
            self._streams[number] = _Stream(order)
        elif number not in self._streams:
            return  # finished or given up in the meantime
        match order["op"]:
            case "expect":
                if order["segment"] not in self._streams[number].committed:
                    self._streams[number].expected[order["segment"]] = order
                else:
                    self._context.report("committed", stream=number, segment=order["segment"])
            case "finish":
                rows = {branch.name: self._finish(branch, self._streams[number]) for branch in self._branches}
                del self._streams[number]
                self._context.report("finished", stream=number, rows=rows)
            case "forget":
                del self._streams[number]

    def _finish(self, branch: BranchTask, stream: _Stream) -> dict[str, Any]:
        keys = stream.keys[branch.name]
        columns = stream.columns(branch.name, self._ledger)
        facts = {name: float(columns[f"_{name}"].sum()) for name in COUNTS if f"_{name}" in columns}
        own = {name: values for name, values in columns.items() if not name.startswith("_")}
        row = {"facts": facts, "task": branch.on_stream(stream.info, own)}
        self._ledger.commit_row(keys["work"], keys["row"], row)
        return row

    def run(self) -> None:
        """Work until the supervisor says stop."""
        self._context.ready()
        while True:
            # Before the results: what opens a stream was sent before its first frame was decoded, and the results
            # taken now were rung for before now.
            self._context.hear()
            while (order := self._context.order()) is not None:
                self.obey(order)
            self.take()
            self.commit()
            self._context.wait(BEAT_MS, State.IDLE if not self._streams else State.WAITING, Span.WAIT_FRAME)


def run(context: Context) -> None:
    """Post-process until the supervisor says stop."""
    _Postprocess(context).run()
