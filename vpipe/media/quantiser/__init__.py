"""How coarsely packets were coded: the quantiser, read from their headers; nothing is decoded.

One file a codec, each written from its standard and with one class in it: it keeps the parameter sets in force, and
reads of each packet as little as it takes. Whatever cannot be read is `Unreadable` there, and has no quantiser here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from vpipe.media.quantiser.av1 import Av1
from vpipe.media.quantiser.bits import Data, Unreadable
from vpipe.media.quantiser.h264 import H264
from vpipe.media.quantiser.hevc import Hevc
from vpipe.media.quantiser.mpeg4 import Mpeg4
from vpipe.media.quantiser.mpeg12 import Mpeg12
from vpipe.media.quantiser.vp9 import Vp9

__all__ = ["Quantisers"]


class _Reader(Protocol):
    def of(self, packet: Data) -> float | None: ...


_READERS: dict[str, Callable[[bytes], _Reader]] = {
    "h264": H264,
    "hevc": Hevc,
    "mpeg1video": Mpeg12,
    "mpeg2video": Mpeg12,
    "mpeg4": Mpeg4,
    "vp9": Vp9,
    "av1": Av1,
}
_DAMAGE = (Unreadable, LookupError)
"""What readers raise on bytes that are not as they should be."""


class Quantisers:
    """The quantisers of one stream's packets, which are given in order of decoding; some may be left out.

    Each codec has a scale of its own, coarser upwards: slice QP in H.264 and HEVC (up to 51; with more than 8 bits
    below 0 as well), base_q_idx in VP9 and AV1 (0 to 255), quantiser_scale in MPEG-1 (1 to 31) and MPEG-2 (1 to 112),
    vop_quant in MPEG-4 (1 to 31).
    """

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        """Take the headers that the container has apart from packets.

        Args:
            codec: FFmpeg's name; of one that is not known, packets have no quantiser.
            extradata: A configuration record (avcC, hvcC, av1C) or headers as they are in packets.
        """
        make = _READERS.get(codec)
        self._reader: _Reader | None = None
        if make is not None:
            try:
                self._reader = make(extradata or b"")
            except _DAMAGE:
                self._reader = make(b"")

    def of(self, packet: Data) -> float | None:
        """Return the quantiser of a packet, the mean where it has several pictures; None where none can be read."""
        if self._reader is None:
            return None
        try:
            return self._reader.of(packet)
        except _DAMAGE:
            return None
