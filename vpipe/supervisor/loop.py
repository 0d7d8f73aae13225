"""The loop of a supervisor: one turn for every message, death, signal or quarter of a second.

It starts, watches and ends the workers of a graph. What they work on is its subclasses' affair.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time
from abc import abstractmethod

from vpipe.control import Message
from vpipe.errors import ConfigError, ModelError, ResourceError, RunError, TaskError, UsageError, VpipeError
from vpipe.log import log
from vpipe.metrics import Snapshot
from vpipe.metrics_http import StageSnapshot
from vpipe.supervisor.graph import Graph, Node
from vpipe.supervisor.process import RestartBudget, WorkerProcess

TURN_S = 0.25
"""The longest time between two looks at the clock."""
STALL_S = 2.0
"""After a longer gap the supervisor itself was stopped, most likely with its workers: their silence is forgiven."""
END_S = 5.0
"""How long workers may take to end by themselves."""

FATAL: tuple[type[VpipeError], ...] = (ConfigError, ModelError, UsageError, ResourceError, TaskError)
"""Errors of a worker that no restart makes better: they end the run as they are."""


class Loop:
    """Keeps the processes of a graph alive; `turn` is called again and again, all in one thread."""

    def __init__(self, graph: Graph, *, hang_s: float, start_s: float, budget: RestartBudget) -> None:
        """Take the graph; see `[run]` of a pipeline file for the rest."""
        self._graph = graph
        self._hang_s = hang_s
        self._start_s = start_s
        self._budget = budget
        self._selector = selectors.DefaultSelector()
        self._wake, self._alarm = socket.socketpair()
        self._wake.setblocking(False)
        self._alarm.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self._looked = 0.0
        self._awake_since = 0.0
        self._stops = 0

    @abstractmethod
    def run(self) -> None:
        """Work from start to end; called once."""

    # --- from any thread ---

    def wake(self) -> None:
        """Have the loop take its next turn at once."""
        with contextlib.suppress(OSError):  # the run may have ended just now, or is about to wake up anyway
            self._alarm.send(b"s")

    def stop(self) -> None:
        """Ask for an end: the first time work in flight is finished, the second time nothing is."""
        self._stops += 1
        self.wake()

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

    def pids(self) -> list[int]:
        """Return the process ids of the whole run: this one, that of what workers are forked off, the workers'."""
        server = self._graph.forks.pid
        return [os.getpid(), *([] if server is None else [server]), *self.processes().values()]

    # --- what a subclass does ---

    @abstractmethod
    def _report(self, process: WorkerProcess, message: Message) -> None:
        """Act on what a worker reports; `ready` and `crash` are noted already."""

    def _lost(self, process: WorkerProcess, why: str) -> None:
        """Act on the death of a worker: it is started again, unless that is of no use or has been done too often."""
        self._judge(process, why)
        self._spend(process, why)
        self._restart(self._graph.nodes[process.name])

    # --- the loop ---

    def turn(self) -> None:
        """Wait for something to happen, at most `TURN_S`, and act on it."""
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

    def flush(self) -> None:
        """Send on what the workers' channels did not take at once."""
        for process in self._graph.processes():
            process.channel.flush()

    def _hear(self, process: WorkerProcess) -> None:
        try:
            for message in process.channel.receive():
                if message["op"] == "ready":
                    process.ready = True
                elif message["op"] == "crash":
                    process.crash = message
                else:
                    self._report(process, message)
        except (VpipeError, LookupError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, (ResourceError, RunError)):  # the ledger's
                raise
            # A decode worker reads untrusted media: what it sends is not to be trusted either.
            process.kill(f"it sent something that makes no sense: {error}")

    def _start(self, name: str, *, first: bool) -> None:
        process = self._graph.start(name, first=first)
        self._selector.register(process.channel, selectors.EVENT_READ, (process, "channel"))
        self._selector.register(process.output, selectors.EVENT_READ, (process, "output"))

    # --- life and death ---

    def _watch(self) -> None:
        """Kill what hangs; a worker that is stopped is as bad as one that is dead."""
        for node in self._graph.nodes.values():
            process = node.process
            if process is None or process.ended:
                continue
            limit = self._hang_s if process.ready else self._start_s
            if process.process.poll() is not None:
                self._died(process)
            elif min(node.silent_s(), self._looked - self._awake_since) > limit:
                process.hung = True
                process.kill(f"the worker showed no life for {limit:g} s and was killed")

    def _died(self, process: WorkerProcess) -> None:
        if process.ended:
            return
        self._hear(process)
        self._unregister(process)
        process.reap()
        self._lost(process, process.how_it_ended())

    def _judge(self, process: WorkerProcess, why: str) -> None:
        """Log a death, and raise what the worker has reported where starting it again would not help."""
        log.warning("%s: %s", process.name, why)
        crash = process.crash
        if crash is not None and crash.get("fatal"):
            kind = {k.__name__: k for k in FATAL}.get(str(crash.get("kind")), RunError)
            raise kind(str(crash.get("error")))

    def _spend(self, process: WorkerProcess, why: str) -> None:
        """Spend one restart on a worker that has died; raise when there have been too many."""
        if not self._budget.spend(process.name):
            last = "".join(f"\n  {line}" for line in list(process.lines)[-5:])
            raise RunError(
                f"{process.name}: died {self._budget.restarts + 1} times within {self._budget.window_s:g} s; "
                f"the last time: {why}{'; its last lines:' if last else ''}{last}"
            )

    def _restart(self, node: Node) -> None:
        node.restarts += 1
        self._start(node.name, first=False)

    def _unregister(self, process: WorkerProcess) -> None:
        for source in (process.channel, process.output):
            if source.fileno() in self._selector.get_map():
                self._selector.unregister(source)

    def end(self, *, kill: bool) -> None:
        """End all processes: by request, then after a deadline by force."""
        processes = self._graph.processes()
        for process in processes:
            if kill or not process.ready:  # a worker that is still loading its model would hear of it much later
                process.kill("the run ended")
            else:
                process.channel.send({"op": "stop"})
        until = time.monotonic() + END_S
        for process in processes:
            while process.process.poll() is None and time.monotonic() < until:
                process.channel.flush()
                process.await_end(0.05)
            self._unregister(process)
            process.reap()

    def close(self) -> None:
        """Let go of the rings; the processes must have ended. May be called twice."""
        self._selector.close()
        self._wake.close()
        self._alarm.close()
        self._graph.close()
