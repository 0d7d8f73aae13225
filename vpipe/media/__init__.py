"""Reading video: what a source is, how it is cut, and its frames. Importing this imports neither `av` nor `cv2`.

    media = open_media(path)
    info, segments = media.plan(Sample.parse("2/s"))
    for picture in media.read(segments[0], Sample.parse("2/s")):   # in any process
        ...

Only `open_media` loads `av`, through its one door, `vpipe.media.container`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpipe.media.content import content_key
from vpipe.media.reader import Picture
from vpipe.media.sample import Sample
from vpipe.media.segments import Segment
from vpipe.media.sources import SYNTHETIC
from vpipe.media.stats import Stats

if TYPE_CHECKING:
    from vpipe.media.media import Media
    from vpipe.media.synthetic import SyntheticMedia

__all__ = ["Media", "Picture", "Sample", "Segment", "Stats", "content_key", "open_media"]

MAX_PIXELS = 7680 * 4320 + 7680 * 16
"""Larger pictures are refused unless asked for: 8K with room for padding."""


def open_media(path: str, max_pixels: int = MAX_PIXELS, skip_loop_filter: str = "none") -> Media | SyntheticMedia:
    """Open a file or URL for planning or reading.

    Args:
        path: A path (bytes that are not UTF-8 surrogate-escaped) or an http(s) URL.
        max_pixels: Larger pictures are refused before anything is allocated for them.
        skip_loop_filter: `none`, `nonref` or `all`, see `vpipe.config.DecodeConfig`.

    Raises:
        MediaError: It cannot be decoded; `kind` and one sentence say why.
    """
    if path.startswith(SYNTHETIC):
        from vpipe.media.synthetic import SyntheticMedia

        return SyntheticMedia(path)
    from vpipe.media.media import Media

    return Media(path, max_pixels, skip_loop_filter)
