"""The work list: which files and segments are left, who has them, and what to hand out next.

No process and no clock in here, so that every rule can be tested by itself.
"""

from __future__ import annotations

import dataclasses
import enum
import heapq
import math
from typing import Any

from vpipe.frame import StreamInfo


class FileState(enum.Enum):
    """Where a file is on its way."""

    QUEUED = "queued"
    IDENTIFIED = "identified"
    DECODING = "decoding"
    FINISHING = "finishing"
    WAITING = "waiting"
    """The same content is being worked on under another name."""
    DONE = "done"
    FAILED = "failed"


class SegmentState(enum.Enum):
    """Where a segment is on its way."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    DECODED = "decoded"
    COMMITTED = "committed"


@dataclasses.dataclass
class SegmentWork:
    """One segment to decode."""

    number: int
    data: dict[str, Any]
    """`Segment.to_dict()`, passed on as it is."""
    frames: int
    """Work estimate: frames to decode."""
    state: SegmentState = SegmentState.QUEUED
    attempts: int = 0
    counted: bool = False
    """Its frames are in `WorkList.frames_decoded`."""
    again: bool = False
    """Decode once more when the present attempt ends: results of it may have been lost."""


@dataclasses.dataclass
class FileWork:
    """One input file."""

    number: int
    """Position in the run's inputs, and stream_id."""
    path: str
    size_bytes: int
    state: FileState = FileState.QUEUED
    busy: bool = False
    """A worker identifies or plans it just now."""
    attempts: int = 0
    key: str | None = None
    info: StreamInfo | None = None
    segments: dict[int, SegmentWork] = dataclasses.field(default_factory=dict)
    twins: list[FileWork] = dataclasses.field(default_factory=list)
    """Files with the same content, given the same results."""
    original: FileWork | None = None
    """The file of the same content whose results it is given."""
    error: tuple[str, str] | None = None
    row: dict[str, Any] | None = None
    reused: bool = False
    """Nothing of it was decoded in this run."""

    @property
    def source(self) -> FileWork:
        """The file that was worked on: itself, or one of the same content."""
        return self.original or self

    @property
    def ended(self) -> bool:
        """Whether nothing more will be done for it."""
        return self.state in (FileState.DONE, FileState.FAILED)

    @property
    def uncommitted(self) -> list[SegmentWork]:
        """Segments whose results are not in the ledger yet."""
        return [segment for segment in self.segments.values() if segment.state is not SegmentState.COMMITTED]


@dataclasses.dataclass
class Job:
    """What a decode worker is asked to do."""

    number: int
    op: str
    """`identify`, `plan` or `decode`."""
    file: FileWork
    segment: SegmentWork | None = None
    threads: int = 1
    packets_before: int = 0
    """The worker's counter of packets when the job was handed out."""


class WorkList:
    """All files of a run and what is left to do."""

    def __init__(self, inputs: list[tuple[str, int]], workers: int, tries: int) -> None:
        """Take (path, size in bytes) of each input, in the order of the user."""
        self.files = [FileWork(number, path, size) for number, (path, size) in enumerate(inputs)]
        self.ended = 0
        self.failed = 0
        # Sums for the progress bar, kept as things happen: an archive has too many files to add up at every look.
        self.frames_planned = 0
        self.frames_decoded = 0
        self.bytes_planned = 0
        self.bytes_unplanned = sum(file.size_bytes for file in self.files)
        self._by_key: dict[str, FileWork] = {}
        self._workers = workers
        self._tries = tries
        self._jobs = 0
        # Largest first: what is long must not be left for the end, when other workers have nothing to do.
        self._unopened = [(-file.size_bytes, file.number) for file in self.files]
        heapq.heapify(self._unopened)
        self._to_plan: list[FileWork] = []
        self._segments: list[tuple[int, int, int]] = []

    @property
    def finished(self) -> bool:
        """Whether every file has ended."""
        return self.ended == len(self.files)

    def next_job(self, active_frames: int) -> Job | None:
        """Return what an idle worker should do now, if anything.

        Args:
            active_frames: Frames still to be decoded in jobs under way.
        """
        self._jobs += 1
        # Open files first: it bounds how many are open, and gives the first results early.
        while self._segments:
            _, number, position = heapq.heappop(self._segments)
            file = self.files[number]
            segment = file.segments[position]
            if file.ended or segment.state is not SegmentState.QUEUED:
                continue
            segment.state = SegmentState.ASSIGNED
            segment.attempts += 1
            threads = self._threads(segment.frames, active_frames)
            return Job(self._jobs, "decode", file, segment, threads)
        if self._to_plan:
            file = self._to_plan.pop()
            file.busy = True
            return Job(self._jobs, "plan", file)
        if self._unopened:
            file = self.files[heapq.heappop(self._unopened)[1]]
            file.busy = True
            return Job(self._jobs, "identify", file)
        return None

    def _threads(self, frames: int, active_frames: int) -> int:
        """Return decoder threads for a segment: more than one only where it is far more than its share of what is left.

        Two threads take a fifth more CPU time than one (measured), and while one decodes alone, other cores infer: so
        it pays from about a quarter above the share on.
        """
        if self._unopened or self._to_plan:
            return 1
        queued = sum(self.files[number].segments[position].frames for _, number, position in self._segments)
        share = (frames + queued + active_frames) / self._workers
        return max(1, min(self._workers, math.floor(frames / max(share, 1.0) + 0.75)))

    def identified(self, file: FileWork, key: str) -> FileWork | None:
        """Note a file's content key; returns an earlier file of the same content, if there is one."""
        file.busy = False
        file.key = key
        first = self._by_key.setdefault(key, file)
        if first is not file:
            file.state = FileState.WAITING
            first.twins.append(file)
            file.original = first
            return first
        file.state = FileState.IDENTIFIED
        return None

    def to_plan(self, file: FileWork) -> None:
        """Queue an identified file for its index."""
        self._to_plan.append(file)

    def planned(self, file: FileWork, info: StreamInfo, segments: list[dict[str, Any]], committed: set[int]) -> None:
        """Take a file's segments and queue those that are not in the ledger."""
        file.busy = False
        file.info = info
        file.state = FileState.DECODING
        self.bytes_planned += file.size_bytes
        self.bytes_unplanned -= file.size_bytes
        for data in segments:
            segment = SegmentWork(data["number"], data, data["frames"])
            file.segments[segment.number] = segment
            self.frames_planned += segment.frames
            if segment.number in committed:
                self.committed(file, segment.number)
            else:
                self._queue(file, segment)

    def _queue(self, file: FileWork, segment: SegmentWork) -> None:
        segment.state = SegmentState.QUEUED
        segment.again = False
        heapq.heappush(self._segments, (-segment.frames, file.number, segment.number))

    def decoded(self, file: FileWork, segment: SegmentWork) -> None:
        """Note that all frames of a segment have been sent on."""
        if segment.state is SegmentState.ASSIGNED:
            segment.state = SegmentState.DECODED
            self._count(segment)
        if segment.again and segment.state is SegmentState.DECODED:
            segment.attempts -= 1  # not the file's fault
            self._queue(file, segment)

    def committed(self, file: FileWork, number: int) -> None:
        """Note that a segment's results are in the ledger."""
        segment = file.segments[number]
        segment.state = SegmentState.COMMITTED
        self._count(segment)

    def _count(self, segment: SegmentWork) -> None:
        if not segment.counted:
            segment.counted = True
            self.frames_decoded += segment.frames

    def lost(self, job: Job, why: str) -> str | None:
        """Take back a job whose worker died; returns the reason when its file has had all its tries."""
        file, segment = job.file, job.segment
        file.busy = False
        if file.ended:
            return None
        if segment is not None:
            if segment.state is SegmentState.ASSIGNED:
                if segment.attempts >= self._tries:
                    return f"segment {segment.number} was tried {segment.attempts} times; the last time {why}"
                self._queue(file, segment)
            return None
        file.attempts += 1
        if file.attempts >= self._tries:
            return f"opening it was tried {file.attempts} times; the last time {why}"
        if file.state is FileState.IDENTIFIED:
            self._to_plan.append(file)
        else:
            heapq.heappush(self._unopened, (-file.size_bytes, file.number))
        return None

    def repeat_uncommitted(self) -> None:
        """Decode again whatever is not in the ledger: results on their way were lost."""
        for file in self.files:
            if file.state is not FileState.DECODING:
                continue
            for segment in file.uncommitted:
                if segment.state is SegmentState.DECODED:
                    segment.attempts -= 1
                    self._queue(file, segment)
                elif segment.state is SegmentState.ASSIGNED:
                    segment.again = True

    def end(self, file: FileWork, state: FileState) -> list[FileWork]:
        """End a file and its twins; returns all that ended by it."""
        ended = [*([] if file.ended else [file]), *file.twins]
        for each in ended:
            each.state = state
            each.error = file.error
            if not each.segments:
                self.bytes_unplanned -= each.size_bytes
            for segment in each.segments.values():
                segment.data = {}  # packet tables: an archive of ended files must not fill the memory
        self.ended += len(ended)
        self.failed += len(ended) if state is FileState.FAILED else 0
        file.twins = []
        return ended
