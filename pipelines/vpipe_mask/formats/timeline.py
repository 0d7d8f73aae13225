"""The mask timeline that players read, common to `.webmask` and `.mobmask`. All integers are big-endian.

    0            4 bytes    "MASK"
    4            i32        version 1
    8            u8, 3 x 0  kind: 2 webmask, 0 mobmask
    12           i32        N segments
    16 + 16 i    i64, i64   of segment i: time of its first frame in ms, offset of its data in the file
    16 + 16 N               N gzip members, one after the other

A segment is about 10 s of frames, each of which is 4 bytes of the kind's own, i64 time in ms, and a body whose length
the first 4 bytes tell. Players look a frame up by "the last one that is not later", so no frame is left out, not even
where nobody is seen.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from shutil import copyfileobj
from typing import IO

from vpipe.sinks import atomic_file
from vpipe_mask.formats.base import MaskFileError

MAGIC = b"MASK"
VERSION = 1
WEBMASK, MOBMASK = 2, 0
"""Kinds."""
SEGMENT_MS = 10_000
SEGMENT_BYTES = 8 << 20
"""A segment ends here as well, before its time; players unpack it whole."""
MAX_INT = 2**31 - 1
"""Players want the upper halves of times and offsets empty, and some take the lower ones as signed."""

MAX_SEGMENTS = 100_000
MAX_MEMBER_BYTES = 64 << 20
MAX_SEGMENT_BYTES = 64 << 20
"""More of them, or larger ones, are refused when a file is read."""

_LEVEL = 5
"""Of 120 masks of a talking man, one level more saves a sixth and takes twice the time."""
_THREADS = 2
_FRAME = struct.Struct(">4sq")


def write_timeline(path: Path, kind: int, frames: Iterable[tuple[int, bytes, bytes]]) -> None:
    """Write a file, complete or not at all.

    Args:
        path: Of the file.
        kind: `WEBMASK` or `MOBMASK`.
        frames: Time in ms (ascending), first 4 bytes and body of each frame; taken one by one.

    Raises:
        MaskFileError: A time or the file's size is not what players can read.
        ResourceError: The file cannot be written.
    """
    # The table stands before the data and its length is known last; the data waits in a file without a name.
    with atomic_file(path) as file, tempfile.TemporaryFile(dir=path.parent) as members:
        table: list[tuple[int, int]] = []
        for start, member in _packed(_segments(path, frames)):
            table.append((start, members.tell()))
            members.write(member)
        first = 16 + 16 * len(table)
        size = first + members.tell()
        if size > MAX_INT:
            raise MaskFileError(f"{path}: {size} bytes are more than players can read ({MAX_INT}); cut the video")
        file.write(struct.pack(">4siB3xi", MAGIC, VERSION, kind, len(table)))
        file.write(b"".join(struct.pack(">qq", start, first + offset) for start, offset in table))
        members.seek(0)
        copyfileobj(members, file)


def _packed(segments: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Yield start and gzip member of each segment, packed on threads: a run waits for its files in the end."""

    def pack(data: bytes) -> bytes:
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
        return packer.compress(data) + packer.flush()

    waiting: deque[tuple[int, Future[bytes]]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for start, data in segments:
            waiting.append((start, pool.submit(pack, data)))
            if len(waiting) > _THREADS:
                start, job = waiting.popleft()
                yield start, job.result()
        for start, job in waiting:
            yield start, job.result()


def _segments(path: Path, frames: Iterable[tuple[int, bytes, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Yield start and content of each segment."""
    start, last = 0, 0
    data = bytearray()
    for pts_ms, head, body in frames:
        if not last <= pts_ms <= MAX_INT:
            raise MaskFileError(f"{path}: a frame at {pts_ms} ms, which players cannot read: not in {last}..{MAX_INT}")
        last = pts_ms
        if data and (pts_ms >= start + SEGMENT_MS or len(data) + len(body) > SEGMENT_BYTES):
            yield start, bytes(data)
            data.clear()
        if not data:
            start = pts_ms
        data += _FRAME.pack(head, pts_ms)
        data += body
    if data:
        yield start, bytes(data)


def read_timeline(
    path: Path, kind: int, body_bytes: Callable[[bytes], int]
) -> Iterator[tuple[str, int, bytes, memoryview]]:
    """Yield place (for messages), time in ms, first 4 bytes and body of each frame.

    Args:
        path: Of the file.
        kind: What it must be.
        body_bytes: Length of a frame's body by its first 4 bytes; negative where they make no sense.

    Raises:
        MaskFileError: The file is damaged, or not what readers expect.
    """
    try:
        with open(path, "rb") as file:
            table = _table(path, file, kind)
            last = 0
            for number, (start, offset, end) in enumerate(table):
                place = f"{path}: byte {offset}: segment {number}"
                for where, pts_ms, head, body in _frames(place, _unpack(place, file, offset, end), body_bytes):
                    if start is not None and pts_ms != start:
                        raise MaskFileError(f"{where} is at {pts_ms} ms and the table says {start}; {_AGAIN}")
                    if pts_ms < last:
                        raise MaskFileError(f"{where} is at {pts_ms} ms after one at {last} ms; {_AGAIN}")
                    start, last = None, pts_ms
                    yield where, pts_ms, head, body
    except OSError as error:
        raise MaskFileError(f"{path}: cannot be read: {error.strerror or error}") from None


_AGAIN = "the file is damaged, make or fetch it again"


def _table(path: Path, file: IO[bytes], kind: int) -> list[tuple[int | None, int, int]]:
    """Return start, offset and end of each segment, checked against the file's size."""
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(16)
    if len(head) < 16 or head[:4] != MAGIC:
        raise MaskFileError(f"{path}: byte 0: no mask timeline (it begins with {head[:4]!r}, not {MAGIC!r})")
    version, found, count = struct.unpack(">4xiB3xi", head)
    if version != VERSION:
        raise MaskFileError(f"{path}: byte 4: version {version}, and only {VERSION} is known")
    if found != kind:
        names = {WEBMASK: "webmask", MOBMASK: "mobmask"}
        raise MaskFileError(f"{path}: byte 8: kind {found} is no {names[kind]}; is it {names.get(found, 'damaged')}?")
    first = 16 + 16 * count
    if not 1 <= count <= MAX_SEGMENTS or first > size:
        raise MaskFileError(f"{path}: byte 12: {count} segments in a file of {size} bytes; {_AGAIN}")
    numbers = struct.unpack(f">{2 * count}q", file.read(16 * count))
    starts, offsets = numbers[::2], [*numbers[1::2], size]
    for i, start in enumerate(starts):
        wanted = first if i == 0 else offsets[i - 1] + 1
        if not 0 <= start <= MAX_INT or (offsets[i] != first if i == 0 else offsets[i] < wanted) or offsets[i] >= size:
            raise MaskFileError(
                f"{path}: byte {16 + 16 * i}: segment {i} at {start} ms and byte {offsets[i]} of {size}; {_AGAIN}"
            )
    return [(start, offsets[i], offsets[i + 1]) for i, start in enumerate(starts)]


def _unpack(place: str, file: IO[bytes], offset: int, end: int) -> bytes:
    if end - offset > MAX_MEMBER_BYTES:
        raise MaskFileError(f"{place} has {end - offset} bytes, more than {MAX_MEMBER_BYTES}; {_AGAIN}")
    file.seek(offset)
    unpacker = zlib.decompressobj(31)
    try:
        data = unpacker.decompress(file.read(end - offset), MAX_SEGMENT_BYTES)
    except zlib.error as error:
        raise MaskFileError(f"{place} cannot be unpacked ({error}); {_AGAIN}") from None
    if len(data) >= MAX_SEGMENT_BYTES:
        raise MaskFileError(f"{place} unpacks to more than {MAX_SEGMENT_BYTES} bytes; not read")
    if not unpacker.eof or unpacker.unused_data:
        what = "goes on behind its end" if unpacker.eof else "breaks off"
        raise MaskFileError(f"{place} {what}; {_AGAIN}")
    return data


def _frames(
    place: str, data: bytes, body_bytes: Callable[[bytes], int]
) -> Iterator[tuple[str, int, bytes, memoryview]]:
    view = memoryview(data)
    at = 0
    if not data:
        raise MaskFileError(f"{place} is empty; {_AGAIN}")
    while at < len(data):
        where = f"{place}, byte {at} unpacked: the frame"
        if len(data) - at < _FRAME.size:
            raise MaskFileError(f"{where} breaks off; {_AGAIN}")
        head, pts_ms = _FRAME.unpack_from(data, at)
        length = body_bytes(head)
        at += _FRAME.size
        if not 0 < length <= len(data) - at:
            raise MaskFileError(f"{where} claims {length} bytes where {len(data) - at} are left; {_AGAIN}")
        yield where, pts_ms, head, view[at : at + length]
        at += length
