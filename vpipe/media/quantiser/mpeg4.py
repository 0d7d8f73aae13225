"""MPEG-4 part 2: vop_quant (ISO/IEC 14496-2 6.2.2 to 6.2.5)."""

from __future__ import annotations

import dataclasses

from vpipe.media.quantiser.bits import Bits, Data, Unreadable, mean

_START = b"\0\0\1"
_VISUAL_OBJECT, _VOP = 0xB5, 0xB6
_LAYERS = range(0x20, 0x30)
_MOST_CODES = 50
"""Start codes looked at in one packet."""
_LAYER_BYTES, _VOP_BYTES = 256, 32
_NO_SPRITE, _GMC = 0, 2


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """What VOP headers need of a video object layer."""

    time_bits: int
    interlaced: bool
    quant_bits: int
    reduces: bool
    """reduced_resolution_vop_enable."""

    @classmethod
    def read(cls, bits: Bits, version: int) -> Layer:
        """Read VideoObjectLayer (6.2.3) of a rectangular layer; `version` is that of its visual object."""
        bits.skip(9)
        if bits.flag():
            version = bits.u(4)
            bits.skip(3)
        if bits.u(4) == 15:
            bits.skip(16)
        if bits.flag():
            bits.skip(3)
            if bits.flag():
                bits.skip(79)
        if bits.u(2):
            raise Unreadable("not rectangular")
        bits.skip(1)
        time_bits = max((bits.u(16) - 1).bit_length(), 1)
        bits.skip(1)
        if bits.flag():
            bits.skip(time_bits)
        bits.skip(29)
        interlaced = bits.flag()
        bits.skip(1)
        sprite = bits.u(1 if version == 1 else 2)
        if sprite == _GMC:
            bits.skip(9)
        elif sprite != _NO_SPRITE:
            raise Unreadable("a sprite")
        quant_bits = 5
        if bits.flag():
            quant_bits = bits.u(4)
            bits.skip(4)
        if bits.flag():
            for _ in range(2):
                if bits.flag():
                    for _ in range(64):
                        if not bits.u(8):
                            break
        if version != 1:
            bits.skip(1)
        if not bits.flag():
            raise Unreadable("complexity estimation")
        bits.skip(1)
        if bits.flag():
            bits.skip(1)
        reduces = False
        if version != 1:
            if bits.flag():
                raise Unreadable("NEWPRED")
            reduces = bits.flag()
        return cls(time_bits, interlaced, quant_bits, reduces)


class Mpeg4:
    """Reads the packets of one MPEG-4 part 2 stream; the mean where several pictures are packed together."""

    def __init__(self, extradata: bytes) -> None:
        self._version = 1
        self._layer: Layer | None = None
        self.of(extradata)

    def of(self, packet: Data) -> float | None:
        """Return vop_quant, 1 to 31 where pictures have 8 bits."""
        data = bytes(packet)
        found: list[int] = []
        at = data.find(_START)
        for _ in range(_MOST_CODES):
            if at < 0 or at + 4 > len(data):
                break
            code = data[at + 3]
            if code == _VISUAL_OBJECT:
                bits = Bits(data[at + 4 : at + 6])
                self._version = bits.u(4) if bits.flag() else 1
            elif code in _LAYERS:
                self._layer = Layer.read(Bits(data[at + 4 : at + 4 + _LAYER_BYTES]), self._version)
            elif code == _VOP and self._layer is not None:
                quant = _vop_quant(Bits(data[at + 4 : at + 4 + _VOP_BYTES]), self._layer)
                if quant:
                    found.append(quant)
            at = data.find(_START, at + 4)
        return mean(found)


def _vop_quant(bits: Bits, layer: Layer) -> int:
    """Return vop_quant of a VideoObjectPlane (6.2.5); 0 where it has none."""
    kind = bits.u(2)
    while bits.flag():  # modulo_time_base
        pass
    bits.skip(1 + layer.time_bits + 1)
    if not bits.flag() or kind == 3:
        return 0  # not coded: the picture before it is shown again; or a sprite
    if kind == 1:
        bits.skip(1)
    if layer.reduces and kind != 2:
        bits.skip(1)
    bits.skip(3 + 2 * layer.interlaced)
    return bits.u(layer.quant_bits)
