"""Decoding a source from start to end, for sources that cannot be indexed, and deciding on the way."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vpipe.frame import FrameFlag
from vpipe.media.reader import Beat, Losses, Picture, flags_of
from vpipe.media.sample import Sample
from vpipe.media.segments import Segment
from vpipe.media.stats import Stats
from vpipe.media.table import START

if TYPE_CHECKING:
    from vpipe.media.container import VideoFrame
    from vpipe.media.cursor import Cursor


class Clock:
    """Gives every frame a pts above that of the frame before.

    A decoder puts frames into presentation order. Where times tell the order of decoding only, the times of the
    packets so far, lowest first, are the frames'. Where there are none, frames follow each other at nominal distance.
    """

    def __init__(self, first: int, step: int, disordered: bool) -> None:
        self._next = first
        self._step = step
        self._last: int | None = None
        self._waiting: list[int] = []
        self._disordered = disordered

    def packet(self, pts: int | None) -> None:
        """Note the time of a packet about to be decoded."""
        if pts is not None and self._disordered:
            heapq.heappush(self._waiting, pts)

    def frame(self, pts: int | None) -> int:
        """Return the time of the next frame that came out."""
        if self._disordered:
            pts = heapq.heappop(self._waiting) if self._waiting else self._next
        elif pts is None:
            pts = self._next
        if self._last is not None and pts <= self._last:
            pts = self._last + 1
        self._last = pts
        self._next = pts + self._step
        return pts


def read_through(
    cursor: Cursor, segment: Segment, sample: Sample, pair: bool, stats: Stats, beat: Beat
) -> Iterator[Picture]:
    """Decode everything and give the wanted frames."""
    base = cursor.container.time_base
    ranks = sample.ranks(segment.total) if sample.kind == "count" else frozenset()
    previous_pts: int | None = None
    last_cell = -1
    origin: int | None = None
    before: VideoFrame | None = None
    losses = Losses()
    # A group's first frame, waiting for its neighbour: frame, pts, rank, what was lost; and the frame before.
    waiting: tuple[tuple[VideoFrame, int, int, int], VideoFrame | None] | None = None

    def wanted(frame: VideoFrame, pts: int, rank: int) -> bool:
        nonlocal last_cell
        if sample.kind == "every":
            return True
        if sample.kind == "keyframes":
            return frame.key_frame
        if sample.kind == "count":
            return rank in ranks
        cell = sample.cell(pts - (origin or 0), base)
        above = cell > last_cell
        last_cell = max(cell, last_cell)
        return above

    def picture(frame: VideoFrame, pts: int, rank: int, lost: int, neighbour: VideoFrame | None) -> Picture:
        nonlocal previous_pts
        flags = flags_of(frame, frame.key_frame, lost)
        stats.delivered += 1
        stats.corrupt += FrameFlag.CORRUPT in flags
        near = neighbour if pair else None
        size = frame.width, frame.height
        made = Picture(pts, rank, flags, frame, near, base, origin or 0, previous_pts, *size)
        previous_pts = pts
        return made

    for rank, (pts, frame) in enumerate(_frames(cursor, segment, stats, beat)):
        origin = pts if origin is None else origin
        lost = losses.upto(frame, cursor.container.concealed(frame))
        if waiting is not None:
            held, held_before = waiting
            neighbour = (held_before or held[0]) if frame.key_frame else frame
            waiting = None
            yield picture(*held, neighbour)
        if wanted(frame, pts, rank):
            if pair and (frame.key_frame or before is None):
                waiting = ((frame, pts, rank, lost), before)
            else:
                yield picture(frame, pts, rank, lost, before)
        before = frame if pair else None
    if waiting is not None:
        held, held_before = waiting
        yield picture(*held, held_before or held[0])


def _frames(cursor: Cursor, segment: Segment, stats: Stats, beat: Beat) -> Iterator[tuple[int, VideoFrame]]:
    container = cursor.container
    cursor.go(START, beat)
    container.forget()
    clock = Clock(segment.origin_pts, container.step, segment.disordered)
    while (packet := cursor.next(beat)) is not None:
        clock.packet(packet.pts)
        stats.fed += 1
        for frame in container.decode(packet):
            stats.decoded += 1
            yield clock.frame(frame.pts), frame
    for frame in container.finish():
        stats.decoded += 1
        yield clock.frame(frame.pts), frame
