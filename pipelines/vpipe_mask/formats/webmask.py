"""`.webmask`: an SVG a frame, for players that mask comments in a browser.

A frame in the timeline: i32 L, i64 time in ms, and L bytes: `data:image/svg+xml;base64,` and the SVG of `svg.py`.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from vpipe_mask.formats.base import Alpha, Format, MaskFileError, Record, in_order
from vpipe_mask.formats.svg import document, mask_of, path_of
from vpipe_mask.formats.timeline import WEBMASK, read_timeline, write_timeline
from vpipe_mask.outline import Outline, trace

PREFIX = b"data:image/svg+xml;base64,"
MAX_BODY_BYTES = 1 << 20

_LENGTH = struct.Struct(">i")


def encode(alpha: Alpha, outline: Outline | None = None) -> bytes:
    """Return the size of the grid and the path of the background: `320 180 M0 900 l0 ...z`."""
    outline = trace(alpha) if outline is None else outline
    return f"{outline.width} {outline.height} {path_of(outline)}".encode("ascii")


def data_url(data: bytes) -> bytes:
    """Return what players are handed: the SVG of an encoded frame as a data URL."""
    width, height, path = data.decode("ascii").split(" ", 2)
    return PREFIX + base64.b64encode(document(int(width), int(height), path).encode("ascii"))


def write(path: Path, records: Iterable[Record]) -> None:
    """Assemble a file; see `Format.write`."""
    bodies = ((record.pts_ms, data_url(record.data)) for record in in_order(path, records))
    write_timeline(path, WEBMASK, ((pts_ms, _LENGTH.pack(len(body)), body) for pts_ms, body in bodies))


def read(path: Path) -> Iterator[tuple[int, Alpha]]:
    """Yield time in ms and mask (0 or 255) of each frame; see `Format.read`."""
    for where, pts_ms, _, body in read_timeline(path, WEBMASK, _body_bytes):
        if body[: len(PREFIX)] != PREFIX:
            raise MaskFileError(f"{where} does not begin with {PREFIX.decode()}; make or fetch the file again")
        try:
            svg = base64.b64decode(body[len(PREFIX) :], validate=True).decode("utf-8")
            mask = mask_of(svg)
        except (binascii.Error, UnicodeDecodeError) as error:
            raise MaskFileError(f"{where} holds no SVG ({error}); make or fetch the file again") from None
        except ValueError as error:
            raise MaskFileError(f"{where} holds an SVG that {error}; make or fetch the file again") from None
        yield pts_ms, mask


def _body_bytes(head: bytes) -> int:
    length: int = _LENGTH.unpack(head)[0]
    return length if length <= MAX_BODY_BYTES else -1


FORMAT = Format("webmask", ".webmask", "SVG outlines, for players in browsers", encode, write, read, any_size=True)
