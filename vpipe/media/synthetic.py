"""A source that costs nothing to decode: `synthetic://WIDTHxHEIGHT/FRAMES`.

It shows what the engine itself costs (`vpipe bench null`): everything but the decoder is real.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction

from vpipe.errors import MediaError
from vpipe.frame import FrameFlag, StreamInfo
from vpipe.media.reader import Picture
from vpipe.media.sample import Sample
from vpipe.media.segments import Segment
from vpipe.media.sources import SYNTHETIC
from vpipe.media.stats import Stats

SEGMENT_FRAMES = 2000
RATE = 25


class SyntheticMedia:
    """Stands in for `vpipe.media.media.Media`: one grey picture again and again, every frame of it."""

    def __init__(self, url: str) -> None:
        """Read the size and the number of frames from `url`.

        Raises:
            MediaError: It is not of the form `synthetic://64x64/20000`.
        """
        match = re.fullmatch(SYNTHETIC + r"(\d+)x(\d+)/(\d+)", url)
        if match is None:
            raise MediaError("not_media", f"{url}: a synthetic source is written {SYNTHETIC}WIDTHxHEIGHT/FRAMES")
        self.stats = Stats()
        self._url = url
        self._width, self._height, self._frames = (int(part) for part in match.groups())

    def plan(
        self,
        sample: Sample,
        pair: bool = False,
        stream: int = 0,
        beat: Callable[[], None] | None = None,
        key: str = "",
    ) -> tuple[StreamInfo, list[Segment]]:
        """Return the source's facts and segments of `SEGMENT_FRAMES` frames."""
        starts = range(0, self._frames, SEGMENT_FRAMES)
        segments = [
            Segment(number, start, min(start + SEGMENT_FRAMES, self._frames), min(SEGMENT_FRAMES, self._frames - start))
            for number, start in enumerate(starts)
        ]
        info = StreamInfo(
            stream=stream,
            path=self._url,
            key=self._url,
            size_bytes=0,
            container="synthetic",
            codec="none",
            pixel_format="yuv420p",
            width=self._width,
            height=self._height,
            rotation=0,
            duration_s=self._frames / RATE,
            frame_rate=float(RATE),
            time_base=(1, RATE),
            start_pts=0,
            frames=self._frames,
            segments=len(segments),
        )
        return info, segments

    def read(
        self,
        segment: Segment,
        sample: Sample,
        pair: bool = False,
        threads: int = 1,
        beat: Callable[[], None] | None = None,
    ) -> Iterator[Picture]:
        """Yield the segment's pictures."""
        from vpipe.media.container import grey_frame

        frame = grey_frame(self._width, self._height)
        base = Fraction(1, RATE)
        for pts in range(segment.start_pts, segment.end_pts or self._frames):
            if beat is not None:
                beat()
            self.stats.decoded += 1
            neighbour = frame if pair else None
            previous = pts - 1 if pts else None
            yield Picture(pts, pts, FrameFlag(0), frame, neighbour, base, 0, previous, self._width, self._height)

    def close(self) -> None:
        """Nothing is open."""
