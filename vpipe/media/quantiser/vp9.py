"""VP9: base_q_idx (VP9 bitstream specification 6.2, 6.2.9, annex B)."""

from __future__ import annotations

from vpipe.media.quantiser.bits import Bits, Data, Unreadable, mean

_MARKER = 2
_SYNC = 0x498342
_RGB = 7
_HEADER_BYTES = 64
"""What the part of an uncompressed header up to base_q_idx fits in."""


class Vp9:
    """Reads the packets of one VP9 stream; the mean where a packet has several frames, hidden ones among them."""

    def __init__(self, extradata: bytes) -> None:
        """Nothing of it is needed: every frame tells all."""

    def of(self, packet: Data) -> float | None:
        """Return base_q_idx, 0 to 255."""
        found = [_base_q_idx(Bits(data)) for data in _frames(packet)]
        return mean([value for value in found if value is not None])


def _frames(packet: Data) -> list[Data]:
    """Return the beginnings of the frames of a packet (annex B)."""
    last = packet[-1] if len(packet) else 0
    count, width = (last & 7) + 1, (last >> 3 & 3) + 1
    index = len(packet) - 2 - width * count
    if last & 0xE0 != 0xC0 or index < 0 or packet[index] != last:
        return [packet[:_HEADER_BYTES]] if len(packet) else []
    frames: list[Data] = []
    at = 0
    for i in range(index + 1, len(packet) - 1, width):
        size = int.from_bytes(packet[i : i + width], "little")
        if size:
            frames.append(packet[at : min(at + size, at + _HEADER_BYTES, index)])
        at += size
    return frames


def _base_q_idx(bits: Bits) -> int | None:
    """Read an uncompressed_header (6.2) up to base_q_idx; None where a frame is only shown again."""
    if bits.u(2) != _MARKER:
        raise Unreadable("no VP9 frame")
    profile = bits.flag() + 2 * bits.flag()
    bits.skip(profile == 3)
    if bits.flag():
        return None
    key, shown, resilient = not bits.flag(), bits.flag(), bits.flag()
    if key:
        _pass_sync(bits)
        _pass_colour(bits, profile)
        bits.skip(32)
        _pass_render_size(bits)
    else:
        intra = not shown and bits.flag()
        bits.skip(0 if resilient else 2)
        if intra:
            _pass_sync(bits)
            if profile:
                _pass_colour(bits, profile)
            bits.skip(8 + 32)
        else:
            bits.skip(8 + 3 * 4)
            if not (bits.flag() or bits.flag() or bits.flag()):  # found_ref
                bits.skip(32)
        _pass_render_size(bits)
        if not intra:
            bits.skip(1)
            bits.skip(0 if bits.flag() else 2)
    bits.skip(2 if resilient else 4)
    bits.skip(9)
    if bits.flag() and bits.flag():  # loop_filter_params, 6.2.8
        for _ in range(4 + 2):
            if bits.flag():
                bits.skip(7)
    return bits.u(8)


def _pass_sync(bits: Bits) -> None:
    if bits.u(24) != _SYNC:
        raise Unreadable("no VP9 frame")


def _pass_colour(bits: Bits, profile: int) -> None:
    """Pass over color_config (6.2.2)."""
    bits.skip(profile >= 2)
    rgb = bits.u(3) == _RGB
    bits.skip(not rgb)
    if profile & 1:
        bits.skip(1 if rgb else 3)


def _pass_render_size(bits: Bits) -> None:
    bits.skip(32 if bits.flag() else 0)
