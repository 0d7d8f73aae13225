"""One opened source: its facts, its segments, and its frames."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from vpipe.errors import MediaError
from vpipe.frame import StreamInfo
from vpipe.media.container import Container, VideoFrame
from vpipe.media.content import content_key, shown
from vpipe.media.cursor import Cursor
from vpipe.media.reader import Beat, Picture, Stats, read_table
from vpipe.media.sample import Sample
from vpipe.media.segments import HIDDEN, KEY, NO_DTS, Segment, Table, mark_clean, plan_segments
from vpipe.media.sequential import read_through


def _no_beat() -> None:
    pass


class Media:
    """A source, opened. `plan` once, in one process; `read` any segment, in any process that opens the same source."""

    def __init__(self, path: str, max_pixels: int) -> None:
        self.path = path
        self.stats = Stats()
        self._container = Container(path, max_pixels)
        self._cursor = Cursor(self._container, self.stats)

    @functools.cached_property
    def key(self) -> str:
        """Content key, hexadecimal."""
        return content_key(self.path)

    def plan(
        self, sample: Sample, pair: bool = False, stream: int = 0, beat: Beat = _no_beat
    ) -> tuple[StreamInfo, list[Segment]]:
        """Index the source and cut it into segments.

        Args:
            sample: Which frames are wanted.
            pair: Whether their neighbours are needed as well.
            stream: The stream id to put into the facts.
            beat: Called at least once per packet.

        Raises:
            MediaError: There is not one frame in it (`no_frames`).
        """
        container = self._container
        table = self._index(beat) if container.kind == "file" else None
        first = self._first_frame(table, beat)
        segments: list[Segment] = []
        if table is not None:
            mark_clean(table)
            segments = plan_segments(table, sample, container.time_base, pair)
        frames = len(table.order()) if table is not None else -1
        origin = int(table.pts[table.order()[0]]) if table is not None else first.pts or 0
        if not segments:
            total = frames if frames >= 0 else self._guess_total()
            segments = [Segment(0, origin, None, max(total, 1), origin, total)]
        rate = container.stream.average_rate
        return (
            StreamInfo(
                stream=stream,
                path=self.path,
                key=self.key,
                size_bytes=container.size_bytes,
                container=container.container_name,
                codec=container.stream.codec_context.codec.canonical_name,
                pixel_format=first.format.name,
                width=first.width,
                height=first.height,
                rotation=-first.rotation % 360,
                duration_s=container.duration_s,
                frame_rate=float(rate) if rate else 0.0,
                time_base=(container.time_base.numerator, container.time_base.denominator),
                start_pts=origin,
                frames=frames,
                segments=len(segments),
            ),
            segments,
        )

    def read(
        self, segment: Segment, sample: Sample, pair: bool = False, threads: int = 1, beat: Beat = _no_beat
    ) -> Iterator[Picture]:
        """Give the wanted frames of a segment in presentation order.

        A frame is valid as long as it is referred to; leaving the iteration early is fine.

        Args:
            segment: From `plan` of the same source with the same `sample` and `pair`.
            sample: Which frames are wanted.
            pair: Give each frame its neighbour.
            threads: Decoder threads (whole frames in parallel where above 1).
            beat: Called at least once per packet.
        """
        if threads != self._container.threads:
            self._container.reopen(threads)
            self._cursor = Cursor(self._container, self.stats)
        if segment.packed:
            yield from read_table(self._cursor, segment, pair, self._container.time_base, self.stats, beat)
        else:
            yield from read_through(self._cursor, segment, sample, pair, self.stats, beat)
        self.stats.errors = self._container.errors

    def close(self) -> None:
        """Close the source; may be called twice."""
        self._container.close()

    def __enter__(self) -> Media:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _index(self, beat: Beat) -> Table | None:
        """Read all packets once; None where their times do not tell the order of the frames."""
        pts: list[int] = []
        dts: list[int] = []
        marks: list[int] = []
        whole = True
        while (packet := self._cursor.next(beat)) is not None:
            whole = whole and packet.pts is not None
            pts.append(packet.pts or 0)
            dts.append(NO_DTS if packet.dts is None else packet.dts)
            marks.append((KEY if packet.is_keyframe else 0) | (HIDDEN if packet.is_discard else 0))
        if not pts:
            raise MediaError("no_frames", f"{shown(self.path)} has a video stream, but no picture in it")
        table = Table(np.array(pts, np.int64), np.array(dts, np.int64), np.array(marks, np.uint8))
        if not whole or not (table.marks & KEY).any() or not len(table.order()):
            return None
        shown_pts = table.pts[table.order()]
        return table if (np.diff(shown_pts) > 0).all() else None

    def _first_frame(self, table: Table | None, beat: Beat) -> VideoFrame:
        """Decode up to the first frame; packets that should have come out before it are marked hidden."""
        cursor, container = self._cursor, self._container
        container.reopen()
        self._cursor = cursor = Cursor(container, self.stats)
        frames: list[VideoFrame] = []
        regular = table is not None and bool(table.marks[0] & KEY) and table.pts[0] == table.pts.min()
        while not frames and (packet := cursor.next(beat)) is not None:
            frames = container.decode(packet)
            if regular and not frames:
                frames = container.finish()
            regular = False
        frames = frames or container.finish()
        container.forget()
        if not frames:
            raise MediaError("no_frames", f"{shown(self.path)} has a video stream, but not one picture of it can be decoded")
        if table is not None and frames[0].pts is not None:
            table.marks[table.pts < frames[0].pts] |= HIDDEN
        return frames[0]

    def _guess_total(self) -> int:
        stream = self._container.stream
        if stream.frames:
            return int(stream.frames)
        return int(self._container.duration_s * float(stream.average_rate or 0))
