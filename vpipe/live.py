"""A live run: streams that come and go, and what happens to them.

with vpipe.Pipeline.load("mask").live(["rtmp://host/live/one"], outlet=fd) as run:
    for event in run:
        print(event["event"], event["id"], event["reason"])

An event is a dictionary of plain values:

    event      connecting | live | down | ended | removed
    stream     the stream's number, which is in front of each of its messages; unique in the run
    id, url    as given (the URL without secrets)
    epoch      which unbroken stretch of its time it is in; 0 before the first
    reason     live: why the epoch began; down, ended: why, None for a file that was played to its end
    info       live: the facts of the stream (`vpipe.StreamInfo.to_dict`)
    retry_s    down: the pause before the next attempt
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any

from vpipe.metrics import Snapshot
from vpipe.metrics_http import parse_address, serve
from vpipe.plan import Plan
from vpipe.supervisor import LiveSupervisor
from vpipe.trace import Tracer

Event = dict[str, Any]


class LiveRun:
    """A live run under way: an iterator of events, and a context manager that ends it."""

    def __init__(
        self,
        plan: Plan,
        sources: Iterable[str],
        *,
        outlet: int | None = None,
        metrics: str | None = None,
        stay: bool = False,
        trace: str | os.PathLike[str] | None = None,
    ) -> None:
        """Start a run; see `vpipe.Pipeline.live`."""
        self.plan = plan
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._old_handlers: dict[signal.Signals, Any] = {}
        self._began = time.monotonic()
        with contextlib.ExitStack() as stack:
            own: int | None = None
            if outlet is not None:  # a worker that is started again needs it too, whatever becomes of the caller's
                own = os.dup(outlet)
                stack.callback(os.close, own)
            tracer = None
            if trace is not None:
                tracer = Tracer(trace, plan.facts())
                stack.callback(tracer.close)
            self.supervisor = LiveSupervisor(plan, outlet=own, emit=self._events.put, stay=stay, tracer=tracer)
            stack.callback(self.supervisor.close)
            for source in sources:
                self.supervisor.seats.take(source, None)
            if metrics is not None:
                stack.callback(serve(*parse_address(metrics), self.supervisor.stage_snapshots).close)
            if tracer is not None:
                tracer.start()
            self._things = stack.pop_all()
        self._thread = threading.Thread(target=self._work, name="vpipe-supervisor", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self.supervisor.run()
        except BaseException as error:
            self._error = error
        finally:
            self._events.put(None)

    def __iter__(self) -> Iterator[Event]:
        """Yield events as they happen, until the run is stopped or (without `stay`) the last stream has left.

        Raises:
            RunError: The run itself failed.
        """
        while (event := self._events.get()) is not None:
            yield event
        self._events.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def add(self, url: str, id: str | None = None) -> str:
        """Take a stream in, without disturbing the others; from any thread.

        Args:
            url: rtmp, rtsp, srt, udp, http (HLS), a camera (`/dev/video0`), or a file, which is played at its own pace.
            id: Its name; by default made from the URL.

        Returns:
            The id.

        Raises:
            SourceError: The URL is of no kind that can be taken.
            UsageError: The id is in use or not fit to be one.
            ResourceError: All seats are taken.
        """
        return self.supervisor.add(url, id)

    def remove(self, id: str) -> None:
        """Let a stream go, without disturbing the others; from any thread. Its last event is `removed`.

        Raises:
            UsageError: There is no such stream.
        """
        self.supervisor.remove(id)

    def streams(self) -> dict[str, dict[str, Any]]:
        """Return how each stream is now, by id: state, epoch, reason, facts, frames, messages, drops by reason."""
        return {stream.id: stream.status() for stream in list(self.supervisor.seats.streams.values())}

    def counters(self) -> dict[str, Snapshot]:
        """Return every worker's counters, by name; the histogram of `publish` is of latency, arrival to message."""
        return self.supervisor.snapshots()

    def stats(self) -> dict[str, Any]:
        """Return the run's figures so far: streams, drops by reason, and latency from arrival to message."""
        counters = self.counters()
        publish = counters["publish"]
        dropped: dict[str, int] = {}
        for snapshot in counters.values():
            for reason, count in snapshot.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + count
        return {
            "seconds": round(time.monotonic() - self._began, 3),
            "streams": self.streams(),
            "frames": publish.frames,
            "dropped": dropped,
            "latency_ms": {
                "count": publish.observed,
                "p50": round(publish.quantile(0.5) * 1e3, 2),
                "p99": round(publish.quantile(0.99) * 1e3, 2),
            },
            "restarts": {name: count for name, count in self.supervisor.restarts().items() if count},
        }

    def stop(self) -> None:
        """Ask the run to end; from any thread. The iterator ends when it has."""
        self.supervisor.stop()

    def handle_signals(self) -> None:
        """Let SIGINT and SIGTERM stop this run (main thread only)."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._old_handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.supervisor.stop()

    def close(self) -> None:
        """End the run; may be called twice."""
        if self._thread.is_alive():
            self.supervisor.stop()
        self._thread.join()
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers.clear()
        self._things.close()

    def __enter__(self) -> LiveRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
