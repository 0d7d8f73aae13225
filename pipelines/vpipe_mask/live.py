"""Live masks: an engine run and a feed server, each told what the other needs to know."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import vpipe
from vpipe_mask import PIPELINE
from vpipe_mask.server import FeedServer, ServerConfig

STATS_S = 1.0
"""How often the server is told the engine's figures."""


class LiveMasks:
    """A live run of the mask pipeline: an iterator of stream events, and a context manager that ends it.

    Args:
        sources: URLs, cameras, or files, which are played at their own pace.
        config: What the feed server serves, and where.
        overrides: Values of the pipeline file, see `vpipe_mask.options`.
        stay: Go on when no stream is left: others may be added over HTTP.
        metrics: `HOST:PORT` for the engine's own metrics.
        trace: A file for what every worker was at.

    Raises:
        VpipeError: Something cannot start.
    """

    def __init__(
        self,
        sources: Iterable[str],
        config: ServerConfig,
        overrides: dict[str, Any],
        *,
        stay: bool = False,
        metrics: str | None = None,
        trace: str | None = None,
    ) -> None:
        pipeline = vpipe.Pipeline.load(PIPELINE, overrides)
        with contextlib.ExitStack() as stack:
            self.server = stack.enter_context(FeedServer(config))
            run = pipeline.live(list(sources), outlet=self.server.outlet, metrics=metrics, stay=stay, trace=trace)
            self.engine = stack.enter_context(run)
            self.server.obey(run)
            self._done = threading.Event()
            self._teller = threading.Thread(target=self._tell, name="vpipe-mask-stats", daemon=True)
            stack.callback(self._teller.join)
            stack.callback(self._done.set)
            self._things = stack.pop_all()
        self._teller.start()

    def _tell(self) -> None:
        while not self._done.wait(STATS_S):
            self.server.stats(self.engine.streams())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield what happens to streams, see `vpipe.live`.

        Raises:
            RunError: The run failed, or the server keeps dying.
        """
        for event in self.engine:
            self.server.event(event)
            yield event

    def __enter__(self) -> LiveMasks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._things.close()
