"""The packet table: the packets of one video stream in decode order, what is known of each, and its packed form.

    decode order        I0 P3 B1 B2 | I6 B4 B5 P9 B7 B8 | ...         one packet a frame
    presentation order  I0 B1 B2 P3 B4 B5 | I6 B7 B8 P9 | ...
                                    ^^^^^ leading pictures of I6: after it in decode order, before it in presentation

A *clean* keyframe is one where decoding may start: everything at or after it in presentation order follows it in
decode order.
"""

from __future__ import annotations

import base64
import dataclasses
import zlib

import numpy as np
from numpy.typing import NDArray

KEY = 1
"""Mark of a packet: a keyframe."""
HIDDEN = 2
"""The decoder will not show it: cut away by an edit list, or before the first picture that can be decoded."""
CLEAN = 4
"""Decoding may start here."""
WANTED = 8
"""Its frame is wanted by the sampling, and belongs to this segment."""
NEXT = 16
"""The neighbour of its frame is the next one (else the previous one)."""
ALONE = 32
"""Its frame has no other neighbour than itself."""

NO_DTS = -(1 << 63)


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """Packets of one video stream in decode order."""

    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    """`NO_DTS` where the container has none."""
    marks: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pts)

    def order(self) -> NDArray[np.intp]:
        """Return the positions of all shown packets in presentation order."""
        shown = np.flatnonzero((self.marks & HIDDEN) == 0)
        return shown[np.argsort(self.pts[shown], kind="stable")]

    def slice(self, first: int, stop: int) -> Table:
        """Return a part that shares nothing with this table."""
        return Table(self.pts[first:stop].copy(), self.dts[first:stop].copy(), self.marks[first:stop].copy())


@dataclasses.dataclass(frozen=True, slots=True)
class Anchor:
    """A place in the file where reading can start: a packet, by its number and times."""

    packet: int
    pts: int
    dts: int


START = Anchor(0, NO_DTS, NO_DTS)
"""The file's first packet, whatever its times."""


def pack(table: Table, ranks: NDArray[np.int64]) -> str:
    """Return the table and the ranks of its wanted frames (in presentation order) as text."""
    head = np.array([len(table), len(ranks)], np.int64)
    known = table.dts != NO_DTS
    columns = (table.pts, np.where(known, table.dts, 0), ranks)
    parts = [head, *(np.diff(c, prepend=np.int64(0)) for c in columns), np.packbits(known), table.marks]
    data = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    return base64.b85encode(zlib.compress(data, 6)).decode()


def unpack(text: str) -> tuple[Table, NDArray[np.int64]]:
    """Undo `pack`."""
    data = zlib.decompress(base64.b85decode(text))
    count, wanted = (int(value) for value in np.frombuffer(data, np.int64, 2))
    numbers = np.frombuffer(data, np.int64, 2 * count + wanted, 16)
    pts, dts = np.cumsum(numbers[:count]), np.cumsum(numbers[count : 2 * count])
    at = 16 + numbers.nbytes
    known = np.unpackbits(np.frombuffer(data, np.uint8, (count + 7) // 8, at), count=count).astype(bool)
    marks = np.frombuffer(data, np.uint8, count, at + (count + 7) // 8).copy()
    return Table(pts, np.where(known, dts, NO_DTS), marks), np.cumsum(numbers[2 * count :])


def mark_clean(table: Table, trusted: NDArray[np.bool_] | None = None) -> None:
    """Set CLEAN on the keyframes where decoding may start.

    Args:
        table: Changed in place.
        trusted: False for keyframes that are known not to be clean for reasons other than order.
    """
    keys = np.flatnonzero(table.marks & KEY)
    if not len(keys):
        return
    before = np.maximum.accumulate(table.pts)
    after = np.minimum.accumulate(table.pts[::-1])[::-1]
    for at, key in enumerate(keys.tolist()):
        pts = table.pts[key]
        following = keys[at + 1] if at + 1 < len(keys) else len(table)
        late = following < len(table) and after[following] <= pts
        if (key == 0 or before[key - 1] < pts) and not late and (trusted is None or trusted[key]):
            table.marks[key] |= CLEAN


def mark_neighbours(table: Table) -> None:
    """Set NEXT or ALONE on the frames whose neighbour is not the previous frame.

    The first frame of a group (a keyframe, in presentation order) takes the next one of its group; where it has
    none, the previous frame of the stream; the only frame of a stream, itself.
    """
    order = table.order()
    if not len(order):
        return
    first = (table.marks[order] & KEY) != 0
    first[0] = True
    has_next = np.append(~first[1:], False)
    table.marks[order[first & has_next]] |= NEXT
    if not has_next[0]:
        table.marks[order[0]] |= ALONE


def neighbours(table: Table) -> NDArray[np.intp]:
    """Return the position of each wanted frame's neighbour, by position; of other frames, -1."""
    order = table.order()
    marks = table.marks[order]
    ranks = np.flatnonzero(marks & WANTED)
    found = np.full(len(table), -1)
    found[order[ranks]] = order[ranks_beside(marks, ranks)]
    return found


def ranks_beside(marks: NDArray[np.uint8], ranks: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the ranks of the neighbours of frames of these `ranks`; both, and `marks`, in presentation order."""
    own = marks[ranks]
    step = np.where(own & ALONE, 0, np.where(own & NEXT, 1, -1))
    return np.clip(ranks + step, 0, len(marks) - 1)
