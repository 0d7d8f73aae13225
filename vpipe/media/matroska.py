"""Writes Matroska: one video track whose packets are all keyframes, with the pts and the time base of its source.

    EBML head | Segment: SeekHead, Info, Tracks, Tags | Cluster ... | Cues

Matroska counts time in ticks of TimestampScale nanoseconds. FFmpeg's muxer takes 1 ms whatever the source has, and so
rounds most pts; here a tick is the source's time base where that is a whole number of nanoseconds, and otherwise so
short that each pts comes out again (`Ticks`). The track's tag TIME_BASE names the time base.

Elements and their rules: RFC 8794 (EBML), RFC 9559 (Matroska).
"""

from __future__ import annotations

import dataclasses
import struct
from fractions import Fraction
from typing import IO

from vpipe.errors import MediaError

TIME_BASE = "TIME_BASE"
"""Name of the tag."""

_CLUSTER_S = 5
_CLUSTER_BYTES = 4 << 20
_CLUSTER_TICKS = 32767
"""A block's time within its cluster is a signed 16-bit number."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ticks:
    """How a file counts time."""

    time_base: Fraction
    """Of the source, seconds."""
    scale_ns: int
    """Length of a tick."""

    @classmethod
    def of(cls, time_base: Fraction) -> Ticks:
        """Return the longest handy tick that loses no pts of a source with this time base."""
        length = time_base * 10**9
        if length.denominator == 1:
            return cls(time_base, int(length))
        return cls(time_base, next((10**n for n in range(6, 0, -1) if 10**n < length), 1))

    def tick(self, pts: int) -> int:
        """Return the tick nearest to a pts."""
        return round(pts * self.time_base * 10**9 / self.scale_ns)

    def pts(self, tick: int) -> int:
        """Undo `tick`."""
        return round(tick * self.scale_ns / (self.time_base * 10**9))


class TrackWriter:
    """A file while it is written: `add` each packet, then `finish`.

    Args:
        file: Open for writing, empty, able to seek.
        codec: Matroska's codec ID, for example `V_FFV1`.
        private: The codec's configuration.
        size: Width and height, pixels.
        time_base: Of the pts, seconds.
        first_pts: Of the first packet.
    """

    def __init__(
        self,
        file: IO[bytes],
        codec: str,
        private: bytes,
        size: tuple[int, int],
        time_base: Fraction,
        first_pts: int,
    ) -> None:
        self._file = file
        self._ticks = Ticks.of(time_base)
        self._first = self._ticks.tick(first_pts)
        # A cluster cannot begin before 0: the track's delay takes negative times back to where they belong.
        self._delay = max(-self._first, 0)
        self._track = _track(codec, private, size, self._delay * self._ticks.scale_ns)
        self._last: int | None = None
        self._step = 1
        self._cluster = 0
        self._blocks: list[bytes] = []
        self._block_bytes = 0
        self._cues: list[bytes] = []
        self._data_at = len(_EBML_HEAD) + len(_SEGMENT) + 8
        file.write(self._head(0, 0, 0))

    def add(self, pts: int, data: bytes) -> None:
        """Append a frame's packet.

        Raises:
            MediaError: Its pts is not after the one before.
        """
        tick = self._ticks.tick(pts)
        if self._last is not None:
            if tick <= self._last:
                raise MediaError("times", f"frame at pts {pts} comes after one at {self._ticks.pts(self._last)}")
            self._step = tick - self._last
        self._last = tick
        span = tick + self._delay - self._cluster
        too_long = span > min(_CLUSTER_TICKS, _CLUSTER_S * 10**9 // self._ticks.scale_ns)
        if self._blocks and (too_long or self._block_bytes + len(data) > _CLUSTER_BYTES):
            self._flush()
        if not self._blocks:
            self._cluster, span = tick + self._delay, 0
        self._blocks.append(_element(0xA3, b"\x81" + struct.pack(">hB", span, 0x80) + data))
        self._block_bytes += len(data)

    def finish(self) -> None:
        """Write what is outstanding, the index and the final head; the file is complete and stays open."""
        if self._blocks:
            self._flush()
        cues_at = self._file.tell() - self._data_at
        self._file.write(_element(0x1C53BB6B, *self._cues))
        size = self._file.tell() - self._data_at
        duration = 0 if self._last is None else self._last - self._first + self._step
        self._file.seek(0)
        self._file.write(self._head(duration, cues_at, size))
        self._file.seek(0, 2)

    def _flush(self) -> None:
        at = self._file.tell() - self._data_at
        self._file.write(_element(0x1F43B675, _number(0xE7, self._cluster), *self._blocks))
        place = _element(0xB7, _number(0xF7, 1), _number(0xF1, at))
        self._cues.append(_element(0xBB, _number(0xB3, self._cluster), place))
        self._blocks, self._block_bytes = [], 0

    def _head(self, duration: int, cues_at: int, size: int) -> bytes:
        """Return everything before the first cluster; its length does not depend on the arguments."""
        seek = _element(0x4DBB, _element(0x53AB, b"\x1c\x53\xbb\x6b"), _element(0x53AC, cues_at.to_bytes(8, "big")))
        info = _element(
            0x1549A966,
            _number(0x2AD7B1, self._ticks.scale_ns),
            _element(0x4489, struct.pack(">d", duration)),
            _element(0x4D80, b"vpipe"),
            _element(0x5741, b"vpipe"),
        )
        base = self._ticks.time_base
        tag = _element(0x67C8, _element(0x45A3, TIME_BASE.encode()), _element(0x4487, str(base).encode()))
        tags = _element(0x1254C367, _element(0x7373, _element(0x63C0, _number(0x63C5, 1)), tag))
        length = (1 << 56 | size).to_bytes(8, "big")
        parts = (_EBML_HEAD, _SEGMENT, length, _element(0x114D9B74, seek), info, self._track, tags)
        return b"".join(parts)


def _element(name: int, *parts: bytes) -> bytes:
    size = sum(map(len, parts))
    width = next(n for n in range(1, 9) if size < (1 << 7 * n) - 1)
    head = name.to_bytes((name.bit_length() + 7) // 8, "big") + (1 << 7 * width | size).to_bytes(width, "big")
    return b"".join((head, *parts))


def _number(name: int, value: int) -> bytes:
    return _element(name, value.to_bytes(max((value.bit_length() + 7) // 8, 1), "big"))


def _track(codec: str, private: bytes, size: tuple[int, int], delay_ns: int) -> bytes:
    colour = _element(0x55B0, _number(0x55B9, 2))  # full range
    video = _element(0xE0, _number(0x9A, 2), _number(0xB0, size[0]), _number(0xBA, size[1]), colour)
    entry = _element(
        0xAE,
        _number(0xD7, 1),  # number
        _number(0x73C5, 1),  # UID
        _number(0x83, 1),  # video
        _number(0x9C, 0),  # no lacing
        _element(0x22B59C, b"und"),  # no language
        _element(0x86, codec.encode()),
        _element(0x63A2, private),
        *([_number(0x56AA, delay_ns)] if delay_ns else []),
        video,
    )
    return _element(0x1654AE6B, entry)


_EBML_HEAD = _element(
    0x1A45DFA3,
    _number(0x4286, 1),  # version
    _number(0x42F7, 1),  # version that a reader must know
    _number(0x42F2, 4),  # longest ID
    _number(0x42F3, 8),  # longest size
    _element(0x4282, b"matroska"),
    _number(0x4287, 4),  # version of the document type
    _number(0x4285, 2),  # and the one that a reader must know
)
_SEGMENT = bytes.fromhex("18538067")
