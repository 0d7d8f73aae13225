"""NAL units: how H.264 and HEVC share a packet out (H.264 7.3.1 and annex B, ISO/IEC 14496-15 5.3 and 8.3)."""

from __future__ import annotations

from collections.abc import Iterator

from vpipe.media.quantiser.bits import Bits, Data, Unreadable

START = b"\0\0\1"
MOST_UNITS = 600
"""Looked at in one packet; a picture of a level that exists has no more slices than this."""
SLICE_BYTES = 256
"""Of a slice, what its header must fit in."""
SET_BYTES = 4096
"""Of a parameter set, what is read."""


def units(data: Data, length_size: int) -> Iterator[Data]:
    """Give the NAL units of a packet, of long ones perhaps only the first `SET_BYTES`.

    Args:
        data: The packet.
        length_size: Bytes of the length before each unit; 0: start codes (annex B).
    """
    if not length_size or data[:4] == b"\0\0\0\1":  # some files have start codes all the same
        return _after_start_codes(bytes(data))
    return _after_lengths(data, length_size)


def _after_start_codes(data: bytes) -> Iterator[Data]:
    at = data.find(START)
    for _ in range(MOST_UNITS):
        if at < 0:
            return
        begin, most = at + 3, at + 3 + SET_BYTES
        at = data.find(START, begin, most)
        yield data[begin : at if at >= 0 else most]
        if at < 0:
            at = data.find(START, most - 2)


def _after_lengths(data: Data, size: int) -> Iterator[Data]:
    at = 0
    for _ in range(MOST_UNITS):
        start = at + size
        if start >= len(data):
            return
        at = start + int.from_bytes(data[at:start], "big")
        yield data[start:at]


def payload(unit: Data, header: int, most: int) -> Bits:
    """Return the bits of a unit after `header` bytes, without emulation prevention (H.264 7.4.1)."""
    return Bits(bytes(unit[header : header + most]).replace(b"\0\0\3", b"\0\0"))


def avcc(extradata: bytes) -> tuple[int, list[Data]]:
    """Return the length size and the parameter sets of an AVCDecoderConfigurationRecord (14496-15 5.3.3.1)."""
    found: list[Data] = []
    at = 6
    for _ in range(extradata[5] & 31):
        at = _take(extradata, at, found)
    count = extradata[at] if at < len(extradata) else 0
    at += 1
    for _ in range(count):
        at = _take(extradata, at, found)
    return (extradata[4] & 3) + 1, found


def hvcc(extradata: bytes) -> tuple[int, list[Data]]:
    """Return the length size and the parameter sets of an HEVCDecoderConfigurationRecord (14496-15 8.3.3.1)."""
    found: list[Data] = []
    at = 23
    for _ in range(extradata[22]):
        count = int.from_bytes(extradata[at + 1 : at + 3], "big")
        at += 3
        for _ in range(min(count, MOST_UNITS)):
            at = _take(extradata, at, found)
    return (extradata[21] & 3) + 1, found


def _take(extradata: bytes, at: int, found: list[Data]) -> int:
    stop = at + 2 + int.from_bytes(extradata[at : at + 2], "big")
    if stop > len(extradata):
        raise Unreadable("cut off")
    found.append(extradata[at + 2 : stop])
    return stop
