"""All streams of a server: their feeds by number and by id, and what the engine tells of them.

Messages come by the outlet, as packets of a stream number (u32, little-endian) and the message; events by the control
channel, so a stream's first masks may come before its name does.
"""

from __future__ import annotations

import dataclasses
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any

from vpipe_mask.code import CodeError
from vpipe_mask.server.config import ServerConfig
from vpipe_mask.server.feed import Feed, Mask

ENDED = 16
"""Ended streams that can still be asked about; of more, the oldest are forgotten."""
NAMELESS = 64
"""Streams that may send masks before anything is said of them."""
_NUMBER = struct.Struct("<I")


@dataclasses.dataclass(eq=False, slots=True)
class Stream:
    """One stream: what the engine told of it, and its feed."""

    number: int
    feed: Feed
    id: str | None = None
    """None: nothing was told of it yet."""
    state: str = "connecting"
    """`connecting`, `live`, `down`, `ended` or `removed`."""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    """`url`, `epoch`, `reason`, `retry_s` and `info` of the newest event."""
    since: float = dataclasses.field(default_factory=time.time)
    """Unix time of the state."""
    engine: dict[str, float] = dataclasses.field(default_factory=dict)
    """Figures of the engine, as they were told last."""

    def status(self) -> dict[str, Any]:
        """Return what clients may know, plain for JSON."""
        return {
            "id": self.id,
            "state": self.state,
            "since": round(self.since, 3),
            **self.facts,
            "figures": self.feed.figures(),
            "engine": self.engine,
        }


class Hub:
    """Takes in what the engine sends; passes it on to whoever listens.

    `on_mask(stream, mask)` and `on_event(stream)` are for those who follow all streams; who follows one, listens to
    its feed. Listeners must return at once.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._by_number: dict[int, Stream] = {}
        self.streams: dict[str, Stream] = {}
        """Those with a name."""
        self.on_mask: list[Callable[[Stream, Mask], None]] = []
        self.on_event: list[Callable[[Stream], None]] = []
        self.damaged = 0
        """Packets that were no message."""

    def packet(self, data: bytes) -> None:
        """Take in one packet of the outlet."""
        if len(data) <= _NUMBER.size:
            self.damaged += 1
            return
        stream = self._numbered(_NUMBER.unpack_from(data)[0])
        if stream is None:
            self.damaged += 1
            return
        try:
            mask = stream.feed.take(data[_NUMBER.size :])
        except CodeError:
            self.damaged += 1
            return
        if mask is not None and stream.id is not None:
            for listener in self.on_mask:
                listener(stream, mask)

    def _numbered(self, number: int) -> Stream | None:
        stream = self._by_number.get(number)
        if stream is None and len(self._by_number) - len(self.streams) < NAMELESS:
            feed = Feed(self._config.history_s, self._config.history_bytes)
            stream = self._by_number[number] = Stream(number, feed)
        return stream

    def event(self, event: Mapping[str, Any]) -> None:
        """Take in an event of a stream: `connecting`, `live`, `down`, `ended` or `removed`."""
        number, name, state = event["stream"], event["id"], event["event"]
        old = self.streams.get(name)
        if old is not None and old.number != number:  # it was removed and added again
            self._remove(old)
        stream = self._numbered(number)
        if stream is None:
            return
        if stream.id is not None and stream.id != name:  # the number is used again
            self._remove(stream)
            stream = self._numbered(number)
            assert stream is not None
        stream.id = name
        self.streams[name] = stream
        if stream.state != state:
            stream.state, stream.since = state, time.time()
        stream.facts.update({key: event.get(key) for key in ("url", "epoch", "reason", "retry_s")})
        stream.facts["info"] = event.get("info") or stream.facts.get("info")
        if state == "removed":
            self._remove(stream)
            return
        self._tell(stream)
        ended = [each for each in self.streams.values() if each.state == "ended"]
        for each in sorted(ended, key=lambda each: each.since)[:-ENDED]:
            self._remove(each)

    def _remove(self, stream: Stream) -> None:
        assert stream.id is not None
        stream.state = "removed"
        del self._by_number[stream.number], self.streams[stream.id]
        self._tell(stream)

    def _tell(self, stream: Stream) -> None:
        for listener in self.on_event:
            listener(stream)

    def stats(self, told: Mapping[str, Mapping[str, Any]]) -> None:
        """Take in the engine's figures of each stream, by id, as `LiveRun.streams` returns them."""
        for name, values in told.items():
            if name in self.streams:
                self.streams[name].engine = _figures(values)


def _figures(values: Mapping[str, Any]) -> dict[str, float]:
    """Return what can be added up or drawn: `{"dropped": {"late": 3}}` is `{"dropped_late": 3}`."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict) and name != "info":
            found.update(_figures({f"{name}_{part}": each for part, each in value.items()}))
        elif isinstance(value, int | float) and name not in ("stream", "epoch"):
            found[name] = value
    return found
