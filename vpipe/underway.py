"""What every run has in common: a supervisor at work in a thread of its own, and news of it in the user's thread."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from vpipe.metrics import Snapshot
from vpipe.metrics_http import parse_address, serve
from vpipe.plan import Plan
from vpipe.supervisor import Loop

if TYPE_CHECKING:
    from vpipe.trace.tracer import Tracer

News = TypeVar("News")


class UnderWay(Generic[News]):
    """A run under way: it can be iterated over for its news, be stopped, and end itself as a context manager.

    The workers are bound to this object's thread, or to the one that called `vpipe.forkserver.start_early`.
    """

    supervisor: Loop

    def __init__(self, plan: Plan) -> None:
        """Prepare; the subclass sets `supervisor`, whose news go to `_news.put`, and calls `_start`."""
        self.plan = plan
        self._news: queue.SimpleQueue[News | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._old_handlers: dict[signal.Signals, Any] = {}
        self._began = time.monotonic()
        self.seconds: float | None = None
        """Wall time of the run, once it has ended."""

    def _tracer(self, path: str | os.PathLike[str] | None, stack: contextlib.ExitStack) -> Tracer | None:
        """Return what writes the trace, where there is to be one; it ends with `stack`."""
        if path is None:
            return None
        from vpipe.trace.tracer import Tracer

        tracer = Tracer(path, self.plan.facts())
        stack.callback(tracer.close)
        return tracer

    def _start(self, stack: contextlib.ExitStack, tracer: Tracer | None, metrics: str | None) -> None:
        """Let the supervisor work, and tell its metrics; what `stack` holds is taken over, and ends with the run."""
        if tracer is not None:
            tracer.start()
        if metrics is not None:
            stack.callback(serve(*parse_address(metrics), self.supervisor.stage_snapshots).close)
        self._things = stack.pop_all()
        self._thread = threading.Thread(target=self._work, name="vpipe-supervisor", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self.supervisor.run()
        except BaseException as error:
            self._error = error
        finally:
            self.seconds = time.monotonic() - self._began
            self._news.put(None)

    def _hear(self) -> Iterator[News]:
        """Yield news until the supervisor has ended; raises what ended it, if it was an error."""
        while (news := self._news.get()) is not None:
            yield news
        self._news.put(None)  # whoever asks again hears at once that it is over
        self._thread.join()
        if self._error is not None:
            raise self._error

    def counters(self) -> dict[str, Snapshot]:
        """Return every worker's counters, by name."""
        return self.supervisor.snapshots()

    def stop(self, *, now: bool = False) -> None:
        """Ask the run to end, from any thread: work in flight is finished first, or, with `now`, is not."""
        if self._thread.is_alive():
            for _ in range(2 if now else 1):
                self.supervisor.stop()

    def handle_signals(self) -> None:
        """Let SIGINT and SIGTERM stop this run: the first drains, the second ends it (main thread only)."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._old_handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.supervisor.stop()

    def close(self) -> None:
        """End the run if it is under way, and let go of all that it holds; may be called twice."""
        self.stop(now=True)
        self._thread.join()
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers.clear()
        self._things.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
