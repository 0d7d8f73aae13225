"""What reading a source counts."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(slots=True)
class Stats:
    """Counters of one `Media`, over all its reads."""

    packets: int = 0
    """Demuxed."""
    fed: int = 0
    """Given to the decoder."""
    decoded: int = 0
    """Frames that came out, wanted or not."""
    delivered: int = 0
    corrupt: int = 0
    """Delivered frames that the decoder called damaged."""
    errors: int = 0
    """Packets that the decoder refused."""
    missing: int = 0
    """Wanted frames that never came out."""
    repeated: int = 0
    """Frames that came out a second time with the same pts, and were dropped."""
    seeks: int = 0
    again: int = 0
    """Runs begun anew from an earlier place because their first frame was missing."""
