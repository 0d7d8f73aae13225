"""The supervisor's loop: one turn for every message, death, signal or quarter of a second."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from typing import Any

from vpipe.control import Message
from vpipe.errors import Interrupted, ResourceError, RunError, UsageError, VpipeError
from vpipe.ledger import Ledger
from vpipe.log import log
from vpipe.metrics import Snapshot
from vpipe.plan import Plan
from vpipe.supervisor.books import Books
from vpipe.supervisor.graph import Graph
from vpipe.supervisor.process import RestartBudget, WorkerProcess
from vpipe.supervisor.progress import Progress
from vpipe.supervisor.work import FileState, FileWork, Job, SegmentState, WorkList

TURN_S = 0.25
"""The longest time between two looks at the clock."""

Row = dict[str, Any]


class Supervisor:
    """One run from start to end. `run` is called once; `stop` may be called from anywhere."""

    def __init__(
        self,
        plan: Plan,
        inputs: list[tuple[str, int]],
        ledger: Ledger,
        out: str,
        *,
        emit: Callable[[Row], None],
        progress: bool = False,
    ) -> None:
        """Prepare a run.

        Args:
            plan: What to run.
            inputs: (path, size in bytes) of each file, in the user's order.
            ledger: Locked for this run.
            out: The output directory.
            emit: Called with each row as its file ends, in the supervisor's thread.
            progress: Show a progress bar.
        """
        self._config = plan.config.run
        self._deadline_s = plan.config.decode.deadline_s
        self.books = Books(plan, ledger)
        self._emit = emit
        self._graph = Graph(plan, out, plan.config.source.sample)
        self.work = WorkList(inputs, plan.decode_workers, self._config.tries)
        self._budget = RestartBudget(self._config.restarts, self._config.restart_window_s)
        self._jobs: dict[str, Job] = {}
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._progress = Progress(enabled=progress, files=len(inputs))
        self._stops = 0
        self._drain_until: float | None = None

    # --- from any thread ---

    def stop(self) -> None:
        """Ask for an end: the first time work in flight is finished, the second time nothing is."""
        self._stops += 1
        os.write(self._wake_write, b"s")

    def snapshots(self) -> dict[str, Snapshot]:
        """Return every worker's counters, by name."""
        return self._graph.snapshots()

    def restarts(self) -> dict[str, int]:
        """Return how often each worker was started again."""
        return {name: node.restarts for name, node in self._graph.nodes.items()}

    def processes(self) -> dict[str, int]:
        """Return the process id of each worker that runs now, by name."""
        return {process.name: process.process.pid for process in self._graph.processes()}

    # --- the run ---

    def run(self) -> None:
        """Work until every file has ended.

        Raises:
            Interrupted: `stop` was called before that.
            RunError: A worker died more often than the budget allows.
            ResourceError: Memory, disk or a device is not to be had.
        """
        try:
            if not self.work.finished:
                for name in self._graph.nodes:
                    self._start(name, first=True)
            while not self.work.finished:
                self._turn()
                if self._stops and self._drained():
                    raise Interrupted(
                        f"stopped by request with {self.work.ended} of {len(self.work.files)} files done; "
                        "run the same command again to go on"
                    )
            self._end(kill=False)
        finally:
            self._end(kill=True)
            self._progress.close()
            self._selector.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._graph.close()

    def _turn(self) -> None:
        for key, _ in self._selector.select(TURN_S):
            if key.data is None:
                os.read(self._wake_read, 64)
                continue
            process, what = key.data
            if process.ended:
                continue
            if what == "output":
                process.read_output()
                if process.process.poll() is not None:
                    self._selector.unregister(process.output)
                continue
            for message in process.channel.receive():
                self._hear(process, message)
            if process.channel.closed:
                self._died(process)
        self._watch()
        self._hand_out()
        for process in self._graph.processes():
            process.channel.flush()
        self._progress.update(self.work, self._frames_done())

    def _start(self, name: str, *, first: bool) -> None:
        process = self._graph.start(name, first=first)
        self._selector.register(process.channel, selectors.EVENT_READ, (process, "channel"))
        self._selector.register(process.output, selectors.EVENT_READ, (process, "output"))

    # --- work ---

    def _hand_out(self) -> None:
        if self._stops:
            return
        for node in self._graph.nodes.values():
            process = node.process
            if node.stage != "decode" or node.name in self._jobs or process is None or not process.ready or process.ended:
                continue
            job = self.work.next_job(self._active_frames())
            if job is None:
                return
            order: Message = {"op": job.op, "job": job.number, "file": job.file.number, "path": job.file.path}
            if job.op == "decode":
                assert job.segment is not None
                order |= {
                    "stream": job.file.number,
                    "segment": job.segment.data,
                    "attempt": job.segment.attempts,
                    "threads": job.threads,
                    "deadline_s": self._deadline_s,
                }
            elif job.op == "plan":
                order["stream"] = job.file.number
            job.packets_before = node.page.read().items
            self._jobs[node.name] = job
            process.channel.send(order)

    def _progress_of(self, name: str, job: Job) -> int:
        """Return how many frames of a job's segment have been decoded, about."""
        if job.segment is None:
            return 0
        return min(job.segment.frames, self._graph.nodes[name].page.read().items - job.packets_before)

    def _active_frames(self) -> int:
        """Return how many frames the jobs under way have still to decode."""
        active = [(name, job) for name, job in self._jobs.items() if job.segment is not None]
        return sum(job.segment.frames - self._progress_of(name, job) for name, job in active if job.segment)

    def _frames_done(self) -> int:
        ended = (SegmentState.DECODED, SegmentState.COMMITTED)
        segments = (segment for file in self.work.files for segment in file.segments.values())
        done = sum(segment.frames for segment in segments if segment.state in ended)
        return done + sum(self._progress_of(name, job) for name, job in self._jobs.items())

    # --- reports ---

    def _hear(self, process: WorkerProcess, message: Message) -> None:
        op = message["op"]
        if op == "ready":
            process.ready = True
            if process.stage == "postprocess":
                self._reopen(process)
            return
        if op == "crash":
            process.crash = message
            return
        if op == "committed":
            self._committed(self.work.files[message["stream"]], message["segment"])
            return
        if op == "finished":
            self._finished(self.work.files[message["stream"]], message["rows"])
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
        first = self.work.identified(file, message["key"])
        if first is not None:
            if first.ended:
                self._end_file(first, first.state)
            return
        rows = self.books.rows(message["key"])
        known = self.books.stream(message["key"])
        if known is None:
            self.work.to_plan(file)
            return
        info, segments = known
        file.info = self.books.renamed(info, file)
        if rows is not None:
            file.reused = True
            self._finished(file, rows)
            return
        committed = self.books.committed(message["key"])
        file.reused = len(committed) == len(segments)
        self.work.planned(file, file.info, segments, committed)
        self._open(file)

    def _plan_done(self, job: Job, message: Message) -> None:
        assert job.file.key is not None
        info = self.books.keep_stream(job.file.key, message["info"], message["segments"])
        self.work.planned(job.file, info, message["segments"], set())
        self._open(job.file)

    def _decode_done(self, job: Job, message: Message) -> None:
        assert job.segment is not None
        facts = {name: message[name] for name in ("seen", "corrupt", "cpu_s")} | {"taken": message["taken"]}
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
        self.work.decoded(job.file, job.segment)

    # --- towards postprocess ---

    def _tell_postprocess(self, message: Message) -> None:
        process = self._graph.nodes["postprocess"].process
        if process is not None and process.ready and not process.ended:
            process.channel.send(message)

    def _open(self, file: FileWork) -> None:
        """Tell postprocess about a file; what it cannot hear now it is told when it is ready."""
        assert file.info is not None
        assert file.key is not None
        committed = [n for n, segment in file.segments.items() if segment.state is SegmentState.COMMITTED]
        self._tell_postprocess(
            {
                "op": "open",
                "stream": file.number,
                "info": file.info.to_dict(),
                "keys": self.books.keys(file.key),
                "committed": committed,
            }
        )
        self._finish_if_complete(file)

    def _finish_if_complete(self, file: FileWork) -> None:
        if not file.uncommitted:
            file.state = FileState.FINISHING
            self._tell_postprocess({"op": "finish", "stream": file.number})

    def _reopen(self, process: WorkerProcess) -> None:
        """Bring a postprocess worker that starts (or starts again) up to date."""
        for file in self.work.files:
            if file.state in (FileState.DECODING, FileState.FINISHING):
                assert file.key is not None
                for number in self.books.committed(file.key):
                    self.work.committed(file, number)
                self._open(file)
        self.work.repeat_uncommitted()

    def _committed(self, file: FileWork, number: int) -> None:
        if file.ended:
            return
        self.work.committed(file, number)
        self._finish_if_complete(file)

    # --- ends ---

    def _finished(self, file: FileWork, rows: Row) -> None:
        if file.ended:
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
        for each in self.work.end(file, state):
            self._emit(self.books.result(each))

    # --- life and death ---

    def _watch(self) -> None:
        """Kill what hangs; a worker that is stopped is as bad as one that is dead."""
        for node in self._graph.nodes.values():
            process = node.process
            if process is None or process.ended:
                continue
            limit = self._config.hang_s if process.ready else self._config.start_s
            if process.process.poll() is not None:
                self._died(process)
            elif node.silent_s() > limit:
                process.kill(f"the worker showed no life for {limit:g} s and was killed")

    def _died(self, process: WorkerProcess) -> None:
        if process.ended:
            return
        for message in process.channel.receive():
            self._hear(process, message)
        self._unregister(process)
        process.reap()
        why = process.how_it_ended()
        log.warning("%s: %s", process.name, why)
        crash = process.crash
        if crash is not None and crash["fatal"]:
            kinds = {error.__name__: error for error in (ResourceError, UsageError)}
            raise kinds.get(crash["kind"], VpipeError)(crash["error"])
        job = self._jobs.pop(process.name, None)
        if job is not None:
            reason = self.work.lost(job, why, blame=True)
            if reason is not None:
                self._fail(job.file, "hung" if "no life" in why else "crashed", reason)
        if not self._budget.spend(process.name):
            last = f"; its last lines:\n  {chr(10).join(list(process.lines)[-5:])}" if process.lines else ""
            raise RunError(
                f"{process.name}: died {self._budget.restarts + 1} times within {self._budget.window_s:g} s; "
                f"the last time: {why}{last}"
            )
        self._graph.nodes[process.name].restarts += 1
        self._start(process.name, first=False)

    def _unregister(self, process: WorkerProcess) -> None:
        for source in (process.channel, process.output):
            if source.fileno() in self._selector.get_map():
                self._selector.unregister(source)

    def _drained(self) -> bool:
        """Whether a stopping run may end now."""
        if self._stops > 1:
            return True
        now = time.monotonic()
        if self._drain_until is None:
            self._drain_until = now + self._config.drain_s
            log.warning("stopping: work in flight is being finished (at most %g s)", self._config.drain_s)
        flying = any(
            segment.state is SegmentState.DECODED
            for file in self.work.files
            if not file.ended
            for segment in file.segments.values()
        )
        finishing = any(file.state is FileState.FINISHING for file in self.work.files)
        return now > self._drain_until or not (self._jobs or flying or finishing)

    def _end(self, *, kill: bool) -> None:
        """End all processes: by request, then after a deadline by force."""
        processes = self._graph.processes()
        for process in processes:
            if kill:
                process.kill("the run ended")
            else:
                process.channel.send({"op": "stop"})
        until = time.monotonic() + 5.0
        for process in processes:
            while process.process.poll() is None and time.monotonic() < until:
                process.read_output()
                process.channel.flush()
                try:
                    process.process.wait(0.05)
                except Exception:  # noqa: BLE001
                    continue
            self._unregister(process)
            process.reap()

