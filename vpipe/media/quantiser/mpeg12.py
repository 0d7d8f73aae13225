"""MPEG-1 and MPEG-2 video: quantiser_scale of a picture's first slice (ISO/IEC 11172-2 2.4.2, ISO/IEC 13818-2 6.2)."""

from __future__ import annotations

from vpipe.media.quantiser.bits import Bits, Data, mean

_START = b"\0\0\1"
_PICTURE, _SEQUENCE, _EXTENSION = 0x00, 0xB3, 0xB5
_SEQUENCE_EXTENSION, _CODING_EXTENSION = 1, 8
_FRAME = 3
_MOST_CODES = 200
"""Start codes looked at in one packet."""
_TALL = 2800
"""Lines above which slices tell more of their place."""

_NON_LINEAR = (0, *range(1, 9), *range(10, 25, 2), *range(28, 57, 4), *range(64, 113, 8))
"""quantiser_scale by quantiser_scale_code where q_scale_type is 1 (13818-2 table 7-6)."""


class Mpeg12:
    """Reads the packets of one MPEG-1 or MPEG-2 stream; the mean of both fields where a packet has two."""

    def __init__(self, extradata: bytes) -> None:
        self._lines = 0
        self._second = False
        """Pictures have a coding extension: MPEG-2."""
        self.of(extradata)

    def of(self, packet: Data) -> float | None:
        """Return quantiser_scale of the first slice of each picture: 1 to 31 in MPEG-1, 1 to 112 in MPEG-2."""
        data = bytes(packet)
        found: list[int] = []
        scales: tuple[int, ...] | range = range(32)
        structure, due = _FRAME, False
        at = data.find(_START)
        for _ in range(_MOST_CODES):
            if at < 0 or at + 4 > len(data):
                break
            code, body = data[at + 3], data[at + 4 : at + 12]
            if code == _PICTURE:
                scales, structure, due = range(0 if self._second else 32), _FRAME, True
            elif code == _SEQUENCE:
                self._lines, self._second = Bits(body).u(24) & 0xFFF, False
            elif code == _EXTENSION and body[:1]:
                kind = body[0] >> 4
                if kind == _SEQUENCE_EXTENSION:
                    self._second = True
                    # Beside profile and chroma: two high bits each of width and height.
                    self._lines = self._lines & 0xFFF | (Bits(body).u(19) & 3) << 12
                elif kind == _CODING_EXTENSION:
                    bits = Bits(body)
                    bits.skip(22)
                    structure = bits.u(2)
                    bits.skip(3)
                    scales = _NON_LINEAR if bits.flag() else range(0, 64, 2)
            elif due and 0 < code < 0xB0 and scales:
                bits = Bits(body)
                bits.skip(3 if self._lines > _TALL else 0)
                scale = scales[bits.u(5)]
                if scale:
                    found.append(scale)
                if structure == _FRAME or len(found) > 1:
                    break
                due = False
                # The slices of this field are of no interest.
                at = data.find(_START + bytes((_PICTURE,)), at + 4)
                continue
            at = data.find(_START, at + 4)
        return mean(found)
