"""The supervisor's loop: one turn for every message, death, signal or quarter of a second."""

from __future__ import annotations

import contextlib
import dataclasses
import selectors
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

from vpipe.errors import (
    ConfigError,
    Interrupted,
    ModelError,
    ResourceError,
    RunError,
    TaskError,
    UsageError,
    VpipeError,
)
from vpipe.ledger import Ledger
from vpipe.log import log
from vpipe.metrics import Snapshot
from vpipe.metrics_http import StageSnapshot
from vpipe.plan import Plan
from vpipe.supervisor.books import Books
from vpipe.supervisor.dispatch import Dispatcher
from vpipe.supervisor.graph import Graph
from vpipe.supervisor.process import RestartBudget, WorkerProcess
from vpipe.supervisor.progress import Progress
from vpipe.supervisor.stall import StallWatch
from vpipe.supervisor.work import WorkList
from vpipe.trace import Tracer

TURN_S = 0.25
"""The longest time between two looks at the clock."""
STALL_S = 2.0
"""After a longer gap the supervisor itself was stopped, most likely with its workers: their silence is forgiven."""

FATAL: tuple[type[VpipeError], ...] = (ConfigError, ModelError, UsageError, ResourceError, TaskError)
"""Errors of a worker that no restart makes better: they end the run as they are."""

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """A moment of a run."""

    time_s: float = 0.0
    """CLOCK_MONOTONIC."""
    cpu_ns: int = 0
    """CPU time of the supervisor's own process so far."""
    counters: dict[str, Snapshot] = dataclasses.field(default_factory=dict)


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
        together: bool = False,
        tracer: Tracer | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            plan: What to run.
            inputs: (path, size in bytes) of each file, in the user's order.
            ledger: Locked for this run.
            out: The output directory.
            emit: Called with each row as its file ends, in the supervisor's thread.
            progress: Show a progress bar.
            together: Hand out no work before every worker is ready, so that the work can be measured by itself.
            tracer: Gets every worker's spans.
        """
        self._config = plan.config.run
        self.books = Books(plan, ledger)
        self._graph = Graph(plan, out, plan.config.source.sample, tracer)
        self.work = WorkList(inputs, plan.decode_workers, self._config.tries)
        self._budget = RestartBudget(self._config.restarts, self._config.restart_window_s)
        self._dispatch = Dispatcher(
            self.work, self.books, self._graph, deadline_s=plan.config.decode.deadline_s, emit=emit
        )
        self._selector = selectors.DefaultSelector()
        self._wake, self._alarm = socket.socketpair()
        self._wake.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        longest_ms = max(branch.max_wait_ms for branch in plan.branches)
        self._stall = StallWatch(3 * self._config.hang_s + longest_ms / 1000)
        self._progress = Progress(enabled=progress, files=len(inputs))
        self._together = together
        self.start = Mark()
        """When all workers were ready; only kept with `together`."""
        self.finish = Mark()
        """When the last file had ended."""
        self._looked = 0.0
        self._awake_since = 0.0
        self._stops = 0
        self._drain_until: float | None = None

    # --- from any thread ---

    def stop(self) -> None:
        """Ask for an end: the first time work in flight is finished, the second time nothing is."""
        self._stops += 1
        with contextlib.suppress(OSError):  # the run may have ended just now
            self._alarm.send(b"s")

    def snapshots(self) -> dict[str, Snapshot]:
        """Return every worker's counters, by name."""
        return self._graph.snapshots()

    def restarts(self) -> dict[str, int]:
        """Return how often each worker was started again."""
        return {name: node.restarts for name, node in self._graph.nodes.items()}

    def stage_snapshots(self) -> list[StageSnapshot]:
        """Return all that the metrics page tells of each worker."""
        return [
            StageSnapshot(node.stage, node.name, node.page.read(), node.restarts, self._graph.fills(node.name))
            for node in self._graph.nodes.values()
        ]

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
            self.finish = self._mark()
            self._end(kill=False)
        finally:
            self._end(kill=True)
            self._progress.close()
            self.close()

    def close(self) -> None:
        """Let go of the rings; for a run that was never begun, else `run` does it. May be called twice."""
        self._selector.close()
        self._wake.close()
        self._alarm.close()
        self._graph.close()

    def _turn(self) -> None:
        for key, _ in self._selector.select(TURN_S):
            if key.data is None:
                self._wake.recv(64)
                continue
            process, what = key.data
            if process.ended:
                continue
            if what == "output":
                if not process.read_output():
                    self._selector.unregister(process.output)
                continue
            self._hear(process)
            if process.channel.closed:
                self._died(process)
        now = time.monotonic()
        if now - self._looked >= TURN_S / 2:
            if now - self._looked > STALL_S:
                self._awake_since = now
            self._looked = now
            self._watch()
            self._progress.update(self.work, self._dispatch.frames_done())
        if self._together and all(process.ready for process in self._graph.processes()):
            self._together = False
            self.start = self._mark()
        if not self._stops and not self._together:
            self._dispatch.hand_out()
        for process in self._graph.processes():
            process.channel.flush()

    def _hear(self, process: WorkerProcess) -> None:
        try:
            for message in process.channel.receive():
                self._dispatch.hear(process, message)
        except (VpipeError, KeyError, TypeError, IndexError) as error:
            if isinstance(error, (ResourceError, RunError)):  # the ledger's
                raise
            # A decode worker reads untrusted media: what it sends is not to be trusted either.
            process.kill(f"it sent something that makes no sense: {error}")

    def _start(self, name: str, *, first: bool) -> None:
        process = self._graph.start(name, first=first)
        self._selector.register(process.channel, selectors.EVENT_READ, (process, "channel"))
        self._selector.register(process.output, selectors.EVENT_READ, (process, "output"))

    def _mark(self) -> Mark:
        return Mark(time.monotonic(), time.process_time_ns(), self.snapshots())

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
            elif min(node.silent_s(), self._looked - self._awake_since) > limit:
                process.hung = True
                process.kill(f"the worker showed no life for {limit:g} s and was killed")
        counters = {
            name: node.page.read() if node.process is not None and node.process.ready else None
            for name, node in self._graph.nodes.items()
        }
        stalled = self._stall.look(self._looked, counters, self.work.ended)
        if stalled is not None and self._awake_since < self._looked - self._stall.limit_s:
            raise RunError(
                f"nothing has moved for {self._stall.limit_s:g} s, which is a fault of vpipe ({stalled}); "
                "run the same command again to go on"
            )

    def _died(self, process: WorkerProcess) -> None:
        if process.ended:
            return
        self._hear(process)
        self._unregister(process)
        process.reap()
        why = process.how_it_ended()
        log.warning("%s: %s", process.name, why)
        crash = process.crash
        if crash is not None and crash.get("fatal"):
            kind = {k.__name__: k for k in FATAL}.get(str(crash.get("kind")), RunError)
            raise kind(str(crash.get("error")))
        charged = self._dispatch.lost(process.name, why, "hung" if process.hung else "crashed")
        # A death over a file is that file's, and its tries are the bound; the budget is for those that have no such
        # reason. Otherwise a handful of poisonous files would end the run for all others.
        if not charged and not self._budget.spend(process.name):
            last = "".join(f"\n  {line}" for line in list(process.lines)[-5:])
            raise RunError(
                f"{process.name}: died {self._budget.restarts + 1} times within {self._budget.window_s:g} s; "
                f"the last time: {why}{'; its last lines:' if last else ''}{last}"
            )
        self._graph.nodes[process.name].restarts += 1
        self._start(process.name, first=False)
        if process.stage == "postprocess":
            self._dispatch.reopen()

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
        return now > self._drain_until or not self._dispatch.flying

    def _end(self, *, kill: bool) -> None:
        """End all processes: by request, then after a deadline by force."""
        processes = self._graph.processes()
        for process in processes:
            if kill or not process.ready:  # a worker that is still loading its model would hear of it much later
                process.kill("the run ended")
            else:
                process.channel.send({"op": "stop"})
        until = time.monotonic() + 5.0
        for process in processes:
            while process.process.poll() is None and time.monotonic() < until:
                process.read_output()
                process.channel.flush()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.process.wait(0.05)
            self._unregister(process)
            process.reap()
