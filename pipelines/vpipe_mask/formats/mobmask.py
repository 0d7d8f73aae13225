"""`.mobmask`: a bitmap of 320 x 180 a frame.

A frame in the timeline: i16 width, i16 height, i64 time in ms, and a bit a pixel, row by row from the top, the first
in the most significant bit, 1 where a person is. Readers want 7,200 bytes, so masks are always brought to 320 x 180.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from vpipe_mask.formats.base import MAX_SIDE, Alpha, Format, Record, binary, in_order
from vpipe_mask.formats.timeline import MOBMASK, read_timeline, write_timeline
from vpipe_mask.outline import Outline

WIDTH, HEIGHT = 320, 180
FRAME_BYTES = WIDTH * HEIGHT // 8

_SIZE = struct.Struct(">hh")


def encode(alpha: Alpha, outline: Outline | None = None) -> bytes:
    """Return a mask's bits, packed (zlib): they are kept a while, and 7,200 bytes a frame are much.

    Only runs of equal bytes are looked for, which takes half the time and a sixteenth more room.
    """
    if alpha.shape != (HEIGHT, WIDTH):
        alpha = np.asarray(cv2.resize(alpha, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR), np.uint8)
    packer = zlib.compressobj(1, strategy=zlib.Z_RLE)
    return packer.compress(np.packbits(binary(alpha)).tobytes()) + packer.flush()


def write(path: Path, records: Iterable[Record]) -> None:
    """Assemble a file; see `Format.write`."""
    size = _SIZE.pack(WIDTH, HEIGHT)
    frames = ((record.pts_ms, size, zlib.decompress(record.data)) for record in in_order(path, records))
    write_timeline(path, MOBMASK, frames)


def read(path: Path) -> Iterator[tuple[int, Alpha]]:
    """Yield time in ms and mask (0 or 255) of each frame; see `Format.read`."""
    for _, pts_ms, head, body in read_timeline(path, MOBMASK, _body_bytes):
        width, height = _SIZE.unpack(head)
        bits = np.unpackbits(np.frombuffer(body, np.uint8), count=width * height)
        yield pts_ms, bits.reshape(height, width) * np.uint8(255)


def _body_bytes(head: bytes) -> int:
    width, height = _SIZE.unpack(head)
    return (width * height + 7) // 8 if 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE else -1


FORMAT = Format("mobmask", ".mobmask", "bitmaps of 320x180, for mobile players", encode, write, read, any_size=True)
