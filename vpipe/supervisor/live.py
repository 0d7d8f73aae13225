"""The supervisor of a live run: streams come and go, and what breaks is mended; there is no end to work towards."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from vpipe.control import Message
from vpipe.errors import ResourceError, RunError
from vpipe.frame import StreamInfo
from vpipe.log import log
from vpipe.plan import Plan
from vpipe.supervisor.loop import Loop
from vpipe.supervisor.process import RestartBudget, WorkerProcess
from vpipe.supervisor.seats import STAGE, LiveGraph, LiveStream, Seats

if TYPE_CHECKING:
    from vpipe.trace.tracer import Tracer

Result = TypeVar("Result")
Event = dict[str, Any]

STEADY_S = 2.0
"""A worker that has lived for so long was sound: after its death the first pause is the shortest again."""
LEAVE_S = 3.0
"""How long the worker of a stream that leaves may take to end."""


class LiveSupervisor(Loop):
    """One live run. `run` is called once, in a thread of its own; all else from any thread."""

    def __init__(
        self,
        plan: Plan,
        *,
        outlet: int | None,
        emit: Callable[[Event], None],
        stay: bool,
        tracer: Tracer | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            plan: A live one.
            outlet: Descriptor that messages are sent to.
            emit: Called with each event, in the supervisor's thread.
            stay: Go on when no stream is left.
            tracer: Gets every worker's spans.
        """
        config = plan.config.run
        graph = LiveGraph(plan, outlet, tracer)
        budget = RestartBudget(config.restarts, config.restart_window_s)
        super().__init__(graph, hang_s=config.hang_s, start_s=config.start_s, budget=budget)
        self.seats = Seats(graph.seats, plan.config.live, config.restarts)
        self._emit = emit
        self._stay = stay
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._over = False

    # --- from any thread ---

    def add(self, url: str, id: str | None) -> str:
        """Take a stream in; returns its id. See `Seats.take` for what may be wrong with it."""
        return self._call(lambda: self._add(url, id))

    def remove(self, id: str) -> None:
        """Let a stream go.

        Raises:
            UsageError: There is no such stream.
        """
        self._call(lambda: self._leave(self.seats.find(id), "removed", None))

    def _call(self, function: Callable[[], Result]) -> Result:
        """Have the supervisor's thread do something, and return what came of it."""
        future: Future[Result] = Future()

        def work() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._calls.put(work)
        if self._over:
            raise RunError("the run has ended")
        self.wake()
        return future.result()

    # --- the run ---

    def run(self) -> None:
        """Work until `stop` is called, or, unless it is to stay, the last stream has left.

        Raises:
            RunError: A worker that all streams need died more often than the budget allows.
            ResourceError: Memory or a device is not to be had.
        """
        try:
            for node in self._graph.nodes.values():
                if node.stage != STAGE:
                    self._start(node.name, first=True)
            while not self._stops and (self._stay or self.seats.streams):
                self.turn()
                self._obey_calls()
                self._start_due()
                self.flush()
            self.end(kill=False)
        finally:
            self._over = True
            self._obey_calls()  # whoever waits for an answer gets one
            self.end(kill=True)
            self.close()

    def _obey_calls(self) -> None:
        while not self._calls.empty():
            self._calls.get()()

    def _add(self, url: str, id: str | None) -> str:
        return self.seats.take(url, id).id

    def _start_due(self) -> None:
        """Start the workers of streams that are due, once those behind them are there: or frames would be lost."""
        nodes = self._graph.nodes.values()
        if not all(node.process is not None and node.process.ready for node in nodes if node.stage != STAGE):
            return
        for stream in self.seats.ready_to_start():
            stream.start_at, stream.started_at = None, time.monotonic()
            place = {"stream": stream.number, "url": stream.url, "epoch": stream.epoch}
            stream.seat.settings = {**stream.seat.settings, **place}
            # Never as the first on its rings: whoever had the seat before may have left something in them.
            try:
                self._start(stream.seat.name, first=False)
            except ResourceError as error:
                self._lost_seat(stream, str(error))

    def _leave(self, stream: LiveStream, event: str, last: list[int] | None) -> None:
        """End a stream; `last` are the ranks, by branch, of the frames whose messages are still to be sent."""
        stream.state, stream.last_event = "leaving", event
        self._tell_publish({"op": "close", "stream": stream.number, "epoch": stream.epoch, "last": last})
        process = stream.seat.process
        if process is not None and not process.ended:
            if process.ready:
                process.channel.send({"op": "stop"})
            else:
                process.kill("its stream was removed")
            stream.started_at = time.monotonic()

    def _part(self, stream: LiveStream) -> None:
        """Say farewell to a stream when its worker is gone and its last message sent."""
        if stream.leaving and stream.closed and not stream.seat.alive:
            self._emit(stream.event(stream.last_event))
            self.seats.leave(stream)

    def _tell_publish(self, message: Message) -> None:
        process = self._graph.nodes["publish"].process
        if process is not None and not process.ended:
            process.channel.send(message)

    # --- reports ---

    def _report(self, process: WorkerProcess, message: Message) -> None:
        if process.stage == "publish":
            self._report_of_publish(message)
            return
        stream = self.seats.of(process.name)
        if stream is None or stream.leaving:
            return
        match message["op"]:
            case "connecting":
                stream.state = "connecting"
                self._emit(stream.event("connecting"))
            case "epoch":
                stream.epoch, stream.reason = int(message["epoch"]), str(message["reason"])
                stream.info = StreamInfo.from_dict(message["info"])
                stream.state = "live"
                opened = {"op": "open", "stream": stream.number, "epoch": stream.epoch, "info": message["info"]}
                self._tell_publish(opened)
                process.channel.send({"op": "go", "epoch": stream.epoch})
                self._emit(stream.event("live"))
            case "down":
                self._down(stream, str(message["reason"]), float(message["retry_s"]))
            case "ended":
                stream.reason = None if message["reason"] is None else str(message["reason"])
                self._leave(stream, "ended", [int(rank) for rank in message["last"]] if stream.epoch else None)

    def _down(self, stream: LiveStream, reason: str, retry_s: float) -> None:
        stream.state, stream.reason = "down", reason
        self._emit(stream.event("down", retry_s=retry_s))

    def _report_of_publish(self, message: Message) -> None:
        if message["op"] == "sent":
            for number, counts in message["counts"].items():
                self._count(self.seats.streams.get(int(number)), counts)
        elif message["op"] == "closed":
            parting = self.seats.streams.get(message["stream"])
            self._count(parting, message["counts"])
            if parting is not None and parting.leaving:
                parting.closed = True
                self._part(parting)

    def _count(self, stream: LiveStream | None, counts: list[int]) -> None:
        if stream is not None:
            stream.sent += counts[0]
            stream.dropped += counts[1]

    # --- life and death ---

    def _watch(self) -> None:
        super()._watch()
        for stream in list(self.seats.streams.values()):
            process = stream.seat.process
            late = time.monotonic() - stream.started_at > LEAVE_S
            if stream.leaving and late and process is not None and not process.ended:
                process.kill("its stream has left")
            self._part(stream)

    def _lost(self, process: WorkerProcess, why: str) -> None:
        if process.stage == STAGE:
            stream = self.seats.of(process.name)
            if stream is not None and not stream.leaving:
                self._lost_seat(stream, why)
            return
        super()._lost(process, why)
        if process.stage == "publish":
            for stream in self.seats.streams.values():
                if stream.leaving:
                    self._tell_publish({"op": "close", "stream": stream.number, "last": None})
                elif stream.state == "live" and stream.seat.process is not None and stream.seat.alive:
                    # What it knew of the streams, and what it had sent, is lost: nothing may seem to go on.
                    stream.seat.process.channel.send({"op": "renew", "reason": "publish was started again"})

    def _lost_seat(self, stream: LiveStream, why: str) -> None:
        """Start a stream's worker again after a pause. It reads what anyone sends: its death is its stream's affair."""
        log.warning("%s: %s", stream.seat.name, why)
        stream.seat.restarts += 1
        if time.monotonic() - stream.started_at > STEADY_S:
            stream.backoff.succeed()
        pause = stream.backoff.fail()
        if pause is None:
            stream.reason = why
            self._leave(stream, "ended", None)
            return
        stream.start_at = time.monotonic() + pause
        self._down(stream, why, pause)
