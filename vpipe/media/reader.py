"""Decoding one segment: feeds the script's packets, pairs frames with their neighbours, gives them in order of time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vpipe.frame import LOST_MOST, LOST_SHIFT, MADE_UP_SHIFT, MADE_UP_UNIT, MADE_UP_UNKNOWN, FrameFlag
from vpipe.media.segments import Run, Segment, feed_script, needed
from vpipe.media.stats import Stats
from vpipe.media.table import KEY, START, WANTED, Anchor, Table, neighbours, unpack

if TYPE_CHECKING:
    from vpipe.media.container import Container, VideoFrame
    from vpipe.media.cursor import Cursor

Beat = Callable[[], None]
Frames: TypeAlias = Generator["VideoFrame", None, None]

SPARE_PACKETS = 5000
"""What beginning runs anew may cost a `Media`, on top of the length of the stream: a damaged file must not be read from
its start for each of its segments."""


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """One wanted frame, with its neighbour where asked for."""

    pts: int
    index: int
    """Rank in presentation order within the stream."""
    flags: FrameFlag
    frame: VideoFrame
    neighbour: VideoFrame | None
    """By the rule of `mark_neighbours`; None unless pairs are read."""
    time_base: Fraction
    """Unit of `pts`, in seconds."""
    origin_pts: int
    """The stream's first frame."""
    previous_pts: int | None
    """The wanted frame before this one in presentation order; None for the stream's first."""
    width: int
    height: int

    def seconds(self) -> float:
        """Return the time since the stream's first frame, in seconds."""
        return float((self.pts - self.origin_pts) * self.time_base)


class Losses:
    """What has been damaged in the group of pictures so far, by what the decoder tells of each."""

    def __init__(self) -> None:
        self._count = 0
        self._key = False
        self._made_up: float | None = 0.0

    def upto(self, frame: VideoFrame, made_up: float | None) -> int:
        """Return the flags of a frame that tell of losses; to be called with every frame that comes out, in turn.

        Args:
            frame: The next frame.
            made_up: How much of it the decoder had to make up, 0..1; None: not known.
        """
        if frame.key_frame:
            self._count, self._key, self._made_up = 0, frame.is_corrupt, 0.0
        if frame.is_corrupt:
            self._count = min(self._count + 1, LOST_MOST)
            self._made_up = None if made_up is None or self._made_up is None else self._made_up + made_up
        if not self._count:
            return 0
        told = (
            MADE_UP_UNKNOWN if self._made_up is None else min(round(self._made_up * MADE_UP_UNIT), MADE_UP_UNKNOWN - 1)
        )
        return told << MADE_UP_SHIFT | self._count << LOST_SHIFT | (int(FrameFlag.KEY_LOST) if self._key else 0)


def flags_of(frame: VideoFrame, key: bool, lost: int) -> FrameFlag:
    """Return the facts that the decoder tells of a frame; `lost` is of `Losses`."""
    flags = FrameFlag(lost) | (FrameFlag.KEY if key else FrameFlag(0))
    if frame.is_corrupt:
        flags |= FrameFlag.CORRUPT
    if frame.interlaced_frame:
        flags |= FrameFlag.INTERLACED
    if frame.color_range == 2:
        flags |= FrameFlag.FULL_RANGE
    return flags


class Pairing:
    """Turns decoded frames into pictures: holds each back until its neighbour is there, or can no longer come."""

    def __init__(
        self, segment: Segment, table: Table, ranks: list[int], pair: bool, container: Container, stats: Stats
    ) -> None:
        self._segment, self._base, self._stats = segment, container.time_base, stats
        self._concealed = container.concealed
        order = table.order()
        order = order[(table.marks[order] & WANTED) != 0]
        self._order = table.pts[order].tolist()
        self._rank = dict(zip(self._order, ranks, strict=True))
        self._key = dict(zip(self._order, ((table.marks[order] & KEY) != 0).tolist(), strict=True))
        beside = neighbours(table)[order] if pair else order[:0]
        self._neighbour = dict(zip(self._order, table.pts[beside].tolist(), strict=pair))
        self._previous = dict(zip(self._order, [segment.chosen_before, *self._order], strict=False))
        self._needed = {*self._order, *self._neighbour.values()}
        self._held: dict[int, VideoFrame] = {}
        self._losses = Losses()
        self._lost: dict[int, int] = {}
        """Of needed frames which a loss has reached."""
        self._seen: set[int] = set()
        self._at = 0
        self._high: int | None = None
        self._last: VideoFrame | None = None

    def add(self, frame: VideoFrame) -> Iterator[Picture]:
        """Take a decoded frame and give the pictures that it completes."""
        pts, lost = frame.pts, self._losses.upto(frame, self._concealed(frame))
        if pts is None or pts not in self._needed:
            return
        if pts in self._seen:
            self._stats.repeated += 1
            return
        if lost:
            self._lost[pts] = lost
        self._seen.add(pts)
        self._held[pts] = frame
        late = self._high is not None and pts < self._high and pts in self._rank and pts < self._due()
        self._high = pts if self._high is None else max(self._high, pts)
        if late:  # out of order: its turn is over, but no frame is lost
            self._stats.missing -= 1
            yield self._picture(pts, self._held.get(self._neighbour.get(pts, pts)) or frame)
        yield from self._advance(None)

    def finish(self, upto: int) -> Iterator[Picture]:
        """Give what is due up to pts `upto`: no more frames come from this run."""
        yield from self._advance(upto)

    def _due(self) -> int:
        return self._order[self._at] if self._at < len(self._order) else 1 << 62

    def _advance(self, upto: int | None) -> Iterator[Picture]:
        while self._at < len(self._order):
            pts = self._order[self._at]
            final = upto is not None and pts <= upto
            frame = self._held.get(pts)
            if frame is None:
                if not final and (self._high is None or pts > self._high):
                    break
                self._stats.missing += 1
                self._at += 1
                continue
            neighbour = None
            if self._neighbour:
                wish = self._neighbour[pts]
                neighbour = self._held.get(wish)
                if neighbour is None:
                    if not final and (self._high is None or wish > self._high):
                        break
                    neighbour = self._last or frame
            yield self._picture(pts, neighbour)
            self._at += 1
        self._prune()

    def _picture(self, pts: int, neighbour: VideoFrame | None) -> Picture:
        frame = self._held[pts]
        flags = flags_of(frame, self._key[pts], self._lost.get(pts, 0))
        self._stats.delivered += 1
        self._stats.corrupt += FrameFlag.CORRUPT in flags
        self._last = frame
        return Picture(
            pts=pts,
            index=self._rank[pts],
            flags=flags,
            frame=frame,
            neighbour=neighbour if self._neighbour else None,
            time_base=self._base,
            origin_pts=self._segment.origin_pts,
            previous_pts=self._previous[pts],
            width=frame.width,
            height=frame.height,
        )

    def _prune(self) -> None:
        due = self._due()
        bound = min(due, self._neighbour.get(due, due))
        if self._held and min(self._held) < bound:
            self._held = {pts: frame for pts, frame in self._held.items() if pts >= bound}


def read_table(cursor: Cursor, segment: Segment, pair: bool, stats: Stats, beat: Beat) -> Iterator[Picture]:
    """Decode the wanted frames of a segment that has a packet table."""
    table, ranks = unpack(segment.packed)
    mask = needed(table, pair)
    pairing = Pairing(segment, table, ranks.tolist(), pair, cursor.container, stats)
    feed = _Feed(cursor, segment, table, mask, stats, beat)
    for run in feed_script(table, mask):
        places = np.flatnonzero(mask[run.first : run.last + 1]) + run.first
        first_pts, last_pts = int(table.pts[places].min()), int(table.pts[places].max())
        for frame in feed.frames(run, first_pts):
            yield from pairing.add(frame)
        yield from pairing.finish(last_pts)


class _Feed:
    """Feeds a decoder the packets of a segment, run by run.

    Args:
        cursor: Where in the source the next packet is.
        segment: Whose packets.
        table: The segment's.
        mask: Which of them have to be decoded.
        stats: Counted up.
        beat: Called at least once per packet.
    """

    def __init__(
        self, cursor: Cursor, segment: Segment, table: Table, mask: NDArray[np.bool_], stats: Stats, beat: Beat
    ) -> None:
        self._cursor, self._segment, self._table, self._mask = cursor, segment, table, mask
        self._stats, self._beat = stats, beat

    def frames(self, run: Run, first_pts: int) -> Frames:
        """Decode a run from its own start or, if its first frame does not come right, from ever earlier places."""
        cursor, segment, table = self._cursor, self._segment, self._table
        begin = Anchor(segment.first_packet + run.first, int(table.pts[run.first]), int(table.dts[run.first]))
        if cursor.spare is None:
            cursor.spare = SPARE_PACKETS + max(segment.total, 0)
        places = [begin]
        if begin.packet:
            inside = [Anchor(segment.first_packet, int(table.pts[0]), int(table.dts[0]))] if run.first else []
            earlier = (*inside, *segment.earlier, START)
            places += [place for place in earlier if begin.packet - place.packet <= cursor.spare]
        for place in places:
            cursor.spare -= begin.packet - place.packet
            frames = self._heard(run, place)
            frame = next((f for f in frames if f.pts is not None and f.pts >= first_pts), None)
            sound = frame is not None and frame.pts == first_pts and not frame.is_corrupt
            if frame is not None and (sound or place is places[-1]):
                yield frame
                yield from frames
                return
            frames.close()
            self._stats.again += place is not places[-1]

    def _heard(self, run: Run, start: Anchor) -> Frames:
        """Give what `_from` does, on one thread from a damaged picture on: more do not tell what they make up."""
        frames, container = self._from(start, run), self._cursor.container
        if container.threads == 1 or not container.conceals:
            yield from frames
            return
        sound: set[int | None] = set()
        for frame in frames:
            if frame.is_corrupt:
                break
            sound.add(frame.pts)
            yield frame
        else:
            return
        frames.close()
        self._cursor.restart(threads=1)
        self._stats.again += 1
        for frame in self._from(start, run):
            if frame.pts not in sound:
                yield frame

    def _from(self, start: Anchor, run: Run) -> Frames:
        """Feed packets from `start` up to the run's last, and give all frames that come out."""
        cursor, stats = self._cursor, self._stats
        if not cursor.go(start, self._beat):
            return
        container = cursor.container
        container.finish()
        first = self._segment.first_packet
        while cursor.at <= first + run.last:
            packet = cursor.next(self._beat)
            if packet is None:
                break
            place = cursor.at - 1 - first
            if place >= 0 and packet.pts != self._table.pts[place] and start != START:
                container.forget()  # other packets than in one pass: count
                stats.again += 1
                yield from self._from(START, run)
                return
            stats.fed += 1
            frames = container.decode(packet, lean=place < 0 or not self._mask[place])
            stats.decoded += len(frames)
            yield from frames
        frames = container.finish()
        stats.decoded += len(frames)
        yield from frames
