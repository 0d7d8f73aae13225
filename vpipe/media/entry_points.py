"""Whether decoding can begin with a packet, by its own bytes: what FFmpeg's parsers call a keyframe.

A container may call packets keyframes that are none (every I picture, or all where it has no list of them).
"""

from __future__ import annotations

from collections.abc import Iterator

from vpipe.media.quantiser import nal
from vpipe.media.quantiser.bits import Data, Unreadable

HEAD_BYTES = 4096
"""Of a packet, what is looked at: parameter sets and messages come before the picture, and are short."""

_SLICE, _IDR, _SEI = 1, 5, 6
_RECOVERY_POINT = 6
_HEVC_PICTURES, _HEVC_ENTRIES = range(32), range(16, 24)
"""nal_unit_type of slices, and of those of an IRAP picture (Rec. ITU-T H.265 table 7-1)."""


class EntryPoints:
    """Looks at the packets of one H.264 or HEVC stream."""

    CODECS = ("h264", "hevc")

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        """Take a codec of `CODECS`, and the configuration record or headers that the container has."""
        self._is_entry = _h264 if codec == "h264" else _hevc
        data = extradata or b""
        self._length_size = 0
        if data[:1] == b"\1":
            try:
                self._length_size, _ = nal.avcc(data) if codec == "h264" else nal.hvcc(data)
            except (Unreadable, IndexError):
                self._length_size = 4

    def has(self, head: Data) -> bool:
        """Return whether the packet that begins with these bytes is one."""
        return self._is_entry(nal.units(head, self._length_size))


def _h264(units: Iterator[Data]) -> bool:
    """Look for an IDR picture, or a picture after a recovery point message (Rec. ITU-T H.264 7.4.1.2.1, D.2.8)."""
    recovers = False
    for unit in units:
        kind = unit[0] & 31 if len(unit) else 0
        if kind in (_SLICE, _IDR):
            return kind == _IDR or recovers
        if kind == _SEI:
            recovers = recovers or _RECOVERY_POINT in _messages(unit)
    return False


def _hevc(units: Iterator[Data]) -> bool:
    for unit in units:
        kind = unit[0] >> 1 & 63 if len(unit) else 63
        if kind in _HEVC_PICTURES:
            return kind in _HEVC_ENTRIES
    return False


def _messages(unit: Data) -> Iterator[int]:
    """Give the payload types of an SEI unit (H.264 7.3.2.3.1)."""
    data = bytes(unit[1:]).replace(b"\0\0\3", b"\0\0")
    at = 0
    while at + 2 < len(data):  # more than the last byte's trailing bits
        numbers = []
        for _ in range(2):
            number = 0
            while at < len(data) and data[at] == 255:
                number += 255
                at += 1
            numbers.append(number + (data[at] if at < len(data) else 0))
            at += 1
        yield numbers[0]
        at += numbers[1]
