"""The feed of one stream, as far as it is kept: the last key, the newest mask, a history, figures.

A message is a key, which stands for itself, or a delta against the last key. So whoever has missed messages needs
two at most to be up to date: the last key, and the newest.
"""

from __future__ import annotations

import bisect
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from vpipe_mask.code import Decoder, MaskFrame, peek

WINDOW_S = 5.0
"""Figures are of the last so many seconds."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """One message of a feed, and the key that it needs."""

    epoch: int
    sequence: int
    pts_us: int
    data: bytes
    base: Mask | None
    """None: it is a key itself."""

    def decode(self) -> MaskFrame:
        """Return what the message says."""
        decoder = Decoder()
        if self.base is not None:
            decoder.decode(self.base.data)
        return decoder.decode(self.data)


Listener = Callable[[Mask], None]


class Feed:
    """What is kept of one stream.

    Args:
        history_s: How far back masks are kept, by pts.
        history_bytes: And how many bytes of them.
    """

    def __init__(self, history_s: float, history_bytes: int) -> None:
        self.key: Mask | None = None
        self.newest: Mask | None = None
        self.listeners: set[Listener] = set()
        self.masks = 0
        """Taken in so far."""
        self.bytes = 0
        self.orphans = 0
        """Deltas whose key never came."""
        self._history_us = round(history_s * 1e6)
        self._history_bytes = history_bytes
        self._kept_bytes = 0
        self._history: list[Mask] = []
        self._pts: list[int] = []
        self._recent: deque[tuple[float, int, float | None]] = deque()

    def take(self, data: bytes) -> Mask | None:
        """Take a message in and pass it on; None where it is of no use.

        Raises:
            CodeError: It is no message.
        """
        head = peek(data)
        if head.key:
            base = None
        elif self.key is None or self.key.epoch != head.epoch:
            self.orphans += 1
            return None
        else:
            base = self.key
        mask = Mask(head.epoch, head.sequence, head.pts_us, data, base)
        if self.newest is not None and mask.epoch != self.newest.epoch:
            self._forget()
        if base is None:
            self.key = mask
        self.newest = mask
        self._keep(mask)
        self.masks += 1
        self.bytes += len(data)
        lag_s = time.time() - head.arrival_us * 1e-6 if head.arrival_us else None
        self._recent.append((time.monotonic(), len(data), lag_s))
        self._prune()
        for listener in tuple(self.listeners):
            listener(mask)
        return mask

    def _forget(self) -> None:
        """A new epoch: the same pts now means another picture."""
        self._history.clear()
        self._pts.clear()
        self._kept_bytes = 0

    def _keep(self, mask: Mask) -> None:
        if self._pts and mask.pts_us <= self._pts[-1]:  # not later than the one before: there is no right place for it
            return
        self._history.append(mask)
        self._pts.append(mask.pts_us)
        self._kept_bytes += len(mask.data)
        # In lumps of a sixteenth, so that a long history is not moved for every mask.
        slack = 1 + 1 / 16
        if mask.pts_us - self._pts[0] > self._history_us * slack or self._kept_bytes > self._history_bytes * slack:
            self._trim(mask.pts_us - self._history_us)

    def _trim(self, oldest_us: int) -> None:
        count = bisect.bisect_left(self._pts, oldest_us)
        freed = sum(len(mask.data) for mask in self._history[:count])
        while self._kept_bytes - freed > self._history_bytes:
            freed += len(self._history[count].data)
            count += 1
        self._kept_bytes -= freed
        del self._history[:count], self._pts[:count]

    def mask_at(self, pts_us: int) -> Mask | None:
        """Return the last mask whose pts is not after `pts_us`."""
        index = bisect.bisect_right(self._pts, pts_us)
        return self._history[index - 1] if index else None

    def between(self, first_us: int, last_us: int, limit_bytes: int) -> Iterator[Mask]:
        """Yield the masks for a range of pts, each delta after its key, up to about `limit_bytes`."""
        start = max(bisect.bisect_right(self._pts, first_us) - 1, 0)
        key: Mask | None = None
        for mask in self._history[start : bisect.bisect_right(self._pts, last_us)]:
            if limit_bytes <= 0:
                return
            if mask.base is not None and mask.base is not key:
                key = mask.base
                limit_bytes -= len(key.data)
                yield key
            if mask.base is None:
                key = mask
            limit_bytes -= len(mask.data)
            yield mask

    def figures(self) -> dict[str, Any]:
        """Return rates, sizes and lags of the last few seconds; null where there is nothing to tell."""
        now = time.monotonic()
        self._prune()
        sizes = sorted(size for _, size, _ in self._recent)
        lags = sorted(lag for _, _, lag in self._recent if lag is not None)
        # A stream younger than the window is not told slower than it is.
        span = min(max(now - self._recent[0][0], 1.0), WINDOW_S) if self._recent else WINDOW_S
        return {
            "masks": self.masks,
            "bytes": self.bytes,
            "masks_per_s": round(len(sizes) / span, 2),
            "bytes_per_s": round(sum(sizes) / span, 1),
            "message_bytes_p50": quantile(sizes, 0.5),
            "lag_ms_p50": _ms(quantile(lags, 0.5)),
            "lag_ms_p99": _ms(quantile(lags, 0.99)),
            "oldest_pts": self._pts[0] / 1e6 if self._pts else None,
            "newest_pts": self.newest.pts_us / 1e6 if self.newest else None,
            "silent_s": round(now - self._recent[-1][0], 3) if self._recent else None,
        }

    def _prune(self) -> None:
        oldest = time.monotonic() - WINDOW_S
        while self._recent and self._recent[0][0] < oldest:
            self._recent.popleft()


def quantile(ordered: list[Any], q: float) -> Any:
    """Return a quantile of an ordered list; None where it is empty."""
    return ordered[min(int(len(ordered) * q), len(ordered) - 1)] if ordered else None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
