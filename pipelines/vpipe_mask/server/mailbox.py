"""What waits for one client: a few messages, or, when it does not keep up, the newest alone."""

from __future__ import annotations

import asyncio
from collections import deque

from vpipe_mask.server.feed import Mask

ROOM = 8
"""Masks that may wait; a client further behind gets the newest only."""
BURST = 4
"""Masks that may come at once, whatever the rate: the engine hands them on in batches."""


class Mailbox:
    """The masks that a client has not been sent yet; put in by the feed, taken out by the client's own task.

    Args:
        max_rate: Masks a second; what comes faster is passed over.
    """

    def __init__(self, max_rate: float) -> None:
        self.skipped = 0
        """Masks that this client was never sent."""
        self.news = False
        """Something else is to be told; set by `nudge`, unset by the client's task."""
        self._rate = max_rate
        self._credit = float(BURST)
        self._loop = asyncio.get_running_loop()
        self._counted = self._loop.time()
        self._waiting: deque[Mask] = deque()
        self._arrived = asyncio.Event()
        self._base: Mask | None = None

    def put(self, mask: Mask) -> None:
        """Leave a mask for the client; never waits."""
        now = self._loop.time()
        self._credit = min(BURST, self._credit + (now - self._counted) * self._rate)
        self._counted = now
        if self._credit < 1:
            self.skipped += 1
            return
        self._credit -= 1
        if len(self._waiting) >= ROOM:
            self.skipped += len(self._waiting)
            self._waiting.clear()
        self._waiting.append(mask)
        self._arrived.set()

    def nudge(self) -> None:
        """Wake the client's task: there is something else to tell."""
        self.news = True
        self._arrived.set()

    def newest_only(self) -> None:
        """The client has not kept up: of what waits, leave the newest."""
        while len(self._waiting) > 1:
            self._waiting.popleft()
            self.skipped += 1

    async def wait(self, timeout_s: float) -> None:
        """Wait until there is a mask or something else to tell, or the time is over."""
        if self._waiting or self.news:
            return
        self._arrived.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        except TimeoutError:
            pass

    def take(self) -> list[bytes]:
        """Return the messages to send next: a mask, before it its key if the client does not have that; or nothing."""
        if not self._waiting:
            return []
        mask = self._waiting.popleft()
        key = mask.base or mask
        messages = [mask.data] if key in (mask, self._base) else [key.data, mask.data]
        self._base = key
        return messages
