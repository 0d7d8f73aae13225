"""The writing side of a ring."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.errors import LoanEnded, RingError
from vpipe.ring.end import RingEnd
from vpipe.ring.owner import RingSpec


class WriteLoan:
    """The right to write one slot, until commit or abort.

    As a context manager it commits on leaving and aborts on an exception. Arrays it hands out become read-only when
    it ends; views of them that the borrower made are the borrower's to drop.
    """

    __slots__ = ("_handed_out", "_open", "_writer", "count", "slot")

    def __init__(self, writer: RingWriter, slot: int) -> None:
        self._writer = writer
        self._open = True
        self._handed_out: list[NDArray[Any]] = []
        self.slot = slot
        """Which slot of the ring."""
        self.count = writer.spec.layout.capacity
        """Frames in the slot, 1..capacity; set it where the slot is not full."""

    @property
    def frames(self) -> NDArray[np.void]:
        """FRAME, (capacity,): the frames' headers, writable.

        Raises:
            LoanEnded: The loan has been committed or aborted.
        """
        return self._hand_out(self._writer._slots.frames[self.slot])

    def field(self, name: str) -> NDArray[Any]:
        """Return a field's array, (capacity, *shape), writable.

        Raises:
            LoanEnded: The loan has been committed or aborted.
        """
        return self._hand_out(self._writer._slots.fields[name][self.slot])

    def commit(self) -> None:
        """Give the slot to the reader.

        Raises:
            LoanEnded: The loan has been committed or aborted before.
            RingError: `count` is out of range; the loan goes on.
        """
        self._check()
        self._writer._commit(self.slot, self.count)
        self._end()

    def abort(self) -> None:
        """Give the slot back unwritten; the reader never sees it.

        Raises:
            LoanEnded: The loan has been committed or aborted before.
        """
        self._check()
        self._end()
        self._writer._abort(self.slot)

    def __enter__(self) -> WriteLoan:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._open:
            return
        if kind is not None:
            self.abort()
            return
        try:
            self.commit()
        except RingError:
            if self._open:
                self.abort()
            raise

    def _hand_out(self, array: NDArray[Any]) -> NDArray[Any]:
        self._check()
        view = array[:]
        self._handed_out.append(view)
        return view

    def _check(self) -> None:
        if not self._open:
            raise LoanEnded(f"ring {self._writer.spec.name}: slot {self.slot} was used after its loan ended")

    def _end(self) -> None:
        self._open = False
        for array in self._handed_out:
            array.flags.writeable = False
        self._handed_out.clear()


class RingWriter(RingEnd):
    """The one writer of a ring; for one thread at a time.

    A loop loans while `ready`, and before it waits calls `flush`. Where no slot is ready it polls `fileno` for credits
    and calls `pump`.
    """

    def __init__(self, spec: RingSpec, memory_fd: int, socket_fd: int, generation: int) -> None:
        super().__init__(spec, memory_fd, socket_fd, generation, spec.coalesce_s)
        # The slot that came back last is lent first: its bytes are still in the cache, and a ring that is never full
        # never touches all of its memory.
        self._free: list[int] = []
        self._mine = bytearray(spec.slots)  # 1: free or on loan
        self._sequence = generation << 40

    @classmethod
    def attach(cls, handle: dict[str, Any]) -> RingWriter:
        """Attach to a ring by `Ring.handle("writer", ...)`; starts without credits.

        Raises:
            ResourceError: The memory cannot be mapped.
        """
        spec = RingSpec.from_dict(handle["spec"])
        return cls(spec, handle["memory_fd"], handle["socket_fd"], handle["generation"])

    @property
    def ready(self) -> bool:
        """A slot can be loaned."""
        return bool(self._free)

    def pump(self) -> None:
        """Take the credits that have come in.

        Raises:
            RingError: The other side and the supervisor are gone, or a credit makes no sense.
        """
        for slot, _ in self._records.receive():
            if slot >= self.spec.slots or self._mine[slot]:
                raise RingError(f"ring {self.spec.name}: a credit for slot {slot}, which the reader does not have")
            self._mine[slot] = 1
            self._free.append(slot)

    def loan(self) -> WriteLoan:
        """Borrow a free slot: of those that have come back by now, the last.

        Raises:
            RingError: None is free; look at `ready` first. Or as `pump`.
        """
        if not self._free:
            raise RingError(f"ring {self.spec.name}: no slot is free; wait for credits")
        self.pump()
        return WriteLoan(self, self._free.pop())

    def resync(self, generation: int) -> None:
        """Go on with a fresh reader: loans stay, committed slots are announced again, all others are free.

        Call it only after the old reader has been reaped.

        Raises:
            RingError: `generation` is not higher than the current one, or the other side and the supervisor are gone.
        """
        self._records.restart(generation)
        loaned = {slot for slot in range(self.spec.slots) if self._mine[slot]} - set(self._free)
        committed = self._slots.committed()
        away = {slot for _, slot in committed}
        self._free = [slot for slot in range(self.spec.slots) if slot not in loaned and slot not in away]
        self._mine = bytearray(slot not in away for slot in range(self.spec.slots))
        for sequence, slot in committed:
            self._records.put(slot, sequence)
        self._records.flush()

    def _commit(self, slot: int, count: int) -> None:
        if not 1 <= count <= self.spec.layout.capacity:
            raise RingError(
                f"ring {self.spec.name}: a commit of {count} frames in a slot for 1 to {self.spec.layout.capacity}"
            )
        self._sequence += 1
        self._slots.commit(slot, self._sequence, self._records.generation, count)
        self._mine[slot] = 0
        self._records.put(slot, self._sequence)

    def _abort(self, slot: int) -> None:
        self._free.append(slot)
