"""The packets of an MP4 file as its own index lists them: to index an archive, its pictures are not read a first time.

FFmpeg tells of every packet where it lies, how long it is, when it is decoded and whether it is a keyframe; when it is
shown, only of packets that are read. That is in a table of offsets (`ctts`, ISO/IEC 14496-12 8.6.1.3), read here.

Wherever the file is not as plain as nearly all are, or packets are not what the list says, there is no list.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from vpipe.media.entry_points import HEAD_BYTES

COMPARED = 8
"""Packets that are read to see whether they are what the list says."""
BEAT_PACKETS = 256
"""A beat for so many packets that are not read."""
MOST_BOXES = 4096
"""Looked at in one file; files have some dozens."""

_HEAD = struct.Struct(">I4s")
_LARGE = struct.Struct(">Q")
_COUNT = struct.Struct(">I")
_RUN = struct.Struct(">ii")
_EDIT, _WIDE_EDIT = struct.Struct(">4xi4x"), struct.Struct(">8xq4x")
"""Its media time, of an edit of version 0 and of version 1."""
_EMPTY_EDIT = -1
"""The media time of an edit that shows nothing for a while."""

_Runs: TypeAlias = "list[tuple[int, int]]"
"""How many packets follow each other with the same offset, and the offset."""
_Span: TypeAlias = tuple[int, int]
"""First byte of a box's content, and the one after its last."""


class Entry(Protocol):
    """What FFmpeg's index has of a packet."""

    pos: int
    timestamp: int
    size: int
    is_keyframe: bool
    is_discard: bool


class Entries(Protocol):
    """FFmpeg's index of a stream; it makes its entries anew whenever they are asked for."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Entry]: ...


class Read(Protocol):
    """What a packet that was read tells of itself."""

    pts: int | None
    dts: int | None
    size: int
    is_keyframe: bool
    is_discard: bool


class Listed(NamedTuple):
    """A packet that was not read."""

    pts: int
    dts: int
    size: int
    """Bytes."""
    is_keyframe: bool
    is_discard: bool
    at: int
    """Place of its first byte in the file."""


class _Unusual(Exception):
    """The file has something that no list is made for."""


def listed(
    descriptor: int,
    track: int,
    entries: Entries,
    seen: Sequence[Read],
    is_key: Callable[[bytes], bool],
    beat: Callable[[], None],
) -> Iterator[Listed] | None:
    """Return all packets of a track in the file's order, or None where they must be read to know them.

    Args:
        descriptor: Of the file; its read position stays as it is.
        track: The track's number in the file.
        entries: Its packets in FFmpeg's index.
        seen: The first of them, read.
        is_key: Whether a packet is a keyframe, by its first `HEAD_BYTES`; asked of those that the index calls so.
        beat: Called before each look into the file, and once for `BEAT_PACKETS` packets.
    """
    if not len(entries) or not seen or seen[0].pts is None:
        return None
    try:
        runs = _offsets(descriptor, track, len(entries))
        # FFmpeg moves all of a track's times by the same, so that none is shown before it is decoded.
        shift = seen[0].pts - next(iter(entries)).timestamp - next(_each(runs))
        _check(_packets(entries, runs, shift, beat), descriptor, seen, is_key, beat)
    except (_Unusual, struct.error, OSError):
        return None
    return _packets(entries, runs, shift, beat)


def _packets(entries: Entries, runs: _Runs, shift: int, beat: Callable[[], None]) -> Iterator[Listed]:
    # One by one: an archive of a day has millions.
    for number, (entry, offset) in enumerate(zip(entries, _each(runs), strict=True)):
        if not number % BEAT_PACKETS:
            beat()
        dts = entry.timestamp
        yield Listed(dts + offset + shift, dts, entry.size, entry.is_keyframe, entry.is_discard, entry.pos)


def _each(runs: _Runs) -> Iterator[int]:
    return itertools.chain.from_iterable(itertools.repeat(offset, count) for count, offset in runs)


def _check(
    packets: Iterable[Listed],
    descriptor: int,
    seen: Sequence[Read],
    is_key: Callable[[bytes], bool],
    beat: Callable[[], None],
) -> None:
    """Compare packets with the file, and the first ones with what was read of them."""
    length = os.fstat(descriptor).st_size
    said = [(each.pts, each.dts, each.size, each.is_keyframe, each.is_discard) for each in seen]
    for number, packet in enumerate(packets):
        if packet.size <= 0 or not 0 <= packet.at <= length - packet.size:
            raise _Unusual("a packet that is not in the file")
        if number < len(said) and packet[:5] != said[number]:
            raise _Unusual("an index of other packets")
        if packet.is_keyframe:
            beat()
            if not is_key(os.pread(descriptor, min(packet.size, HEAD_BYTES), packet.at)):
                raise _Unusual("a keyframe that is none")


def _offsets(descriptor: int, track: int, count: int) -> _Runs:
    """Return how long after its decoding time each of a track's `count` packets is shown, in the track's time base."""
    boxes = _Boxes(descriptor)
    movie = boxes.only(b"moov", (0, os.fstat(descriptor).st_size), first=True)
    if boxes.find(b"mvex", movie):
        raise _Unusual("a movie in fragments")
    tracks = [span for span in boxes.find(b"trak", movie) if boxes.track_number(span) == track]
    if len(tracks) != 1:
        raise _Unusual("no such track, or two")
    for edits in boxes.find(b"edts", tracks[0]):
        if boxes.shown_parts(boxes.only(b"elst", edits)) > 1:
            raise _Unusual("parts of the track put together anew")
    table = tracks[0]
    for name in (b"mdia", b"minf", b"stbl"):
        table = boxes.only(name, table)
    # One entry of FFmpeg's for each sample of the track: nothing was cut away or is shown twice.
    if boxes.number(boxes.only(b"stsz", table), 8) != count:
        raise _Unusual("an index of other packets")
    if not boxes.find(b"ctts", table):
        return [(count, 0)]
    runs = boxes.runs(boxes.only(b"ctts", table), count)
    if sum(length for length, _ in runs) != count:
        raise _Unusual("offsets of other packets")
    return runs


class _Boxes:
    """Reads boxes (4.2), and no more of them than is asked for."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._left = MOST_BOXES

    def find(self, kind: bytes, within: _Span) -> list[_Span]:
        """Return the content of all boxes of a kind that lie directly within."""
        return [span for name, span in self._all(within) if name == kind]

    def only(self, kind: bytes, within: _Span, *, first: bool = False) -> _Span:
        """Return the content of the box of a kind; where there are several, `first` says that the first one counts."""
        found = self.find(kind, within)
        if not found or (len(found) > 1 and not first):
            raise _Unusual(f"{len(found)} boxes of {kind!r}")
        return found[0]

    def number(self, span: _Span, offset: int) -> int:
        """Return the 32-bit number that lies so many bytes after the beginning."""
        return int(_COUNT.unpack(self._read(span, offset, _COUNT.size))[0])

    def track_number(self, track: _Span) -> int:
        """Return track_ID (8.3.2)."""
        header = self.only(b"tkhd", track)
        return self.number(header, 20 if self._read(header, 0, 1) == b"\1" else 12)

    def shown_parts(self, edits: _Span) -> int:
        """Return how many parts of a track its edit list (8.6.6) puts together."""
        count = self.number(edits, 4)
        if count > MOST_BOXES:
            raise _Unusual("a long edit list")
        edit = _WIDE_EDIT if self._read(edits, 0, 1) == b"\1" else _EDIT
        return sum(time != _EMPTY_EDIT for (time,) in edit.iter_unpack(self._read(edits, 8, count * edit.size)))

    def runs(self, span: _Span, most: int) -> _Runs:
        """Return pairs of a count and an offset (8.6.1.3); FFmpeg takes offsets as signed in either version."""
        number = self.number(span, 4)
        if number > most:
            raise _Unusual("more runs than packets")
        runs = list(_RUN.iter_unpack(self._read(span, 8, _RUN.size * number)))
        if any(count < 0 for count, _ in runs):
            raise _Unusual("a count below 0")
        return runs

    def _all(self, within: _Span) -> Iterator[tuple[bytes, _Span]]:
        at, stop = within
        while at + _HEAD.size <= stop:
            self._left -= 1
            if self._left < 0:
                raise _Unusual("too many boxes")
            size, kind = _HEAD.unpack(os.pread(self._descriptor, _HEAD.size, at))
            begin = at + _HEAD.size
            if size == 1:
                (size,) = _LARGE.unpack(os.pread(self._descriptor, _LARGE.size, begin))
                begin += _LARGE.size
            end = at + size if size else stop
            if end < begin or end > stop:
                raise _Unusual("a box that goes beyond what it is in")
            yield kind, (begin, end)
            at = end

    def _read(self, span: _Span, offset: int, count: int) -> bytes:
        at = span[0] + offset
        if at + count > span[1]:
            raise _Unusual("a box that is too short")
        return os.pread(self._descriptor, count, at)
