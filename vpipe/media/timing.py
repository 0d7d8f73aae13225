"""Decisions about the time of live streams. No clock and no thread in here, so that every rule can be tested."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction

BEHIND_S = 0.5
"""A paced source that is late by more has paused: its pace starts anew."""
AHEAD_S = 60.0
"""A step of time that would hold a paced source up for longer is no pause but another clock."""
CONNECTED = "connected"
"""Why an epoch begins when a source has been opened."""
GROWTH = 1.5
JITTER = 0.2
KEYFRAME_LAGS = 3
"""Times `max_lag_ms`: from here on it is not enough to leave out frames that no other refers to."""
GIVE_UP_LAGS = 10
"""Times `max_lag_ms`: from here on all is left out until a keyframe comes."""

LATE = 0.4
"""Of `max_lag_ms`: a frame that takes longer to reach the model is late."""
WINDOW_NS, WINDOW_FRAMES = 500_000_000, 8
"""Lateness is judged each time that so long has passed and so many frames have come."""
LATE_SHARE, QUIET_SHARE = 0.1, 0.02
"""Of a window's frames that are late: from where on there is too much to do, and up to where it is quiet."""
HOLD_NS, LONGEST_HOLD_NS = 5_000_000_000, 160_000_000_000
"""How long it must be quiet before more is done again."""


class Pacer:
    """Holds the packets of a source that comes faster than it plays (a file, HLS) back until their time."""

    def __init__(self) -> None:
        self._origin_s: float | None = None

    def pause_s(self, dts_s: float, now_s: float) -> float:
        """Return how long to wait before a packet of decoding time `dts_s` goes on, in seconds."""
        if self._origin_s is not None:
            pause = self._origin_s + dts_s - now_s
            if -BEHIND_S < pause < AHEAD_S:
                return max(0.0, pause)
        self._origin_s = now_s - dts_s
        return 0.0


class Unrolled:
    """Lets the time of MPEG-TS, whose 33 bits are full every 26.5 hours, go on.

    FFmpeg corrects the first turn, but lets time fall back by all of it a minute before it comes to where it was when
    the source was opened. A step of more than half a turn is taken for a turn less or more.
    """

    TURN = 1 << 33
    """In ticks of 1/90000 s."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._added = 0

    def add(self, ticks: int) -> int:
        """Return what is to be added to the times of the next packet, whose decoding time is `ticks`."""
        if self._last is not None:
            step = ticks + self._added - self._last
            self._added -= (step + self.TURN // 2) // self.TURN * self.TURN
        self._last = ticks + self._added
        return self._added


class Timeline:
    """Finds where a stream's time breaks: there a new epoch begins."""

    def __init__(self, jump_s: float) -> None:
        self._jump_s = jump_s
        self._pts: int | None = None
        self._size = (0, 0)
        self._why = CONNECTED

    def restart(self, why: str | None = None) -> None:
        """Forget what was; by default because the source has been opened again."""
        self._pts, self._why = None, why or CONNECTED

    def look(self, pts: int, time_base: Fraction, size: tuple[int, int]) -> str | None:
        """Return why the next frame (in presentation order) begins a new epoch, or None where it does not.

        Args:
            pts: Of the frame, in units of `time_base`.
            time_base: In seconds.
            size: Width and height of the picture.
        """
        before, old = self._pts, self._size
        self._pts, self._size = pts, size
        if before is None:
            return self._why
        if size != old:
            return f"the picture changed from {old[0]}x{old[1]} to {size[0]}x{size[1]}"
        step_s = float((pts - before) * time_base)
        if step_s < 0 or step_s > self._jump_s:
            return f"time went {'forward' if step_s > 0 else 'back'} by {abs(step_s):.3f} s"
        return None


class CatchUp:
    """Chooses what to leave out when decoding lags behind what arrives."""

    def __init__(self, max_lag_ms: float) -> None:
        self.lag_ns = int(max_lag_ms * 1e6)
        self.waiting = False
        """For a keyframe; all before it is left out."""

    def restart(self) -> None:
        """Forget what was: the source has been opened again."""
        self.waiting = False

    def plan(self, waiting: Sequence[tuple[int, bool]], now_ns: int) -> tuple[int, bool]:
        """Return how many packets to leave out, from the front, and whether to decode the next one leanly.

        Args:
            waiting: (time of arrival, whether it is a keyframe) of each packet that waits, in order.
            now_ns: The time, of the same clock.
        """
        if not waiting:
            return 0, False
        lags = (now_ns - waiting[0][0]) / self.lag_ns
        if lags <= 1 and not self.waiting:
            return 0, False
        keys = [at for at, (_, key) in enumerate(waiting) if key]
        if self.waiting:
            self.waiting = not keys
            return (keys[-1] if keys else len(waiting)), False
        if lags > KEYFRAME_LAGS and keys and keys[-1]:
            return keys[-1], False
        if lags > GIVE_UP_LAGS and not keys:
            self.waiting = True
            return len(waiting), False
        return 0, True


class Ration:
    """Chooses which frames the model is run on: every Nth of each stream, with N as the lag asks for.

    N goes up at once where frames come late, and down only after a quiet while, which doubles whenever going down has
    turned out to be too early: N does not go back and forth.

    Args:
        most: The largest N.
        max_lag_ms: A frame counts as late from `LATE` of it on.
        seats: How many streams there may be.
    """

    def __init__(self, most: int, max_lag_ms: float, seats: int) -> None:
        self.every = 1
        """N."""
        self._most = most
        self._late_ns = int(LATE * max_lag_ms * 1e6)
        self._streams: list[object] = [None] * seats
        # Streams take turns: models are not to run on one frame of each at once.
        self._turns = list(range(seats))
        self._began_ns = self._quiet_ns = self._lowered_ns = 0
        self._frames = self._late = 0
        self._hold_ns = HOLD_NS

    def leaves_out(self, seat: int, stream: object, lag_ns: int, now_ns: int) -> bool:
        """Take the next frame of a seat; return whether the model is not to run on it.

        Args:
            seat: 0 to `seats` - 1.
            stream: What makes its frames those of one stream; the first frame of another one is never left out.
            lag_ns: How late the frame is.
            now_ns: The time; any clock that only goes forward.
        """
        self._frames += 1
        self._late += lag_ns > self._late_ns
        if now_ns - self._began_ns >= WINDOW_NS and self._frames >= WINDOW_FRAMES:
            self._judge(now_ns)
        self._turns[seat] += 1
        if self._streams[seat] != stream:
            self._streams[seat] = stream
            return False
        return self._turns[seat] % self.every != 0

    def _judge(self, now_ns: int) -> None:
        share = self._late / self._frames
        self._began_ns, self._frames, self._late = now_ns, 0, 0
        if share > QUIET_SHARE:
            self._quiet_ns = now_ns
        if share > LATE_SHARE and self.every < self._most:
            if self._lowered_ns and now_ns - self._lowered_ns < self._hold_ns:
                self._hold_ns = min(2 * self._hold_ns, LONGEST_HOLD_NS)
            self.every += 1
            self._lowered_ns = 0
        elif now_ns - self._quiet_ns >= self._hold_ns:
            self._quiet_ns = now_ns
            if self.every > 1:
                self.every -= 1
                self._lowered_ns = now_ns
            else:
                self._hold_ns = HOLD_NS


class Backoff:
    """The pauses between attempts to reach a source: ever longer, and of uneven length, so that many who lost the same
    server do not come back at the same moment.
    """  # noqa: D205

    def __init__(self, first_s: float, longest_s: float, retries: int | None) -> None:
        """Take the bounds of a pause; `retries` is None for ever."""
        self._first_s, self._longest_s, self._retries = first_s, longest_s, retries
        self._failures = 0

    def succeed(self) -> None:
        """Note that the source is there: the next pause is the first again."""
        self._failures = 0

    def fail(self) -> float | None:
        """Note a failure; return the pause in seconds, or None when there have been too many."""
        if self._retries is not None and self._failures >= self._retries:
            return None
        pause = min(self._first_s * GROWTH ** min(self._failures, 64), self._longest_s)
        self._failures += 1
        return pause * random.uniform(1 - JITTER, 1 + JITTER)
