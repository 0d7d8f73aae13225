"""The thread that opens a live source and takes its packets as they come, with the time of their arrival.

Opening and waiting for packets block inside FFmpeg; in a thread of their own they hold up neither the decoder nor the
worker's signs of life. What it cannot do is to be interrupted: should FFmpeg never come back (a name server that hangs,
say), `stuck` says so, and only the end of the process helps.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from vpipe.errors import MediaError
from vpipe.media.live import LiveContainer, LiveOptions
from vpipe.media.sources import kind_of
from vpipe.media.timing import Pacer
from vpipe.wakeup import WakeUp

if TYPE_CHECKING:
    from vpipe.media.device import DeviceContainer

QUEUE_BYTES = 64 << 20
"""Of packets that wait for the decoder; beyond it the source has to wait."""
TURN_S = 0.02
SLACK_S = 5.0
"""Beyond all its timeouts, before a receiver counts as stuck."""


class Arrival(NamedTuple):
    """A packet and when it came."""

    packet: Any
    """For the `decode` of what it came from."""
    wall_ns: int
    """CLOCK_REALTIME, for those who read the messages."""
    clock_ns: int
    """CLOCK_MONOTONIC, for lags."""


Source: TypeAlias = "LiveContainer | DeviceContainer"


def _open(path: str, options: LiveOptions) -> Source:
    if kind_of(path, live=True) == "device":
        from vpipe.media.device import DeviceContainer

        return DeviceContainer(path, options.stall_s)
    return LiveContainer(path, options)


class Receiver:
    """One attempt at a source: opens it, queues its packets, ends with it."""

    def __init__(self, path: str, options: LiveOptions, wake: WakeUp) -> None:
        self.waiting: deque[Arrival] = deque()
        """Packets, oldest first; taken from the left."""
        self.container: Source | None = None
        """Once the source is open."""
        self.opened_s: float | None = None
        """CLOCK_MONOTONIC of the first packet."""
        self.error: MediaError | None = None
        """Why it ended, where not at its own end."""
        self._path = path
        self._options = options
        self._wake = wake
        self._stopped = threading.Event()
        self._heard = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether no more packets come; those in `waiting` are still to be taken."""
        return not self._thread.is_alive()

    def stuck(self) -> bool:
        """Say whether the thread has been in FFmpeg for longer than its timeouts allow."""
        container, options = self.container, self._options
        patience_s = 2 * options.open_s if container is None else container.stall_s
        return not self.ended and time.monotonic() - self._heard > patience_s + SLACK_S

    def _run(self) -> None:
        try:
            self.container = container = _open(self._path, self._options)
            self._take(container)
        except MediaError as error:
            self.error = error
        except Exception as error:  # a thread's exception must not vanish
            self.error = MediaError("internal", f"{type(error).__name__}: {error}")
        finally:
            self._wake.set()

    def _take(self, container: Source) -> None:
        pacer = Pacer()
        base = float(container.time_base)
        queued = 0
        for packet in container.packets():
            self._heard = time.monotonic()
            self.opened_s = self.opened_s or self._heard
            if container.paced and packet.dts is not None:
                self._pause(pacer.pause_s(packet.dts * base, self._heard))
            self.waiting.append(Arrival(packet, time.time_ns(), time.monotonic_ns()))
            self._wake.set()
            queued += packet.size
            while queued > QUEUE_BYTES and not self._stopped.is_set():
                queued = sum(arrival.packet.size for arrival in list(self.waiting))
                self._pause(TURN_S if queued > QUEUE_BYTES else 0.0)
            if self._stopped.is_set():
                return
        if not container.ends:
            raise MediaError("lost", f"{container.name} has ended the connection")

    def _pause(self, seconds: float) -> None:
        """Wait for a time, or until `stop`; it is no silence of the source."""
        if seconds > 0:
            self._stopped.wait(seconds)
            self._heard = time.monotonic()

    def close(self) -> bool:
        """Leave the source; returns False as long as FFmpeg has not come back: then call it again."""
        self._stopped.set()
        self._thread.join(TURN_S)
        if not self.ended:
            return False
        if self.container is not None:
            self.container.close()
            self.container = None
        return True
