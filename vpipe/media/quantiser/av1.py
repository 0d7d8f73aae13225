"""AV1: base_q_idx of frame headers (AV1 bitstream specification 5.3, 5.5, 5.9)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TypeAlias

from vpipe.media.quantiser.av1_sequence import EITHER, Sequence
from vpipe.media.quantiser.bits import Bits, Data, Unreadable, mean

_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6
_KEY, _INTER, _INTRA_ONLY, _SWITCH = range(4)
_MOST_UNITS = 300
"""OBUs looked at in one packet."""
_HEADER_BYTES = 192
"""What the part of a frame header up to base_q_idx fits in, but for hundreds of tiles of different sizes."""
_SLOTS = 8
_REFERENCES = 7

Size: TypeAlias = tuple[int, int]
"""Width before it is reduced by super-resolution, and height."""


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """What a later frame may take over from one that is kept."""

    size: Size
    key: bool


class Av1:
    """Reads the packets of one AV1 stream; the mean where a packet has several frames, hidden ones among them.

    Sizes of reference frames are remembered from the packets it has been given: where some are left out and frames
    have different sizes, it may err.
    """

    def __init__(self, extradata: bytes) -> None:
        self._sequence: Sequence | None = None
        self._data = b""
        self._slots: list[Slot | None] = [None] * _SLOTS
        # An AV1CodecConfigurationRecord has four bytes of its own, the first of them marker and version.
        self.of(extradata[4:] if extradata[:1] == b"\x81" else extradata)

    def of(self, packet: Data) -> float | None:
        """Return base_q_idx, 0 to 255."""
        found: list[int] = []
        for kind, layers, data in _units(packet):
            if kind == _SEQUENCE and bytes(data) != self._data:
                self._sequence = Sequence.read(Bits(data))
                self._data = bytes(data)
                self._slots = [None] * _SLOTS
            elif kind in (_FRAME_HEADER, _FRAME) and self._sequence is not None:
                value = self._frame(Bits(data), self._sequence, *layers)
                if value is not None:
                    found.append(value)
        return mean(found)

    def _frame(self, bits: Bits, seq: Sequence, temporal: int, spatial: int) -> int | None:
        """Read an uncompressed_header (5.9.2) up to base_q_idx; None where a frame is only shown again."""
        kind, shown, resilient = _KEY, True, True
        if not seq.reduced:
            if bits.flag():
                slot = self._slots[bits.u(3)]
                if slot is not None and slot.key:
                    self._slots = [slot] * _SLOTS
                return None
            kind, shown = bits.u(2), bits.flag()
            if shown:
                bits.skip(seq.presentation_bits)
            else:
                bits.skip(1)
            resilient = kind == _SWITCH or (kind == _KEY and shown) or bits.flag()
        intra = kind in (_KEY, _INTRA_ONLY)
        fixed_probabilities = bits.flag()
        screen = bits.flag() if seq.screen_tools == EITHER else bool(seq.screen_tools)
        whole_vectors = False
        if screen:
            whole_vectors = bits.flag() if seq.whole_vectors == EITHER else bool(seq.whole_vectors)
        bits.skip(seq.id_bits)
        other_size = kind == _SWITCH or (not seq.reduced and bits.flag())
        bits.skip(seq.order_bits)
        if not intra and not resilient:
            bits.skip(3)
        if seq.decoder_model and bits.flag():
            for operates_on in seq.removal_points:
                if not operates_on or (operates_on >> temporal & 1 and operates_on >> (spatial + 8) & 1):
                    bits.skip(seq.removal_bits)
        refreshed = 255 if kind == _SWITCH or (kind == _KEY and shown) else bits.u(8)
        if resilient and (not intra or refreshed != 255):
            bits.skip(_SLOTS * seq.order_bits)
        if intra:
            size, width = _own_size(bits, seq, other_size)
            _pass_render_size(bits)
            if screen and width == size[0]:
                bits.skip(1)
        else:
            references = _references(bits, seq)
            if other_size and not resilient:
                size, width = self._size_of_reference(bits, seq, references)
            else:
                size, width = _own_size(bits, seq, other_size)
                _pass_render_size(bits)
            bits.skip(0 if whole_vectors else 1)
            bits.skip(0 if bits.flag() else 2)
            bits.skip(1 + (seq.reference_vectors and not resilient))
        if not seq.reduced and not fixed_probabilities:
            bits.skip(1)
        _pass_tiles(bits, seq, width, size[1])
        value = bits.u(8)
        kept = Slot(size, kind == _KEY)
        self._slots = [kept if refreshed >> i & 1 else slot for i, slot in enumerate(self._slots)]
        return value

    def _size_of_reference(self, bits: Bits, seq: Sequence, references: list[int] | None) -> tuple[Size, int]:
        """Read frame_size_with_refs (5.9.7); which slots are referred to may not be known."""
        for i in range(_REFERENCES):
            if bits.flag():
                slots = self._slots if references is None else [self._slots[references[i]]]
                sizes = {slot.size if slot is not None else None for slot in slots}
                size = sizes.pop()
                if size is None or sizes:
                    raise Unreadable("the size of a reference is not known")
                return size, _coded_width(bits, seq, size[0])
        found = _own_size(bits, seq, True)
        _pass_render_size(bits)
        return found


def _units(packet: Data) -> Iterator[tuple[int, tuple[int, int], Data]]:
    """Give type, temporal and spatial layer, and the first bytes of each OBU (5.3)."""
    at = 0
    for _ in range(_MOST_UNITS):
        if at >= len(packet):
            return
        head = packet[at]
        if head & 0x80:
            raise Unreadable("no OBU")
        at += 1
        layers = 0, 0
        if head & 4:
            if at >= len(packet):
                return
            layers = packet[at] >> 5, packet[at] >> 3 & 3
            at += 1
        size = len(packet) - at
        if head & 2:
            size = 0
            for i, byte in enumerate(packet[at : at + 8]):
                size |= (byte & 127) << 7 * i
                if byte < 128:
                    at += i + 1
                    break
            else:
                raise Unreadable("no length of an OBU")
        yield head >> 3 & 15, layers, packet[at : at + min(size, _HEADER_BYTES)]
        at += size


def _own_size(bits: Bits, seq: Sequence, other: bool) -> tuple[Size, int]:
    """Read frame_size (5.9.5): the size and the width that is coded."""
    size = seq.size
    if other:
        size = bits.u(seq.width_bits) + 1, bits.u(seq.height_bits) + 1
    return size, _coded_width(bits, seq, size[0])


def _coded_width(bits: Bits, seq: Sequence, width: int) -> int:
    """Read superres_params (5.9.8)."""
    if seq.super_resolution and bits.flag():
        divisor = bits.u(3) + 9
        return (width * 8 + divisor // 2) // divisor
    return width


def _pass_render_size(bits: Bits) -> None:
    bits.skip(32 if bits.flag() else 0)


def _references(bits: Bits, seq: Sequence) -> list[int] | None:
    """Read which slots are referred to; None where that follows from the order of output (7.8)."""
    brief = bool(seq.order_bits) and bits.flag()
    if brief:
        bits.skip(6)
    references = []
    for _ in range(_REFERENCES):
        if not brief:
            references.append(bits.u(3))
        bits.skip(seq.delta_id_bits)
    return None if brief else references


def _pass_tiles(bits: Bits, seq: Sequence, width: int, height: int) -> None:
    """Pass over tile_info (5.9.15)."""
    shift = 7 if seq.large_blocks else 6
    # Blocks of 4 samples come in pairs; so many superblocks there are.
    columns = (2 * ((width + 7) >> 3) + (1 << shift - 2) - 1) >> shift - 2
    rows = (2 * ((height + 7) >> 3) + (1 << shift - 2) - 1) >> shift - 2
    widest = 4096 >> shift
    least_columns = _tile_log2(widest, columns)
    least = max(least_columns, _tile_log2((4096 * 2304) >> 2 * shift, rows * columns))
    if bits.flag():
        columns_log2 = _grown(bits, least_columns, _tile_log2(1, min(columns, 64)))
        rows_log2 = _grown(bits, max(least - columns_log2, 0), _tile_log2(1, min(rows, 64)))
    else:
        count, widest = _pass_spans(bits, columns, widest)
        columns_log2 = _tile_log2(1, count)
        area = rows * columns >> (least + 1 if least else 0)
        count, _ = _pass_spans(bits, rows, max(area // widest, 1))
        rows_log2 = _tile_log2(1, count)
    if columns_log2 or rows_log2:
        bits.skip(columns_log2 + rows_log2 + 2)


def _grown(bits: Bits, value: int, limit: int) -> int:
    while value < limit and bits.flag():
        value += 1
    return value


def _pass_spans(bits: Bits, total: int, most: int) -> tuple[int, int]:
    """Pass over the sizes of tiles in one direction; return how many there are, and the largest size."""
    count, at, largest = 0, 0, 0
    while at < total:
        size = _non_symmetric(bits, min(total - at, most)) + 1
        largest = max(largest, size)
        at += size
        count += 1
    return count, largest


def _non_symmetric(bits: Bits, count: int) -> int:
    """Read a number below `count`, ns(n) (4.10.7)."""
    width = count.bit_length()
    short = (1 << width) - count
    value = bits.u(width - 1)
    return value if value < short else (value << 1) - short + bits.flag()


def _tile_log2(block: int, target: int) -> int:
    """Return the smallest k for which block << k is not below the target (5.9.16)."""
    k = 0
    while block << k < target:
        k += 1
    return k
