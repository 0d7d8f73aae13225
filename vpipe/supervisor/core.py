"""The supervisor of a run over files: from the first to the last of them."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vpipe.control import Message
from vpipe.errors import Interrupted, RunError
from vpipe.ledger import Ledger
from vpipe.log import log
from vpipe.metrics import Snapshot
from vpipe.plan import Plan
from vpipe.supervisor.books import Books
from vpipe.supervisor.dispatch import Dispatcher
from vpipe.supervisor.graph import Graph
from vpipe.supervisor.loop import Loop
from vpipe.supervisor.process import RestartBudget, WorkerProcess
from vpipe.supervisor.progress import Progress
from vpipe.supervisor.stall import StallWatch
from vpipe.supervisor.work import WorkList

if TYPE_CHECKING:
    from vpipe.trace.tracer import Tracer

Row = dict[str, Any]

STALL_LOOK_S = 1.0
"""How often it is looked whether anything has moved; every counter is read for it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """A moment of a run."""

    time_s: float = 0.0
    """CLOCK_MONOTONIC."""
    cpu_ns: int = 0
    """CPU time of the supervisor's own process so far."""
    counters: dict[str, Snapshot] = dataclasses.field(default_factory=dict)


class Supervisor(Loop):
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
        config = self._config = plan.config.run
        self.books = Books(plan, ledger)
        super().__init__(
            Graph(plan, out, plan.config.source.sample, tracer),
            hang_s=config.hang_s,
            start_s=config.start_s,
            budget=RestartBudget(config.restarts, config.restart_window_s),
        )
        self.work = WorkList(inputs, plan.decode_workers, config.tries)
        self._dispatch = Dispatcher(
            self.work, self.books, self._graph, deadline_s=plan.config.decode.deadline_s, emit=emit
        )
        longest_ms = max(branch.max_wait_ms for branch in plan.branches)
        self._stall = StallWatch(3 * config.hang_s + longest_ms / 1000)
        self._looked_for_stall = 0.0
        self._progress = Progress(enabled=progress, files=len(inputs))
        self._together = together
        self.at_work = threading.Event()
        """Set once the first work is handed out, or will never be."""
        self.start = Mark()
        """When all workers were ready; only kept with `together`."""
        self.finish = Mark()
        """When the last file had ended."""
        self._drain_until: float | None = None

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
                self.turn()
                if self._together and all(process.ready for process in self._graph.processes()):
                    self._together = False
                    self.start = self._mark()
                if not self._stops and not self._together:
                    self._dispatch.hand_out()
                    if self._dispatch.flying:
                        self.at_work.set()
                self.flush()
                if self._stops and self._drained():
                    raise Interrupted(
                        f"stopped by request with {self.work.ended} of {len(self.work.files)} files done; "
                        "run the same command again to go on"
                    )
            self.finish = self._mark()
            self.end(kill=False)
        finally:
            self.at_work.set()
            self.end(kill=True)
            self._progress.close()
            self.close()

    def _mark(self) -> Mark:
        return Mark(time.monotonic(), time.process_time_ns(), self.snapshots())

    def _report(self, process: WorkerProcess, message: Message) -> None:
        self._dispatch.hear(process, message)

    def _watch(self) -> None:
        super()._watch()
        if self._looked - self._looked_for_stall >= STALL_LOOK_S:
            self._looked_for_stall = self._looked
            self._look_for_stall()
        self._progress.update(self.work, self._dispatch.frames_done())

    def _look_for_stall(self) -> None:
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

    def _lost(self, process: WorkerProcess, why: str) -> None:
        self._judge(process, why)
        # A death over a file is that file's, and its tries are the bound; the budget is for those that have no such
        # reason. Otherwise a handful of poisonous files would end the run for all others.
        if not self._dispatch.lost(process.name, why, "hung" if process.hung else "crashed"):
            self._spend(process, why)
        self._restart(self._graph.nodes[process.name])
        if process.stage == "postprocess":
            self._dispatch.reopen()

    def _drained(self) -> bool:
        """Whether a stopping run may end now."""
        if self._stops > 1:
            return True
        now = time.monotonic()
        if self._drain_until is None:
            self._drain_until = now + self._config.drain_s
            log.warning("stopping: work in flight is being finished (at most %g s)", self._config.drain_s)
        return now > self._drain_until or not self._dispatch.flying
