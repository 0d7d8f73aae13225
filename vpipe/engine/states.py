"""What a recurrent model remembers: one set of arrays a stream, handed from each frame to the next without a copy.

    flight takes the frame of a stream:   model(frame, memory of the stream) -> result, flight's own arrays
    it has landed:                        the two sets change places

A stream here is whatever the caller tells apart by a key. Only the `KEPT` memories used last are kept, for nobody says
when a stream has ended.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Memory = list[NDArray[np.float32]]
"""An array for each `[[states]]` of the manifest, in its order."""

KEPT = 128
"""Streams remembered: more than a machine runs at the same time (decode workers of files, or live streams)."""


class States:
    """The memories of all streams, and whose turn it is; flights are the engine's numbers of them."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], flights: int) -> None:
        self._shapes = shapes
        self._memories: OrderedDict[Hashable, Memory] = OrderedDict()
        self._own = [self._zeros() for _ in range(flights)]
        self._keys: dict[int, Hashable] = {}
        """Streams by the flight that has them now."""
        self._waiting: dict[Hashable, deque[int]] = {}
        """Flights that wait for the one before, by stream; a stream that has an entry is in a flight."""

    def _zeros(self) -> Memory:
        return [np.zeros(shape, np.float32) for shape in self._shapes]

    def board(self, flight: int, key: Hashable) -> bool:
        """Give a flight a stream's next frame; False where it must wait for the one before."""
        self._keys[flight] = key
        if key in self._waiting:
            self._waiting[key].append(flight)
            return False
        self._waiting[key] = deque()
        return True

    def memory(self, flight: int) -> tuple[Memory, Memory]:
        """Return what a flight that may start reads and what it writes."""
        key = self._keys[flight]
        if key not in self._memories:
            self._memories[key] = self._zeros()
        self._memories.move_to_end(key)
        return self._memories[key], self._own[flight]

    def land(self, flight: int, *, good: bool) -> int | None:
        """Take a flight's result as its stream's memory, if it is good; returns the flight that may start now."""
        key = self._keys.pop(flight)
        if good:
            self._memories[key], self._own[flight] = self._own[flight], self._memories[key]
        if self._waiting[key]:
            return self._waiting[key].popleft()
        del self._waiting[key]
        idle = [other for other in self._memories if other not in self._waiting]
        for other in idle[: max(len(self._memories) - KEPT, 0)]:
            del self._memories[other]
        return None

    def clear(self) -> None:
        """Forget everything."""
        self._memories.clear()
        self._own.clear()
