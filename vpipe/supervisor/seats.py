"""The streams of a live run, and the seats that they take."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from vpipe.config import LiveConfig
from vpipe.errors import MediaError, ResourceError, SourceError, UsageError
from vpipe.frame import StreamInfo
from vpipe.media.sources import kind_of, without_secrets
from vpipe.media.timing import Backoff
from vpipe.metrics import Snapshot
from vpipe.plan import Plan
from vpipe.supervisor.graph import Graph, Node

if TYPE_CHECKING:
    from vpipe.trace.tracer import Tracer

STAGE = "live_decode"


class LiveGraph(Graph):
    """The processes and rings of a live run: a decode worker's place for each stream there may be."""

    def __init__(self, plan: Plan, outlet: int | None, tracer: Tracer | None = None) -> None:
        self._outlet = outlet
        super().__init__(plan, "", plan.config.source.sample, tracer)

    def _build(self, plan: Plan, out: str, sample: str) -> None:
        live, decode = plan.config.live, plan.config.decode
        settings = {
            "options": {
                "max_pixels": decode.max_pixels,
                "skip_loop_filter": decode.skip_loop_filter,
                "threads": live.threads,
                "open_s": live.open_s,
                "stall_s": live.stall_s,
                "rtsp_transport": live.rtsp_transport,
            },
            "jump_s": live.jump_s,
            "max_lag_ms": live.max_lag_ms,
            "retry_s": live.retry_s,
            "retry_max_s": live.retry_max_s,
            "retries": None if live.retries == "forever" else live.retries,
        }
        self._add_decode(plan, STAGE, settings, None if sample == "every" else sample)
        self._add_branches(plan, "publish", {"outlet": self._outlet})
        if self._outlet is not None:
            self.nodes["publish"].inherited.append(self._outlet)

    @property
    def seats(self) -> list[Node]:
        """The places of streams."""
        return [node for node in self.nodes.values() if node.stage == STAGE]


@dataclasses.dataclass
class LiveStream:
    """One stream of a live run."""

    number: int
    """stream_id: unique in the run, and never given to another."""
    id: str
    url: str
    seat: Node
    backoff: Backoff
    """Of its worker's deaths; the worker itself has another for its source."""
    before: Snapshot
    """The seat's counters when it was taken."""
    state: str = "waiting"
    """waiting (for the stages behind), connecting, live, down, or leaving."""
    epoch: int = 0
    info: StreamInfo | None = None
    reason: str | None = None
    """Why it is down, or why its present epoch began."""
    start_at: float | None = 0.0
    """CLOCK_MONOTONIC when its worker is to be started; None while there is one."""
    started_at: float = 0.0
    last_event: str = "ended"
    """What is told when it has left: `ended` or `removed`."""
    closed: bool = False
    """Publish has sent its last message."""
    sent: int = 0
    dropped: int = 0

    @property
    def leaving(self) -> bool:
        """Whether it has ended or was removed."""
        return self.state == "leaving"

    def event(self, name: str, *, retry_s: float | None = None) -> dict[str, Any]:
        """Return what happened to it as those outside are told."""
        return {
            "event": name,
            "stream": self.number,
            "id": self.id,
            "url": without_secrets(self.url),
            "epoch": self.epoch,
            "reason": self.reason,
            "info": self.info.to_dict() if self.info is not None and name == "live" else None,
            "retry_s": retry_s,
        }

    def status(self) -> dict[str, Any]:
        """Return how it is now."""
        counts = self.seat.page.read() - self.before
        return {
            "stream": self.number,
            "id": self.id,
            "url": without_secrets(self.url),
            "state": self.state,
            "epoch": self.epoch,
            "reason": self.reason,
            "info": None if self.info is None else self.info.to_dict(),
            "frames": counts.frames,
            "corrupt": counts.corrupt,
            "dropped": {**counts.dropped, "outlet": self.dropped},
            "messages": self.sent,
        }


class Seats:
    """Who sits where."""

    def __init__(self, seats: list[Node], config: LiveConfig, restarts: int) -> None:
        self._free = list(reversed(seats))
        self._config = config
        self._restarts = restarts
        self._numbers = 0
        self.streams: dict[int, LiveStream] = {}
        """By number."""

    def take(self, url: str, id: str | None) -> LiveStream:
        """Give a stream a seat.

        Raises:
            SourceError: The URL is of no kind that can be taken.
            UsageError: The id is not fit to be one, or in use.
            ResourceError: All seats are taken.
        """
        try:
            kind_of(url, live=True)
        except MediaError as error:
            raise SourceError(str(error)) from None
        taken = {stream.id for stream in self.streams.values()}
        if id is None:
            id = _name_of(url, taken)
        elif not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", id):
            raise UsageError(f"'{id}' is no id for a stream: use up to 64 letters, digits, '_', '-' and '.'")
        elif id in taken:
            raise UsageError(f"there is a stream '{id}' already; remove it first, or choose another id")
        if not self._free:
            raise ResourceError(
                f"all {len(self.streams)} seats are taken; raise live.max_streams, or remove a stream first"
            )
        self._numbers += 1
        seat = self._free.pop()
        config = self._config
        retries = None if config.retries == "forever" else self._restarts
        backoff = Backoff(config.retry_s, config.retry_max_s, retries)
        stream = LiveStream(self._numbers, id, url, seat, backoff, seat.page.read())
        self.streams[stream.number] = stream
        return stream

    def find(self, id: str) -> LiveStream:
        """Return the stream of an id.

        Raises:
            UsageError: There is none.
        """
        for stream in self.streams.values():
            if stream.id == id and not stream.leaving:
                return stream
        raise UsageError(f"there is no stream '{id}'")

    def of(self, name: str) -> LiveStream | None:
        """Return the stream in a seat."""
        return next((stream for stream in self.streams.values() if stream.seat.name == name), None)

    def leave(self, stream: LiveStream) -> None:
        """Free a stream's seat."""
        del self.streams[stream.number]
        self._free.append(stream.seat)

    def ready_to_start(self) -> list[LiveStream]:
        """Return the streams whose worker is due."""
        now = time.monotonic()
        return [s for s in self.streams.values() if s.start_at is not None and now >= s.start_at and not s.leaving]


def _name_of(url: str, taken: set[str]) -> str:
    """Return an id made from what stands last in a URL."""
    path = without_secrets(url).removesuffix("?...").rstrip("/")
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", PurePosixPath(path).name).strip("-._")[:48] or "stream"
    names = [stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)
