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
import time
from collections.abc import Iterable, Iterator
from typing import Any

from vpipe.plan import Plan
from vpipe.supervisor.live import LiveSupervisor
from vpipe.underway import UnderWay

Event = dict[str, Any]


class LiveRun(UnderWay[Event]):
    """A live run under way: an iterator of events, and a context manager that ends it.

    The histogram of `publish` in its `counters` is of latency, arrival to message.
    """

    supervisor: LiveSupervisor

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
        super().__init__(plan)
        with contextlib.ExitStack() as stack:
            own: int | None = None
            if outlet is not None:  # a worker that is started again needs it too, whatever becomes of the caller's
                own = os.dup(outlet)
                stack.callback(os.close, own)
            tracer = self._tracer(trace, stack)
            self.supervisor = LiveSupervisor(plan, outlet=own, emit=self._news.put, stay=stay, tracer=tracer)
            stack.callback(self.supervisor.close)
            for source in sources:
                self.supervisor.seats.take(source, None)
            self._start(stack, tracer, metrics)

    def __iter__(self) -> Iterator[Event]:
        """Yield events as they happen, until the run is stopped or (without `stay`) the last stream has left.

        Raises:
            RunError: The run itself failed.
        """
        yield from self._hear()

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
            "carried": sum(snapshot.carried for snapshot in counters.values()),
            "dropped": dropped,
            "latency_ms": {
                "count": publish.observed,
                "p50": round(publish.quantile(0.5) * 1e3, 2),
                "p99": round(publish.quantile(0.99) * 1e3, 2),
            },
            "restarts": {name: count for name, count in self.supervisor.restarts().items() if count},
        }
