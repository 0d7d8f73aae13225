"""The flow of work: jobs to decode workers, news to the postprocess worker, results to the user.

It hears every report and keeps the work list and the ledger in step. Which processes live is not its business.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from vpipe.control import Message
from vpipe.log import log
from vpipe.media.content import shown
from vpipe.media.segments import Weight
from vpipe.supervisor.books import Books
from vpipe.supervisor.graph import Graph
from vpipe.supervisor.process import WorkerProcess
from vpipe.supervisor.work import FileState, FileWork, Job, SegmentState, WorkList

Row = dict[str, Any]

SEGMENT_FACTS = ("seen", "corrupt", "cpu_s", *(field.name for field in dataclasses.fields(Weight)))
"""What the postprocess worker is told of a segment, beside its frames."""


class Dispatcher:
    """Hands out jobs and acts on what comes back."""

    def __init__(
        self, work: WorkList, books: Books, graph: Graph, *, deadline_s: float, emit: Callable[[Row], None]
    ) -> None:
        """Take the run's parts; `emit` is called with each row as its file ends."""
        self._work = work
        self._books = books
        self._graph = graph
        self._deadline_s = deadline_s
        self._emit = emit
        self._jobs: dict[str, Job] = {}
        self._quiet = True

    @property
    def flying(self) -> bool:
        """Whether anything is being decoded, inferred or finished."""
        if self._jobs:
            return True
        for file in self._work.files:
            if file.state is FileState.FINISHING:
                return True
            if not file.ended and any(s.state is SegmentState.DECODED for s in file.segments.values()):
                return True
        return False

    def lost(self, name: str, why: str, kind: str) -> bool:
        """Take back the job of a worker that died; `kind` names the error if its file has had all its tries.

        Returns:
            Whether there was such a job: then its file answers for the death.
        """
        job = self._jobs.pop(name, None)
        if job is None:
            return False
        reason = self._work.lost(job, why)
        if reason is not None:
            self._fail(job.file, kind, reason)
        return True

    def hand_out(self) -> None:
        """Give every idle decode worker a job."""
        for node in self._graph.nodes.values():
            process = node.process
            if (
                node.stage != "decode"
                or node.name in self._jobs
                or process is None
                or not process.ready
                or process.ended
            ):
                continue
            job = self._work.next_job(self._active_frames())
            if job is None:
                break
            order: Message = {"op": job.op, "job": job.number, "file": job.file.number, "path": job.file.path}
            if job.op == "decode":
                assert job.segment is not None
                order |= {
                    "stream": job.file.number,
                    "segment": job.segment.data,
                    "attempt": job.number,
                    "threads": job.threads,
                    "deadline_s": self._deadline_s,
                }
            elif job.op == "plan":
                order |= {"stream": job.file.number, "key": job.file.key, "deadline_s": self._deadline_s}
            job.packets_before = node.page.peek("items")
            self._jobs[node.name] = job
            self._quiet = False
            process.channel.send(order)
        if not self._jobs and not self._quiet:
            # Nothing more comes for now: a batch that is not full must not wait for its time. What was decoded was
            # announced before the last job's report, so preprocess finds it.
            self._quiet = True
            for node in self._graph.nodes.values():
                if node.stage == "preprocess" and node.alive and node.process is not None:
                    node.process.channel.send({"op": "flush"})

    def _progress_of(self, name: str, job: Job) -> int:
        """Return how many frames of a job's segment have been decoded, about."""
        if job.segment is None:
            return 0
        return min(job.segment.frames, self._graph.nodes[name].page.peek("items") - job.packets_before)

    def _active_frames(self) -> int:
        """Return how many frames the jobs under way have still to decode."""
        active = [(name, job) for name, job in self._jobs.items() if job.segment is not None]
        return sum(job.segment.frames - self._progress_of(name, job) for name, job in active if job.segment)

    def frames_done(self) -> int:
        """Return how many frames have been decoded, about; for the progress bar."""
        return self._work.frames_decoded + sum(self._progress_of(name, job) for name, job in self._jobs.items())

    # --- reports ---

    def hear(self, process: WorkerProcess, message: Message) -> None:
        """Act on a report of a worker."""
        op = message["op"]
        if op == "ready":
            process.ready = True
            return
        if op == "crash":
            process.crash = message
            return
        if process.stage == "postprocess":
            if op == "committed":
                self._committed(self._work.files[message["stream"]], message["segment"])
            elif op == "finished":
                self._finished(self._work.files[message["stream"]], message["rows"])
            return
        job = self._jobs.get(process.name)
        if job is None or job.number != message["job"]:
            return  # an answer to an order that was taken back
        del self._jobs[process.name]
        if op == "media_error":
            self._fail(job.file, message["kind"], message["message"])
        elif not job.file.ended:
            getattr(self, f"_{op}")(job, message)

    def _identify_done(self, job: Job, message: Message) -> None:
        file = job.file
        first = self._work.identified(file, message["key"])
        if first is not None:
            if first.ended:
                self._end_file(first, first.state)
            return
        rows = self._books.rows(message["key"])
        known = self._books.stream(message["key"])
        if known is None:
            self._work.to_plan(file)
            return
        info, segments = known
        file.info = self._books.renamed(info, file)
        if rows is not None:
            file.reused = True
            self._finished(file, rows)
            return
        committed = self._books.committed(message["key"])
        file.reused = len(committed) == len(segments)
        self._work.planned(file, file.info, segments, committed)
        self._open(file)

    def _plan_done(self, job: Job, message: Message) -> None:
        assert job.file.key is not None
        info = self._books.keep_stream(job.file.key, message["info"], message["segments"])
        self._work.planned(job.file, info, message["segments"], set())
        self._open(job.file)

    def _decode_done(self, job: Job, message: Message) -> None:
        assert job.segment is not None
        facts = {name: message[name] for name in SEGMENT_FACTS}
        if job.segment.state is SegmentState.ASSIGNED:
            self._tell_postprocess(
                {
                    "op": "expect",
                    "stream": job.file.number,
                    "segment": job.segment.number,
                    "taken": message["taken"],
                    "facts": facts,
                }
            )
        self._work.decoded(job.file, job.segment)

    # --- towards postprocess ---

    def _tell_postprocess(self, message: Message) -> None:
        # Ready or not: it takes no result before it has heard what was sent before.
        process = self._graph.nodes["postprocess"].process
        if process is not None and not process.ended:
            process.channel.send(message)

    def _open(self, file: FileWork) -> None:
        """Tell postprocess about a file."""
        assert file.info is not None
        assert file.key is not None
        committed = [n for n, segment in file.segments.items() if segment.state is SegmentState.COMMITTED]
        self._tell_postprocess(
            {
                "op": "open",
                "stream": file.number,
                "info": file.info.to_dict(),
                "keys": self._books.keys(file.key),
                "committed": committed,
            }
        )
        self._finish_if_complete(file)

    def _finish_if_complete(self, file: FileWork) -> None:
        if file.state is FileState.DECODING and not file.uncommitted:
            file.state = FileState.FINISHING
            self._tell_postprocess({"op": "finish", "stream": file.number})

    def reopen(self) -> None:
        """Bring a postprocess worker that was started again up to date; what its predecessor held is lost."""
        for file in self._work.files:
            if file.state in (FileState.DECODING, FileState.FINISHING):
                assert file.key is not None
                for number in self._books.committed(file.key):
                    self._work.committed(file, number)
                file.state = FileState.DECODING
                self._open(file)
        self._work.repeat_uncommitted()

    def _committed(self, file: FileWork, number: int) -> None:
        if file.ended:
            return
        self._work.committed(file, number)
        self._finish_if_complete(file)

    # --- ends ---

    def _finished(self, file: FileWork, rows: Row) -> None:
        if file.ended:
            return
        if all(row["facts"].get("taken", 0) == 0 for row in rows.values()):
            self._fail(file, "no_frames", f"{shown(file.path)}: not one frame could be decoded; it is damaged")
            return
        file.row = rows
        self._end_file(file, FileState.DONE)

    def _fail(self, file: FileWork, kind: str, message: str) -> None:
        if file.ended:
            return
        log.warning("%s: %s", file.path, message)
        file.error = (kind, message)
        if file.state in (FileState.DECODING, FileState.FINISHING):
            self._tell_postprocess({"op": "forget", "stream": file.number})
        self._end_file(file, FileState.FAILED)

    def _end_file(self, file: FileWork, state: FileState) -> None:
        for each in self._work.end(file, state):
            self._emit(self._books.result(each))
