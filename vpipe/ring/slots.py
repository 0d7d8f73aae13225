"""The slots of a ring as arrays over its shared memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.errors import RingError
from vpipe.frame import FRAME
from vpipe.layout import SLOT_HEADER_BYTES
from vpipe.memory import map_memory
from vpipe.ring.owner import RingSpec


class Slots:
    """One process's mapping of a ring.

    Every slot's arrays are made once, here; they keep the mapping alive for as long as anything refers to one of
    them, so a stale array reads other bytes but never crashes.
    """

    def __init__(self, spec: RingSpec, memory_fd: int) -> None:
        self.spec = spec
        layout, size = spec.layout, spec.layout.slot_bytes
        memory = map_memory(memory_fd, spec.total_bytes, f"ring {spec.name}")
        starts = range(0, spec.total_bytes, size)
        self.frames: list[NDArray[np.void]] = [
            np.ndarray((layout.capacity,), FRAME, memory, start + SLOT_HEADER_BYTES) for start in starts
        ]
        """FRAME, (capacity,), writable, one a slot."""
        self.fields: dict[str, list[NDArray[Any]]] = {
            field.name: [
                np.ndarray((layout.capacity, *field.shape), field.dtype, memory, start + layout.offsets[field.name])
                for start in starts
            ]
            for field in layout.fields
        }
        """By field name: (capacity, *shape), writable, one a slot."""
        # Headers as 8-byte words, each read and written in one piece.
        self._words = memoryview(memory).cast("Q")
        self._stride = size // 8

    def sequence(self, slot: int) -> int:
        """Return the sequence under which the slot is committed, 0 if it is not."""
        return self._words[slot * self._stride]

    def count(self, slot: int) -> int:
        """Return how many frames a committed slot holds.

        Raises:
            RingError: The header is corrupt.
        """
        count = self._words[slot * self._stride + 1] >> 32
        if not 1 <= count <= self.spec.layout.capacity:
            raise RingError(
                f"ring {self.spec.name}: slot {slot} says {count} frames, but holds 1 to {self.spec.layout.capacity};"
                " its header is corrupt"
            )
        return count

    def commit(self, slot: int, sequence: int, generation: int, count: int) -> None:
        """Write the slot's header; the sequence comes last because it makes the rest valid."""
        at = slot * self._stride
        self._words[at + 1] = generation | count << 32
        self._words[at] = sequence

    def release(self, slot: int) -> None:
        """Mark the slot as not committed."""
        self._words[slot * self._stride] = 0

    def committed(self) -> list[tuple[int, int]]:
        """Return (sequence, slot) of all committed slots, in order of commit."""
        found = [(self.sequence(slot), slot) for slot in range(self.spec.slots)]
        return sorted(pair for pair in found if pair[0])
