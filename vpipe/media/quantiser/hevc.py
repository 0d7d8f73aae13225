"""HEVC: slice QP, from parameter sets and slice headers (Rec. ITU-T H.265 7.3.6)."""

from __future__ import annotations

from vpipe.media.quantiser import nal
from vpipe.media.quantiser.bits import Bits, Data, Unreadable, width_of
from vpipe.media.quantiser.hevc_sets import Picture, Sequence, read_references
from vpipe.media.quantiser.memo import Memo

_B, _P = 0, 1
_IDR = (19, 20)


class Hevc:
    """Reads the packets of one HEVC stream; only its base layer."""

    def __init__(self, extradata: bytes) -> None:
        self._sequences = Memo(Sequence.read)
        self._pictures = Memo(Picture.read)
        self._length_size = 0
        if extradata and not extradata.startswith((b"\0\0\0\1", nal.START)):
            self._length_size, sets = nal.hvcc(extradata)
        else:
            sets = list(nal.units(extradata, 0))
        for unit in sets:
            self._keep(unit)

    def of(self, packet: Data) -> float | None:
        """Return 26 + init_qp_minus26 + slice_qp_delta (7-54) of the first slice."""
        for unit in nal.units(packet, self._length_size):
            if not _of_base_layer(unit):
                continue
            kind = unit[0] >> 1
            if kind > 21 or 9 < kind < 16:
                self._keep(unit)
                continue
            qp = self._slice(unit, kind)
            if qp is not None:
                return qp
        return None

    def _keep(self, unit: Data) -> None:
        if not _of_base_layer(unit):
            return
        if unit[0] >> 1 == 33:
            self._sequences.keep(unit, 2)
        elif unit[0] >> 1 == 34:
            self._pictures.keep(unit, 2)

    def _slice(self, unit: Data, kind: int) -> int | None:
        """Return the QP, or None of a dependent segment (7.3.6.1)."""
        bits = nal.payload(unit, 2, nal.SLICE_BYTES)
        first = bits.flag()
        if kind >= 16:
            bits.skip(1)
        pps = self._pictures[bits.ue()]
        sps = self._sequences[pps.sequence]
        if not first:
            if pps.dependent and bits.flag():
                return None
            bits.skip(sps.address_bits)
        bits.skip(pps.extra_bits)
        slice_type = bits.below(3)
        bits.skip(pps.output_flag + 2 * sps.separate_planes)
        current, temporal_vectors = 0, False
        if kind not in _IDR:
            current, temporal_vectors = _pass_reference_sets(bits, sps)
        if sps.adaptive_offset:
            bits.skip(1 + sps.chroma)
        if slice_type in (_P, _B):
            _pass_lists(bits, slice_type == _B, pps, sps, current, temporal_vectors)
        return pps.qp + bits.se()


def _of_base_layer(unit: Data) -> bool:
    """Return whether the header (7.3.1.2) is sound and says so: forbidden_zero_bit, nuh_layer_id, nuh_temporal_id."""
    return len(unit) > 2 and not unit[0] & 0x81 and 0 < unit[1] < 8


def _pass_reference_sets(bits: Bits, sps: Sequence) -> tuple[int, bool]:
    """Pass over the reference picture sets; return NumPicTotalCurr and slice_temporal_mvp_enabled_flag."""
    bits.skip(sps.order_bits)
    count = len(sps.sets)
    if not bits.flag():
        references = read_references(bits, count, count, sps.sets)
    else:
        chosen = bits.u(width_of(count))
        if chosen >= count:
            raise Unreadable("no such reference picture set")
        references = sps.sets[chosen]
    current = sum(used for _, used in references)
    if sps.long_term is not None:
        known = bits.below(33) if sps.long_term else 0
        total = known + bits.below(33)
        for i in range(total):
            if i < known:
                number = bits.u(width_of(len(sps.long_term)))
                current += number < len(sps.long_term) and sps.long_term[number]
            else:
                bits.skip(sps.order_bits)
                current += bits.flag()
            if bits.flag():
                bits.ue()
    return current, sps.temporal_vectors and bits.flag()


def _pass_lists(bits: Bits, two: bool, pps: Picture, sps: Sequence, current: int, temporal_vectors: bool) -> None:
    """Pass over the part of an inter slice's header that tells of its reference lists."""
    counts = list(pps.references[: 1 + two])
    if bits.flag():
        counts = [bits.below(15) + 1 for _ in counts]
    if pps.modified_lists and current > 1:  # ref_pic_lists_modification, 7.3.6.2
        for count in counts:
            if bits.flag():
                bits.skip(count * width_of(current))
    bits.skip(two + pps.cabac_init)  # mvd_l1_zero_flag, cabac_init_flag
    if temporal_vectors:
        from_second = two and not bits.flag()
        if counts[from_second] > 1:
            bits.ue()
    if pps.weighted_b if two else pps.weighted_p:
        bits.ue()  # pred_weight_table, 7.3.6.3
        if sps.chroma:
            bits.se()
        for count in counts:
            luma = [bits.flag() for _ in range(count)]
            chroma = [sps.chroma and bits.flag() for _ in range(count)]
            for numbers in (2 * a + 4 * b for a, b in zip(luma, chroma, strict=True)):
                for _ in range(numbers):
                    bits.se()
    bits.ue()  # five_minus_max_num_merge_cand
