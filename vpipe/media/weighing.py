"""What packets weigh, and how coarsely they were coded: `add` each in the file's order or `add_all`, then `result`.

Reading a quantiser costs as much as demultiplexing a packet, so not every packet's is read. Which ones are follows from
the packets' numbers and keyframes alone: never from the frames that are wanted, nor from who does the work.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vpipe.media.container import Container, Packet
from vpipe.media.mp4 import Listing
from vpipe.media.quantiser import Quantisers
from vpipe.media.table import KEY

SHORT = 48
"""Packets of a file below which all of them are read."""
KEYS_APART = 8
"""Packets from one keyframe that is read to the next, at least; nearer ones count as others do."""

DENSEST, SPARSEST, THINNER = 4, 32, 1024
"""Of others, one in four is read, and one in one more after each 1024 packets, down to one in 32: in the end those of
a segment, which grows with the file, are between 15 and 60."""

_STEP = 0x643C9761
"""In units of 2**-32: 0.39155. Its multiples, modulo 1, lie about as evenly as those of the golden ratio, and so do
every second, third, ... of them: no place in a pattern of B frames is preferred, as it would be if every fourth packet
were read. Of 260 such numbers it is the best one for patterns of up to 8 pictures, 12, 16 and 32: where their
quantisers lie 4 to 12 apart, the mean of 17 to 30 packets in 120 errs by 0.2, and by 0.5 if a hash of the number
decided."""


class Weighing:
    """The packets of one file."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._quantisers = Quantisers(container.context.codec.canonical_name, container.context.extradata)
        self._sizes: list[int] = []
        self._keys: list[bool] = []
        self._found: dict[int, float] = {}
        self._only_early: list[int] = []
        """Those of `_found` that count in a short file only, or the start of a long one would count for too much."""
        self._next_key = 0
        self._chosen: list[bool] = []
        """Of a whole `THINNER` of packets, those under way."""

    def add(self, packet: Packet) -> None:
        """Note the next packet."""
        number, key = len(self._sizes), packet.is_keyframe
        self._sizes.append(packet.size)
        self._keys.append(key)
        place = number % THINNER
        if not place:
            self._chosen = chosen(np.arange(number, number + THINNER)).tolist()
        regular = (key and self._due(number)) or self._chosen[place]
        if regular or number < SHORT:
            self._note(number, memoryview(packet), regular)

    def add_all(self, packets: Listing, beat: Callable[[], None]) -> None:
        """Note all packets of a file; `beat` is called before each that is read."""
        keys = (packets.table.marks & KEY) != 0
        self._sizes, self._keys = packets.sizes.tolist(), keys.tolist()
        regular = chosen(np.arange(len(keys)))
        for number in np.flatnonzero(keys).tolist():
            regular[number] |= self._due(number)
        early = np.arange(len(keys)) < SHORT
        for number in np.flatnonzero(regular | early).tolist():
            beat()
            data = self._container.data_at(int(packets.places[number]), self._sizes[number])
            self._note(number, data, bool(regular[number]))

    def _due(self, number: int) -> bool:
        """Return whether the keyframe of this number is read; to be asked of each in turn."""
        due = number >= self._next_key
        if due:
            self._next_key = number + KEYS_APART
        return due

    def _note(self, number: int, data: memoryview | bytes, regular: bool) -> None:
        quantiser = self._quantisers.of(data)
        if quantiser is not None:
            self._found[number] = quantiser
            if not regular:
                self._only_early.append(number)

    def result(self) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
        """Return each packet's size in bytes, whether it is a keyframe, and its quantiser (NaN: not read, or none)."""
        keys = np.array(self._keys, bool)
        quantisers = np.full(len(keys), math.nan)
        quantisers[list(self._found)] = list(self._found.values())
        if len(keys) >= SHORT:
            quantisers[self._only_early] = math.nan
        return np.array(self._sizes, np.int64), keys, quantisers


def chosen(numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of the packets of these numbers are read, whatever they are."""
    share = np.minimum(DENSEST + numbers // THINNER, SPARSEST)
    return (numbers * _STEP & 0xFFFFFFFF) * share < 1 << 32
