"""Headers that no encoder at hand writes, made up by chance: all parts that a header may have, seldom useful.

    h264(chance)   packets with start codes, the first of them with parameter sets
    hevc(chance)   the same
    vp9(chance)    packets, some with several frames

There is nothing behind the headers. The quantisers are not told: who reads the headers by another way knows them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

START = b"\0\0\0\1"


class Writer:
    """Bits, as the standards name their codes."""

    def __init__(self) -> None:
        self.text = ""

    def u(self, count: int, value: int) -> int:
        self.text += f"{value:0{count}b}" if count else ""
        return value

    def ue(self, value: int) -> int:
        self.text += f"{value + 1:0{2 * (value + 1).bit_length() - 1}b}"
        return value

    def se(self, value: int) -> int:
        self.ue(2 * value - 1 if value > 0 else -2 * value)
        return value

    def whole(self) -> bytes:
        """All bits, and zeros to the end of the last byte."""
        text = self.text + "0" * (-len(self.text) % 8)
        return int(text, 2).to_bytes(len(text) // 8, "big")

    def unit(self, header: bytes, more: bytes = b"") -> bytes:
        """A NAL unit with start code: with trailing bits, and without start codes inside."""
        text = self.text + "1" + "0" * (-(len(self.text) + 1) % 8)
        data, zeros = bytearray(), 0
        for byte in int(text, 2).to_bytes(len(text) // 8, "big") + more:
            if zeros >= 2 and byte <= 3:
                data.append(3)
                zeros = 0
            data.append(byte)
            zeros = 0 if byte else zeros + 1
        return START + header + bytes(data)


def h264(chance: random.Random, pictures: int = 6) -> list[bytes]:
    few, coin = chance.randrange, lambda: chance.randrange(2)
    chroma = chance.choice([0, 1, 1, 2, 3])
    separate = coin() if chroma == 3 else 0
    frame_bits, kind, order_bits = 4 + few(3), few(3), 4 + few(5)
    always_zero, frames_only = coin(), coin()
    width, height = 4, 4
    sps = Writer()
    sps.u(8, 244), sps.u(8, 0), sps.u(8, 40), sps.ue(0), sps.ue(chroma)
    if chroma == 3:
        sps.u(1, separate)
    sps.ue(0), sps.ue(0), sps.u(1, 0)
    if sps.u(1, coin()):
        for i in range(12 if chroma == 3 else 8):
            if sps.u(1, coin()):
                scale = 8
                for _ in range(16 if i < 6 else 64):
                    scale += sps.se(few(3) - 1)
                    if not scale:
                        break  # the rest is like this one
    sps.ue(frame_bits - 4), sps.ue(kind)
    if kind == 0:
        sps.ue(order_bits - 4)
    elif kind == 1:
        sps.u(1, always_zero), sps.se(-3), sps.se(2)
        for _ in range(sps.ue(few(4))):
            sps.se(few(9) - 4)
    sps.ue(16), sps.u(1, 0), sps.ue(width - 1), sps.ue((height if frames_only else height // 2) - 1)
    if not sps.u(1, frames_only):
        sps.u(1, coin())
    sps.u(1, 1), sps.u(1, 0), sps.u(1, 0)
    found = [sps.unit(b"\x67")]
    sets = []
    for number in range(3):
        pps, groups, grouping, rate = Writer(), 1 + few(4) * coin(), few(7), 1 + few(5)
        pps.ue(number), pps.ue(0)
        cabac, in_frame = pps.u(1, coin()), pps.u(1, coin())
        if pps.ue(groups - 1):
            pps.ue(grouping)
            if grouping == 0:
                for _ in range(groups):
                    pps.ue(few(3))
            elif grouping == 2:
                for _ in range(groups - 1):
                    pps.ue(few(2)), pps.ue(5)
            elif grouping in (3, 4, 5):
                pps.u(1, coin()), pps.ue(rate - 1)
            elif grouping == 6:
                for _ in range(pps.ue(width * height // (1 if frames_only else 2) - 1) + 1):
                    pps.u((groups - 1).bit_length(), few(groups))
        references = pps.ue(few(4)) + 1, pps.ue(few(3)) + 1
        weighted_p, weighted_b = pps.u(1, coin()), pps.u(2, few(3))
        pps.se(few(20) - 10), pps.se(0), pps.se(0)
        deblocking, _, redundant = pps.u(1, coin()), pps.u(1, 0), pps.u(1, coin())
        found.append(pps.unit(b"\x68"))
        sets.append((cabac, in_frame, groups, grouping, rate, references, weighted_p, weighted_b, deblocking,
                     redundant))  # fmt: skip

    def slice_of(idr: bool, number: int, bottom: int | None) -> bytes:
        pick = few(3)
        cabac, in_frame, groups, grouping, rate, references, weighted_p, weighted_b, deblocking, redundant = sets[pick]
        reference, slice_type = 3 if idr else few(4), 2 if idr else chance.choice([0, 0, 1, 1, 2, 3, 4, 5, 6])
        what, out = slice_type % 5, Writer()
        out.ue(0), out.ue(slice_type), out.ue(pick)
        if separate:
            out.u(2, few(3))
        out.u(frame_bits, 0 if idr else number)
        if not frames_only and out.u(1, bottom is not None):
            out.u(1, bottom or 0)
        if idr:
            out.ue(few(9))
        if kind == 0:
            out.u(order_bits, number)
            if in_frame and bottom is None:
                out.se(few(5) - 2)
        elif kind == 1 and not always_zero:
            out.se(few(5) - 2)
            if in_frame and bottom is None:
                out.se(few(5) - 2)
        if redundant:
            out.ue(0)
        counts = []
        if what == 1:
            out.u(1, coin())
        if what in (0, 1, 3):
            counts = list(references[: 1 + (what == 1)])
            if out.u(1, coin()):
                counts = [out.ue(few(5)) + 1 for _ in counts]
            for _ in counts:
                if out.u(1, coin()):
                    for _ in range(few(3)):
                        out.ue(few(3)), out.ue(few(3))
                    out.ue(3)
        if counts and (weighted_b == 1 if what == 1 else weighted_p):
            out.ue(few(8))
            planes = (1,) if separate or not chroma else (1, 2)
            if len(planes) > 1:
                out.ue(few(8))
            for count in counts:
                for plane in planes * count:
                    if out.u(1, coin()):
                        for _ in range(2 * plane):
                            out.se(few(90) - 45)
        if reference and idr:
            out.u(2, few(4))
        elif reference and out.u(1, coin()):
            for operation in chance.sample([1, 2, 3, 4, 6], few(4)):
                out.ue(operation)
                for _ in range(1 + (operation == 3)):
                    out.ue(few(3))
            out.ue(0)
        if cabac and counts:
            out.ue(few(3))
        out.se(few(12) - 6)
        if what in (3, 4):
            if what == 3:
                out.u(1, coin())
            out.se(0)
        if deblocking:
            out.ue(1)
        if groups > 1 and grouping in (3, 4, 5):
            units = width * height // (1 if frames_only else 2)
            out.u((-(-units // rate)).bit_length(), 0)
        if cabac:
            out.text += "1" * (-len(out.text) % 8)
        return out.unit(bytes([reference << 5 | (5 if idr else 1)]), b"\x9a\xbc")

    packets = []
    for number in range(pictures):
        idr = number == 0
        fields = not frames_only and coin()
        slices = [slice_of(idr, number, bottom) for bottom in ((0, 1) if fields else (None,))]
        packets.append(b"".join([*(found if idr else ()), *slices]))
    return packets


References = list[tuple[int, int]]


def hevc(chance: random.Random, pictures: int = 6) -> list[bytes]:
    few, coin = chance.randrange, lambda: chance.randrange(2)
    sps = Writer()
    sps.u(4, 0), sps.u(3, 0), sps.u(1, 1)
    sps.u(8, 4), sps.u(32, 1 << 27), sps.u(4, 9), sps.u(43, 0), sps.u(1, 0), sps.u(8, 120)
    sps.ue(0)
    chroma = sps.ue(chance.choice([0, 1, 1, 2, 3]))
    separate = sps.u(1, coin()) if chroma == 3 else 0
    sps.ue(128), sps.ue(96), sps.u(1, 0), sps.ue(0), sps.ue(0)
    order_bits = sps.ue(few(5)) + 4
    sps.u(1, 1), sps.ue(15), sps.ue(2), sps.ue(0)
    sps.ue(0)
    block = 3 + sps.ue(1 + few(3))
    address_bits = (-(-128 >> block) * -(-96 >> block) - 1).bit_length()
    sps.ue(0), sps.ue(1), sps.ue(0), sps.ue(0)
    if sps.u(1, coin()) and sps.u(1, coin()):
        _scaling_lists(sps, chance)
    sps.u(1, coin())
    offset = sps.u(1, coin())
    if sps.u(1, coin()):
        sps.u(4, 7), sps.u(4, 7), sps.ue(0), sps.ue(0), sps.u(1, coin())
    sets: list[References] = []
    count = sps.ue(few(7))
    for i in range(count):
        sets.append(_references(sps, chance, i, count, sets))
    long_term: list[int] | None = None
    if sps.u(1, coin()):
        long_term = []
        for _ in range(sps.ue(few(4))):
            sps.u(order_bits, few(16))
            long_term.append(sps.u(1, coin()))
    vectors = sps.u(1, coin())
    sps.u(1, 0), sps.u(1, 0), sps.u(1, 0)
    vps = Writer()  # a sound one, as its reader asks for it
    vps.u(4, 0), vps.u(2, 3), vps.u(6, 0), vps.u(3, 0), vps.u(1, 1), vps.u(16, 0xFFFF)
    vps.u(8, 4), vps.u(32, 1 << 27), vps.u(4, 9), vps.u(43, 0), vps.u(1, 0), vps.u(8, 120)
    vps.u(1, 1), vps.ue(15), vps.ue(2), vps.ue(0), vps.u(6, 0), vps.ue(0), vps.u(1, 0), vps.u(1, 0)
    found = [vps.unit(b"\x40\1"), sps.unit(b"\x42\1")]
    pictures_sets = []
    for number in range(3):
        pps = Writer()
        pps.ue(number), pps.ue(0)
        dependent, output, extra = pps.u(1, coin()), pps.u(1, coin()), pps.u(3, few(3))
        pps.u(1, coin())
        cabac = pps.u(1, coin())
        references = pps.ue(few(4)) + 1, pps.ue(few(3)) + 1
        pps.se(few(20) - 10), pps.u(1, coin()), pps.u(1, coin())
        if pps.u(1, coin()):
            pps.ue(few(2))
        pps.se(1), pps.se(-1)
        chroma_offsets, weighted_p, weighted_b = (pps.u(1, coin()) for _ in range(3))
        pps.u(1, coin())
        tiles, waves = pps.u(1, coin()), pps.u(1, coin())
        if tiles:
            pps.ue(1), pps.ue(1)
            if not pps.u(1, coin()):
                pps.ue(0), pps.ue(0)
            pps.u(1, coin())
        across = pps.u(1, coin())
        override = disabled = 0
        if pps.u(1, coin()):
            override, disabled = pps.u(1, coin()), pps.u(1, coin())
            if not disabled:
                pps.se(1), pps.se(-2)
        if pps.u(1, coin()):
            _scaling_lists(pps, chance)
        lists = pps.u(1, coin())
        pps.ue(0)
        extension = pps.u(1, coin())
        pps.u(1, 0)
        found.append(pps.unit(b"\x44\1"))
        pictures_sets.append((dependent, output, extra, cabac, references, chroma_offsets, weighted_p, weighted_b,
                              tiles or waves, across, override, disabled, lists, extension))  # fmt: skip

    def slice_of(idr: bool, number: int, pick: int, first: bool) -> bytes:
        (dependent, output, extra, cabac, references, chroma_offsets, weighted_p, weighted_b, entries, across, override,
         disabled, lists, extension) = pictures_sets[pick]  # fmt: skip
        kind, out = 19 if idr else chance.choice([0, 1, 8, 9, 21]), Writer()
        out.u(1, first)
        if kind >= 16:
            out.u(1, coin())
        out.ue(pick)
        leans = 0
        if not first:
            if dependent:
                leans = out.u(1, coin())
            out.u(address_bits, 1)
        if not leans:
            out.u(extra, 0)
            slice_type = out.ue(2 if idr or kind == 21 else few(3))
            if output:
                out.u(1, coin())
            if separate:
                out.u(2, few(3))
            current = mvp = 0
            if not idr:
                out.u(order_bits, number)
                if not out.u(1, coin() if count else 0):
                    chosen = _references(out, chance, count, count, sets)
                else:
                    index = few(count)
                    out.u((count - 1).bit_length(), index)
                    chosen = sets[index]
                current = sum(used for _, used in chosen)
                if long_term is not None:
                    known = out.ue(few(2)) if long_term else 0
                    for i in range(known + out.ue(few(3))):
                        if i < known:
                            index = few(len(long_term))
                            out.u((len(long_term) - 1).bit_length(), index)
                            current += long_term[index]
                        else:
                            out.u(order_bits, few(16))
                            current += out.u(1, coin())
                        if out.u(1, coin()):
                            out.ue(few(3))
                if vectors:
                    mvp = out.u(1, coin())
            luma = chrominance = 0
            if offset:
                luma = out.u(1, coin())
                if chroma and not separate:
                    chrominance = out.u(1, coin())
            if slice_type < 2:
                two = slice_type == 0
                counts = list(references[: 1 + two])
                if out.u(1, coin()):
                    counts = [out.ue(few(5)) + 1 for _ in counts]
                if lists and current > 1:
                    for each in counts:
                        if out.u(1, coin()):
                            for _ in range(each):
                                out.u((current - 1).bit_length(), few(current))
                if two:
                    out.u(1, coin())
                if cabac:
                    out.u(1, coin())
                if mvp:
                    from_second = 1 - out.u(1, coin()) if two else 0
                    if counts[from_second] > 1:
                        out.ue(0)
                if weighted_b if two else weighted_p:
                    out.ue(few(8))
                    colour = chroma and not separate
                    if colour:
                        out.se(0)
                    for each in counts:
                        flags = [out.u(1, coin()) for _ in range(each)]
                        colours = [out.u(1, coin()) if colour else 0 for _ in range(each)]
                        for flag, other in zip(flags, colours, strict=True):
                            for _ in range(2 * flag + 4 * other):
                                out.se(few(30) - 15)
                out.ue(few(5))
            out.se(few(12) - 6)
            if chroma_offsets:
                out.se(0), out.se(0)
            if override and out.u(1, coin()):
                disabled = out.u(1, coin())
                if not disabled:
                    out.se(0), out.se(0)
            if across and (luma or chrominance or not disabled):
                out.u(1, coin())
        if entries:
            out.ue(0)
        if extension:
            for _ in range(out.ue(few(3))):
                out.u(8, few(256))
        return out.unit(bytes([kind << 1, 1]), b"\x9a\xbc")

    packets = []
    for number in range(pictures):
        pick = few(3)
        firsts = chance.choice([(True,), (True, False), (False,)])
        slices = [slice_of(number == 0, number, pick, first) for first in firsts]
        packets.append(b"".join([*(found if number == 0 else ()), *slices]))
    return packets


def vp9(chance: random.Random, pictures: int = 6) -> list[bytes]:
    few, coin = chance.randrange, lambda: chance.randrange(2)
    profile = few(4)

    def size(out: Writer) -> None:
        out.u(16, few(190)), out.u(16, few(200))

    def colour(out: Writer) -> None:
        if profile >= 2:
            out.u(1, coin())
        if out.u(3, chance.choice([0, 2, 7] if profile & 1 else [0, 2])) != 7:
            out.u(1, coin())
            if profile & 1:
                out.u(2, few(3)), out.u(1, 0)
        else:
            out.u(1, 0)

    def frame(key: bool) -> bytes:
        out = Writer()
        out.u(2, 2), out.u(1, profile & 1), out.u(1, profile >> 1)
        if profile == 3:
            out.u(1, 0)
        if out.u(1, 0 if key else few(8) == 0):
            out.u(3, few(8))
            return out.whole()
        out.u(1, not key)
        shown, resilient = out.u(1, coin()), out.u(1, coin())
        intra = 0
        if key:
            out.u(24, 0x498342), colour(out), size(out)
        else:
            intra = 0 if shown else out.u(1, coin())
            if not resilient:
                out.u(2, few(4))
            if intra:
                out.u(24, 0x498342)
                if profile:
                    colour(out)
                out.u(8, few(256)), size(out)
            else:
                out.u(8, few(256))
                for _ in range(3):
                    out.u(3, few(8)), out.u(1, coin())
                if not any(out.u(1, coin()) for _ in range(3)):
                    size(out)
        if out.u(1, coin()):
            size(out)
        if not key and not intra:
            out.u(1, coin())
            if not out.u(1, coin()):
                out.u(2, few(4))
        if not resilient:
            out.u(2, few(4))
        out.u(2, few(4)), out.u(6, few(64)), out.u(3, few(8))
        if out.u(1, coin()) and out.u(1, coin()):
            for _ in range(6):
                if out.u(1, coin()):
                    out.u(7, few(128))
        out.u(8, few(256))
        for _ in range(3):
            if out.u(1, coin()):
                out.u(5, few(32))
        out.u(1, 0), out.u(1, 0), out.u(16, 1)  # no segmentation, no rows of tiles, bytes of the next header
        return out.whole() + b"\x9a\xbc"

    packets = []
    for number in range(pictures):
        frames = [frame(number == 0 and i == 0) for i in range(1 + few(3))]
        packet = b"".join(frames)
        if len(frames) > 1:
            width = 1 + few(4)
            mark = bytes([0xC0 | (width - 1) << 3 | (len(frames) - 1)])
            packet += mark + b"".join(len(each).to_bytes(width, "little") for each in frames) + mark
        packets.append(packet)
    return packets


def _scaling_lists(out: Writer, chance: random.Random) -> None:
    for size in range(4):
        for matrix in range(0, 6, 3 if size == 3 else 1):
            if not out.u(1, chance.randrange(2)):
                out.ue(chance.randrange(1 + (matrix // 3 if size == 3 else matrix)))
            else:
                for _ in range((size > 1) + min(64, 16 << 2 * size)):
                    out.se(chance.randrange(3) - 1)


def _references(out: Writer, chance: random.Random, index: int, count: int, sets: list[References]) -> References:
    """Write a short-term reference picture set."""
    few: Callable[[int], int] = chance.randrange
    if index and out.u(1, few(2)):
        back = out.ue(few(min(index, 2))) + 1 if index == count else 1
        sign = 1 - 2 * out.u(1, few(2))
        delta = sign * (out.ue(few(3)) + 1)
        moved = []
        for distance in [*(distance for distance, _ in sets[index - back]), 0]:
            used = out.u(1, few(2))
            if (used or out.u(1, few(2))) and distance + delta:
                moved.append((distance + delta, used))
        return sorted((m for m in moved if m[0] < 0), reverse=True) + sorted(m for m in moved if m[0] > 0)
    found: References = []
    for sign, number in [(-1, out.ue(few(4))), (1, out.ue(few(3)))]:
        distance = 0
        for _ in range(number):
            distance += sign * (out.ue(few(3)) + 1)
            found.append((distance, out.u(1, few(2))))
    return found
