"""The reading side of a ring."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.errors import LoanEnded, RingError
from vpipe.ring.end import RingEnd
from vpipe.ring.owner import RingSpec


class ReadLoan:
    """The right to read one slot, until release; as a context manager it releases on leaving."""

    __slots__ = ("_open", "_reader", "count", "sequence", "slot")

    def __init__(self, reader: RingReader, slot: int, sequence: int, count: int) -> None:
        self._reader = reader
        self._open = True
        self.slot = slot
        """Which slot of the ring."""
        self.sequence = sequence
        """Rank of the commit; grows over the whole life of the ring."""
        self.count = count
        """Frames in the slot."""

    @property
    def frames(self) -> NDArray[np.void]:
        """FRAME, (count,): the frames' headers, read-only.

        Raises:
            LoanEnded: The loan has been released.
        """
        self._check()
        return self._reader._frames[self.slot][: self.count]

    def field(self, name: str) -> NDArray[Any]:
        """Return a field's array, (count, *shape), read-only.

        Raises:
            LoanEnded: The loan has been released.
        """
        self._check()
        return self._reader._fields[name][self.slot][: self.count]

    def release(self) -> None:
        """Give the slot back to the writer.

        Raises:
            LoanEnded: The loan has been released before.
        """
        self._check()
        self._open = False
        self._reader._release(self.slot, self.sequence)

    def __enter__(self) -> ReadLoan:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._open:
            self.release()

    def _check(self) -> None:
        if not self._open:
            raise LoanEnded(f"ring {self._reader.spec.name}: slot {self.slot} was used after its loan ended")


_AWAY, _ANNOUNCED, _TAKEN = range(3)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array[:]
    view.flags.writeable = False
    return view


class RingReader(RingEnd):
    """The one reader of a ring; for one thread at a time.

    A loop polls `fileno` for doorbells, calls `pump`, takes until None, and calls `flush` before it waits again.
    """

    def __init__(self, spec: RingSpec, memory_fd: int, socket_fd: int, generation: int, *, grant_all: bool) -> None:
        super().__init__(spec, memory_fd, socket_fd, generation)
        self._frames = [_read_only(array) for array in self._slots.frames]
        self._fields = {name: [_read_only(array) for array in arrays] for name, arrays in self._slots.fields.items()}
        self._state = bytearray(spec.slots)
        self._announced: deque[tuple[int, int]] = deque()
        if grant_all:
            for slot in range(spec.slots):
                self._slots.release(slot)
            self._grant(range(spec.slots))

    @classmethod
    def attach(cls, handle: dict[str, Any]) -> RingReader:
        """Attach to a ring by `Ring.handle("reader", ...)`; with `grant_all` it empties the ring and grants every slot.

        Raises:
            ResourceError: The memory cannot be mapped.
        """
        spec = RingSpec.from_dict(handle["spec"])
        return cls(spec, handle["memory_fd"], handle["socket_fd"], handle["generation"], grant_all=handle["grant_all"])

    def pump(self) -> None:
        """Take the doorbells that have come in.

        Raises:
            RingError: The other side and the supervisor are gone, or a doorbell makes no sense.
        """
        for slot, sequence in self._records.receive():
            if slot >= self.spec.slots or self._state[slot] != _AWAY:
                raise RingError(f"ring {self.spec.name}: a doorbell for slot {slot}, which the writer does not have")
            self._state[slot] = _ANNOUNCED
            self._announced.append((sequence, slot))

    def take(self) -> ReadLoan | None:
        """Borrow the next committed slot, or return None if none was announced.

        Raises:
            RingError: The slot's header is not what its doorbell says: torn or corrupt.
        """
        if not self._announced:
            return None
        sequence, slot = self._announced.popleft()
        found = self._slots.sequence(slot)
        if found != sequence:
            raise RingError(
                f"ring {self.spec.name}: slot {slot} was announced as {sequence} but holds {found};"
                " its header is torn or corrupt"
            )
        count = self._slots.count(slot)
        self._state[slot] = _TAKEN
        return ReadLoan(self, slot, sequence, count)

    def resync(self, generation: int, grant: bool = True) -> None:
        """Go on with a fresh writer: taken slots stay, all other committed ones are announced, the rest is granted.

        Call it only after the old writer has been reaped.

        Args:
            generation: Higher than the current one.
            grant: False where no writer comes any more.

        Raises:
            RingError: `generation` is not higher than the current one, or the other side and the supervisor are gone.
        """
        self._records.restart(generation)
        taken = {slot for slot in range(self.spec.slots) if self._state[slot] == _TAKEN}
        self._announced = deque(pair for pair in self._slots.committed() if pair[1] not in taken)
        for slot in range(self.spec.slots):
            self._state[slot] = _TAKEN if slot in taken else _AWAY
        for _, slot in self._announced:
            self._state[slot] = _ANNOUNCED
        if grant:
            self._grant(slot for slot in range(self.spec.slots) if self._state[slot] == _AWAY)

    def _grant(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self._records.put(slot, 0)
        self._records.flush()

    def _release(self, slot: int, sequence: int) -> None:
        # Before the credit is sent: after a death, a header without a sequence is a free slot.
        self._slots.release(slot)
        self._state[slot] = _AWAY
        self._records.put(slot, sequence)
