"""The packets of an MP4 file as its own index lists them: to index an archive, its pictures are not read a first time.

FFmpeg tells of every packet where it lies, how long it is, when it is decoded and whether it is a keyframe; when it is
shown, only of packets that are read. That is in a table of offsets (`ctts`, ISO/IEC 14496-12 8.6.1.3), read here.

Wherever the file is not as plain as nearly all are, or packets are not what the list says, there is no list.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vpipe.media.entry_points import HEAD_BYTES, EntryPoints
from vpipe.media.table import HIDDEN, KEY, Table

if TYPE_CHECKING:
    from vpipe.media.container import Container, Packet

COMPARED = 8
"""Packets that are read to see whether they are what the list says."""
BEAT_PACKETS = 256
"""A beat for so many packets that are not read."""
MOST_BOXES = 4096
"""Looked at in one file; files have some dozens."""

_HEAD = struct.Struct(">I4s")
_LARGE = struct.Struct(">Q")
_COUNT = struct.Struct(">I")
_RUN = np.dtype([("count", ">i4"), ("offset", ">i4")])
_EDIT, _WIDE_EDIT = struct.Struct(">4xi4x"), struct.Struct(">8xq4x")
"""Its media time, of an edit of version 0 and of version 1."""
_EMPTY_EDIT = -1
"""The media time of an edit that shows nothing for a while."""

_ENTRY = np.dtype(
    [("at", np.int64), ("dts", np.int64), ("size", np.int64), ("is_keyframe", np.bool_), ("is_discard", np.bool_)]
)
"""What FFmpeg's index has of a packet."""

_Read: TypeAlias = Callable[[int, int], bytes]
"""Gives so many bytes (second) from a place in the file (first), fewer at its end."""
_Span: TypeAlias = tuple[int, int]
"""First byte of a box's content, and the one after its last."""


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """The packets of a track in the file's order, none of them read."""

    table: Table
    """With KEY and HIDDEN set."""
    sizes: NDArray[np.int64]
    """Bytes."""
    places: NDArray[np.int64]
    """Where each begins in the file."""


class _Unusual(Exception):
    """The file has something that no list is made for."""


def listing(container: Container, seen: Sequence[Packet], beat: Callable[[], None]) -> Listing | None:
    """Return all packets of a container's video stream, or None where they must be read to know them.

    Args:
        container: Opened; its read position stays as it is.
        seen: The first packets, read.
        beat: Called before each look into the file, and once for `BEAT_PACKETS` packets.
    """
    codec = container.context.codec.name
    if container.kind != "file" or "mp4" not in container.container_name or codec not in EntryPoints.CODECS:
        return None
    index = container.stream.index_entries
    if not len(index) or not seen or seen[0].pts is None:
        return None
    try:
        offsets = _offsets(container, len(index))  # first: it is quick, and tells most of what no list is made for
        entries = _entries(index, beat)
        pts = entries["dts"] + offsets
        pts += seen[0].pts - pts[0]  # FFmpeg moves all times by the same, so that none is shown before it is decoded
        _check(container, pts, entries, seen, beat)
    except (_Unusual, struct.error):
        return None
    marks = entries["is_keyframe"] * np.uint8(KEY) | entries["is_discard"] * np.uint8(HIDDEN)
    table = Table(pts, entries["dts"].copy(), marks)
    return Listing(table, entries["size"].copy(), entries["at"].copy())


def _entries(index: Any, beat: Callable[[], None]) -> NDArray[Any]:
    def rows() -> Iterator[tuple[int, int, int, bool, bool]]:
        for number, entry in enumerate(index):  # FFmpeg makes them anew whenever they are asked for
            if not number % BEAT_PACKETS:
                beat()
            yield entry.pos, entry.timestamp, entry.size, entry.is_keyframe, entry.is_discard

    return np.fromiter(rows(), _ENTRY, len(index))


def _check(
    container: Container,
    pts: NDArray[np.int64],
    entries: NDArray[Any],
    seen: Sequence[Packet],
    beat: Callable[[], None],
) -> None:
    """Compare packets with the file, and the first ones with what was read of them."""
    sizes, places = entries["size"], entries["at"]
    if ((sizes <= 0) | (places < 0) | (places > container.size_bytes - sizes)).any():
        raise _Unusual("a packet that is not in the file")
    names = ("dts", "size", "is_keyframe", "is_discard")
    said = [(each.pts, *(getattr(each, name) for name in names)) for each in seen]
    first = slice(len(said))
    columns = (pts[first].tolist(), *(entries[name][first].tolist() for name in names))
    if list(zip(*columns, strict=True)) != said:
        raise _Unusual("an index of other packets")
    points = EntryPoints(container.context.codec.name, container.context.extradata)
    for number in np.flatnonzero(entries["is_keyframe"]).tolist():
        beat()
        if not points.has(container.data_at(int(places[number]), min(int(sizes[number]), HEAD_BYTES))):
            raise _Unusual("a keyframe that is none")


def _offsets(container: Container, count: int) -> NDArray[np.int64]:
    """Return how long after its decoding time each of the track's `count` packets is shown, in its time base."""
    boxes = _Boxes(container.data_at)
    movie = boxes.only(b"moov", (0, container.size_bytes), first=True)
    if boxes.find(b"mvex", movie):
        raise _Unusual("a movie in fragments")
    tracks = [span for span in boxes.find(b"trak", movie) if boxes.track_number(span) == container.stream.id]
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
        return np.zeros(count, np.int64)
    counts, offsets = boxes.runs(boxes.only(b"ctts", table), count)
    if counts.sum() != count:
        raise _Unusual("offsets of other packets")
    return np.repeat(offsets, counts)


class _Boxes:
    """Reads boxes (4.2), and no more of them than is asked for."""

    def __init__(self, read: _Read) -> None:
        self._read_at = read
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

    def runs(self, span: _Span, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many packets follow each other with the same offset, and the offset (8.6.1.3), of all such runs.

        FFmpeg takes offsets as signed in either version.
        """
        number = self.number(span, 4)
        if number > most:
            raise _Unusual("more runs than packets")
        runs = np.frombuffer(self._read(span, 8, _RUN.itemsize * number), _RUN)
        if (runs["count"] < 0).any():
            raise _Unusual("a count below 0")
        return runs["count"].astype(np.int64), runs["offset"].astype(np.int64)

    def _all(self, within: _Span) -> Iterator[tuple[bytes, _Span]]:
        at, stop = within
        while at + _HEAD.size <= stop:
            self._left -= 1
            if self._left < 0:
                raise _Unusual("too many boxes")
            size, kind = _HEAD.unpack(self._read_at(at, _HEAD.size))
            begin = at + _HEAD.size
            if size == 1:
                (size,) = _LARGE.unpack(self._read_at(begin, _LARGE.size))
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
        data = self._read_at(at, count)
        if len(data) < count:
            raise _Unusual("a box that cannot be read")
        return data
