"""The decode stage of a live stream: one worker a stream, from the moment it is added until it leaves.

It opens the source, and opens it again whenever it is lost; decodes what arrives, in order; and writes views into its
frame ring. Nothing here waits long for a slot: where none is free the newest picture waits, and a newer one takes its
place. Nor does it fall behind what arrives: then frames are left out before they are decoded (`CatchUp`).

Reports: `connecting`; `epoch` (facts of the stream from here on; no frame of it is written before the supervisor's
`go`, so that publish knows them first); `down` (with the reason and the pause before the next attempt); `ended`.
Besides `go` there is the order `renew`: publish was started again, so a new epoch is to begin.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from vpipe.errors import MediaError, RunError
from vpipe.frame import FrameFlag
from vpipe.media import Picture
from vpipe.media.live import LiveOptions
from vpipe.media.reader import Losses, flags_of
from vpipe.media.receiver import Arrival, Receiver
from vpipe.media.sources import kind_of, without_secrets
from vpipe.media.timing import Backoff, CatchUp, Timeline
from vpipe.metrics import Drop, State
from vpipe.stages.live_view import LiveView
from vpipe.trace import Span
from vpipe.wakeup import WakeUp
from vpipe.worker import BEAT_MS, Context

if TYPE_CHECKING:
    from vpipe.media.container import VideoFrame

LAST_S = 1.0
"""How long the last picture of a file may wait for a slot."""
MOST_FED = 256
"""Packets that may be in the decoder; of older ones no frame will come."""
NICE = 5
"""What stands behind goes first: where there is too much to do, frames are better left out than decoded and dropped."""
HOPELESS = frozenset(("encrypted", "forbidden", "scheme", "protocol", "too_large", "codec"))
"""Refusals that no further attempt will change."""


class _Seat:
    """The stream that this worker decodes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        settings = context.assignment["settings"]
        self._path: str = settings["url"]
        self._once = kind_of(self._path, live=True) == "file"
        self._stream: int = settings["stream"]
        self._options = LiveOptions(**settings["options"])
        self._branches = [LiveView(context.writers[branch["ring"]], branch) for branch in settings["branches"]]
        self._pair: bool = any(branch["view"]["pair"] for branch in settings["branches"])
        self._timeline = Timeline(settings["jump_s"])
        self._catch_up = CatchUp(settings["max_lag_ms"])
        self._hold_ns = self._catch_up.lag_ns // 2
        self._backoff = Backoff(settings["retry_s"], settings["retry_max_s"], settings["retries"])
        self._wake = WakeUp()
        context.watch(self._wake.fileno())
        self._begun = False
        """Whether the present attempt has brought a picture."""
        self._epoch: int = settings["epoch"]
        self._known = self._epoch
        """The newest epoch that publish knows."""
        self._index = 0
        self._origin = 0
        self._previous: int | None = None
        self._neighbour: VideoFrame | None = None
        self._losses = Losses()
        self._fed: dict[int, tuple[int, bool]] = {}
        """Packets in the decoder by pts: when they arrived, and whether they may be left out by it."""

    # --- the source ---

    def run(self) -> None:
        """Serve the stream until it ends, or the supervisor says stop."""
        self._context.ready()
        while True:
            self._context.report("connecting")
            self._begun = False
            receiver = Receiver(self._path, self._options, self._wake)
            error = self._follow(receiver)
            self._leave(receiver)
            if error is None or error.kind in HOPELESS or self._once:
                pause = None
            else:
                if self._begun:
                    self._backoff.succeed()
                pause = self._backoff.fail()
            if pause is None:
                break
            assert error is not None
            self._context.report("down", kind=error.kind, reason=str(error), retry_s=round(pause, 3))
            self._rest(pause)
        kind, reason = (None, None) if error is None else (error.kind, str(error))
        self._context.report("ended", kind=kind, reason=reason, last=[branch.last for branch in self._branches])
        while True:
            self._context.wait(BEAT_MS, State.IDLE)

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._context.wait(left * 1000, State.IDLE)

    def _follow(self, receiver: Receiver) -> MediaError | None:
        """Decode what arrives until the source ends; returns why, or None where that is its own end."""
        context = self._context
        while True:
            self._wake.clear()
            self._obey()
            ended = receiver.ended  # before looking: what came before the end is in the queue by then
            hold_ms = self._hold_ms(receiver)
            if hold_ms > 0:
                context.wait(hold_ms)
            elif receiver.waiting:
                self._advance(receiver)
                context.wait(0)
            elif ended:
                break
            else:
                self._check(receiver)
                context.wait(BEAT_MS)
            self._put()
            if self._is_hopeless(receiver):
                return MediaError(
                    "no_frames",
                    f"{without_secrets(self._path)}: packets come, but not one picture can be decoded; "
                    "it is encrypted (DRM) or damaged",
                )
        if receiver.container is not None:
            self._take(receiver, receiver.container.finish(), time.monotonic_ns())
        self._put_last()
        if receiver.error is None and not self._begun:
            return MediaError("no_frames", f"{without_secrets(self._path)} has ended without one picture")
        return receiver.error

    def _put_last(self) -> None:
        until = time.monotonic() + LAST_S
        while True:
            self._put()
            left = until - time.monotonic()
            if left <= 0 or not any(branch.waiting for branch in self._branches):
                return
            self._context.wait(left * 1000)

    def _hold_ms(self, receiver: Receiver) -> float:
        """Return how long the picture that waits for a slot is not yet to be replaced: small bursts lose nothing."""
        if not receiver.waiting or not any(branch.waiting for branch in self._branches):
            return 0.0
        return (receiver.waiting[0].clock_ns + self._hold_ns - time.monotonic_ns()) / 1e6

    def _is_hopeless(self, receiver: Receiver) -> bool:
        """Say whether packets have come for long, and never a picture."""
        if self._begun or receiver.opened_s is None:
            return False
        return time.monotonic() - receiver.opened_s > self._options.open_s

    def _check(self, receiver: Receiver) -> None:
        if receiver.stuck():
            raise RunError(f"{without_secrets(self._path)}: FFmpeg does not come back from waiting for it")

    def _leave(self, receiver: Receiver) -> None:
        """Close the source and forget what was under way."""
        while not receiver.close():
            self._check(receiver)
            self._context.wait(0)
        self._neighbour = self._previous = None
        self._losses = Losses()
        self._forget()
        self._timeline.restart()
        self._catch_up.restart()

    # --- packets and frames ---

    def _advance(self, receiver: Receiver) -> None:
        """Decode the next packet that waits, or leave some out."""
        container, waiting = receiver.container, receiver.waiting
        assert container is not None
        now_ns = time.monotonic_ns()
        lean = False
        if now_ns - waiting[0].clock_ns > self._catch_up.lag_ns or self._catch_up.waiting:
            some = [(arrival.clock_ns, arrival.packet.is_keyframe) for arrival in list(waiting)]
            skip, lean = self._catch_up.plan(some, now_ns)
            if skip:
                for _ in range(skip):
                    waiting.popleft()
                self._context.counters.drop(Drop.SKIPPED, skip + self._forget())
                container.forget()
                return
        arrival = waiting.popleft()
        self._note(arrival, lean)
        counters, start = self._context.counters, time.perf_counter_ns()
        with counters.part:
            frames = container.decode(arrival.packet, lean=lean)
        if frames:
            counters.observe(time.perf_counter_ns() - start)
        self._take(receiver, frames, arrival.clock_ns)

    def _note(self, arrival: Arrival, lean: bool) -> None:
        packet, fed = arrival.packet, self._fed
        if packet.pts is None:
            packet.pts = packet.dts
        if packet.pts is not None:
            fed[packet.pts] = arrival.wall_ns, lean
        if len(fed) > MOST_FED:
            del fed[next(iter(fed))]

    def _forget(self) -> int:
        """Give up on what is in the decoder; returns how many packets."""
        count = len(self._fed)
        self._fed.clear()
        return count

    def _arrival_ns(self, pts: int) -> int:
        """Return when the packet of a frame arrived; those before it of which no frame came are left behind."""
        found = self._fed.pop(pts, None)
        if found is None:
            return time.time_ns()
        passed = [other for other in self._fed if other < pts]
        skipped = sum(self._fed.pop(other)[1] for other in passed)
        if skipped:
            self._context.counters.drop(Drop.SKIPPED, skipped)
        return found[0]

    def _take(self, receiver: Receiver, frames: list[VideoFrame], due_ns: int) -> None:
        """Offer decoded frames to the branches; `due_ns` is when they could have come, had decoding taken no time."""
        context, container = self._context, receiver.container
        assert container is not None
        base = container.time_base
        for frame in frames:
            last = self._previous
            pts = frame.pts if frame.pts is not None else (0 if last is None else last + container.step)
            if pts == last:
                continue  # a frame is known by its pts
            arrival_ns = self._arrival_ns(pts)
            why = self._timeline.look(pts, base, (frame.width, frame.height))
            if why is not None:
                self._begin_epoch(receiver, frame, pts, why)
            flags = flags_of(frame, frame.key_frame, self._losses.upto(frame, None))
            size = frame.width, frame.height
            near = (self._neighbour or frame) if self._pair else None
            picture = Picture(pts, self._index, flags, frame, near, base, self._origin, self._previous, *size)
            header = {"stream": self._stream, "epoch": self._epoch, "arrival_ns": arrival_ns, "made_ns": due_ns}
            self._index += 1
            self._previous = pts
            self._neighbour = frame if self._pair else None
            context.done(Span.DECODE, self._stream, pts)
            context.counters.add("frames", 1)
            if flags & FrameFlag.CORRUPT:
                context.counters.add("corrupt", 1)
            late = sum(branch.offer(picture, header) for branch in self._branches)
            if late:
                context.counters.drop(Drop.LATE, late)
            self._put()

    def _begin_epoch(self, receiver: Receiver, frame: VideoFrame, pts: int, why: str) -> None:
        """Tell the supervisor what the stream is from this frame on, and wait until publish knows."""
        assert receiver.container is not None
        self._epoch += 1
        self._index, self._origin, self._previous, self._neighbour = 0, pts, None, None
        self._begun = True
        for branch in self._branches:
            branch.restart()
        info = receiver.container.info(self._stream, frame, pts)
        self._context.report("epoch", epoch=self._epoch, reason=why, info=info.to_dict())
        while self._known < self._epoch:
            self._context.wait(BEAT_MS)
            self._obey()

    def _obey(self) -> None:
        """Carry out the supervisor's orders."""
        while (order := self._context.order()) is not None:
            if order["op"] == "go":
                self._known = order["epoch"]
            elif order["op"] == "renew":
                self._timeline.restart(order["reason"])

    def _put(self) -> None:
        for branch in self._branches:
            if branch.put(self._context.counters):
                self._context.done(Span.VIEW, self._stream)


def run(context: Context) -> None:
    """Serve one live stream until the supervisor says stop."""
    os.nice(NICE)
    _Seat(context).run()
