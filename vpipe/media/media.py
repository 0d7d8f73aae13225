"""One opened source: its facts, its segments, and its frames."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np

from vpipe.errors import MediaError
from vpipe.frame import StreamInfo
from vpipe.media.container import Container, Packet, VideoFrame
from vpipe.media.content import content_key, shown
from vpipe.media.cursor import Cursor
from vpipe.media.mp4 import COMPARED, Listing, listing
from vpipe.media.reader import Beat, Picture, read_table
from vpipe.media.sample import Sample
from vpipe.media.segments import Segment, Weight, plan_segments
from vpipe.media.sequential import read_through
from vpipe.media.stats import Stats
from vpipe.media.table import HIDDEN, KEY, NO_DTS, Table, mark_clean
from vpipe.media.weighing import Weighing


def _no_beat() -> None:
    pass


def _usable(table: Table) -> Table | None:
    """Return a table that has keyframes, frames, and no two frames at the same time; None where it has not."""
    rising = (np.diff(table.pts[table.order()]) > 0).all()
    return table if rising and len(table.order()) and (table.marks & KEY).any() else None


class Media:
    """A source, opened. `plan` once, in one process; `read` any segment, in any process that opens the same source."""

    def __init__(self, path: str, max_pixels: int, skip_loop_filter: str = "none") -> None:
        self.path = path
        self.stats = Stats()
        self._container = Container(path, max_pixels, skip_loop_filter=skip_loop_filter)
        self._cursor = Cursor(self._container, self.stats)

    def plan(
        self, sample: Sample, pair: bool = False, stream: int = 0, beat: Beat = _no_beat, key: str = ""
    ) -> tuple[StreamInfo, list[Segment]]:
        """Index the source and cut it into segments.

        Args:
            sample: Which frames are wanted.
            pair: Whether their neighbours are needed as well.
            stream: The stream id to put into the facts.
            beat: Called at least once per packet.
            key: Its content key where that is known already; it is a long read.

        Raises:
            MediaError: There is not one frame in it (`no_frames`).
        """
        container = self._container
        table, origin, frames, disordered = None, 0, -1, False
        weighing = Weighing(container)
        head = self._head(beat)
        # The first picture takes as long to decode as a thousand packets to read, so both are done at the same time.
        peeked: list[VideoFrame] = []
        peek = threading.Thread(target=self._peek, args=(head, peeked))
        peek.start()
        try:
            if container.kind == "file":
                table, origin, frames, disordered = self._index(head, beat, weighing)
        finally:
            peek.join()
        first = peeked[0] if peeked else None
        if first is None or (table is not None and first.pts != table.pts[table.order()[0]]):
            first = self._first_frame(table, beat)
        segments: list[Segment] = []
        if table is not None:
            mark_clean(table)
            segments = plan_segments(table, sample, container.time_base, pair)
            packets = weighing.result()
            segments = [segment.weighed(table.pts, *packets) for segment in segments]
            order = table.order()
            origin, frames = int(table.pts[order[0]]), len(order)
        elif container.kind != "file":
            origin = first.pts or 0
        if not segments:
            total = frames if frames >= 0 else self._guess_total()
            weight = Weight.of(*weighing.result())
            segments = [Segment(0, origin, None, max(total, 1), origin, total, disordered=disordered, weight=weight)]
        rate = container.stream.average_rate
        return (
            StreamInfo(
                stream=stream,
                path=self.path,
                key=key or content_key(self.path),
                size_bytes=container.size_bytes,
                container=container.container_name,
                codec=container.stream.codec_context.codec.canonical_name,
                pixel_format=first.format.name,
                width=first.width,
                height=first.height,
                rotation=-first.rotation % 360,
                duration_s=container.duration_s or float(max(frames, 0) * container.step * container.time_base),
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
            yield from read_table(self._cursor, segment, pair, self.stats, beat)
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

    def _head(self, beat: Beat) -> Packet | None:
        """Read the first packet, if there is one."""
        return self._cursor.next(beat) if self._cursor.at == 0 else self._rewound().next(beat)

    def _peek(self, head: Packet | None, found: list[VideoFrame]) -> None:
        """Decode the first packet, for the facts that only a frame tells; nearly always it is the first frame's."""
        container = self._container
        if head is not None:
            frames = container.decode(head) if head.is_keyframe and not head.is_discard else []
            found += frames or container.finish()
        container.forget()

    def _rewound(self) -> Cursor:
        self._container.reopen()
        self._cursor = Cursor(self._container, self.stats)
        return self._cursor

    def _listing(self, first: Packet | None, beat: Beat) -> Listing | None:
        """Return all packets from `first` on as the file lists them, where that can be relied on; few are read."""
        cursor = self._cursor
        seen = [] if first is None else [first]
        while len(seen) < COMPARED and (packet := cursor.next(beat)) is not None:
            seen.append(packet)
        cursor.put_back(seen)
        return listing(self._container, seen, beat)

    def _index(self, first: Packet | None, beat: Beat, weighing: Weighing) -> tuple[Table | None, int, int, bool]:
        """Look at all packets from `first` to the end, and note what each weighs.

        Returns:
            The packet table, or None where the packets' times do not tell the order of the frames; then the time of
            the first frame, the number of frames, and whether times tell the order of decoding only.
        """
        found = self._listing(first, beat)
        if found is not None:
            weighing.add_all(found, beat)
            return _usable(found.table), int(found.table.pts.min()), len(found.table), False
        pts: list[int | None] = []
        dts: list[int] = []
        marks: list[int] = []
        while (packet := self._cursor.next(beat)) is not None:
            weighing.add(packet)
            pts.append(packet.pts)
            dts.append(NO_DTS if packet.dts is None else packet.dts)
            marks.append((KEY if packet.is_keyframe else 0) | (HIDDEN if packet.is_discard else 0))
        if not pts:
            raise MediaError("no_frames", f"{shown(self.path)} has a video stream without a single packet")
        container = self._container
        known = [value for value in pts if value is not None]
        origin = min(known, default=0) - next((i for i, v in enumerate(pts) if v is not None), 0) * container.step
        # AVI has no presentation times: FFmpeg puts the order of decoding in their place.
        lead = {p - d for p, d in zip(pts, dts, strict=True) if p is not None}
        disordered = container.container_name == "avi" and container.reorders and len(lead) == 1
        if len(known) < len(pts) or disordered:
            return None, origin, len(pts), disordered
        table = Table(np.array(known, np.int64), np.array(dts, np.int64), np.array(marks, np.uint8))
        return _usable(table), origin, len(pts), False

    def _first_frame(self, table: Table | None, beat: Beat) -> VideoFrame:
        """Decode from the start to the first frame; packets that should have come out before it are marked hidden."""
        cursor, container = self._rewound(), self._container
        frames: list[VideoFrame] = []
        while not frames and (packet := cursor.next(beat)) is not None:
            frames = container.decode(packet)
        frames = frames or container.finish()
        container.forget()
        if not frames:
            raise MediaError("no_frames", f"{shown(self.path)} has video, but not one picture can be decoded")
        if table is not None and frames[0].pts is not None:
            table.marks[table.pts < frames[0].pts] |= HIDDEN
        return frames[0]

    def _guess_total(self) -> int:
        stream = self._container.stream
        if stream.frames:
            return int(stream.frames)
        return int(self._container.duration_s * float(stream.average_rate or 0))
