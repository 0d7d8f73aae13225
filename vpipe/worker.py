"""A worker: an operating-system process that runs one stage.

Forked by `vpipe.forkserver` with three arguments: its end of the control channel, the server's process id, and a name
for whoever looks at a list of processes. The first message is its whole assignment. It never outlives the supervisor:
it leaves when the channel closes, and on Linux the kernel kills it when the server or the supervisor's thread is gone,
even while it is stopped or deep in a decoder.
"""

from __future__ import annotations

import importlib
import mmap
import os
import resource
import select
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from vpipe.control import Channel, Message, enlist
from vpipe.errors import ResourceError, TaskError, UsageError, VpipeError
from vpipe.metrics import Counters, State
from vpipe.ring import RingReader, RingWriter
from vpipe.trace import SHORT_NS, Recorder, Span

STAGES = {
    "decode": "vpipe.stages.decode",
    "preprocess": "vpipe.stages.preprocess",
    "infer": "vpipe.stages.infer",
    "postprocess": "vpipe.stages.postprocess",
    "live_decode": "vpipe.stages.live_decode",
    "publish": "vpipe.stages.publish",
}
PENDING_MS = 10
"""How soon records that a full socket did not take are tried again."""
BEAT_MS = 1000
"""An idle worker wakes this often to show that it lives."""
CRASHED = 70
"""Exit code of a worker that reported why it ends (EX_SOFTWARE of sysexits.h)."""

_WORKING = State.WORKING  # an enumeration's member takes 0.2 us to look up


class Stop(Exception):
    """The supervisor asked this worker to end."""


class Context:
    """All that a stage sees: its assignment, its rings, its counters and the control channel."""

    def __init__(
        self, channel: Channel, assignment: Message, counters: Counters, trace: Recorder | None = None
    ) -> None:
        self.assignment = assignment
        self.counters = counters
        self.trace = trace
        """Where spans are noted; None for a run that is not traced."""
        self.readers: dict[str, RingReader] = {}
        self.writers: dict[str, RingWriter] = {}
        self._channel = channel
        self._orders: deque[Message] = deque()
        self._poll = select.poll()
        self._polled: dict[int, Any] = {}
        self.woke_ns = time.monotonic_ns()
        """When the last wait ended, CLOCK_MONOTONIC."""
        self._register(channel)
        for name, handle in assignment["readers"].items():
            self.readers[name] = RingReader.attach(handle)
            self._register(self.readers[name])
        for name, handle in assignment["writers"].items():
            self.writers[name] = RingWriter.attach(handle)
            self._register(self.writers[name])
        self._wanted = {writer.fileno(): select.POLLIN for writer in self.writers.values()}
        """What writers are polled for."""

    def _register(self, source: Any) -> None:
        self._polled[source.fileno()] = source
        self._poll.register(source.fileno(), select.POLLIN)

    def watch(self, fileno: int) -> None:
        """Also wake up when `fileno` becomes readable."""
        self._polled[fileno] = None
        self._poll.register(fileno, select.POLLIN)

    def report(self, op: str, **facts: Any) -> None:
        """Tell the supervisor something."""
        self._channel.send({"op": op, **facts})

    def ready(self) -> None:
        """Tell the supervisor that the stage is set up."""
        self.counters.beat(State.IDLE)
        self.done(Span.SETUP)
        self.report("ready")

    def done(self, span: Span, count: int = 0, value: int = 0) -> None:
        """Tell the trace, where there is one, what all time since the last such word went into."""
        trace = self.trace
        if trace is not None:
            now_ns = time.monotonic_ns()
            trace.note((span, count, value, now_ns))
            if now_ns > trace.due_ns:
                trace.flush(now_ns)

    def wait(
        self,
        timeout_ms: float,
        state: State = State.WAITING,
        what: Span = Span.WAIT,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """Sleep until something comes in on a ring, a watched descriptor or the channel, or the time is over.

        Args:
            timeout_ms: The time.
            state: Whether there is work.
            what: What is waited for, for the trace.
            sleep: Sleeps that long at most; where nothing can be done before it returns, whatever comes in.

        Raises:
            Stop: The supervisor asked for it, or is gone.
        """
        counters = self.counters
        counters.beat(state)
        # Doorbells before credits: what was taken may only be given back when what was made of it is announced.
        ends: list[RingWriter | RingReader] = [*self.writers.values(), *self.readers.values()]
        for end in ends:
            end.flush()
        if any(end.pending for end in ends):  # a peer that does not read; its socket is full
            timeout_ms = min(timeout_ms, PENDING_MS)
        began = time.monotonic_ns()
        counters.add("work_ns", began - self.woke_ns)
        timeout_ms = max(0.0, min(timeout_ms, BEAT_MS))
        if sleep is not None:
            with counters.part:
                sleep(timeout_ms)
            timeout_ms = 0.0
        for writer in self.writers.values():
            # A credit is worth waking up for where no slot is free.
            wanted = 0 if writer.ready else select.POLLIN
            if self._wanted[writer.fileno()] != wanted:
                self._wanted[writer.fileno()] = wanted
                self._poll.modify(writer.fileno(), wanted)
        ready = self._poll.poll(timeout_ms)
        self.woke_ns = time.monotonic_ns()
        trace = self.trace
        if trace is not None and self.woke_ns - began >= SHORT_NS:
            trace.note((what, 0, began, self.woke_ns))
            if self.woke_ns > trace.due_ns:
                trace.flush(self.woke_ns)
        counters.add("wait_ns", self.woke_ns - began)
        counters.beat(_WORKING if ready else state)
        for fileno, _ in ready:
            source = self._polled[fileno]
            if source is self._channel:
                self.hear()
            elif source is not None:
                source.pump()

    def hear(self) -> None:
        """Take what the supervisor has sent, without waiting.

        Raises:
            Stop: The supervisor asked for it, or is gone.
        """
        self.obey(self._channel.receive())
        if self._channel.closed:
            raise Stop

    def obey(self, orders: list[Message]) -> None:
        """Carry out what concerns every stage, and queue the rest for `order`."""
        for order in orders:
            match order["op"]:
                case "stop":
                    raise Stop
                case "resync" if order["ring"] in self.readers:
                    self.readers[order["ring"]].resync(order["generation"], grant=True)
                case "resync":
                    self.writers[order["ring"]].resync(order["generation"])
                case _:
                    self._orders.append(order)

    def order(self) -> Message | None:
        """Return the next order of the supervisor, if there is one."""
        return self._orders.popleft() if self._orders else None


def _limit(limits: dict[str, int]) -> None:
    """Set resource limits by name, for example `{"RLIMIT_CORE": 0}`."""
    for name, value in limits.items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        resource.setrlimit(number, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def main() -> None:
    """Run one stage until the supervisor ends it, and the process with it."""
    channel, messages = enlist()
    if not messages:
        return
    assignment = messages[0]
    page = mmap.mmap(assignment["page_fd"], 0)
    counters = Counters(page)
    counters.beat(State.STARTING)
    trace = None
    if "trace" in assignment:
        trace = Recorder(mmap.mmap(assignment["trace"]["fd"], 0), assignment["trace"]["since_ns"])
        trace.mark(Span.START)
    try:
        _limit(assignment["limits"])
        context = Context(channel, assignment, counters, trace)
        context.obey(messages[1:])  # a peer may have been started again meanwhile
        importlib.import_module(STAGES[assignment["stage"]]).run(context)
    except Stop:
        pass
    except BaseException as error:
        kind = type(error).__name__
        known = isinstance(error, VpipeError)
        text = str(error) if known else traceback.format_exc().strip().splitlines()[-1]
        if not known:
            traceback.print_exc()
        # What will not get better by starting again ends the run at once.
        fatal = isinstance(error, (ResourceError, TaskError, UsageError))
        channel.send({"op": "crash", "kind": kind, "error": text, "fatal": fatal})
        _leave(counters, trace, CRASHED)
    _leave(counters, trace, 0)


def _leave(counters: Counters, trace: Recorder | None, code: int) -> NoReturn:
    """End the process at once.

    All that matters is told and kept by now. To take down a compiled model, and then the libraries, takes 0.1 s.
    """
    if trace is not None:
        trace.close()
    counters.beat(State.STOPPED)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
