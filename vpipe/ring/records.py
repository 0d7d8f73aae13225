"""The 16-byte records of a ring, sent and received over one end of its socket pair."""

from __future__ import annotations

import os
import socket
import struct
from time import monotonic

from vpipe.errors import RingError

RECORD = struct.Struct("=IIQ")
RECEIVE_BYTES = 1024 * RECORD.size

COALESCE_S = 0.0005
"""Records that come sooner than this after the last send wait for each other, seconds."""


class Records:
    """Queue of outward records and reader of inward ones; never blocks, never loses one.

    Coalescing: a record is sent at once when nothing was sent lately, else it waits for `flush` or for enough others.
    The owner flushes before it waits for anything.

    A killed process cannot leave half a record in the socket: a send of at most 1024 records is one buffer in the
    kernel, taken whole or not at all (where a system does split it, the survivor's rest is sent first), and a receive
    takes whole records because its size is a multiple of theirs.
    """

    def __init__(self, name: str, fd: int, generation: int, slots: int, coalesce_s: float = COALESCE_S) -> None:
        self._name = name
        # A copy of the descriptor: the handle's own stays whosever it was.
        self._socket = socket.socket(fileno=os.dup(fd))
        self._socket.setblocking(False)
        self._outward = bytearray()
        self._sent_at = 0.0
        self._coalesce_s = coalesce_s
        self._enough = max(1, slots // 2) * RECORD.size
        self._inward = b""
        self.generation = generation

    @property
    def pending(self) -> bool:
        """Records are queued that the socket has not taken."""
        return bool(self._outward)

    def fileno(self) -> int:
        """Return the descriptor to poll: readable when records have come in."""
        return self._socket.fileno()

    def put(self, slot: int, sequence: int) -> None:
        """Queue one record, and send what is queued if it is time."""
        self._outward += RECORD.pack(self.generation, slot, sequence)
        if len(self._outward) >= self._enough or monotonic() - self._sent_at >= self._coalesce_s:
            self.flush()

    def flush(self) -> None:
        """Send what is queued, in one call; what a full socket does not take stays queued.

        Raises:
            RingError: The other side is gone.
        """
        if not self._outward:
            return
        try:
            sent = self._socket.send(self._outward, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            raise self._gone() from None
        del self._outward[:sent]
        self._sent_at = monotonic()

    def receive(self) -> list[tuple[int, int]]:
        """Return (slot, sequence) of each record of the own generation that has come in, in order.

        Raises:
            RingError: The other side is gone.
        """
        found: list[tuple[int, int]] = []
        while True:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return found
            except ConnectionResetError:
                raise self._gone() from None
            if not data:
                raise self._gone()
            whole = data
            if self._inward or len(data) % RECORD.size:  # only where a system splits records
                whole = self._inward + data
                cut = len(whole) - len(whole) % RECORD.size
                whole, self._inward = whole[:cut], whole[cut:]
            found += [(slot, sequence) for own, slot, sequence in RECORD.iter_unpack(whole) if own == self.generation]
            if len(data) < RECEIVE_BYTES:
                return found

    def restart(self, generation: int) -> None:
        """Forget the records under way, in both directions, and go on under a higher generation.

        Raises:
            RingError: `generation` is not higher.
        """
        if generation <= self.generation:
            raise RingError(f"ring {self._name}: resync to generation {generation}, but {self.generation} is current")
        # A record of which a part was sent must be finished, or the stream of records would shift.
        del self._outward[len(self._outward) % RECORD.size :]
        self.generation = generation  # what the dead side has sent is skipped by its generation

    def close(self) -> None:
        """Close this copy of the socket."""
        self._socket.close()

    def _gone(self) -> RingError:
        return RingError(f"ring {self._name}: the other side and the supervisor are gone")
