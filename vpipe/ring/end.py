"""What both ends of a ring have in common: the slots, and records that go to and fro."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from vpipe.ring.owner import RingSpec
from vpipe.ring.records import COALESCE_S, Records
from vpipe.ring.slots import Slots


class RingEnd:
    """One end of a ring; for one thread at a time.

    Args:
        spec: Of the ring.
        memory_fd: Its memory.
        socket_fd: Where this end's records go, and the other's come from.
        generation: Of the ring, as records tell it.
        coalesce_s: Records that come sooner after the last send wait for each other, seconds.

    Raises:
        ResourceError: The memory cannot be mapped.
    """

    def __init__(
        self, spec: RingSpec, memory_fd: int, socket_fd: int, generation: int, coalesce_s: float = COALESCE_S
    ) -> None:
        self.spec = spec
        self._slots = Slots(spec, memory_fd)
        self._records = Records(spec.name, socket_fd, generation, spec.slots, coalesce_s)

    @property
    def pending(self) -> bool:
        """Records wait to be sent; after a `flush`, poll for writing too."""
        return self._records.pending

    @property
    def generation(self) -> int:
        """The current generation."""
        return self._records.generation

    def fileno(self) -> int:
        """Return the descriptor to poll for records of the other end."""
        return self._records.fileno()

    def slot_array(self, slot: int, name: str) -> NDArray[Any]:
        """Return the one lasting array of a slot's field, (capacity, *shape), for engines that are lent memory.

        It is always writable, because engines refuse memory that is not: whoever holds it keeps to the loans, and only
        reads at the reader's end.
        """
        return self._slots.fields[name][slot]

    def slot_arrays(self, names: Iterable[str]) -> list[dict[str, NDArray[Any]]]:
        """Return for each slot the `slot_array` of these fields, to be looked up once and not for every frame."""
        names = list(names)
        return [{name: self.slot_array(slot, name) for name in names} for slot in range(self.spec.slots)]

    def flush(self) -> None:
        """Send the queued records; never waits.

        Raises:
            RingError: The other side and the supervisor are gone.
        """
        self._records.flush()

    def close(self) -> None:
        """Leave the ring; arrays that were handed out stay readable."""
        self._records.close()
